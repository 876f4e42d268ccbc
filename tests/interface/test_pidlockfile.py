"""lockfile.pidlockfile: its class, and its functions for PID files that nobody locks."""

import asyncio
import errno
import os
import pickle
import stat
import unittest.mock

import pytest

import lockfile
from lockfile import AlreadyLocked, LockTimeout, NotLocked
from lockfile.pidlockfile import (
    PIDLockFile,
    read_pid_from_pidfile,
    remove_existing_pidfile,
    write_pid_to_pidfile,
)
from support import in_thread, names


@pytest.fixture
def pid_file(tmp_path):
    return tmp_path / "daemon.pid"


# The class


def test_it_is_the_lock_of_that_name_in_the_package(pid_file):
    assert issubclass(PIDLockFile, lockfile.PIDLockFile)
    with PIDLockFile(pid_file) as lock:
        assert pid_file.read_text() == f"{os.getpid()}\n"
        assert lock.read_pid() == os.getpid()
        assert lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            lockfile.PIDLockFile(pid_file).acquire()
        with pytest.raises(LockTimeout):
            lockfile.PIDLockFile(pid_file).acquire(0.01)
    assert not pid_file.exists()


def test_it_asks_the_same_reader_as_the_lock_does(pid_file):
    """So what proves that this process owns, and not another of its number, still does."""
    assert PIDLockFile.read_pid is lockfile.PIDLockFile.read_pid
    assert PIDLockFile.i_am_locking is lockfile.PIDLockFile.i_am_locking


@pytest.mark.parametrize("method", ["__init__", "acquire", "release", "break_lock"])
def test_a_mock_in_the_place_of_a_method_is_given_the_lock(pid_file, method):
    lock = PIDLockFile(pid_file)
    with unittest.mock.patch.object(PIDLockFile, method, autospec=True, return_value=None) as mock:
        getattr(lock, method)(*["README"] if method == "__init__" else [])
    assert mock.call_args.args[0] is lock


def test_acquire_returns_the_lock(pid_file):
    lock = PIDLockFile(pid_file)
    assert lock.acquire() is lock
    lock.break_lock()
    assert not lock.is_locked()


def test_it_pickles(pid_file):
    again = pickle.loads(pickle.dumps(PIDLockFile(pid_file)))
    assert type(again) is PIDLockFile
    assert again.path == pid_file


def test_a_subclass_with_other_arguments(pid_file):
    """As daemon.pidfile has it."""

    class Patient(PIDLockFile):
        def __init__(self, path, acquire_timeout=None, *args, **kwargs):
            self.acquire_timeout = acquire_timeout
            super().__init__(path, *args, **kwargs)

        def acquire(self, timeout=None, *args, **kwargs):
            if timeout is None:
                timeout = self.acquire_timeout
            super().acquire(timeout, *args, **kwargs)

    with Patient(pid_file, acquire_timeout=0.01) as lock:
        assert lock.i_am_locking()
        with pytest.raises(LockTimeout):
            Patient(pid_file, acquire_timeout=0.01).acquire()
    assert not pid_file.exists()


# A block that begins with acquire()


CLASSES = pytest.mark.parametrize(
    "pid_class", [PIDLockFile, lockfile.PIDLockFile], ids=["Python", "C"]
)


@CLASSES
def test_with_acquire_releases_once_at_the_end(pid_file, pid_class):
    with pid_class(pid_file).acquire(timeout=5) as lock:
        assert lock.i_am_locking()
    assert not pid_file.exists()


@CLASSES
def test_a_block_begins_with_what_its_own_object_has_acquired(pid_file, pid_class):
    lock = pid_class(pid_file)
    lock.acquire()
    with pytest.raises(AlreadyLocked), pid_class(pid_file):
        pass
    with lock:
        assert lock.i_am_locking()
        with pytest.raises(AlreadyLocked), lock:
            pass
        assert lock.i_am_locking()
    assert not lock.is_locked()
    with pytest.raises(NotLocked):
        lock.release()


