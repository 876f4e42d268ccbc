"""Processes that wait for a lock."""

from support import Child, wait_until
from support.protocol import (
    has_settled,
    wake_ups,
)

WAITER = """
    import errno, signal
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    if sys.argv[3] == "polling":
        refuse("inotify", errno.EMFILE)
    """


# For a waiter that keeps what it gets until it hears something.
WAIT_AND_OWN = """
    say("waiting")
    lock.acquire()
    say("owns")
    hear()
    """


def waiter(lock_class, path, code, how="events"):
    return Child(WAITER + code, lock_class.__name__, path, how)


def settle(child):
    wait_until(lambda: has_settled(child.pid), "the waiter to sleep")


def asleep(child, how):
    """Wait until it waits: for long, or in the steps of a poll."""
    if how == "events":
        settle(child)
    else:
        count = wake_ups(child.pid)
        wait_until(lambda: wake_ups(child.pid) > count + 2, "the waiter to poll")
