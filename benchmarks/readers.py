"""Shared locks: what a reader costs, whether readers overlap, when a writer among them is in."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

from contestants import SHARED_CONTESTANTS, Contestant
from crew import Crew, Work, now
from harness import (
    Results,
    Row,
    Sample,
    Settings,
    figure,
    interleaved,
    median_and_spread,
    report_of,
)

READERS, HOLD = 8, 0.001
MIXES = [(1, 8), (4, 4), (8, 1)]  # so many writers, and so many readers
PATIENCE = 20  # seconds
ASLEEP = 0.02  # seconds after which a waiter certainly sleeps
FIRST, JOINS, OVERLAP, TURNS, KILLED = 1.2, 1.5, 6.0, 3.0, 2.0  # the targets


def measure_readers(settings: Settings) -> Iterator[Sample]:
    """Readers and writers of one lock."""
    everybody = [c for c in SHARED_CONTESTANTS if settings.peers_python or not c.peer]
    sizes = {
        "cycle": settings.choose(1000, 200),
        "overlap": settings.choose(4000, 1000),
        "writer": settings.choose(10, 5),
        "killed": settings.choose(10, 5),
    }
    sizes |= {mix_name(*mix): settings.choose(2, 1) for mix in MIXES}
    for case, size in sizes.items():

        def run(contestant: Contestant, case: str, size: int) -> dict[str, Any]:
            found: dict[str, Any] = report_of(settings, "readers", contestant, case, size)
            return found

        rounds = settings.choose(9, 3) if case == "cycle" else settings.choose(5, 2)
        yield from interleaved(
            "readers", case, everybody, rounds, partial(run, case=case, size=size)
        )


def mix_name(writers: int, readers: int) -> str:
    return f"{writers} writer{'s' * (writers > 1)}, {readers} reader{'s' * (readers > 1)}"


def show_readers(results: Results) -> Iterator[Row]:
    for case in results.cases("readers"):
        for name in results.contestants("readers", case):
            failure = results.failure("readers", case, name)
            if failure:
                yield Row(f"{case}: {name}", failure)
            elif case == "cycle":
                yield ratio_row(results, name, "first", FIRST)
                yield ratio_row(results, name, "joins", JOINS)
            else:
                yield other_row(results, case, name)


def ratios(results: Results, name: str, kind: str) -> list[float]:
    """Of a reader and an exclusive owner in the same moments."""
    reader = results.values("readers", "cycle", name, kind)
    alone = results.values("readers", "cycle", name, "exclusive")
    return [one / other for one, other in zip(reader, alone, strict=True)]


def ratio_row(results: Results, name: str, kind: str, limit: float) -> Row:
    reader = results.values("readers", "cycle", name, kind)
    over = ratios(results, name, kind)
    text = f"{figure(median(reader))} µs = {median_and_spread(over)} x exclusive"
    return Row(f"a reader, {kind}: {name}", text, f"<= {limit} x", median(over) <= limit)


def other_row(results: Results, case: str, name: str) -> Row:
    if case == "overlap":
        times = median(results.values("readers", case, name, "times"))
        text = f"{READERS} readers have {figure(times)} x the turns of one"
        return Row(f"{case}: {name}", text, f">= {OVERLAP}", times >= OVERLAP)
    if case not in ("writer", "killed"):
        return Row(f"{case}: {name}", mix_text(results, case, name))
    found = results.pooled("readers", case, name, "found")
    if case == "writer":
        text = f"in after {figure(median(found))} turns of each reader"
        return Row(f"{case}: {name}", text, f"<= {TURNS}", median(found) <= TURNS)
    text = f"owns {figure(median(found))} ms after the last reader was killed"
    return Row(f"{case}: {name}", text, f"<= {KILLED} ms", median(found) <= KILLED)


def mix_text(results: Results, case: str, name: str) -> str:
    """Of each kind: the turns a second of who had fewest, and the longest wait of all."""

    def told(kind: str) -> str:
        fewest = median(results.values("readers", case, name, f"{kind}, fewest"))
        longest = max(results.values("readers", case, name, f"{kind}, longest wait"))
        return f"{figure(fewest)} / {figure(longest)} ms"

    return f"{told('writers')}; {told('readers')}"


# In the helper process


def answer_readers(contestant: Contestant, path: str, case: str, size: int) -> dict[str, Any]:
    cases = {"cycle": cycle, "overlap": overlap, "writer": writer, "killed": killed}
    cases |= {mix_name(*mix): partial(mixed, mix=mix) for mix in MIXES}
    return cases[case](contestant, path, size)


def microseconds(lock: Any, count: int) -> float:
    started = time.perf_counter_ns()
    for _ in range(count):
        lock.acquire()
        lock.release()
    return (time.perf_counter_ns() - started) / count / 1000


def cycle(contestant: Contestant, path: str, count: int) -> dict[str, Any]:
    reader = fork_reader(contestant, path + "-joined")
    locks = {
        "first": contestant.make(path, True).reader,
        "joins": contestant.make(path + "-joined", True).reader,
        "exclusive": contestant.make(path, True).writer,
    }
    spent: dict[str, list[float]] = {kind: [] for kind in locks}
    for _ in range(10):
        for kind, lock in locks.items():
            spent[kind].append(microseconds(lock, count // 10))
    end(reader)
    return {kind: median(times) for kind, times in spent.items()}


def fork_reader(contestant: Contestant, path: str) -> int:
    """A process that reads for as long as it lives."""
    reads, reader = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            lock = contestant.make(path, True)  # of others, it ends with the object
            lock.reader.acquire()
            os.write(reader, b".")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(reader)
    if not os.read(reads, 1):
        raise RuntimeError("the reader could not lock")
    os.close(reads)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def crew_of_readers(contestant: Contestant, path: str, count: int) -> Crew:
    return Crew("processes", count, Work(lambda: contestant.make(path, True).reader, HOLD))


def overlap(contestant: Contestant, path: str, turns: int) -> dict[str, Any]:
    """How many times the turns of one reader several have in the same time."""
    rates = {}
    for count in (1, READERS):
        with crew_of_readers(contestant, path, count) as crew:
            crew.go()
            crew.wait_for_first_turns()
            found = crew.watch(crew.turns_taken() + turns * count // READERS, 10)
        later = [turn for turn in found["turns"] if turn[3] > found["started"]]
        rates[count] = len(later) / (found["ended"] - found["started"])
    return {"times": rates[READERS] / rates[1]}


def writer(contestant: Contestant, path: str, tries: int) -> dict[str, Any]:
    """How many turns readers that come back at once have had, each, before a writer is in."""
    lock, found = contestant.make(path, True).writer, []
    with crew_of_readers(contestant, path, READERS) as crew:
        crew.go()
        for _ in range(tries):
            time.sleep(ASLEEP)
            before = crew.turns_taken()
            signal.alarm(PATIENCE)  # where writers starve
            lock.acquire()
            signal.alarm(0)
            found.append((crew.turns_taken() - before) / READERS)
            lock.release()
    return {"found": found}


def check_nobody_beside_a_writer(turns: list[list[int]], writers: int) -> None:
    """Each turn: who, and when it was asked for, entered and left."""
    others_left = writers_left = 0
    for number, _, entered, left in sorted(turns, key=lambda turn: turn[2]):
        is_writer = number < writers
        if entered < (max(others_left, writers_left) if is_writer else writers_left):
            raise RuntimeError("overlapped: not reported")
        if is_writer:
            writers_left = max(writers_left, left)
        else:
            others_left = max(others_left, left)


def mixed(
    contestant: Contestant, path: str, seconds: int, mix: tuple[int, int]
) -> dict[str, float]:
    """Writers and readers that all come back at once."""
    writers, readers = mix
    work = Work(
        lambda: contestant.make(path, True).reader,
        HOLD,
        others=writers,
        make_others_lock=lambda: contestant.make(path, True).writer,
    )
    with Crew("processes", writers + readers, work) as crew:
        crew.go()
        found = crew.watch(10**9, seconds)
        waiting = [crew.read(number)["now"] for number in range(crew.count)]
    check_nobody_beside_a_writer(found["turns"], writers)
    told = {}
    for kind, numbers in {
        "writers": range(writers),
        "readers": range(writers, writers + readers),
    }.items():
        turns = {number: [t for t in found["turns"] if t[0] == number] for number in numbers}
        waits = [t[2] - t[1] for number in numbers for t in turns[number]]
        waits += [
            found["ended"] - asked
            for number, asked, entered in waiting
            if number in numbers and 0 < asked < found["ended"] and not entered
        ]
        told[f"{kind}, fewest"] = min(len(turns[number]) for number in numbers) / seconds
        told[f"{kind}, longest wait"] = max(waits, default=0) / 1e6
    return told


def killed(contestant: Contestant, path: str, kills: int) -> dict[str, Any]:
    """Milliseconds from a reader's death to a waiting writer's turn."""
    found = []
    for number in range(kills):
        reader = fork_reader(contestant, f"{path}-{number}")
        lock = contestant.make(f"{path}-{number}", True).writer
        moments: list[int] = []

        def kill(pid: int = reader, moments: list[int] = moments) -> None:
            time.sleep(ASLEEP)
            moments.append(now())
            os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        lock.acquire()
        entered = now()
        lock.release()
        killer.join()
        os.waitpid(reader, 0)
        found.append((entered - moments[0]) / 1e6)
    return {"found": found}
