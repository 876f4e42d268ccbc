"""The memory that locks take: cycles are collected, and nothing grows."""

import ctypes
import functools
import gc
import math
import sys
import tracemalloc
import weakref

import pytest

import lockfile
from lockfile import (
    LockBase,
)
from support import FREE_THREADED, Child, OtherThread, uses


def test_cycle_through_a_lock_is_collected(lock_class, path):
    lock = lock_class(path)
    assert gc.is_tracked(lock)
    lock.myself = lock
    reference = weakref.ref(lock)
    del lock
    gc.collect()
    assert reference() is None


# Without a GIL, Python 3.13 keeps all classes for good, once a thread was started.
KEEPS_CLASSES = FREE_THREADED and sys.version_info < (3, 14)

PASSING_CLASS = """
    import gc, weakref

    class Passing(getattr(lockfile, sys.argv[1])):
        pass

    Passing.example = Passing("README")
    reference = weakref.ref(Passing)
    del Passing
    gc.collect()
    say(reference() is None)
    """


def test_cycle_through_a_type_is_collected(lock_class):
    with Child(PASSING_CLASS, lock_class.__name__) as child:
        assert child.hear()
        child.finish()


def test_finaliser_of_a_subclass_runs(lock_class):
    finished = []

    class Passing(lock_class):
        def __del__(self):
            finished.append(self.path)

    Passing("README")
    gc.collect()
    assert finished == ["README"]


def test_object_that_goes_away_releases_nothing(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    del lock
    gc.collect()
    assert lock_class(path).i_am_locking()
    lock_class(path).release()


LEAK = 8


def parameter(use):
    grows = use is uses.subclass and KEEPS_CLASSES
    return pytest.param(use, marks=pytest.mark.skipif(grows, reason="this Python keeps classes"))


every_use = pytest.mark.parametrize(
    "use", [parameter(use) for use in uses.ALL], ids=lambda function: function.__name__
)


def growth(function, counters):
    """The bytes that a call leaves, of any kind: a leak (16 at least) shows in every round,
    whatever else is allocated in some of them."""
    rounds, times = 20, 100
    least, before = [math.inf] * len(counters), None
    while rounds > 0 and max(least) >= LEAK:
        for _ in range(times):
            function()
        gc.collect()
        after = [counter() for counter in counters]
        if before is not None:
            grown = [(now - then) / times for now, then in zip(after, before, strict=True)]
            least = list(map(min, least, grown))
        rounds, before = rounds - 1, after
    return max(least)


def allocated_by_c():
    """What counts it; none where the C library does not."""

    class Statistics(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    try:
        statistics = ctypes.CDLL(None).mallinfo2
    except (AttributeError, TypeError):
        return []
    statistics.restype = Statistics
    return [lambda: statistics().uordblks]


@pytest.fixture
def counters():
    """Of what Python allocates, and of what C does."""
    tracemalloc.start()
    yield [lambda: tracemalloc.get_traced_memory()[0], *allocated_by_c()]
    tracemalloc.stop()


@every_use
def test_memory_does_not_grow(lock_class, path, counters, use):
    assert growth(functools.partial(use, lock_class, path), counters) < LEAK


def test_memory_does_not_grow_by_contention(lock_class, path, counters):
    with OtherThread() as thread:
        lock = lock_class(path)
        thread.run(lock.acquire)
        assert growth(functools.partial(uses.contend, lock_class, path, lock), counters) < LEAK
        thread.run(lock.release)


@every_use
def test_references_do_not_leak(lock_class, path, use):
    def counts():
        gc.collect()
        watched = [lock_class, LockBase, lockfile.Owner, lockfile.Error, path]
        if sys.version_info < (3, 12):  # later ones do not count who refers to these
            watched += [None, True, False]
        return [sys.getrefcount(value) for value in watched]

    use(lock_class, path)
    before = counts()
    for _ in range(500):
        use(lock_class, path)
    for count_before, count_after in zip(before, counts(), strict=True):
        assert abs(count_after - count_before) < 100
