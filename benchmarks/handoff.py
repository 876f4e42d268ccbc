"""How long it takes until the next process owns, and whether the turns are shared fairly."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from harness import WORKER, Row, Settings, children, p50_p99_max, percentile

BRIEF, LONG = 0.0002, 0.002  # seconds that each turn lasts
ENDLESS = 1_000_000


@dataclass
class Turn:
    process: int
    asked: int
    entered: int
    left: int


def contend(
    settings: Settings, lock_class: str, processes: int, hold: float, count: int, seconds: float
) -> list[Turn]:
    """Let processes take turns at one lock, and return all turns in order."""
    arguments = [lock_class, settings.fastest / "data", hold, count, seconds]
    with children([[*WORKER, "turns", *arguments]] * processes) as workers:
        for worker in workers:
            worker.say("go")
        found = [
            Turn(number, *turn)
            for number, worker in enumerate(workers)
            for turn in json.loads(worker.hear())
        ]
    found.sort(key=lambda turn: turn.entered)
    for previous, turn in pairwise(found):
        if turn.entered < previous.left:
            raise RuntimeError(f"{lock_class}: two owners at once: {previous} and {turn}")
    return found


def changes(found: list[Turn]) -> list[tuple[Turn, Turn]]:
    """The turns that went to another process, each with the one before it."""
    return [
        (previous, turn) for previous, turn in pairwise(found) if previous.process != turn.process
    ]


def hand_offs(found: list[Turn]) -> list[float]:
    """Milliseconds from leaving to entering, wherever the next owner was waiting by then."""
    return [
        (turn.entered - previous.left) / 1e6
        for previous, turn in changes(found)
        if turn.asked < previous.left
    ]


def measure_hand_off(settings: Settings) -> Iterator[Row]:
    """The time from one process's release to the next one's ownership, beside a blocking flock."""
    seconds = 2.0 if not settings.quick else 0.5
    for hold in (BRIEF, LONG):
        for processes in (4, 8):
            times: dict[str, list[float]] = {settings.lock_class: [], "Flock": []}
            ratios = []
            for _ in range(settings.choose(5, 2)):
                medians = {}
                for lock_class, values in times.items():
                    found = hand_offs(
                        contend(settings, lock_class, processes, hold, ENDLESS, seconds)
                    )
                    medians[lock_class] = statistics.median(found)
                    values.extend(found)
                ratios.append(medians[settings.lock_class] / medians["Flock"])
            what = f"{processes} processes, {hold * 1000:g} ms each"
            lock, ratio = times[settings.lock_class], statistics.median(ratios)
            yield Row(f"{what}: flock", p50_p99_max(times["Flock"]))
            yield Row(
                f"{what}: p50, p99, max",
                p50_p99_max(lock),
                "p99 <= 2 ms",
                percentile(lock, 99) <= 2,
            )
            spread = f"{ratio:.2f} x flock ({min(ratios):.2f} to {max(ratios):.2f})"
            yield Row(f"{what}: p50 beside flock", spread, "<= 4 x flock", ratio <= 4)


def passed_over(found: list[Turn]) -> int:
    """The most turns that others took while one process waited: 3 among 4 that queue up."""
    return max(sum(turn.asked < other.entered < turn.entered for other in found) for turn in found)


def measure_fairness(settings: Settings) -> Iterator[Row]:
    """How many of 99 hand-offs go to another process: 4 processes, 25 holds of 2 ms each."""
    shares: dict[str, list[int]] = {"Flock": [], settings.lock_class: []}
    passed: dict[str, list[int]] = {lock_class: [] for lock_class in shares}
    for _ in range(settings.choose(15, 4)):
        for lock_class in shares:
            found = contend(settings, lock_class, 4, LONG, 25, 60)
            shares[lock_class].append(len(changes(found)))
            passed[lock_class].append(passed_over(found))
    for lock_class, values in shares.items():
        name = ": flock" if lock_class == "Flock" else ""
        middle = int(statistics.median(values))
        figure = f"{middle} of 99 ({min(values)} to {max(values)})"
        target = ("", None) if name else (">= 95 of 99", middle >= 95)
        yield Row(f"turns that go to another process{name}", figure, *target)
        most = passed[lock_class]
        figure = f"{int(statistics.median(most))} ({min(most)} to {max(most)})"
        yield Row(f"most turns that a waiter saw pass{name}", figure)
