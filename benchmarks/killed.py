"""How soon a waiter owns after the owner was killed, beside a waiter that blocks in flock."""

import json
import time
from collections.abc import Iterator

from harness import WORKER, Row, Settings, children, p50_p99_max, percentile

ASLEEP = 0.01  # seconds after which a waiter certainly sleeps
ENDLESS = ["1000000", "300"]


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
    """The owner, which has waited before it owned, is killed with SIGKILL while others wait.

    The kernel is slow to end a process that has waited while still others wait, for whatever
    lock. Hence the processes that are busy with another one.
    """
    other_lock = [
        *WORKER,
        "turns",
        settings.lock_class,
        settings.fastest / "other",
        0.001,
        *ENDLESS,
    ]
    for waiters, busy in ((1, 0), (4, 0), (1, 3)):
        kills = settings.choose(200, 20)
        with children([other_lock] * busy) as busy_ones:
            for child in busy_ones:
                child.say("go")
            flock = kill_owner(settings, "Flock", waiters, kills)
            times = kill_owner(settings, settings.lock_class, waiters, kills)
        what = f"{kills} kills, {waiters} waiting, {busy} busy"
        slow = sum(value > 100 for value in times)
        yield Row(f"{what}: flock", p50_p99_max(flock))
        yield Row(what, p50_p99_max(times), "p99 <= 2 ms", percentile(times, 99) <= 2)
        yield Row(f"{what}: over 100 ms", f"{slow} of {kills}", "none", slow == 0)
