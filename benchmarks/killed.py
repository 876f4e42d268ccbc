"""How soon a waiter owns after the owner was killed, beside a waiter that blocks in flock."""

from collections.abc import Iterator
from typing import Any

from contestants import OURS, Contestant
from handoff import turns_of
from harness import (
    Refused,
    Results,
    Row,
    Sample,
    Settings,
    interleaved,
    p50_p99_max,
    percentile,
    report_of,
)

PATIENCE = 3.0  # seconds after which a lock counts as stranded
# Waiters, and processes that are busy with another lock: the kernel is slow to end a process that
# has waited while still others wait, for whatever lock.
CASES = {"1 waiting": (1, 0), "4 waiting": (4, 0), "1 waiting, 3 busy": (1, 3)}


def measure_killed(settings: Settings) -> Iterator[Sample]:
    """The owner, which has waited before it owned, is killed with SIGKILL while others wait."""
    for case, (waiters, busy) in CASES.items():

        def run(contestant: Contestant, words: tuple[int, int] = (waiters, busy)) -> dict[str, Any]:
            kills = settings.choose(5 if contestant.peer else 40, 5)
            reports = report_of(settings, "killed", contestant, *words, kills, PATIENCE)
            return {"ms": [until_owned(report) for report in reports]}

        yield from interleaved("killed", case, settings.waiting, settings.choose(4, 2), run)


def until_owned(report: dict[str, Any]) -> float:
    """Milliseconds from the kill to the first waiter's ownership."""
    turns = turns_of(report)
    if not turns:
        raise Refused(f"not within {PATIENCE:.0f} s")
    if turns[0].entered < report["killed"]:
        raise Refused("overlapped: not reported")
    return (turns[0].entered - report["killed"]) / 1e6


def show_killed(results: Results) -> Iterator[Row]:
    for case in results.cases("killed"):
        for name in results.contestants("killed", case):
            yield from killed_rows(results, case, name)


def killed_rows(results: Results, case: str, name: str) -> Iterator[Row]:
    what, times = f"{case}: {name}", results.pooled("killed", case, name, "ms")
    if not times:
        yield Row(what, results.failure("killed", case, name))
        return
    if name not in OURS:
        yield Row(what, p50_p99_max(times))
        return
    yield Row(what, p50_p99_max(times), "p99 <= 2 ms", percentile(times, 99) <= 2)
    slow = sum(value > 500 for value in times)
    yield Row(f"{what}, over half a second", f"{slow} of {len(times)}", "none", slow == 0)
