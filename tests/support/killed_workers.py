"""Workers that take turns, or read together, some killed at random; each looks who else is in."""

import ast
import random
import time
from dataclasses import dataclass, field

from support import Child

# Whoever is in makes a file, which the system removes with it, whatever becomes of it; and looks
# for others' then. So of two who must not be in together, one sees the other's.
CODE = """
    import random, time
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    directory, name = os.path.split(sys.argv[2])
    end = time.monotonic() + float(sys.argv[3])
    TEMPORARY = getattr(os, "O_TEMPORARY", 0)

    def look_around(reads):
        kind = "reads" if reads else "writes"
        mine = f"{name}.{kind}.{os.getpid()}"
        descriptor = os.open(
            os.path.join(directory, mine), os.O_CREAT | os.O_EXCL | os.O_RDWR | TEMPORARY
        )
        others = [
            other.split(".")
            for other in os.listdir(directory)
            if other.startswith((name + ".reads.", name + ".writes.")) and other != mine
        ]
        for _, their_kind, process in others:
            if not (reads and their_kind == "reads"):
                say(["breach", int(process)])
        time.sleep(0.001)
        os.close(descriptor)

    while time.monotonic() < end:
        reads = random.random() < float(sys.argv[4])
        try:
            lock.acquire(timeout=20, **({"shared": True} if reads else {}))
        except lockfile.LockTimeout:
            say("stall")
            continue
        look_around(reads)
        if not reads and random.random() < float(sys.argv[4]):
            lock.downgrade()
            look_around(True)
        lock.release()
        say("turn")
    """


@dataclass
class Result:
    turns: int = 0
    breaches: int = 0
    stalls: int = 0
    kills: int = 0
    failures: int = 0  # of those that were not killed
    met: list[int] = field(default_factory=list)  # whom somebody has met who must not


def count(result, child):
    """All that it has said, to its end."""
    words = []
    while line := child._lines.get(timeout=100):
        words.append(line)
    result.turns += sum(b"turn" in word for word in words)
    result.met += [ast.literal_eval(word.decode())[1] for word in words if b"breach" in word]
    result.stalls += sum(b"stall" in word for word in words)


def end(result, child):
    """Kill it, unless it has ended by itself."""
    result.failures += child.process.poll() not in (None, 0)
    child.kill()
    count(result, child)


def run_workers(lock_class, directory, workers, seconds, kills, reads=0.0):
    path, result, killed = directory / "worked", Result(), set()
    until = time.monotonic() + seconds

    def start():
        left = max(until - time.monotonic(), 0)
        return Child(CODE, lock_class.__name__, path, str(left), str(reads))

    children = [start() for _ in range(workers)]
    while kills and time.monotonic() < until - 1:
        time.sleep(random.uniform(0.05, 0.3))
        victim = random.randrange(workers)
        if children[victim].process.poll() is None:
            killed.add(children[victim].pid)
            result.kills += 1
        end(result, children[victim])
        children[victim] = start()
    for child in children:
        child.process.wait(100)
        end(result, child)
    # Of one that is killed, the system drops the lock before the file, or after it.
    result.breaches = sum(process not in killed for process in result.met)
    return result
