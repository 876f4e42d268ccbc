"""Nested `with` blocks: only the outermost one unlocks, whatever a subclass does in between."""

import threading

import pytest

from lockfile import LinkFileLock, LockTimeout
from support import PATIENCE, OtherThread, in_thread

# Nested `with`


def test_only_the_outermost_with_unlocks(lock):
    with lock:
        with lock:
            with lock:
                pass
            assert lock.i_am_locking()
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_only_the_outermost_with_unlocks_with_two_objects(lock_class, path):
    one, two = lock_class(path), lock_class(path)
    with one:
        with two:
            pass
        assert one.i_am_locking()
        assert two.i_am_locking()
    assert not one.is_locked()


def test_with_inside_acquire_and_release(lock):
    lock.acquire()
    with lock:
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_nested_with_of_process_wide_objects_in_several_threads(lock_class, path):
    outer, inner = lock_class(path, threaded=False), lock_class(path, threaded=False)

    def nested():
        with inner:
            assert inner.i_am_locking()

    with outer:
        in_thread(nested)
        assert outer.i_am_locking()
    assert not outer.is_locked()


def test_nested_with_leaves_by_an_exception(lock):
    with pytest.raises(ZeroDivisionError):
        with lock, lock:
            raise ZeroDivisionError
    assert not lock.is_locked()


# What a subclass may do between with and the lock


def assert_only_the_outermost_unlocks(lock, between=lambda: None):
    with lock:
        with lock:
            between()
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_subclass_that_retries_nests(lock_class, path):
    class Retrying(lock_class):
        def acquire(self, timeout=None):
            while True:
                try:
                    return super().acquire(0.01)
                except LockTimeout:
                    retried.set()

    retried = threading.Event()
    lock = Retrying(path)
    with OtherThread() as thread:
        thread.run(lock_class(path).acquire)
        released = threading.Timer(
            0, lambda: retried.wait() and thread.run(lock_class(path).release)
        )
        released.start()
        assert_only_the_outermost_unlocks(lock)
        released.join()


def test_subclass_that_looks_before_it_acquires_nests(lock_class, path):
    class Guarding(lock_class):
        def acquire(self, timeout=None):
            if not self.i_am_locking():
                super().acquire(timeout)

    assert_only_the_outermost_unlocks(Guarding(path))


def test_acquire_that_fails_after_all_is_no_block(lock_class, path):
    class Failing(lock_class):
        fails = True

        def acquire(self, timeout=None):
            super().acquire(timeout)
            if self.fails:
                raise KeyboardInterrupt

    lock = Failing(path)
    with pytest.raises(KeyboardInterrupt):
        lock.__enter__()
    lock.fails = False
    assert_only_the_outermost_unlocks(lock)


def test_threads_of_one_owner_that_enter_and_leave_are_always_protected(lock_class, path):
    lock = lock_class(path, threaded=False)
    other = LinkFileLock(path)
    unprotected = []

    def enter_and_leave():
        for _ in range(300):
            with lock:
                if not lock.is_locked():
                    unprotected.append(threading.get_ident())

    threads = [threading.Thread(target=enter_and_leave) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert unprotected == []
    assert not other.is_locked()
