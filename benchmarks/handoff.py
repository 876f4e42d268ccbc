"""How long it takes until the next one owns, and whether the turns are shared fairly."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

from contestants import FLOCK, NO_LOCK, OURS, Contestant
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

COUNTS = (2, 4, 8, 32, 128)
KINDS = ("processes", "threads")
TARGETED = ("4 processes", "8 processes")
HOLD_BRIEFLY, HOLD = 0.001, 0.002  # seconds that each turn lasts
ENDLESS = 1_000_000


@dataclass
class Turn:
    contender: int
    asked: int
    entered: int
    left: int


def turns_of(report: dict[str, Any]) -> list[Turn]:
    """All turns in order, also those that had not ended; refused if two were inside at once."""
    turns = [Turn(*turn) for turn in report["turns"]]
    for contender, asked, entered in report["inside"]:
        turns.append(Turn(contender, asked, entered, report["ended"]))
    turns.sort(key=lambda turn: turn.entered)
    last_left = 0
    for turn in turns:
        if turn.entered < last_left:
            raise Refused("overlapped: not reported")
        last_left = max(last_left, turn.left)
    return turns


def changes(turns: list[Turn]) -> list[tuple[Turn, Turn]]:
    """The turns that went to another contender, each with the one before it."""
    return [
        (previous, turn)
        for previous, turn in pairwise(turns)
        if previous.contender != turn.contender
    ]


def hand_offs(turns: list[Turn]) -> list[float]:
    """Milliseconds from leaving to entering, wherever the next owner was waiting by then."""
    return [
        (turn.entered - previous.left) / 1e6
        for previous, turn in changes(turns)
        if turn.asked < previous.left
    ]


def jain(counts: list[int]) -> float:
    """Jain's index: 1 if all had as many turns, 1/n if one had them all."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0


def check_detector(settings: Settings) -> None:
    """See that a lock that excludes nobody is found out."""
    for kind in KINDS:
        report = report_of(settings, "contend", NO_LOCK, kind, 2, HOLD_BRIEFLY, False, 100, 1.0)
        try:
            turns_of(report)
        except Refused:
            continue
        raise RuntimeError(f"an overlap of {kind} went unnoticed: no figure can be trusted")


def in_each_case(
    settings: Settings,
    measurement: str,
    rounds: int,
    run: Callable[..., dict[str, Any]],
) -> Iterator[Sample]:
    """Two to very many processes and threads."""
    check_detector(settings)
    for kind in KINDS:
        for count in COUNTS if settings.peers_python or not settings.quick else (4, 8):
            case = f"{count} {kind}"
            yield from interleaved(
                measurement,
                case,
                settings.waiting,
                rounds,
                partial(run, kind=kind, count=count),
            )


def measure_hand_off(settings: Settings) -> Iterator[Sample]:
    """From one's release to the next one's ownership, when who has left lets others in first."""
    hand_offs_wanted = settings.choose(400, 100)

    def run(contestant: Contestant, kind: str, count: int) -> dict[str, Any]:
        words = (kind, count, HOLD_BRIEFLY, True, hand_offs_wanted, 1.0)
        report = report_of(settings, "contend", contestant, *words)
        turns = turns_of(report)
        found = hand_offs(turns)
        if not report["enough"] and not report["inside"]:
            # Time is up while the lock is free: the next one will take at least this long.
            last = turns[-1].left if turns else report["started"]
            found.append((report["ended"] - last) / 1e6)
        processor = report["processor"] / 1e6
        return {"ms": [round(value, 4) for value in found], "processor ms": processor}

    return in_each_case(settings, "handoff", settings.choose(3, 2), run)


def show_hand_off(results: Results) -> Iterator[Row]:
    for case in results.cases("handoff"):
        for name in results.contestants("handoff", case):
            yield from hand_off_rows(results, case, name)


def hand_off_rows(results: Results, case: str, name: str) -> Iterator[Row]:
    what, times = f"{case}: {name}", results.pooled("handoff", case, name, "ms")
    if not times:
        yield Row(what, results.failure("handoff", case, name) or "nobody came")
        return
    cost = median(results.values("handoff", case, name, "processor ms"))
    told = f"{p50_p99_max(times)}, {figure(cost)} ms of processor each"
    if not targeted(name, case):
        yield Row(what, told)
        return
    yield Row(what, told, "p99 <= 2 ms", percentile(times, 99) <= 2)
    ratios = results.ratios("handoff", case, "ms", name, (case, FLOCK.name))
    if ratios:
        ratio = median(ratios)
        spread = f"{ratio:.2f} x flock ({min(ratios):.2f} to {max(ratios):.2f})"
        yield Row(f"{what}, p50 beside flock", spread, "<= 4 x flock", ratio <= 4)


def targeted(name: str, case: str) -> bool:
    """Whether there is a target for this contestant in this case."""
    return name in OURS and case in TARGETED


def longest_wait(report: dict[str, Any], turns: list[Turn]) -> float:
    """Milliseconds, those included that still waited at the end."""
    waits = [turn.entered - turn.asked for turn in turns]
    waits += [report["ended"] - asked for asked in report["waiting"]]
    return max(waits, default=0) / 1e6


def measure_fairness(settings: Settings) -> Iterator[Sample]:
    """Who gets the turns when everybody asks again at once."""

    def run(contestant: Contestant, kind: str, count: int) -> dict[str, Any]:
        seconds = (0.5 if count <= 8 else 1.0) if not settings.quick else 0.3
        words = (kind, count, HOLD, False, ENDLESS, seconds)
        report = report_of(settings, "contend", contestant, *words)
        turns = turns_of(report)
        if len(turns) < 2:
            raise Refused("fewer than two turns")
        counts = Counter(turn.contender for turn in turns)
        return {
            "turns": len(turns),
            "to another": len(changes(turns)) / (len(turns) - 1),
            "jain": jain([counts[number] for number in range(count)]),
            "never": count - len(counts),
            "longest wait": longest_wait(report, turns),
            "ms": [round(value, 4) for value in hand_offs(turns)],
        }

    return in_each_case(settings, "fairness", settings.choose(3, 2), run)


def show_fairness(results: Results) -> Iterator[Row]:
    for case in results.cases("fairness"):
        for name in results.contestants("fairness", case):
            yield from fairness_rows(results, case, name)


def fairness_rows(results: Results, case: str, name: str) -> Iterator[Row]:
    what = f"{case}: {name}"
    shares = results.values("fairness", case, name, "to another")
    if not shares:
        yield Row(what, results.failure("fairness", case, name))
        return
    share = 99 * median(shares)
    indexes = results.values("fairness", case, name, "jain")
    never = results.values("fairness", case, name, "never")
    wait = max(results.values("fairness", case, name, "longest wait"))
    text = f"{share:.0f} of 99, Jain {median(indexes):.2f}, {median(never):.0f} never"
    text += f", waited up to {figure(wait)} ms"
    if not targeted(name, case):
        yield Row(what, text)
        return
    yield Row(what, text, ">= 95 of 99", share >= 95)
    times = results.pooled("fairness", case, name, "ms")
    if times:
        met = percentile(times, 99) <= 2
        yield Row(f"{what}, hand-off", p50_p99_max(times), "p99 <= 2 ms", met)
