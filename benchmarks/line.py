"""What very many waiters cost, and who gets the turns, with holds of different length."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from statistics import median

from contestants import FLOCK, OURS, Contestant
from handoff import ENDLESS, hand_offs, jain, turns_of
from harness import (
    Refused,
    Results,
    Row,
    Sample,
    Settings,
    figure,
    interleaved,
    p50_p99_max,
    percentile,
    report_of,
)

COUNTS = (4, 32, 128)
HOLDS = (0.001, 0.005, 0.05)
QUICK_HOLDS = (0.001, 0.05)


def case_of(count: int, hold: float) -> str:
    return f"{count} processes, {1000 * hold:.0f} ms"


def measure_line(settings: Settings) -> Iterator[Sample]:
    """Hand-offs, processor time, wake-ups and turns, where everybody asks again at once."""
    contestants = [each for each in settings.waiting if each in settings.ours or each is FLOCK]

    def run(contestant: Contestant, count: int, hold: float) -> dict[str, object]:
        seconds = settings.choose(2, 1) if hold < 0.05 else settings.choose(10, 3)
        words = ("processes", count, hold, False, ENDLESS, seconds)
        report = report_of(settings, "contend", contestant, *words)
        turns = turns_of(report)
        if len(turns) < 2:
            raise Refused("fewer than two turns")
        counts = Counter(turn.contender for turn in turns)
        return {
            "ms": [round(value, 4) for value in hand_offs(turns)],
            "processor ms": report["processor"] / 1e6,
            "sleeps": report["sleeps"],
            "jain": jain([counts[number] for number in range(count)]),
        }

    for hold in QUICK_HOLDS if settings.quick else HOLDS:
        for count in COUNTS:
            rounds = settings.choose(3, 1)
            case = case_of(count, hold)
            yield from interleaved(
                "line", case, contestants, rounds, partial(run, count=count, hold=hold)
            )


def show_line(results: Results) -> Iterator[Row]:
    for case in results.cases("line"):
        for name in results.contestants("line", case):
            yield from line_rows(results, case, name)


def line_rows(results: Results, case: str, name: str) -> Iterator[Row]:
    what, times = f"{case}: {name}", results.pooled("line", case, name, "ms")
    if not times:
        yield Row(what, results.failure("line", case, name) or "nobody came")
        return

    def value(of: str, what: str) -> float:
        return median(results.values("line", case, of, what))

    cost, index = value(name, "processor ms"), value(name, "jain")
    told = f"{p50_p99_max(times)}, {figure(cost)} ms of processor"
    told += f" and {value(name, 'sleeps'):.1f} sleeps each, Jain {index:.2f}"
    if name not in OURS or case not in (case_of(32, 0.001), case_of(128, 0.001)):
        yield Row(what, told)
        return
    yield Row(what, told, "p99 <= 0.3 ms", percentile(times, 99) <= 0.3)
    if results.values("line", case, FLOCK.name, "processor ms"):
        ratio = cost / value(FLOCK.name, "processor ms")
        yield Row(f"{what}, processor", f"{ratio:.1f} x flock", "<= 10 x flock", ratio <= 10)
    if case == case_of(32, 0.001):
        yield Row(f"{what}, turns", f"Jain {index:.2f}", "Jain >= 0.9", index >= 0.9)