@CLASSES
def test_a_block_of_another_thread_does_not_begin_with_what_this_one_has(pid_file, pid_class):
    lock = pid_class(pid_file)
    lock.acquire()

    def enter():
        with lock:
            pass

    with pytest.raises(AlreadyLocked):
        in_thread(enter)
    with lock:
        assert lock.i_am_locking()
    assert not lock.is_locked()


@CLASSES
def test_a_block_of_another_task_does_not_begin_with_what_this_one_has(pid_file, pid_class):
    async def enter(lock):
        async with lock:
            pass

    async def main():
        lock = pid_class(pid_file)
        await lock.acquire_async()
        with pytest.raises(AlreadyLocked):
            await asyncio.create_task(enter(lock))
        async with lock:
            assert lock.i_am_locking()
        assert not lock.is_locked()

    asyncio.run(main())


@CLASSES
def test_a_block_is_not_begun_with_what_was_acquired_since(pid_file, pid_class):
    """What this object had is released: what the process has now, is another's in it."""
    lock, other = pid_class(pid_file), pid_class(pid_file)
    lock.acquire()
    other.release()
    other.acquire()
    with pytest.raises(AlreadyLocked), lock:
        pass
    other.release()
    with lock:
        pass
    assert not pid_file.exists()


@CLASSES
def test_async_with_acquire_async_releases_once_at_the_end(pid_file, pid_class):
    async def main():
        lock = pid_class(pid_file)
        async with await lock.acquire_async(timeout=5):
            assert lock.i_am_locking()
        assert not lock.is_locked()
        async with lock:
            with pytest.raises(AlreadyLocked):
                async with lock:
                    pass
            assert lock.i_am_locking()
        assert not lock.is_locked()

    asyncio.run(main())


# The functions


def test_write_read_remove(pid_file, tmp_path):
    write_pid_to_pidfile(pid_file)
    assert names(tmp_path) == ["daemon.pid"]
    assert pid_file.read_text() == f"{os.getpid()}\n"
    assert read_pid_from_pidfile(pid_file) == os.getpid()
    remove_existing_pidfile(pid_file)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda path: path])
def test_any_kind_of_path(pid_file, kind):
    write_pid_to_pidfile(kind(pid_file))
    assert read_pid_from_pidfile(kind(pid_file)) == os.getpid()
    remove_existing_pidfile(kind(pid_file))


def test_it_can_be_read_by_all_whatever_the_mask(pid_file):
    mask = os.umask(0o077)
    try:
        write_pid_to_pidfile(pid_file)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(pid_file.stat().st_mode) == 0o644


@pytest.mark.parametrize("text", ["1\n", "", None])
def test_what_is_there_is_not_overwritten(pid_file, tmp_path, text):
    if text is None:
        pid_file.symlink_to(tmp_path / "target")
    else:
        pid_file.write_text(text)
    with pytest.raises(FileExistsError) as caught:
        write_pid_to_pidfile(pid_file)
    assert caught.value.errno == errno.EEXIST
    assert names(tmp_path) == ["daemon.pid"]
    if text is not None:
        assert pid_file.read_text() == text


def test_a_missing_directory_is_an_error(pid_file):
    with pytest.raises(FileNotFoundError):
        write_pid_to_pidfile(pid_file / "missing" / "daemon.pid")


@pytest.mark.parametrize("text", ["", "no number\n"])
def test_what_is_no_number_is_none(pid_file, text):
    pid_file.write_text(text)
    assert read_pid_from_pidfile(pid_file) is None


def test_a_number_with_space_around_it(pid_file):
    pid_file.write_text("  4711\n\n")
    assert read_pid_from_pidfile(pid_file) == 4711


def test_no_file(pid_file):
    assert read_pid_from_pidfile(pid_file) is None
    remove_existing_pidfile(pid_file)


def test_a_symbolic_link_is_not_read(pid_file, tmp_path):
    (tmp_path / "target").write_text("1\n")
    pid_file.symlink_to(tmp_path / "target")
    assert read_pid_from_pidfile(pid_file) is None
    remove_existing_pidfile(pid_file)
    assert names(tmp_path) == ["target"]
