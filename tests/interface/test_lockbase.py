"""LockBase, the type to derive one's own locks from, and the `with` statement that it brings."""

import os
import threading

import pytest

import lockfile
from lockfile import AlreadyLocked, LockBase, LockTimeout, NotLocked
from support import OtherThread, in_thread, names


class RecordingLock(LockBase):
    """A lock that only writes down what was asked of it."""

    def __init__(self, path="README", **keywords):
        super().__init__(path, **keywords)
        self.calls = []

    def acquire(self, timeout=None):
        self.calls.append("acquire")

    def release(self):
        self.calls.append("release")


class SemaphoreLock(LockBase):
    """A lock in memory: a complete one, made in Python."""

    def __init__(self, path, threaded=True, timeout=None):
        super().__init__(path, threaded, timeout)
        self.semaphore = threading.Semaphore()
        self.owner_now = None

    def acquire(self, timeout=None):
        if self.owner_now == self.unique_name:
            return
        timeout = self.timeout if timeout is None else timeout
        if not self.semaphore.acquire(timeout=timeout):
            raise LockTimeout(f"Timeout waiting to acquire lock for {self.path}")
        self.owner_now = self.unique_name

    def release(self):
        if self.owner_now is None:
            raise NotLocked(f"{self.path} is not locked")
        self.owner_now = None
        self.semaphore.release()

    def is_locked(self):
        return self.owner_now is not None

    def i_am_locking(self):
        return self.owner_now == self.unique_name

    def break_lock(self):
        if self.is_locked():
            self.release()


@pytest.mark.parametrize(
    "method", ["acquire", "release", "is_locked", "i_am_locking", "break_lock"]
)
def test_method_that_is_not_overridden(method):
    with pytest.raises(NotImplementedError, match=method):
        getattr(LockBase("README"), method)()


def test_with_needs_acquire():
    with pytest.raises(NotImplementedError), LockBase("README"):
        pytest.fail("the body ran")


def test_attributes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lock = LockBase("README", threaded=False, timeout=3)
    assert lock.path == "README"
    assert lock.lock_file == str(tmp_path / "README.lock")
    assert os.path.dirname(lock.unique_name) == str(tmp_path)
    assert os.path.basename(lock.unique_name).startswith(lock.hostname)
    assert lock.pid == os.getpid()
    assert lock.threaded is False
    assert lock.timeout == 3
    assert names(tmp_path) == []


def test_every_lock_is_a_lockbase(lock_class):
    assert issubclass(lock_class, LockBase)
    assert lock_class is not LockBase


def test_lock_made_in_python_is_a_lock():
    lock = SemaphoreLock("README")
    with lock:
        assert lock.i_am_locking()
        other = OtherThread()
        with other:
            assert other.run(lock.is_locked)
            assert not other.run(lock.i_am_locking)
            with pytest.raises(LockTimeout, match="README"):
                other.run(lock.acquire, timeout=0.01)
    assert not lock.is_locked()


def test_with_calls_the_overriding_methods():
    lock = RecordingLock()
    with lock as bound:
        assert bound is lock
        assert lock.calls == ["acquire"]
    assert lock.calls == ["acquire", "release"]


def test_overriding_only_some_is_fine():
    lock = RecordingLock()
    with lock:
        with pytest.raises(NotImplementedError):
            lock.is_locked()
    assert lock.calls == ["acquire", "release"]


def test_only_the_outermost_exit_of_an_own_lock_releases():
    lock = RecordingLock()
    with lock:
        with lock:
            with lock:
                pass
            assert "release" not in lock.calls
        assert "release" not in lock.calls
    assert lock.calls.count("release") == 1


def test_acquire_overridden_on_top_of_a_mechanism(lock_class, path):
    class Counting(lock_class):
        acquired = 0

        def acquire(self, timeout=None):
            super().acquire(timeout)
            self.acquired += 1

    lock = Counting(path)
    with lock:
        assert lock.acquired == 1
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_release_overridden_on_top_of_a_mechanism(lock_class, path):
    class Counting(lock_class):
        released = 0

        def release(self):
            self.released += 1
            super().release()

    lock = Counting(path)
    with lock:
        assert lock.released == 0
    assert lock.released == 1
    assert not lock.is_locked()


