"""What coroutines cost: `async with` beside `with`, hand-offs among tasks beside threads, and how
long the loop does not answer while very many of its tasks wait."""

import asyncio
import resource
import threading
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

from contestants import ASYNC_CONTESTANTS, Contestant
from harness import (
    Results,
    Row,
    Sample,
    Settings,
    figure,
    interleaved,
    median_and_spread,
    p50_p99_max,
    report_of,
)

WORKERS, HOLD = 8, 0.001  # of hand-offs
CROWD, WAITING = 1000, 0.5
LIMITS = {"cycle": 1.5, "hand-off": 2.0}


def measure_tasks(settings: Settings) -> Iterator[Sample]:
    """Tasks of one loop."""
    everybody = [c for c in ASYNC_CONTESTANTS if settings.peers_python or not c.peer]
    sizes = {
        "cycle": settings.choose(2000, 500),
        "hand-off": settings.choose(50, 15),
        f"{CROWD:,} tasks, one lock": 1,
        f"{CROWD:,} tasks, as many locks": CROWD,
    }
    for case, size in sizes.items():

        def run(contestant: Contestant, case: str, size: int) -> dict[str, Any]:
            found: dict[str, Any] = report_of(settings, "tasks", contestant, case, size)
            return found

        rounds = settings.choose(9, 3) if case in LIMITS else settings.choose(3, 1)
        yield from interleaved("tasks", case, everybody, rounds, partial(run, case=case, size=size))


def show_tasks(results: Results) -> Iterator[Row]:
    for case in results.cases("tasks"):
        for name in results.contestants("tasks", case):
            what = f"{case}: {name}"
            failure = results.failure("tasks", case, name)
            if failure:
                yield Row(what, failure)
            elif case in LIMITS:
                yield ratio_row(results, case, name)
            else:
                late = results.pooled("tasks", case, name, "late ms")
                yield Row(f"{what}, waiting", f"loop late {p50_p99_max(late)}")
                late = results.pooled("tasks", case, name, "late after ms")
                took = figure(median(results.values("tasks", case, name, "ms")))
                yield Row(
                    f"{what}, released", f"loop late {p50_p99_max(late)}; all after {took} ms"
                )


def over_threads(results: Results, case: str, name: str) -> list[float]:
    """What it takes in tasks, over the same in threads; of a peer nothing, which has no threads."""
    tasks = results.values("tasks", case, name, "tasks")
    threads = results.values("tasks", case, name, "threads")
    return [one / other for one, other in zip(tasks, threads, strict=True)] if threads else []


def ratio_row(results: Results, case: str, name: str) -> Row:
    """Of tasks and threads of one process, in the same moments."""
    what = f"{case}: {name}"
    text = f"{figure(median(results.values('tasks', case, name, 'tasks')))} µs"
    over = over_threads(results, case, name)
    if not over:
        return Row(what, text)
    text += f" = {median_and_spread(over)} x in threads"
    return Row(what, text, f"<= {LIMITS[case]} x", median(over) <= LIMITS[case])


# In the helper process


def answer_tasks(contestant: Contestant, path: str, case: str, size: int) -> dict[str, Any]:
    with asyncio.Runner() as runner:
        if case == "cycle":
            return cycle(runner, contestant, path, size)
        if case == "hand-off":
            return hand_off(runner, contestant, path, size)
        return runner.run(crowd(contestant, path, size))


def cycle(runner: asyncio.Runner, contestant: Contestant, path: str, count: int) -> dict[str, Any]:
    """Microseconds of a cycle; a few of each kind, in turn."""
    lock = contestant.make(path, True)
    spent: dict[str, list[float]] = {"tasks": [], "threads": []}
    for _ in range(10):
        spent["tasks"].append(runner.run(cycle_in_task(lock, count // 10)))
        if contestant.ours:
            spent["threads"].append(cycle_in_thread(lock, count // 10))
    return {kind: median(times) for kind, times in spent.items() if times}


async def cycle_in_task(lock: Any, count: int) -> float:
    started = time.perf_counter_ns()
    for _ in range(count):
        async with lock:
            pass
    return (time.perf_counter_ns() - started) / count / 1000


def cycle_in_thread(lock: Any, count: int) -> float:
    started = time.perf_counter_ns()
    for _ in range(count):
        with lock:
            pass
    return (time.perf_counter_ns() - started) / count / 1000


class HandOffs:
    """From one's leaving to the next one's entering, where that one was waiting by then."""

    def __init__(self) -> None:
        self.left = (0, -1)
        self.times: list[int] = []

    def entered(self, who: int, asked: int) -> None:
        moment, last = self.left
        if last not in (-1, who) and asked < moment:
            self.times.append(time.perf_counter_ns() - moment)

    def leaving(self, who: int) -> None:
        self.left = (time.perf_counter_ns(), who)

    def median(self) -> float:
        return median(self.times) / 1000


def hand_off(
    runner: asyncio.Runner, contestant: Contestant, path: str, count: int
) -> dict[str, Any]:
    found = {"tasks": runner.run(among_tasks(contestant, path, count)).median()}
    if contestant.ours:
        found["threads"] = among_threads(contestant, path, count).median()
    return found


async def among_tasks(contestant: Contestant, path: str, count: int) -> HandOffs:
    found = HandOffs()

    async def work(who: int) -> None:
        lock = contestant.make(path, True)
        for _ in range(count):
            asked = time.perf_counter_ns()
            async with lock:
                found.entered(who, asked)
                await asyncio.sleep(HOLD)
                found.leaving(who)
            await asyncio.sleep(HOLD)

    await asyncio.wait_for(asyncio.gather(*map(work, range(WORKERS))), 50)
    return found


def among_threads(contestant: Contestant, path: str, count: int) -> HandOffs:
    found = HandOffs()

    def work(who: int) -> None:
        lock = contestant.make(path, True)
        for _ in range(count):
            asked = time.perf_counter_ns()
            with lock:
                found.entered(who, asked)
                time.sleep(HOLD)
                found.leaving(who)
            time.sleep(HOLD)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


async def crowd(contestant: Contestant, path: str, locks: int) -> dict[str, Any]:
    """How late the loop answers while many tasks wait for locks, and when they get them."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    late: list[float] = []

    async def look() -> None:
        while True:
            before = time.perf_counter_ns()
            await asyncio.sleep(HOLD)
            late.append((time.perf_counter_ns() - before) / 1e6 - HOLD * 1000)

    async def work(number: int) -> None:
        async with contestant.make(f"{path}-{number % locks}", True):
            pass

    held = [contestant.make(f"{path}-{number}", True) for number in range(locks)]
    for lock in held:
        await lock.__aenter__()
    tasks = [asyncio.create_task(work(number)) for number in range(CROWD)]
    await asyncio.sleep(WAITING)
    looking = asyncio.create_task(look())
    await asyncio.sleep(WAITING)
    while_waiting = late.copy()
    started = time.perf_counter_ns()
    for lock in held:
        await lock.__aexit__(None, None, None)
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*tasks), 50)
    looking.cancel()
    took = (time.perf_counter_ns() - started) / 1e6
    return {"late ms": while_waiting, "late after ms": late[len(while_waiting) :], "ms": took}
