"""Names that are too long for the file system: the error says so, and what helps."""

import contextlib
import errno
import os
import shutil

import pytest

from lockfile import LinkFileLock, LockFailed, MkdirFileLock, NotLocked, SQLiteFileLock, UnlockError
from support import Child, also_preloaded, names

TOO_LONG = os.strerror(errno.ENAMETOOLONG)
LONG_NAME = "x" * 251  # with ".lock" it is one too long


def check_way_out(error):
    assert "lock_file=" in str(error)
    assert error.__cause__.errno == errno.ENAMETOOLONG
    assert TOO_LONG in str(error)


def check_that_nobody_has_it(lock):
    assert not lock.is_locked()
    assert not lock.i_am_locking()
    assert lock.owner() is None
    assert lock.break_lock() is None
    for method in (lock.release, lock.fileno):
        with pytest.raises(NotLocked):
            method()


# A name


@pytest.mark.parametrize("timeout", [None, 0, 1])
def test_lock_file_whose_name_is_too_long(file_lock_class, tmp_path, timeout):
    lock = file_lock_class(tmp_path / LONG_NAME)
    for method in (lock.acquire, lock.try_acquire):
        with pytest.raises(LockFailed) as caught:
            method(timeout)
        check_way_out(caught.value)
    check_that_nobody_has_it(lock)
    assert names(tmp_path) == []


def test_way_out_of_a_name_that_is_too_long(file_lock_class, tmp_path):
    with file_lock_class(tmp_path / LONG_NAME, lock_file=tmp_path / "short") as lock:
        assert lock.i_am_locking()
    assert names(tmp_path) == []


def test_lock_file_elsewhere_whose_name_is_too_long(file_lock_class, path, tmp_path):
    lock = file_lock_class(path, lock_file=tmp_path / ("x" * 256))
    with pytest.raises(LockFailed) as caught:
        lock.acquire()
    check_way_out(caught.value)
    check_that_nobody_has_it(lock)
    with file_lock_class(path, lock_file=tmp_path / ("x" * 255)) as lock:
        assert lock.i_am_locking()


def test_row_may_have_a_long_name(tmp_path):
    with SQLiteFileLock(tmp_path / LONG_NAME) as lock:
        assert lock.i_am_locking()


@pytest.mark.parametrize("length", [248, 255, 256])
def test_database_whose_name_is_too_long_makes_no_files(path, tmp_path, length):
    """The files beside it have longer names."""
    lock = SQLiteFileLock(path, database=tmp_path / ("x" * length))
    with pytest.raises(LockFailed) as caught:
        lock.acquire()
    check_way_out(caught.value)
    assert "database=" in str(caught.value)
    check_that_nobody_has_it(lock)
    assert os.listdir(tmp_path) == []


def test_longest_name_of_a_database(path, tmp_path):
    with SQLiteFileLock(path, database=tmp_path / "locks.lockfile.sqlite3".rjust(247, "x")) as lock:
        assert lock.i_am_locking()


# The owner's own


@pytest.mark.parametrize("lock_class", [LinkFileLock, MkdirFileLock])
def test_host_name_that_is_too_long(lock_class, path, tmp_path, preloadable, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", also_preloaded(preloadable("long_host.c")))
    with Child(
        """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        try:
            lock.acquire()
        except lockfile.LockFailed as error:
            say([str(error), error.__cause__.errno])
        say([lock.is_locked(), lock.break_lock(), len(lock.hostname)])
        """,
        lock_class.__name__,
        path,
    ) as child:
        message, number = child.hear()
        assert child.hear() == [False, None, 255]
        child.finish()
    assert number == errno.ENAMETOOLONG
    assert "the host's name" in message
    assert "lock_file=" in message
    assert TOO_LONG in message
    assert names(tmp_path) == []


def test_host_name_that_is_too_long_is_none_for_a_row(path, preloadable, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", also_preloaded(preloadable("long_host.c")))
    with Child(
        "with lockfile.SQLiteFileLock(sys.argv[1]) as lock: say(lock.is_locked())", path
    ) as (child):
        assert child.hear() is True
        child.finish()


# A whole path


def test_path_that_is_too_long_cannot_be_looked_at(lock_class, tmp_path):
    """There may be a lock, of somebody to whom the path is shorter: so nobody says that there is
    none."""
    lock = lock_class(os.path.join(tmp_path, *["directory"] * 500))
    with pytest.raises(LockFailed) as caught:
        lock.acquire()
    check_way_out(caught.value)
    for method in (
        *(lock.is_locked, lock.i_am_locking, lock.owner),
        *(lock.break_lock, lock.release, lock.fileno),
    ):
        with pytest.raises(UnlockError) as caught:
            method()
        assert caught.type is UnlockError
        check_way_out(caught.value)
    assert names(tmp_path) == []


def test_way_out_of_a_path_that_is_too_long(lock_class, tmp_path):
    path = os.path.join(tmp_path, *["directory"] * 500)
    with lock_class(path, lock_file=tmp_path / "short") as lock:
        assert lock.i_am_locking()
        assert lock.path == path
    assert names(tmp_path) == []


def test_lock_file_whose_path_is_too_long_but_not_its_directorys(file_lock_class, tmp_path):
    """It is asked for in its directory."""
    directory = os.path.join(tmp_path, "d" * (200 - len(str(tmp_path)) % 100))
    while len(directory) < 4000:
        directory = os.path.join(directory, "d" * min(200, 4000 - len(directory)))
    deep(directory, tmp_path)
    lock = file_lock_class(os.path.join(directory, "x" * 150))
    assert len(lock.lock_file) > 4096
    with lock:
        assert lock.is_locked()
    assert not lock.is_locked()


def deep(directory, top):
    """Make it step by step, as its path is too long for some calls."""
    with contextlib.chdir(top):
        for part in os.path.relpath(directory, top).split(os.sep):
            os.mkdir(part)
            os.chdir(part)


def test_path_that_is_too_long_for_sqlite(tmp_path):
    """It takes some five hundred bytes, and only says that it cannot open the file."""
    directory = os.path.join(tmp_path, *["directory"] * 60)
    os.makedirs(directory)
    lock = SQLiteFileLock(os.path.join(directory, "README"))
    with pytest.raises(LockFailed) as caught:
        lock.acquire()
    assert "too long for SQLite; database= or lock_file= can name" in str(caught.value)
    check_that_nobody_has_it(lock)
    with SQLiteFileLock(lock.path, database=tmp_path / "locks.lockfile.sqlite3"):
        pass
    with SQLiteFileLock(lock.path, lock_file=tmp_path / "README"):
        pass
    shutil.rmtree(tmp_path / "directory")  # what looks after tests cannot open its files either
