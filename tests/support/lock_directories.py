"""Lock directories: made one way or the other, planted, left behind, and met by processes that stop
before each step.
"""

import contextlib
import errno
import os
import textwrap
from pathlib import Path

from lockfile import (
    AlreadyLocked,
    NotLocked,
    NotMyLock,
)
from support import (
    OtherThread,
    refuse,
    wait_until,
)
from support.protocol import (
    DEAD,
    HOST,
    SteppedChild,
    has_settled,
    plant,
    plant_unique,
    stamp,
)

STEPS = ("open", "flock", "mkdir", "rename", "link", "unlink", "stat", "list", "close", "say")


def go(way, error=errno.EINVAL):
    """From now on this thread makes lock directories that way."""
    if way == "in place":
        refuse("rename", error)


class Way(OtherThread):
    """A thread that makes lock directories one way, or the other: what it runs, works that way."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def __enter__(self):
        super().__enter__()
        self.run(go, self.name)
        return self


def plant_directory(path, name=DEAD, contents=b""):
    """A lock directory as an owner of that unique name leaves it when it is killed."""
    os.mkdir(f"{path}.lock", 0o755)
    stamp(f"{path}.lock")
    return plant_unique(f"{path}.lock/", name, contents)


def is_intact(lock):
    """Is it ours, with all that belongs to it?"""
    return lock.i_am_locking() and os.path.exists(lock.unique_name)


def acquires(lock):
    """Does it get the lock at once?"""
    try:
        lock.acquire(timeout=0)
    except AlreadyLocked:
        return False
    assert is_intact(lock)
    return True


def filled(*files):
    """A directory with these empty files in it."""

    def make(lock_file):
        os.mkdir(lock_file)
        for name in files:
            Path(lock_file, name).touch()

    return make


def wait_for_sleep(thread):
    """Until the thread that has just been given a call sleeps in it."""
    native = thread._thread.native_id
    wait_until(lambda: has_settled(os.getpid(), native), "the waiter to sleep")


# The first line of children that call this module.
KNOWING = "from support import lock_directories\n"


class Stepped(SteppedChild):
    """A child that knows this module, and stops before each of STEPS."""

    def __init__(self, code, *arguments, kinds=STEPS):
        super().__init__(KNOWING + textwrap.dedent(code), *arguments, kinds=kinds)


def leftover(directory, name, *files):
    """The directory of a claim that was killed before it was published."""
    left = directory / name
    filled(*files)(left)
    for made in (left, *left.iterdir()):
        stamp(made)
    return left


def sweep(lock_class, path):
    """What every break does first of all for the next."""
    plant(path, name=DEAD + ".9")
    with lock_class(path):
        pass


LEFT = f"{HOST}-7f0000000001-123"


# What the other process does in a test of a race, round by round; it is stopped from "ready" on.

TURN = """
    lock_directories.go(sys.argv[3])
    lock = getattr(lockfile, sys.argv[2])(sys.argv[1])
    be_stopped()
    while hear():
        {prepare}
        say("ready")
        hear()
        try:
            lock.{act}
        except lockfile.AlreadyLocked:
            pass
        say(lock.i_am_locking())
        hear()
        mine = lock.i_am_locking()
        if mine:
            lock.release()
        say(mine)
    """

CLAIM = TURN.format(prepare="", act="acquire(timeout=0)")
RELEASE = TURN.format(prepare="lock.acquire()", act="release()")
BREAK = TURN.format(
    prepare="""
        try:
            lock.acquire(timeout=0.02)
        except lockfile.LockTimeout:
            pass""",
    act="break_lock()",
)


def end(child):
    """Let it release what it has; had it something?"""
    child.say("end")
    return child.run_on()


def release_if_mine(lock):
    with contextlib.suppress(NotLocked, NotMyLock):
        lock.release()


HOLD = """
    lock_directories.go(sys.argv[3])
    lock = getattr(lockfile, sys.argv[2])(sys.argv[1])
    while hear():
        lock.acquire()
        say(lock.unique_name)
        hear()
        lock.release()
        say("released")
    """
