"""What is measured side by side: this project's classes, a bare `flock`, and the peers.

Both sides of a measurement read this table: the program that measures, to know whom to call, and
the helper process, to make the locks. So nothing is imported before a lock is made.
"""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

LONG = 86_400.0  # seconds, where a peer would otherwise give up while it waits


@cache
def found(module: str, name: str) -> Any:
    """Imported when it is first used, and not looked for each time that a lock is made."""
    return getattr(import_module(module), name)


class Flock:
    """The blocking `flock` loop in Python; its file stays behind."""

    descriptor = -1

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path + ".flock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def acquire(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class NoLock:
    """Excludes nobody: what the detector of overlaps has to detect."""

    def acquire(self) -> None:
        pass

    def release(self) -> None:
        pass


class Renamed:
    """A lock whose methods have other names, without a call in between."""

    def __init__(self, acquire: Callable[[], object], release: Callable[[], object]) -> None:
        self.acquire = acquire
        self.release = release


class Unmade:
    """zc.lockfile locks when an object is made, and cannot wait."""

    def __init__(self, path: str) -> None:
        self.make = found("zc.lockfile", "LockFile")
        self.path = path

    def acquire(self) -> None:
        self.lock = self.make(self.path)

    def release(self) -> None:
        self.lock.close()


class ReadersAndWriters:
    """What a reader and a writer of one lock call."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self.reader = reader
        self.writer = writer


def sharing(name: str) -> Callable[[str, bool], Any]:
    def make(path: str, threaded: bool) -> ReadersAndWriters:
        lock_class = found("lockfile", name)
        return ReadersAndWriters(
            lock_class(path, threaded, shared=True), lock_class(path, threaded)
        )

    return make


def sharing_filelock(name: str) -> Callable[[str, bool], Any]:
    def make(path: str, _threaded: bool) -> ReadersAndWriters:
        lock = found("filelock", name)(path + ".lock")
        return ReadersAndWriters(
            Renamed(lock.acquire_read, lock.release), Renamed(lock.acquire_write, lock.release)
        )

    return make


def sharing_fasteners(path: str, _threaded: bool) -> ReadersAndWriters:
    lock = found("fasteners", "InterProcessReaderWriterLock")(path + ".lock")
    return ReadersAndWriters(
        Renamed(lock.acquire_read_lock, lock.release_read_lock),
        Renamed(lock.acquire_write_lock, lock.release_write_lock),
    )


def of_lockfile(module: str, name: str) -> Callable[[str, bool], Any]:
    """A class with the interface that the classic package and this one share."""
    return lambda path, threaded: found(module, name)(path, threaded)


def filelock(name: str) -> Callable[[str, bool], Any]:
    return lambda path, _threaded: found("filelock", name)(path + ".lock")


def fasteners(path: str, _threaded: bool) -> Any:
    return found("fasteners", "InterProcessLock")(path + ".lock")


def portalocker(path: str, _threaded: bool) -> Any:
    return found("portalocker", "Lock")(path + ".lock", timeout=LONG)


def flufl(path: str, _threaded: bool) -> Any:
    lock = found("flufl.lock", "Lock")(path + ".lock")
    return Renamed(lock.lock, lock.unlock)


@dataclass(frozen=True)
class Contestant:
    """Somebody who locks, and what can be asked of it."""

    name: str
    module: str  # what a program imports
    make: Callable[[str, bool], Any]  # from a path, and whether a thread is an owner of its own
    mechanism: str  # how it locks
    waiting: str  # how it waits
    leaves: str  # what lies in the directory while nobody locks
    peer: bool = False  # lives in the peers' environment
    ours: bool = False
    owner_is_chosen: bool = False  # whether it has the option `threaded`
    waits: bool = True
    makes_free_locks: bool = True  # whether an object can be made without locking


def ours(name: str, mechanism: str, leaves: str) -> Contestant:
    make = of_lockfile("lockfile", name)
    return Contestant(
        name, "lockfile", make, mechanism, "woken", leaves, ours=True, owner_is_chosen=True
    )


def classic(name: str, mechanism: str, leaves: str) -> Contestant:
    module = f"lockfile.{name.lower()}"
    return Contestant(
        f"classic {name}",
        module,
        of_lockfile(module, name),
        mechanism,
        "polls, 100 ms",
        leaves,
        peer=True,
        owner_is_chosen=True,
    )


def peer(
    name: str, make: Callable[[str, bool], Any], mechanism: str, waiting: str, leaves: str
) -> Contestant:
    return Contestant(name, name.split()[0], make, mechanism, waiting, leaves, peer=True)


FLOCK = Contestant(
    "flock loop", "fcntl", lambda path, _: Flock(path), "flock", "in the kernel", "its file"
)
NO_LOCK = Contestant("no lock", "", lambda _path, _threaded: NoLock(), "nothing", "never", "")

CONTESTANTS = [
    ours("LinkFileLock", "link", "nothing"),
    ours("MkdirFileLock", "mkdir", "nothing"),
    ours("SQLiteFileLock", "a row", "the database"),
    FLOCK,
    classic("LinkLockFile", "link", "nothing"),
    classic("MkdirLockFile", "mkdir", "nothing"),
    classic("SQLiteLockFile", "a row in a database of its process", "nothing"),
    peer("filelock FileLock", filelock("FileLock"), "flock", "polls, 50 ms", "its file"),
    peer("filelock SoftFileLock", filelock("SoftFileLock"), "O_EXCL", "polls, 50 ms", "nothing"),
    peer("fasteners", fasteners, "fcntl", "polls, 10 to 100 ms", "its file"),
    peer("portalocker", portalocker, "flock", "polls, 250 ms", "its file"),
    peer("flufl.lock", flufl, "link and a lifetime", "polls, up to 2 s", "nothing"),
    Contestant(
        "zc.lockfile",
        "zc.lockfile",
        lambda path, _: Unmade(path + ".lock"),
        "flock",
        "cannot wait",
        "its file",
        peer=True,
        waits=False,
        makes_free_locks=False,
    ),
]
# Those that coroutines can wait for.
ASYNC_CONTESTANTS = [
    *(contestant for contestant in CONTESTANTS if contestant.ours),
    peer("filelock AsyncFileLock", filelock("AsyncFileLock"), "flock", "polls, 50 ms", "its file"),
]
# Those whose locks many readers can share.
SHARED_CONTESTANTS = [
    *(
        Contestant(f"{name}, shared", "lockfile", sharing(name), how, "woken", leaves, ours=True)
        for name, how, leaves in [
            ("LinkFileLock", "link", "nothing"),
            ("MkdirFileLock", "mkdir", "nothing"),
            ("SQLiteFileLock", "rows", "the database"),
        ]
    ),
    peer(
        "filelock ReadWriteLock", sharing_filelock("ReadWriteLock"), "SQLite", "polls", "its file"
    ),
    peer(
        "filelock SoftReadWriteLock",
        sharing_filelock("SoftReadWriteLock"),
        "O_EXCL and heartbeats",
        "polls",
        "nothing",
    ),
    peer("fasteners InterProcessReaderWriterLock", sharing_fasteners, "fcntl", "polls", "its file"),
]
NAMED = {
    contestant.name: contestant
    for contestant in [*CONTESTANTS, *ASYNC_CONTESTANTS, *SHARED_CONTESTANTS, NO_LOCK]
}
OURS = [contestant.name for contestant in CONTESTANTS if contestant.ours]
