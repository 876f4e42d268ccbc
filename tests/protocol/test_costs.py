"""What one uncontended cycle costs, in things that can be counted and do not depend on the clock.

How often a waiter wakes up is counted in test_waiting.py. A change that needs one call more changes
these numbers: it says here that it does.
"""

import os
import signal

import pytest

from lockfile import LinkFileLock, MkdirFileLock, PIDLockFile, SQLiteFileLock, SymlinkLockFile
from support import PLAIN_ALLOCATIONS, Child, wait_until
from support.lock_classes import FILE_LOCK_CLASSES, KINDS
from support.protocol import SteppedChild, has_settled, inotify_of, open_files

STEPS = (
    *("open", "stat", "fcntl", "statfs", "flock", "link", "mkdir", "rename", "unlink", "close"),
    *("write", "read", "mode", "symlink", "link text"),
    "say",
)
ONE_CYCLE = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], **eval(sys.argv[3]))
    for _ in range(3):
        lock.acquire()
        lock.release()
    be_stopped()
    hear()
    say("begin")
    lock.acquire()
    say("owns")
    lock.release()
    say("released")
    """

# What opens, tags and later closes a descriptor: a program may have closed it meanwhile, and got
# its number for a file of its own.
OPEN = ["open", "stat", "fcntl"]
CLOSE = ["fcntl", "close"]
LINK_ACQUIRE = [*OPEN, "statfs", *OPEN, "flock", "stat", "link"]
# A mark on the directory, a look for another one, and a look for those who wait.
CHECK = ["fcntl", "fcntl", "stat", "fcntl"]
LINK_RELEASE = ["fcntl", "fcntl", *CHECK, "unlink", "stat", "unlink"]
MKDIR_ACQUIRE = [*OPEN, "statfs", "mkdir", *OPEN, *OPEN, "flock", "stat", "stat", "rename"]
MKDIR_RELEASE = ["fcntl", "fcntl", "fcntl", *CHECK, "rename", "stat"]
# What is written into the unique file, and read from the link before it is removed.
WRITTEN_ACQUIRE = [*LINK_ACQUIRE[:-1], "write"]
LINK_RELEASE_END = ["unlink", "stat", "unlink", *CLOSE, *CLOSE]
CYCLES = {
    LinkFileLock: (LINK_ACQUIRE, [*LINK_RELEASE, *CLOSE, *CLOSE]),
    SymlinkLockFile: (
        [*WRITTEN_ACQUIRE, "symlink"],
        ["fcntl", "fcntl", "fcntl", "fcntl", "link text", "stat", "fcntl", *LINK_RELEASE_END],
    ),
    PIDLockFile: (
        [*WRITTEN_ACQUIRE, "mode", "link"],
        ["fcntl", "fcntl", "read", *CHECK, *LINK_RELEASE_END],
    ),
    MkdirFileLock: (MKDIR_ACQUIRE, [*MKDIR_RELEASE, "unlink", "unlink", *CLOSE, *CLOSE, *CLOSE]),
}


def calls_of_one_cycle(lock_class, path, **keywords):
    """The kinds of system calls of acquire(), and of release()."""
    arguments = [lock_class.__name__, path, ascii(keywords)]
    with SteppedChild(ONE_CYCLE, *arguments, kinds=STEPS) as child:
        child.say("go")
        child.run_to("say")
        parts = []
        for _ in range(2):
            kinds = []
            while (call := child.next_call()).kind != "say":
                kinds.append(call.kind)
            parts.append(kinds)
        child.go_on()
        child.finish()
    return tuple(parts)


@pytest.mark.parametrize("lock_class", CYCLES, ids=lambda lock_class: lock_class.__name__)
def test_system_calls_of_a_cycle(lock_class, path):
    assert calls_of_one_cycle(lock_class, path) == CYCLES[lock_class]


@pytest.mark.parametrize("lock_class", [LinkFileLock, MkdirFileLock])
def test_system_calls_of_a_first_reader(lock_class, path):
    """It looks whom it might join, and marks what it lights shared at once; it makes sure that it
    has not lost the lock, and asks whether it is the last one, who releases it as its only owner.
    """
    acquire, release = CYCLES[lock_class]
    looks, lights = acquire.index("statfs") + 1, acquire.index("flock")
    checks = release.index("stat") - CHECK.index("stat")
    assert calls_of_one_cycle(lock_class, path, shared=True) == (
        [*acquire[:looks], "open", *acquire[looks:lights], "fcntl", *acquire[lights:]],
        [*release[:checks], "stat", "flock", *release[checks:]],
    )


WAIT = """
    lock = lockfile.LinkFileLock(sys.argv[1])
    be_stopped()
    hear()
    say("begin")
    clock().stop_clock(None)  # it would look after signals, too
    lock.acquire()
    """


def test_system_calls_of_a_needless_wake_up(clock, path):
    """All waiters wake up when the lock is released, and one wins: this is what each other pays."""
    with (
        SteppedChild(WAIT, path, kinds=[*STEPS, "watch", "sleep", "hear"]) as child,
        LinkFileLock(path) as owner,
    ):
        child.say("go")
        child.run_to("say")
        child.run_to("sleep")
        owner.release()
        owner.acquire()
        kinds = []
        while (call := child.next_call()).kind != "sleep":
            kinds.append(call.kind)
    events, still_there = ["fcntl", "hear"], ["fcntl", "stat"]
    look = [*OPEN, "fcntl", "fcntl", "watch", "stat", "flock"]  # it marks, and counts its elders
    assert kinds == [*events, *CLOSE, *still_there, *look]


RELEASE = """
    lock = lockfile.MkdirFileLock(sys.argv[1])
    lock.acquire()
    say("owns")
    be_stopped()
    hear()
    lock.release()
    say("released")
    """


def test_waiters_sleep_while_the_directory_of_the_lock_is_busy(path):
    """The kernel still holds it while it tells of the rename that frees a lock directory: all who
    woke up then would queue to make directories in it."""
    with SteppedChild(RELEASE, path, kinds=["rename", "unlink", "say"]) as owner:
        assert owner.hear() == "owns"
        with Child("with lockfile.MkdirFileLock(sys.argv[1]): say('owns')", path) as waiter:
            wait_until(lambda: has_settled(waiter.pid), "the waiter to sleep")
            os.kill(waiter.pid, signal.SIGSTOP)  # what it is told stays to be read
            with inotify_of(waiter.pid) as told:
                owner.say("release")
                owner.run_to("rename")
                owner.run_to("unlink")
                assert not told()
                owner.next_call()
                assert told()
            os.kill(waiter.pid, signal.SIGCONT)
            assert waiter.hear() == "owns"
            waiter.finish()
        assert owner.run_on() == "released"
        owner.finish()


def test_system_calls_of_a_cycle_in_a_database(path):
    """SQLite makes most of them, which are its own affair: it opens its journal twice for each
    statement, to see whether there is something in it, and to write. We open and close nothing."""
    acquire, release = calls_of_one_cycle(SQLiteFileLock, path)
    assert not {"flock", "link", "unlink"} & {*acquire, *release}
    for calls in (acquire, release):
        assert calls.count("open") == calls.count("close") == 2
    assert acquire.count("stat") <= 15
    assert release.count("stat") <= 13


@pytest.mark.parametrize(
    "lock_class, held", [(kind.lock_class, kind.descriptors) for kind in KINDS]
)
def test_descriptors_of_a_lock(lock_class, held, path, tmp_path):
    """While it is held; in a database, which stays open, only the first costs any."""
    with lock_class(tmp_path / "first"):
        pass
    before = len(open_files())
    with lock_class(path):
        assert len(open_files()) == before + held
    assert len(open_files()) == before


COUNT = """
    import ctypes, os
    allocator = ctypes.PyDLL(os.environ["LD_PRELOAD"])
    allocator.allocations.restype = ctypes.c_long
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])

    def count(cycles):
        before = allocator.allocations()
        for _ in range(cycles):
            lock.acquire()
            lock.release()
        return allocator.allocations() - before

    count(10)
    say(count(110) - count(10))
    """


@pytest.mark.parametrize("lock_class", FILE_LOCK_CLASSES)
def test_allocations_of_a_cycle(lock_class, path, preloadable, monkeypatch):
    """One: the entry of the table."""
    monkeypatch.setenv("LD_PRELOAD", preloadable("failing_malloc.c"))
    for name, value in PLAIN_ALLOCATIONS.items():
        monkeypatch.setenv(name, value)
    with Child(COUNT, lock_class.__name__, path) as child:
        assert child.hear() == 100


MANY = """
    import ctypes, os, resource
    counter = ctypes.PyDLL(os.environ["LD_PRELOAD"])
    counter.comparisons.restype = ctypes.c_long
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    lock_class, path = getattr(lockfile, sys.argv[1]), sys.argv[2]
    lock = lock_class(path)

    def count():
        before = counter.comparisons()
        lock.acquire()
        lock.release()
        return counter.comparisons() - before

    count()
    say(count())
    held = [lock_class(f"{path}-{number}") for number in range(1000)]
    for other in held:
        other.acquire()
    count()
    say(count())
    for other in held:
        other.release()
    """


@pytest.mark.parametrize("lock_class", FILE_LOCK_CLASSES)
def test_cycle_beside_many_other_locks_compares_few_names(
    lock_class, path, preloadable, monkeypatch
):
    """What a process owns is found by hashes: it would have to compare with each otherwise."""
    monkeypatch.setenv("LD_PRELOAD", preloadable("comparisons.c"))
    with Child(MANY, lock_class.__name__, path) as child:
        alone, beside = child.hear(), child.hear()
        assert 0 < alone
        assert beside < alone + 50
        child.finish()