@pytest.mark.parametrize("method", ["acquire", "release"])
def test_with_calls_what_was_patched(lock_class, path, monkeypatch, method):
    calls = []
    original = getattr(lock_class, method)

    def patched(self, *arguments):
        calls.append(method)
        return original(self, *arguments)

    monkeypatch.setattr(lock_class, method, patched)
    with lock_class(path) as lock:
        assert lock.i_am_locking()
    assert calls == [method]


@pytest.mark.parametrize("method", ["acquire", "release"])
def test_with_calls_what_was_set_on_the_instance(method):
    lock = RecordingLock()
    calls = []
    setattr(lock, method, lambda: calls.append(method))
    with lock:
        pass
    assert calls == [method]


def test_with_uses_the_timeout_of_the_constructor(lock_class, path):
    with lock_class(path), OtherThread() as thread:

        def enter(timeout):
            with lock_class(path, timeout=timeout):
                pytest.fail("the body ran")

        with pytest.raises(AlreadyLocked):
            thread.run(enter, 0)
        with pytest.raises(LockTimeout):
            thread.run(enter, 0.01)


def test_exception_in_the_body_unlocks_and_goes_on(lock_class, path):
    lock = lock_class(path)
    with pytest.raises(ZeroDivisionError), lock:
        assert lock.i_am_locking()
        raise ZeroDivisionError
    assert not lock.is_locked()


def test_return_from_the_body_unlocks(lock_class, path):
    lock = lock_class(path)

    def work():
        with lock:
            return lock.i_am_locking()

    assert work() is True
    assert not lock.is_locked()


def test_nested_with_keeps_the_outer_body_protected(lock_class, path):
    lock = lock_class(path)
    with lock:
        with lock:
            pass
        assert lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            in_thread(lock.acquire, timeout=0)
    assert not lock.is_locked()


def test_nested_with_of_two_objects_keeps_the_outer_body_protected(lock_class, path):
    with lock_class(path) as outer:
        with lock_class(path):
            pass
        assert outer.i_am_locking()
    assert not outer.is_locked()


def test_exception_in_a_nested_body_keeps_the_outer_body_protected(lock_class, path):
    lock = lock_class(path)
    with lock:
        with pytest.raises(ZeroDivisionError), lock:
            raise ZeroDivisionError
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_recursion_under_one_lock(lock_class, path):
    lock = lock_class(path)

    def descend(depth):
        with lock:
            assert lock.i_am_locking()
            if depth:
                descend(depth - 1)
            assert lock.i_am_locking()

    descend(20)
    assert not lock.is_locked()


def test_threads_that_are_one_owner_nest(lock_class, path):
    lock = lock_class(path, threaded=False)
    with OtherThread() as thread:
        lock.__enter__()
        thread.run(lock.__enter__)
        lock.__exit__(None, None, None)
        assert lock.i_am_locking()
        thread.run(lock.__exit__, None, None, None)
        assert not lock.is_locked()


def test_end_of_with_undoes_an_earlier_acquire(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    with lock:
        pass
    assert not lock.is_locked()


def test_failing_to_enter_does_not_count(lock_class, path):
    lock = lock_class(path, timeout=0)
    with OtherThread() as thread:
        thread.run(lock.acquire)
        with pytest.raises(AlreadyLocked), lock:
            pytest.fail("the body ran")
        thread.run(lock.release)
    with lock:
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_releasing_inside_the_body_is_told_at_its_end(lock_class, path):
    lock = lock_class(path)
    with pytest.raises(NotLocked), lock:
        lock.release()
    with lock:
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_release_in_a_nested_body_leaves_nothing_counted(lock_class, path):
    lock = lock_class(path)
    with pytest.raises(NotLocked), lock, lock:
        lock.release()
    with lock:
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_breaking_inside_the_body_is_told_at_its_end(lock_class, path):
    lock = lock_class(path)
    with pytest.raises(lockfile.UnlockError), lock:
        lock.break_lock()
    assert not lock.is_locked()


def test_acquire_again_after_release_inside_the_body(lock_class, path):
    lock = lock_class(path)
    with lock:
        lock.release()
        lock.acquire()
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_exit_without_enter_is_a_release(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    lock.__exit__(None, None, None)
    assert not lock.is_locked()


def test_blocks_of_each_owner_nest_for_themselves():
    """In a scheme that admits several owners at once, as a lock for readers does."""
    lock = RecordingLock()
    with lock:
        with lock:
            in_thread(lambda: lock.__enter__().__exit__(None, None, None))
        assert lock.calls == ["acquire", "acquire", "acquire", "release"]
    assert lock.calls.count("release") == 2
