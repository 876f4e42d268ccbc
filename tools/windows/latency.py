"""How long a lock takes to change hands on Windows, beside a blocking LockFileEx().

usage: latency.py [ROUNDS]     run by a Python for Windows, in an empty directory
"""

import contextlib
import ctypes
import subprocess
import sys
import time
from ctypes import wintypes

import lockfile

CLASSES = ("MkdirFileLock", "LinkFileLock", "SQLiteFileLock", "LockFileEx")


class Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("offset", wintypes.DWORD),
        ("offset_high", wintypes.DWORD),
        ("event", wintypes.HANDLE),
    )


class LockFileEx:
    """What the system has itself: it wakes who waits."""

    EXCLUSIVE = 2

    def __init__(self, path):
        import msvcrt

        self.file = open(path, "a")
        self.handle = wintypes.HANDLE(msvcrt.get_osfhandle(self.file.fileno()))
        self.kernel = ctypes.WinDLL("kernel32")

    def acquire(self):
        place = ctypes.byref(Overlapped())
        assert self.kernel.LockFileEx(self.handle, self.EXCLUSIVE, 0, 1, 0, place)

    def release(self):
        assert self.kernel.UnlockFileEx(self.handle, 0, 1, 0, ctypes.byref(Overlapped()))


def lock_of(name, path):
    return LockFileEx(path) if name == "LockFileEx" else getattr(lockfile, name)(path)


def take_turns(name, path):
    """In a child: own when told, say since when, and release when told."""
    lock = lock_of(name, path)
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "acquire\n":
            lock.acquire()
            print(time.perf_counter(), flush=True)
        else:
            lock.release()
            print("released", flush=True)


INTERNAL_ERROR = 1359


def start(command, **keywords):
    """Wine, when busy, at times ends a process before it has begun, and then says so."""
    for _ in range(5):
        try:
            return subprocess.Popen(command, **keywords)
        except OSError as error:
            if error.winerror != INTERNAL_ERROR:
                raise
    return subprocess.Popen(command, **keywords)


class Child:
    def __init__(self, name, path):
        self.process = start(
            [sys.executable, __file__, "--child", name, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hear() == "ready"

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self):
        return self.process.stdout.readline().strip()

    def kill(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def somebody_else_waits():
    """For another lock. When nobody waits for a change of any directory any more, Wine ends what
    it is told of changes by, and does nothing else for some 15 ms. Mostly, somebody does."""
    other, waiter = lockfile.MkdirFileLock("latency-other"), Child("MkdirFileLock", "latency-other")
    with other:
        waiter.say("acquire")
        yield
        waiter.kill()


def hand_off(name):
    """From the release to the waiter's return."""
    path = f"latency-{name}"
    lock, waiter = lock_of(name, path), Child(name, path)
    lock.acquire()
    waiter.say("acquire")
    time.sleep(0.3)
    begun = time.perf_counter()
    lock.release()
    taken = float(waiter.hear())
    waiter.say("release")
    waiter.hear()
    waiter.kill()
    return taken - begun


def recovery(name):
    """From the owner's end to the waiter's return."""
    path = f"latency-{name}"
    owner, waiter = Child(name, path), Child(name, path)
    owner.say("acquire")
    owner.hear()
    waiter.say("acquire")
    time.sleep(0.3)
    begun = time.perf_counter()
    owner.process.kill()
    taken = float(waiter.hear())
    waiter.say("release")
    waiter.hear()
    waiter.kill()
    owner.kill()
    return taken - begun


def tell(what, samples):
    samples = sorted(1000 * sample for sample in samples)
    middle, last = samples[len(samples) // 2], samples[-1]
    print(f"{what:<32} median {middle:8.2f} ms   longest {last:8.2f} ms   of {len(samples)}")


def main():
    if sys.argv[1:2] == ["--child"]:
        return take_turns(*sys.argv[2:])
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with somebody_else_waits():
        for measure in (hand_off, recovery):
            for name in CLASSES:
                tell(f"{measure.__name__}, {name}", [measure(name) for _ in range(rounds)])


if __name__ == "__main__":
    main()
