"""Workers that take turns, and are killed at random; each looks whether it is alone."""

import random
import time
from dataclasses import dataclass

from support import Child

# What a worker makes while it owns, and the system removes with it, whatever becomes of it.
CODE = """
    import time
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    inside = sys.argv[2] + ".inside"
    end = time.monotonic() + float(sys.argv[3])
    turns = 0
    TEMPORARY = getattr(os, "O_TEMPORARY", 0)
    while time.monotonic() < end:
        try:
            lock.acquire(timeout=20)
        except lockfile.LockTimeout:
            say("stall")
            continue
        try:
            descriptor = os.open(inside, os.O_CREAT | os.O_EXCL | os.O_RDWR | TEMPORARY)
        except FileExistsError:
            say("breach")
        else:
            time.sleep(0.001)
            os.close(descriptor)
        lock.release()
        say("turn")
    """


@dataclass
class Result:
    turns: int = 0
    breaches: int = 0
    stalls: int = 0
    kills: int = 0


def count(result, child):
    """All that it has said, to its end."""
    words = []
    while line := child._lines.get(timeout=100):
        words.append(line)
    result.turns += sum(b"turn" in word for word in words)
    result.breaches += sum(b"breach" in word for word in words)
    result.stalls += sum(b"stall" in word for word in words)


def run_workers(lock_class, directory, workers, seconds, kills):
    path, result = directory / "worked", Result()
    until = time.monotonic() + seconds

    def start():
        left = max(until - time.monotonic(), 0)
        return Child(CODE, lock_class.__name__, path, str(left))

    children = [start() for _ in range(workers)]
    while kills and time.monotonic() < until - 1:
        time.sleep(random.uniform(0.05, 0.3))
        victim = random.randrange(workers)
        children[victim].kill()
        count(result, children[victim])
        result.kills += 1
        children[victim] = start()
    for child in children:
        count(result, child)
        child.kill()
    return result
