"""What lock objects and held locks occupy."""

from collections.abc import Iterator
from statistics import median

from contestants import Contestant
from harness import Results, Row, Sample, Settings, figure, interleaved, report_of


def measure_memory(settings: Settings) -> Iterator[Sample]:
    """Many lock objects that are free, and many locks that are held, in one process."""
    rounds = settings.choose(3, 1)
    for hold, count in (
        (False, settings.choose(100_000, 10_000)),
        (True, settings.choose(1000, 200)),
    ):
        case = f"{count:,} {'held locks' if hold else 'lock objects'}"
        contestants = [
            contestant for contestant in settings.contestants if hold or contestant.makes_free_locks
        ]

        def run(contestant: Contestant, count: int = count, hold: bool = hold) -> dict[str, float]:
            found: dict[str, float] = report_of(settings, "memory", contestant, count, hold)
            return found

        yield from interleaved("memory", case, contestants, rounds, run)


def show_memory(results: Results) -> Iterator[Row]:
    for case in results.cases("memory"):
        for name in results.contestants("memory", case):
            what, failure = f"{case}: {name}", results.failure("memory", case, name)
            if failure:
                yield Row(what, failure)
                continue
            size = median(results.values("memory", case, name, "bytes"))
            kept = median(results.values("memory", case, name, "descriptors"))
            yield Row(what, f"{figure(size)} bytes and {kept:.3g} descriptors each")
