"""Programs that have something of ours open, as scanners and backups do: nobody gets in because of
them, and what they hinder goes on when they close it."""

import pytest

from lockfile import AlreadyLocked, LockTimeout, MkdirFileLock, UnlockError
from support import Child, handles, holder, names
from support.handles import ALL, DELETE, READ, WRITE


@pytest.fixture
def lock(path):
    return MkdirFileLock(path)


def test_lock_directory_open_with_all_shared_hinders_nobody(lock):
    lock.acquire()
    with handles.opened(lock.lock_file):
        lock.release()
        lock.acquire(timeout=0)
        lock.release()


def test_owner_waits_for_who_keeps_its_lock_directory_from_being_renamed(lock):
    """For a moment; then it is an error, and the lock is owned still."""
    lock.acquire()
    with handles.opened(lock.lock_file, share=READ | WRITE):
        with pytest.raises(UnlockError, match="still locked by me"):
            lock.release()
        assert lock.i_am_locking()
    lock.release()
    assert not lock.is_locked()


def test_release_goes_on_when_that_one_closes_it(lock):
    lock.acquire()
    with Child(
        """
        import time
        from support.handles import *
        handle = open_handle(sys.argv[1], LIST, READ | WRITE)
        say("open")
        time.sleep(0.2)
        close_handle(handle)
        """,
        lock.lock_file,
    ) as scanner:
        assert scanner.hear() == "open"
        lock.release()
    assert not lock.is_locked()


@pytest.mark.parametrize("share", [0, READ, READ | DELETE, WRITE | DELETE, READ | WRITE])
def test_dead_owners_lock_is_not_taken_twice_whatever_is_open(lock, path, share):
    """Held, or recovered; and recovered once that is closed."""
    holder(MkdirFileLock, path).kill()
    with handles.opened(lock.lock_file, share=share):
        try:
            lock.acquire(timeout=0)
        except AlreadyLocked:
            with pytest.raises(LockTimeout):
                lock.acquire(timeout=0.2)
        else:
            lock.release()
    lock.acquire(timeout=0)
    lock.release()


@pytest.mark.leaves_files
def test_lock_directory_that_nobody_may_list_is_held(lock, path):
    holder(MkdirFileLock, path).kill()
    with handles.opened(lock.lock_file, share=0):
        assert lock.is_locked()
    assert not lock.is_locked()


@pytest.mark.parametrize("share", [0, READ, ALL])
def test_file_in_the_lock_directory_that_is_open(lock, path, tmp_path, share):
    """Windows does not rename the directory then, but Wine does: free at the latest when that is
    closed."""
    lock.acquire()
    with handles.opened(lock.unique_name, share=share):
        try:
            lock.release()
        except UnlockError:
            assert lock.i_am_locking()
    if lock.i_am_locking():
        lock.release()
    lock.acquire(timeout=0)
    lock.release()
    for left in tmp_path.iterdir():  # the file had a name of its own by then
        assert left.name.startswith(lock.hostname)
        for file in left.iterdir():
            file.unlink()
        left.rmdir()


def test_directory_around_open_without_sharing_writing(lock, tmp_path):
    """Nothing is released or broken meanwhile."""
    lock.acquire()
    with handles.opened(tmp_path, share=READ | DELETE):
        with pytest.raises(UnlockError):
            lock.release()
        assert lock.i_am_locking()
    lock.release()
    assert names(tmp_path) == []


@pytest.mark.leaves_files
def test_live_owner_is_not_proven_dead_by_who_looks(lock, path):
    """The beacon: only who asks for the right to add files is refused."""
    with holder(MkdirFileLock, path):
        with handles.opened(lock.lock_file), pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        with pytest.raises(OSError), handles.opened(lock.lock_file, handles.ADD_FILE):
            pass
        assert lock.is_locked()
