"""The example of a lock class of one's own behaves like those of the package."""

import contextlib
import runpy
import sqlite3
import time
from pathlib import Path

import pytest

from lockfile import AlreadyLocked, LockFailed, LockTimeout, NotLocked, NotMyLock
from support import PATIENCE, OtherThread, in_thread, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "table_lock.py"
TableLock = runpy.run_path(str(EXAMPLE))["TableLock"]


@pytest.fixture
def lock(path, tmp_path):
    lock = TableLock(path, database=tmp_path / "program.db")
    with contextlib.closing(lock.connection):
        yield lock


def test_with_locks_and_unlocks(lock):
    with lock as same:
        assert same is lock
        assert lock.is_locked() and lock.i_am_locking()
    assert not lock.is_locked()


def test_only_the_outermost_with_unlocks(lock):
    with lock:
        with lock:
            pass
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_with_waits_as_long_as_the_constructor_says(lock, path, tmp_path):
    other = TableLock(path, timeout=0.05, database=tmp_path / "program.db")
    with contextlib.closing(other.connection), OtherThread() as thread, lock:
        with pytest.raises(LockTimeout, match="Timeout waiting to acquire lock for"):
            thread.run(other.__enter__)


@pytest.mark.parametrize(
    ("timeout", "error"), [(0, AlreadyLocked), (-1, AlreadyLocked), (0.05, LockTimeout)]
)
def test_timeouts(lock, timeout, error):
    with lock, pytest.raises(error):
        in_thread(lock.acquire, timeout)


def test_waiter_gets_it(lock):
    with OtherThread() as thread:
        lock.acquire()
        waiting = thread.start(lock.acquire, PATIENCE)
        time.sleep(0.02)
        assert not waiting.done()
        lock.release()
        wait_until(waiting.done)
        assert thread.run(lock.i_am_locking)
        thread.run(lock.release)


def test_release_by_another_thread_is_refused(lock):
    with lock, pytest.raises(NotMyLock):
        in_thread(lock.release)


def test_second_release(lock):
    lock.acquire()
    lock.release()
    with pytest.raises(NotLocked):
        lock.release()


def test_break_lock(lock):
    in_thread(lock.acquire)
    lock.break_lock()
    assert not lock.is_locked()
    lock.break_lock()


def test_failure_names_the_reason(lock):
    lock.connection.execute("DROP TABLE locks")
    lock.connection.execute("CREATE VIEW locks AS SELECT 'x' AS name, 'y' AS owner")
    with pytest.raises(LockFailed, match="failed to create") as caught:
        lock.acquire()
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_what_is_not_implemented(lock):
    with pytest.raises(NotImplementedError):
        lock.owner()
