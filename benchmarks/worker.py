"""The helper process of the measurements: `worker.py ROLE CONTESTANT PATH [ARGUMENT ...]`.

It does what the role says, and answers with a line of JSON.
"""

import json
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from contestants import NAMED, Contestant
from crew import ASKED, ENTERED, Crew, Work, now
from readers import answer_readers
from tasks import answer_tasks

ASLEEP = 0.02  # seconds after which a waiter certainly sleeps


class Rows:
    """The two bare statements that SQLiteFileLock is compared with."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path + ".db", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = PERSIST")
        self.connection.execute("PRAGMA synchronous = OFF")
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


def cycle(contestant: Contestant, path: str) -> None:
    """Cycle as often as asked, with one object or new ones, and say the nanoseconds."""
    locks = {threaded: contestant.make(path, threaded) for threaded in (True, False)}
    for line in sys.stdin:
        request, threaded, count = json.loads(line)
        lock, times = locks[threaded], range(count)
        started = time.perf_counter_ns()
        if request == "reused":
            for _ in times:
                lock.acquire()
                lock.release()
        elif request == "new":
            for _ in times:
                new_lock = contestant.make(path, threaded)
                new_lock.acquire()
                new_lock.release()
        elif request == "trace":
            trace(lock)
        print(time.perf_counter_ns() - started, flush=True)


def rows(_contestant: Contestant, path: str) -> None:
    """Run the two bare statements as often as asked, and say the nanoseconds."""
    bare = Rows(path)
    for line in sys.stdin:
        request, _threaded, count = json.loads(line)
        started = time.perf_counter_ns()
        if request == "trace":
            trace(bare)
        else:
            for _ in range(count):
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


def contend(
    contestant: Contestant,
    path: str,
    kind: str,
    count: int,
    hold: float,
    polite: bool,
    turns: int,
    seconds: float,
) -> dict[str, Any]:
    """Let processes or threads take turns at one lock, each with an object of its own."""
    with Crew(kind, count, Work(lambda: contestant.make(path, True), hold, polite)) as crew:
        crew.go()
        return crew.watch(turns, seconds)


def have_waited(contestant: Contestant, path: str) -> None:
    """Wait for a lock once: a process that has done so keeps what it waits by."""
    held = threading.Event()

    def hold() -> None:
        lock = contestant.make(path, True)
        lock.acquire()
        held.set()
        time.sleep(0.005)
        lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    lock = contestant.make(path, True)
    lock.acquire()
    lock.release()
    holder.join()


def fork_owner(contestant: Contestant, path: str) -> int:
    """A process that has waited for a lock, and now owns this one for as long as it lives."""
    owns, owner = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            have_waited(contestant, path + "-other")
            lock = contestant.make(path, True)
            lock.acquire()
            os.write(owner, b".")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(owner)
    if not os.read(owns, 1):
        raise RuntimeError("the owner could not lock")
    os.close(owns)
    return pid


def killed(
    contestant: Contestant, path: str, waiters: int, busy: int, kills: int, patience: float
) -> list[dict[str, Any]]:
    """Kill owners while others wait, and while still others are busy with another lock."""
    elsewhere = Work(lambda: contestant.make(path + "-elsewhere", True), 0.001)
    with Crew("processes", busy, elsewhere) as crew:
        crew.go()
        paths = [f"{path}-{number}" for number in range(kills)]
        return [kill_owner(contestant, path, waiters, patience) for path in paths]


def kill_owner(contestant: Contestant, path: str, waiters: int, patience: float) -> dict[str, Any]:
    """Kill an owner, and say what the waiters then did."""
    owner = fork_owner(contestant, path)
    with Crew("processes", waiters, Work(lambda: contestant.make(path, True), 0.002)) as crew:
        crew.go()
        while not all(crew.note(number, ASKED) for number in range(waiters)):
            time.sleep(0.001)
        time.sleep(ASLEEP)
        killed = now()
        os.kill(owner, signal.SIGKILL)
        found = crew.watch(1, patience)
    os.waitpid(owner, 0)
    return {**found, "killed": killed}


def used(pid: int) -> tuple[int, float]:
    """How often a process went to sleep, and the milliseconds that it ran."""
    wake_ups, milliseconds = 0, 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        wake_ups += int(fields["voluntary_ctxt_switches"])
        milliseconds += int((task / "schedstat").read_text().split()[0]) / 1e6
    return wake_ups, milliseconds


def waiting(
    contestant: Contestant, path: str, counts: list[int], seconds: float
) -> dict[str, dict[str, Any]]:
    """Let crews of several sizes wait, each for its own lock, and say what that cost."""
    works = {count: Work(make_for(contestant, f"{path}-{count}"), 0) for count in counts}
    crews = {count: Crew("processes", count, work).__enter__() for count, work in works.items()}
    locks = [work.make_lock() for work in works.values()]
    for lock in locks:
        lock.acquire()
    before = {pid: used(pid) for crew in crews.values() for pid in crew.pids}
    for crew in crews.values():
        crew.go()
    time.sleep(seconds)
    return {str(count): cost_of(crew, before) for count, crew in crews.items()}


def make_for(contestant: Contestant, path: str) -> Callable[[], Any]:
    return lambda: contestant.make(path, True)


def cost_of(crew: Crew, before: dict[int, tuple[int, float]]) -> dict[str, Any]:
    crew.look_for_trouble()
    if any(crew.note(number, ENTERED) for number in range(crew.count)) or crew.turns_taken():
        raise RuntimeError("overlapped")
    after = {pid: used(pid) for pid in crew.pids}
    return {
        "wake-ups": [after[pid][0] - before[pid][0] for pid in crew.pids],
        "milliseconds": [after[pid][1] - before[pid][1] for pid in crew.pids],
    }


def timeouts(contestant: Contestant, path: str, waiters: int, seconds: float) -> list[float]:
    """By how many milliseconds waiters time out late."""
    owner = contestant.make(path, True)
    owner.acquire()
    late: list[float] = []

    def wait() -> None:
        lock, asked = contestant.make(path, True), now()
        try:
            lock.acquire(timeout=seconds)
        except TimeoutError:
            late.append((now() - asked) / 1e6 - seconds * 1000)

    threads = [threading.Thread(target=wait) for _ in range(waiters)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return late


def resident() -> int:
    """The bytes of memory that this process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def memory(contestant: Contestant, path: str, count: int, hold: bool) -> dict[str, float]:
    """What each of many lock objects takes: bytes, and descriptors while all are held."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    paths = [f"{path}-{number}" for number in range(count)]
    first = contestant.make(path, True)
    first.acquire()
    first.release()
    locks: list[Any] = [None] * count
    bytes_before, descriptors_before = resident(), descriptors()
    for number, path in enumerate(paths):
        locks[number] = contestant.make(path, True)
        if hold:
            locks[number].acquire()
    return {
        "bytes": (resident() - bytes_before) / count,
        "descriptors": (descriptors() - descriptors_before) / count,
    }


def grow(contestant: Contestant, path: str, count: int, seconds: float) -> dict[str, Any]:
    """Cycle very often, half of it with new objects, and say what this process occupies."""
    lock = contestant.make(path, True)
    cycle_often(contestant, lock, path, count // 20, seconds / 20)
    before = occupied(path)
    cycles = cycle_often(contestant, lock, path, count, seconds)
    return {"cycles": cycles, "before": before, "after": occupied(path)}


def cycle_often(contestant: Contestant, lock: Any, path: str, count: int, seconds: float) -> int:
    """Cycle so many times, but not longer than this; say how many times it was."""
    end = time.monotonic() + seconds
    for cycles in range(0, count, 2):
        if time.monotonic() > end:
            return cycles
        lock.acquire()
        lock.release()
        new_lock = contestant.make(path, True)
        new_lock.acquire()
        new_lock.release()
    return count


def occupied(path: str) -> dict[str, int]:
    return {
        "kibibytes": resident() // 1024,
        "descriptors": descriptors(),
        "files": len(os.listdir(os.path.dirname(path))),
    }


ROLES: dict[str, Callable[..., Any]] = {
    role.__name__: role for role in (cycle, rows, contend, killed, waiting, timeouts, memory, grow)
} | {"readers": answer_readers, "tasks": answer_tasks}


def answer(role: str, name: str, path: str, *arguments: str) -> Any:
    contestant = NAMED[name]
    try:
        if contestant.module:
            import_module(contestant.module)
        return ROLES[role](contestant, path, *map(json.loads, arguments))
    except Exception as error:
        kind = "" if type(error) is RuntimeError else f"{type(error).__name__}: "
        return {"failure": f"{kind}{error}".replace(os.path.dirname(path) + "/", "")}


if __name__ == "__main__":
    print(json.dumps(answer(*sys.argv[1:])), flush=True)
    os._exit(0)  # whatever threads there are
