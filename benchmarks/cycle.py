"""What an uncontended acquire and release costs, beside the same system calls made by a C loop,
or, for SQLiteFileLock, the two bare statements made by a Python loop."""

import difflib
import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import WORKER, Child, Row, Settings, median_and_spread

# What bare.c calls the mechanism of a lock class.
MECHANISMS = {"LinkFileLock": "link", "MkdirFileLock": "mkdir", "SQLiteFileLock": "rows"}


def limit(settings: Settings) -> float:
    """How many times the bare cost a cycle may take."""
    return 1.5 if settings.lock_class == "SQLiteFileLock" else 1.1


def bare_command(settings: Settings, directory: Path) -> list[object]:
    if settings.lock_class == "SQLiteFileLock":
        return [*WORKER, "rows", settings.lock_class, directory / "data"]
    return [settings.bare, MECHANISMS[settings.lock_class], directory]


def worker_command(settings: Settings, directory: Path) -> list[object]:
    return [*WORKER, "cycle", settings.lock_class, directory / "data"]


def rounds(settings: Settings, directory: Path) -> list[dict[str, float]]:
    """Microseconds of a cycle: bare, with one object, with new objects; one dict a round."""
    count = settings.choose(2000, 500)
    with (
        Child(*bare_command(settings, directory)) as bare,
        Child(*worker_command(settings, directory)) as worker,
    ):
        worker.hear()
        if settings.lock_class == "SQLiteFileLock":
            bare.hear()
        requests = [(bare, "cycles"), (worker, "reused"), (worker, "new")]
        for child, request in requests:
            child.ask(f"{request} {count}")
        results = []
        for turn in range(settings.choose(25, 7)):
            shifted = requests[turn % 3 :] + requests[: turn % 3]
            results.append(
                {name: int(child.ask(f"{name} {count}")) / count / 1000 for child, name in shifted}
            )
        return results


def measure_cycle(settings: Settings) -> Iterator[Row]:
    """Uncontended acquire and release, as a multiple of the bare calls."""
    for name, directory in settings.directories.items():
        results = rounds(settings, directory)
        bare = statistics.median(result["cycles"] for result in results)
        yield Row(f"{name}: the bare calls", f"{bare:.1f} µs")
        for request, words in (("reused", "one object"), ("new", "new objects")):
            ratios = [result[request] / result["cycles"] for result in results]
            cost = statistics.median(result[request] for result in results)
            figure = f"{cost:.1f} µs = {median_and_spread(ratios)} x bare"
            yield Row(
                f"{name}: acquire + release, {words}",
                figure,
                f"<= {limit(settings)} x bare",
                statistics.median(ratios) <= limit(settings),
            )


@contextmanager
def crowd(directory: Path, count: int) -> Iterator[None]:
    """Fill a directory with other files for a while."""
    directory.mkdir()
    for number in range(count):
        (directory / f"data-2024-{number}").touch()
    yield
    shutil.rmtree(directory)


def measure_crowd(settings: Settings) -> Iterator[Row]:
    """The same in a directory with many other files: the lock may grow as the bare calls do."""
    count = settings.choose(100_000, 10_000)
    for name, directory in settings.directories.items():
        empty, crowded = directory / "empty", directory / "crowded"
        empty.mkdir()
        costs: dict[Path, list[dict[str, float]]] = {empty: [], crowded: []}
        with crowd(crowded, count):
            for _ in range(settings.choose(2, 1)):
                for place, results in costs.items():
                    results.extend(rounds(settings, place))
        medians = {
            (place, request): statistics.median(result[request] for result in results)
            for place, results in costs.items()
            for request in ("cycles", "reused")
        }
        bare, lock = (
            medians[crowded, request] / medians[empty, request] for request in ("cycles", "reused")
        )
        figure = f"{lock:.2f} x the cost alone; bare {bare:.2f} x"
        yield Row(
            f"{name}: beside {count:,} files", figure, "as the bare calls", lock <= 1.1 * bare
        )
        over = [result["reused"] / result["cycles"] for result in costs[crowded]]
        figure = f"{median_and_spread(over)} x bare"
        yield Row(
            f"{name}: acquire + release there",
            figure,
            f"<= {limit(settings)} x bare",
            statistics.median(over) <= limit(settings),
        )


def system_calls(command: list[object], log: Path) -> list[str]:
    """The system calls that a helper process makes in one cycle, as strace tells them."""
    with Child("strace", "-f", "-qq", "-o", log, *command) as child:
        if "worker.py" in str(command):
            child.hear()
        child.ask("trace")
    lines = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    marks = [number for number, line in enumerate(lines) if line.startswith("getppid(")]
    return lines[marks[0] + 1 : marks[1]]


def show_system_calls(settings: Settings) -> None:
    """Print one cycle of the lock, and mark how it differs from the bare loop."""
    log = settings.fastest / "strace.log"
    try:
        bare = system_calls(bare_command(settings, settings.fastest), log)
        lock = system_calls(worker_command(settings, settings.fastest), log)
    except (FileNotFoundError, RuntimeError):
        print("strace is not there, or may not trace here: no list of system calls\n")
        return
    print(f"One cycle of {settings.lock_class}, as strace shows it:\n")
    print("\n".join(f"    {line}" for line in lock))
    bare_names, lock_names = ([line.split("(")[0] for line in lines] for lines in (bare, lock))
    differences = [line for line in difflib.ndiff(bare_names, lock_names) if line[0] != "?"]
    print(f"\n{len(bare)} bare calls, {len(lock)} of the lock (-: only bare; +: only the lock):\n")
    print("    " + " ".join(line.replace("  ", "").replace(" ", "") for line in differences) + "\n")
