"""PID files, chosen names, and what locks cannot do on Windows."""

import os

import pytest

from lockfile import (
    LinkFileLock,
    LockFailed,
    MkdirFileLock,
    PIDLockFile,
    SymlinkLockFile,
    UnlockError,
)
from support import Child, holder, names
from support.killed_workers import run_workers


def test_pid_file_of_a_killed_process_is_replaced(path):
    child = holder(PIDLockFile, path)
    lock = PIDLockFile(path)
    assert lock.is_locked()
    assert lock.read_pid() == child.pid
    child.kill()
    assert not lock.is_locked()
    lock.acquire(timeout=0)
    assert lock.read_pid() == os.getpid()
    lock.release()
    assert names(os.path.dirname(path)) == []


@pytest.mark.leaves_files
def test_exclusion_by_pid_files_while_workers_are_killed_at_random(tmp_path):
    result = run_workers(PIDLockFile, tmp_path, workers=6, seconds=8, kills=True)
    assert result.breaches == 0
    assert result.stalls == 0
    assert result.failures == 0
    assert result.turns > 0
    assert result.kills > 5


def test_lock_of_a_killed_process_that_had_chosen_its_name_is_recovered(path):
    owner = Child(
        """
        lock = lockfile.LinkFileLock(sys.argv[1])
        lock.unique_name = sys.argv[1] + ".mine"
        lock.acquire()
        say(os.path.exists(lock.unique_name))
        hear()
        """,
        path,
    )
    with owner:
        assert owner.hear() is True
        lock = LinkFileLock(path)
        assert lock.is_locked()
        owner.kill()
        assert not lock.is_locked()
        lock.acquire(timeout=0)
        lock.release()
    assert names(os.path.dirname(path)) == []


def test_lock_file_that_is_a_symbolic_link_is_refused_with_a_way_out(path):
    with pytest.raises(LockFailed, match="MkdirFileLock needs none"):
        SymlinkLockFile(path).acquire()
    assert names(os.path.dirname(path)) == []


def test_there_is_no_descriptor_to_tell(lock_class, path):
    """A number that is none might be that of another file."""
    with lock_class(path) as lock:
        with pytest.raises(UnlockError, match="what keeps it alive is none on this system"):
            lock.fileno()
        assert lock.i_am_locking()


@pytest.mark.parametrize("lock_class", [LinkFileLock, MkdirFileLock])
def test_lock_that_cannot_be_inherited_stays_as_it_is(lock_class, path):
    with lock_class(path) as lock:
        with pytest.raises(UnlockError):
            lock.set_inheritable(True)
        assert lock.i_am_locking()
    assert names(os.path.dirname(path)) == []
