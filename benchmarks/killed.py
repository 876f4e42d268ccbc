"""How soon a waiter owns after the owner was killed, beside a waiter that blocks in flock."""

import json
import time
from collections.abc import Iterator

from harness import WORKER, Row, Settings, children, p50_p99_max, percentile

ASLEEP = 0.01  # seconds after which a waiter certainly sleeps


def kill_owner(settings: Settings, lock_class: str, waiters: int, kills: int) -> list[float]:
    """Milliseconds from SIGKILL to the first waiter's ownership, for each kill."""
    path = settings.fastest / "data"
    milliseconds = []
    with children([[*WORKER, "wait", lock_class, path]] * waiters) as waiting:
        for _ in range(kills):
            with children([[*WORKER, "own", lock_class, path]]) as [owner]:
                owner.hear()
                for waiter in waiting:
                    waiter.say("60")
                time.sleep(ASLEEP)
                killed = time.monotonic_ns()
                owner.process.kill()
                entered = [json.loads(waiter.hear())["entered"] for waiter in waiting]
            milliseconds.append((min(entered) - killed) / 1e6)
    return milliseconds


def measure_killed(settings: Settings) -> Iterator[Row]:
    """The owner is killed with SIGKILL while one process, or four, wait."""
    for waiters, kills in ((1, settings.choose(300, 40)), (4, settings.choose(200, 20))):
        what = f"{kills} kills, {waiters} waiting"
        yield Row(f"{what}: flock", p50_p99_max(kill_owner(settings, "Flock", waiters, kills)))
        times = kill_owner(settings, settings.lock_class, waiters, kills)
        slow = sum(value > 100 for value in times)
        yield Row(what, p50_p99_max(times), "p99 <= 2 ms", percentile(times, 99) <= 2)
        yield Row(f"{what}: over 100 ms", f"{slow} of {kills}", "none", slow == 0)
