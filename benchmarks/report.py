"""Turn the samples of a run into docs/benchmarks.rst, its plots, and the README's table.

    python benchmarks/run.py --json results.json
    python benchmarks/report.py results.json

The same samples always give the same files.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from string import Template
from typing import Any

import matplotlib
from contestants import CONTESTANTS, FLOCK, NAMED, OURS
from growth import grown
from handoff import COUNTS
from harness import Results, Sample, figure, median_and_spread, percentile
from importing import added
from matplotlib import pyplot
from readers import MIXES, mix_name, mix_text, ratios
from tasks import LIMITS, over_threads

PAGE = Path(__file__).with_name("page.rst.in")
README = Path(__file__).parent.parent / "README.md"
DOCS = README.parent / "docs"
PLOTS = DOCS / "plots"


def rst_table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [head, *rows]:
        for number, cell in enumerate(row):
            lines.append(f"   {'*' if number == 0 else ' '} - {cell}".rstrip())
    return "\n".join(lines)


def names(results: Results, measurement: str, cases: Iterable[str]) -> list[str]:
    """Who took part in any of these cases, in the order of the contestants."""
    found = {name for case in cases for name in results.contestants(measurement, case)}
    return [name for name in NAMED if name in found]


def grid(
    results: Results, measurement: str, cases: list[str], head: str, text: Callable[[str, str], str]
) -> str:
    """A row for each contestant, a column for each case; or why there is nothing to say."""

    def cell(case: str, name: str) -> str:
        if not results.of(measurement, case, name):
            return "–"
        return results.failure(measurement, case, name) or text(case, name)

    rows = [
        [name, *(cell(case, name) for case in cases)] for name in names(results, measurement, cases)
    ]
    return rst_table([head, *cases], rows)


# ---- Tables ----


def cycle_table(results: Results) -> str:
    def text(case: str, name: str) -> str:
        cost = figure(median(results.values("cycle", case, name, "µs")))
        bare = (case.split(",")[0] + ", bare", f"bare {name}")
        over = results.ratios("cycle", case, "µs", name, bare)
        fewest = (case.split(",")[0] + ", fewest", f"fewest {name}")
        over_fewest = results.ratios("cycle", case, "µs", name, fewest)
        told = [f"{cost} µs"]
        told += [f"{median(over):.2f} × bare"] if over else []
        told += [f"{median(over_fewest):.2f} × the fewest"] if over_fewest else []
        return " = ".join(told)

    cases = results.cases("cycle")
    left_out = ("bare", "fewest", "threaded")
    cases = [case for case in cases if not any(word in case for word in left_out)]
    return grid(results, "cycle", cases, "", text)


def calls_table(calls: dict[str, list[str]]) -> str:
    rows: list[list[str]] = []
    for name in [contestant.name for contestant in CONTESTANTS if calls.get(contestant.name)]:
        counts = Counter(line.split("(")[0] for line in calls[name])
        told = ", ".join(f"{call} {count}" for call, count in counts.most_common())
        bare = calls.get(f"bare {name}")
        rows.append([name, str(len(calls[name])), str(len(bare)) if bare else "–", told])
    return rst_table(["", "calls", "bare", "which"], rows)


def told_cases(results: Results) -> list[str]:
    """What a table has room for; the plots show all."""
    found = results.cases("handoff")
    some = ("4 processes", "32 processes", "128 processes", "8 threads")
    return [case for case in some if case in found]


def times_table(results: Results, measurement: str, cases: list[str]) -> str:
    def text(case: str, name: str) -> str:
        times = results.pooled(measurement, case, name, "ms")
        if not times:
            return "nobody came"
        told = (median(times), percentile(times, 99), max(times))
        return " / ".join(figure(value) for value in told)

    return grid(results, measurement, cases, "ms: p50 / p99 / max", text)


def cost_table(results: Results) -> str:
    def text(case: str, name: str) -> str:
        return figure(median(results.values("handoff", case, name, "processor ms")))

    return grid(results, "handoff", told_cases(results), "ms of processor", text)


def fairness_table(results: Results) -> str:
    def text(case: str, name: str) -> str:
        def values(what: str) -> list[float]:
            return results.values("fairness", case, name, what)

        turns = 99 * median(values("to another"))
        wait = figure(max(values("longest wait")))
        return f"{turns:.0f} / {median(values('jain')):.2f} / {wait} ms"

    head = "turns of 99 / Jain / longest wait"
    return grid(results, "fairness", told_cases(results), head, text)


def line_table(results: Results) -> str:
    def text(case: str, name: str) -> str:
        def value(what: str) -> float:
            return median(results.values("line", case, name, what))

        times = results.pooled("line", case, name, "ms")
        told = f"{figure(median(times))} / {figure(percentile(times, 99))} ms"
        cost = f"{figure(value('processor ms'))} ms, {value('sleeps'):.0f} sleeps"
        return f"{told}; {cost}; {value('jain'):.2f}"

    head = "p50 / p99; processor, sleeps each turn; Jain"
    return grid(results, "line", results.cases("line"), head, text)


def waiting_table(results: Results) -> str:
    def text(case: str, name: str) -> str:
        wake_ups = max(results.pooled("waiting", case, name, "wake-ups"))
        busy = max(results.pooled("waiting", case, name, "milliseconds"))
        return f"{wake_ups:,} / {figure(busy)}"

    cases = [case for case in results.cases("waiting") if case.endswith("waiting")]
    return grid(results, "waiting", cases, "wake-ups / ms of processor", text)


def memory_table(results: Results) -> str:
    def text(case: str, name: str) -> str:
        size = figure(median(results.values("memory", case, name, "bytes")))
        kept = median(results.values("memory", case, name, "descriptors"))
        return f"{size} bytes, {kept:.3g} descriptors"

    return grid(results, "memory", results.cases("memory"), "each", text)


def growth_table(results: Results) -> str:
    def text(case: str, name: str) -> str:
        [sample] = results.of("growth", case, name)
        more = (f"{value:+,} {unit}" for unit, value in grown(sample.figures).items())
        return f"{sample.figures['cycles']:,}: {', '.join(more)}"

    return grid(results, "growth", results.cases("growth"), "", text)


def import_table(results: Results) -> str:
    rows: list[list[str]] = []
    for name in results.contestants("import", "start"):
        values = results.values("import", "start", name, "ms")
        more = "–" if name.endswith("alone") else median_and_spread(added(results, name))
        rows.append([name, figure(median(values)), more])
    return rst_table(["ms", "the whole process", "added to Python alone"], rows)


def crowd_table(results: Results) -> str:
    def text(case: str, name: str) -> str:
        alone = (f"{case.split(',')[0]}, alone,{case.rsplit(',', 1)[1]}", name)
        grew = results.ratios("crowd", case, "µs", name, alone)
        return f"{median(grew):.2f} ×" if grew else "–"

    cases = [
        case
        for case in results.cases("crowd")
        if "beside" in case and not case.endswith(("bare", "fewest"))
    ]
    return grid(results, "crowd", cases, "", text)


def readers_table(results: Results) -> str:
    def value(case: str, name: str, what: str) -> float:
        return median(results.values("readers", case, name, what))

    def cell(case: str, name: str, text: Callable[[], str]) -> str:
        return results.failure("readers", case, name) or text()

    def row(name: str) -> list[str]:
        def ratio(kind: str) -> str:
            return f"{median(ratios(results, name, kind)):.2f} ×"

        def found(case: str) -> str:
            return figure(median(results.pooled("readers", case, name, "found")))

        return [
            name,
            cell("cycle", name, lambda: f"{figure(value('cycle', name, 'exclusive'))} µs"),
            cell("cycle", name, lambda: f"{ratio('first')} / {ratio('joins')}"),
            cell("overlap", name, lambda: f"{value('overlap', name, 'times'):.1f} ×"),
            cell("writer", name, lambda: found("writer")),
            cell("killed", name, lambda: f"{found('killed')} ms"),
        ]

    head = ["", "exclusive", "first / joins", "8 readers", "writer, turns", "killed"]
    return rst_table(head, map(row, results.contestants("readers", "cycle")))


def mixes_table(results: Results) -> str:
    def text(case: str, name: str) -> str:
        return mix_text(results, case, name)

    cases = [mix_name(*mix) for mix in MIXES]
    return grid(results, "readers", cases, "writers; readers", text)


def tasks_table(results: Results) -> str:
    """What it takes, and the multiple of the same in threads."""

    def text(case: str, name: str) -> str:
        over = over_threads(results, case, name)
        more = f" = {median(over):.2f} × in threads" if over else ""
        return f"{figure(median(results.values('tasks', case, name, 'tasks')))} µs{more}"

    return grid(results, "tasks", list(LIMITS), "async with", text)


def loop_table(results: Results) -> str:
    def late(case: str, name: str, when: str) -> str:
        times = results.pooled("tasks", case, name, when)
        return " / ".join(map(figure, (median(times), percentile(times, 99), max(times))))

    def text(case: str, name: str) -> str:
        took = figure(median(results.values("tasks", case, name, "ms")))
        released = late(case, name, "late after ms")
        return f"{late(case, name, 'late ms')}; {released}; after {took} ms"

    cases = [case for case in results.cases("tasks") if case not in LIMITS]
    return grid(results, "tasks", cases, "late, ms: p50 / p99 / max", text)


# ---- Plots ----


def style(name: str) -> dict[str, Any]:
    """Ours stand out; a peer keeps its colour from plot to plot."""
    number = list(NAMED).index(name)
    ours = name in OURS
    colour = "black" if name == FLOCK.name else f"C{number % 10}"
    return {"color": colour, "linewidth": 2.2 if ours else 1, "linestyle": "-" if ours else "--"}


def save(drawing: pyplot.Figure, file: str) -> None:
    drawing.tight_layout()
    drawing.savefig(PLOTS / file, metadata={"Date": None, "Creator": None})
    pyplot.close(drawing)
    lines = (PLOTS / file).read_text().splitlines()
    (PLOTS / file).write_text("\n".join(line.rstrip() for line in lines) + "\n")


def plot_lines(
    results: Results,
    file: str,
    measurement: str,
    label: str,
    value: Callable[[str, str], float | None],
    log: bool,
) -> None:
    """One line a contestant, against the number of contending processes."""
    drawing, axes = pyplot.subplots(figsize=(7.5, 4.5))
    cases = {count: f"{count} processes" for count in COUNTS}
    for name in names(results, measurement, cases.values()):
        points = [(count, value(case, name)) for count, case in cases.items()]
        known = [(count, point) for count, point in points if point is not None]
        if known:
            axes.plot(*zip(*known, strict=True), marker=".", label=name, **style(name))
    axes.set_xscale("log", base=2)
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.set_yscale("log" if log else "linear")
    axes.set_xlabel("processes that contend")
    axes.set_ylabel(label)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    save(drawing, file)


def plot_bars(bars: dict[str, float], file: str, label: str) -> None:
    drawing, axes = pyplot.subplots(figsize=(7.5, 0.3 * len(bars) + 0.9))
    colours = ["C0" if name in OURS or name == "lockfile" else "0.6" for name in bars]
    axes.barh(list(bars), list(bars.values()), color=colours)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    save(drawing, file)


def draw(results: Results) -> None:
    matplotlib.rc("svg", hashsalt="lockfile", fonttype="none")  # the same names each time, and text
    matplotlib.rc("font", size=9)
    PLOTS.mkdir(exist_ok=True)

    def latency(case: str, name: str) -> float | None:
        times = results.pooled("handoff", case, name, "ms")
        return median(times) if times else None

    def shared(case: str, name: str) -> float | None:
        values = results.values("fairness", case, name, "to another")
        return 99 * median(values) if values else None

    def slowest(case: str, name: str) -> float | None:
        times = results.pooled("handoff", case, name, "ms")
        return percentile(times, 99) if times else None

    def cost(case: str, name: str) -> float | None:
        values = results.values("handoff", case, name, "processor ms")
        return median(values) if values else None

    plot_lines(results, "handoff.svg", "handoff", "hand-off, p50, ms", latency, True)
    plot_lines(results, "handoff-p99.svg", "handoff", "hand-off, p99, ms", slowest, True)
    plot_lines(results, "cost.svg", "handoff", "ms of processor for each turn", cost, True)
    plot_lines(results, "turns.svg", "fairness", "of 99 turns, to another process", shared, False)
    found = [name for name in results.contestants("import", "start") if "alone" not in name]
    bars = {name: max(0.0, median(added(results, name))) for name in found}
    plot_bars(bars, "import.svg", "added to the start of Python, ms")


# ---- The page ----


def about(machine: dict[str, Any]) -> str:
    peers = ", ".join(f"{name} {version}" for name, version in machine["peers"].items())
    lines = [
        f"Python {machine['python']}, {machine['kernel']}, {machine['processors']} processors "
        f"({machine['processor']}), shared with others; directories on "
        f"{' and '.join(machine['file systems'])}; load {machine['load'][0]} before, "
        f"{machine['load'][-1]} after.",
        f"The peers: {peers}." if peers else "Without the peers.",
    ]
    if machine["quick"]:
        lines.append("Fewer rounds than a full run: take the second digit for noise.")
    return " ".join(lines)


def page(results: Results, machine: dict[str, Any], calls: dict[str, list[str]]) -> str:
    return Template(PAGE.read_text()).substitute(
        machine=about(machine),
        cycle=cycle_table(results),
        calls=calls_table(calls),
        handoff=times_table(results, "handoff", told_cases(results)),
        cost=cost_table(results),
        fairness=fairness_table(results),
        line=line_table(results),
        killed=times_table(results, "killed", results.cases("killed")),
        waiting=waiting_table(results),
        imports=import_table(results),
        memory=memory_table(results),
        growth=growth_table(results),
        crowd=crowd_table(results),
        readers=readers_table(results),
        mixes=mixes_table(results),
        tasks=tasks_table(results),
        loop=loop_table(results),
    )


# ---- The README's table ----

# Whom its columns are about, in their order.
TOLD_FIRST = [
    "LinkFileLock",
    "filelock FileLock",
    "filelock SoftFileLock",
    "fasteners",
    "portalocker",
    "flufl.lock",
    "classic LinkLockFile",
]


def measured_rows(results: Results) -> dict[str, list[str]]:
    """By how a row begins, its other cells."""

    def time(measurement: str, name: str) -> str:
        case = "4 processes" if measurement == "handoff" else "4 waiting"
        failure = results.failure(measurement, case, name)
        return failure or f"{figure(median(results.pooled(measurement, case, name, 'ms')))} ms"

    def turns(name: str) -> str:
        return f"{99 * median(results.values('fairness', '4 processes', name, 'to another')):.0f}"

    def wake_ups(name: str) -> str:
        return f"{max(results.pooled('waiting', '1 waiting', name, 'wake-ups')):.0f}"

    return {
        "a free lock reaches one of 4 that wait after": [time("handoff", n) for n in TOLD_FIRST],
        "the owner is killed: the next one has it after": [time("killed", n) for n in TOLD_FIRST],
        "of 99 releases, so many let another process in": [turns(name) for name in TOLD_FIRST],
        "a wait of 10 s wakes its process up so often": [wake_ups(name) for name in TOLD_FIRST],
    }


def with_measured_rows(readme: str, rows: dict[str, list[str]]) -> str:
    lines = readme.split("\n")
    for title, cells in rows.items():
        [number] = [at for at, line in enumerate(lines) if line.startswith(f"| {title} |")]
        lines[number] = f"| {title} | {' | '.join(cells)} |"
    return "\n".join(lines)


def main() -> None:
    [path] = sys.argv[1:]
    stored = json.loads(Path(path).read_text())
    results = Results(Sample(**sample) for sample in stored["samples"])
    draw(results)
    text = page(results, stored["machine"], stored["calls"])
    (DOCS / "benchmarks.rst").write_text(text)
    README.write_text(with_measured_rows(README.read_text(), measured_rows(results)))


if __name__ == "__main__":
    main()
