"""The helper process of the measurements: `worker.py ROLE LOCK_CLASS PATH [ARGUMENT ...]`.

Every role says "ready" first, then waits for requests on standard input, a line each.
"""

import fcntl
import json
import os
import resource
import sqlite3
import sys
import threading
import time
from typing import Any

import lockfile


class Flock:
    """The blocking `flock` loop that the hand-offs are compared with; its file stays behind."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path + ".flock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def acquire(self, timeout: float | None = None) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)


def cycle(lock_class: Any, path: str) -> None:
    """Cycle as often as asked, with one object or a new one each time, and say the nanoseconds."""
    lock = lock_class(path)
    for line in sys.stdin:
        request, count = [*line.split(), "1"][:2]
        times = range(int(count))
        started = time.perf_counter_ns()
        if request == "reused":
            for _ in times:
                lock.acquire()
                lock.release()
        elif request == "new":
            for _ in times:
                new_lock = lock_class(path)
                new_lock.acquire()
                new_lock.release()
        elif request == "trace":
            trace(lock)
        print(time.perf_counter_ns() - started, flush=True)


class Rows:
    """The two bare statements that SQLiteFileLock is compared with."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path + ".db", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS locks (lock BLOB PRIMARY KEY, owner, file, byte)"
            " WITHOUT ROWID"
        )

    def acquire(self) -> bool:
        insert = "INSERT INTO locks VALUES (?, ?, ?, ?) ON CONFLICT (lock) DO NOTHING"
        return self.connection.execute(insert, (b"data.lock", b"owner", 1, 2)).rowcount == 1

    def release(self) -> bool:
        delete = "DELETE FROM locks WHERE lock = ? AND file = ? AND byte = ?"
        return self.connection.execute(delete, (b"data.lock", 1, 2)).rowcount == 1


def rows(_lock_class: Any, path: str) -> None:
    """Run the two bare statements as often as asked, and say the nanoseconds."""
    bare = Rows(path)
    for line in sys.stdin:
        request, count = [*line.split(), "1"][:2]
        started = time.perf_counter_ns()
        if request == "trace":
            trace(bare)
        else:
            for _ in range(int(count)):
                bare.acquire()
                bare.release()
        print(time.perf_counter_ns() - started, flush=True)


def trace(lock: Any) -> None:
    """One cycle between two calls of getppid(), for strace to see."""
    for _ in range(3):
        lock.acquire()
        lock.release()
    os.getppid()
    lock.acquire()
    lock.release()
    os.getppid()


def turns(lock_class: Any, path: str, hold: str, count: str, seconds: str) -> None:
    """Hold the lock again and again; then say when each turn was asked for, entered and left."""
    lock = lock_class(path)
    holding = float(hold)
    records: list[tuple[int, int, int]] = []
    sys.stdin.readline()
    end = time.monotonic() + float(seconds)
    while len(records) < int(count) and time.monotonic() < end:
        asked = time.monotonic_ns()
        lock.acquire()
        entered = time.monotonic_ns()
        time.sleep(holding)
        left = time.monotonic_ns()
        lock.release()
        records.append((asked, entered, left))
    print(json.dumps(records), flush=True)
    sys.stdin.readline()


def have_waited(lock_class: Any, path: str) -> None:
    """Wait for a lock once: a process that has done so keeps what it waits by."""
    held = threading.Event()

    def hold() -> None:
        with lock_class(path):
            held.set()
            time.sleep(0.005)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with lock_class(path):
        holder.join()


def own(lock_class: Any, path: str) -> None:
    """Own the lock for as long as this process lives."""
    if lock_class is not Flock:
        have_waited(lock_class, f"{path}-{os.getpid()}")
    lock = lock_class(path)
    lock.acquire()
    print("owns", flush=True)
    sys.stdin.readline()


def wait(lock_class: Any, path: str) -> None:
    """Wait for the lock, for the seconds of each request, and say what the waiting cost."""
    lock = lock_class(path)
    for line in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_SELF)
        asked = time.monotonic_ns()
        entered = 0
        try:
            lock.acquire(timeout=float(line))
            entered = time.monotonic_ns()
            lock.release()
        except lockfile.LockTimeout:
            pass
        waited = time.monotonic_ns() - asked
        after = resource.getrusage(resource.RUSAGE_SELF)
        report = {
            "entered": entered,
            "waited": waited / 1e9,
            "wake_ups": after.ru_nvcsw - before.ru_nvcsw,
            "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        }
        print(json.dumps(report), flush=True)


def grow(lock_class: Any, path: str) -> None:
    """Cycle as often as asked, half of it with new objects, and say what this process occupies."""
    lock = lock_class(path)
    for line in sys.stdin:
        for _ in range(int(line) // 2):
            lock.acquire()
            lock.release()
            new_lock = lock_class(path)
            new_lock.acquire()
            new_lock.release()
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        report = {
            "kibibytes": pages * resource.getpagesize() // 1024,
            "descriptors": len(os.listdir("/proc/self/fd")),
            "files": len(os.listdir(os.path.dirname(path))),
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    roles = {role.__name__: role for role in (cycle, rows, turns, own, wait, grow)}
    role_name, class_name, path, *arguments = sys.argv[1:]
    lock_class = Flock if class_name == "Flock" else getattr(lockfile, class_name)
    print("ready", flush=True)
    roles[role_name](lock_class, path, *arguments)
