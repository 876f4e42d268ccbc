"""LinkFileLock: locks that are broken; files and directories that are replaced, removed, renamed or
copied while a lock is owned.
"""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from lockfile import AlreadyLocked, LinkFileLock, LockTimeout, NotLocked, NotMyLock, UnlockError
from support import PATIENCE, OtherThread, holder, names
from support.protocol import (
    SteppedChild,
    beacon,
    inode,
    plant,
    swept_clean,
    unique_base,
)


@pytest.fixture
def lock(path):
    return LinkFileLock(path)


# Backups


def test_backup_of_the_unique_file_does_not_lose_the_lock(lock, tmp_path):
    lock.acquire()
    os.link(lock.unique_name, tmp_path / "backup")
    os.link(lock.lock_file, tmp_path / "backup2")
    assert lock.i_am_locking()
    lock.release()
    assert names(tmp_path) == ["backup", "backup2"]
    with lock:
        assert lock.i_am_locking()


def test_backup_of_a_contenders_unique_file_does_not_grant_the_lock(lock, path, tmp_path):
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        be_stopped()
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            pass
        say(lock.i_am_locking())
        """
    with lock:
        owned = names(tmp_path)
        with SteppedChild(code, path, kinds=["link", "say"]) as contender:
            contender.run_to("link", "README.lock")
            [unique] = set(names(tmp_path)) - set(owned)
            os.link(tmp_path / unique, tmp_path / "backup")
            assert contender.run_on() is False
            contender.finish()
        assert names(tmp_path) == sorted(["backup", *owned])
        assert lock.i_am_locking()


# Replaced, removed, renamed


def test_release_of_a_lock_that_was_replaced_leaves_the_foreign_one(lock, tmp_path):
    lock.acquire()
    foreign = tmp_path / "foreign"
    foreign.touch()
    foreign.replace(lock.lock_file)
    before = inode(lock.lock_file)
    assert not lock.i_am_locking()
    with pytest.raises(NotMyLock):
        lock.release()
    assert inode(lock.lock_file) == before
    assert names(tmp_path) == ["README.lock"]
    lock.break_lock()


def test_release_of_a_lock_that_was_removed(lock, tmp_path):
    lock.acquire()
    os.unlink(lock.lock_file)
    assert not lock.i_am_locking()
    assert not lock.is_locked()
    with pytest.raises(NotLocked):
        lock.release()
    assert names(tmp_path) == []


def test_removed_unique_file_does_not_lose_the_lock(lock, tmp_path):
    lock.acquire()
    os.unlink(lock.unique_name)
    assert lock.i_am_locking()
    with OtherThread() as thread:
        contender = LinkFileLock(lock.path)
        assert thread.run(contender.is_locked)
        with pytest.raises(AlreadyLocked):
            thread.run(contender.acquire, timeout=0)
    lock.release()
    assert names(tmp_path) == []


def test_file_that_took_the_unique_name_is_left(lock, tmp_path):
    lock.acquire()
    unique = lock.unique_name
    (tmp_path / "somebody's").touch()
    os.rename(tmp_path / "somebody's", unique)
    before = inode(unique)
    lock.release()
    assert not lock.is_locked()
    assert inode(unique) == before
    os.unlink(unique)


def test_directory_renamed_while_owned(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    lock = LinkFileLock(before / "README")
    lock.acquire()
    before.rename(after)
    lock.release()
    assert names(after) == []


def test_directory_replaced_while_owned(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    lock = LinkFileLock(here / "README")
    lock.acquire()
    here.rename(there)
    here.mkdir()
    with OtherThread() as thread:
        another = LinkFileLock(here / "README")
        thread.run(another.acquire, timeout=0)
        owned = names(here)
        try:
            lock.release()
        except NotMyLock:
            pass
        assert names(here) == owned
        assert thread.run(another.i_am_locking)
        thread.run(another.release)
    assert names(here) == names(there) == []


def test_namesake_in_a_replaced_directory_keeps_its_unique_file(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    lock, another = LinkFileLock(here / "README"), LinkFileLock(here / "notes")
    lock.acquire()
    here.rename(there)
    here.mkdir()
    another.acquire()
    assert names(here) == sorted(["notes.lock", unique_base(another)])
    try:
        lock.release()
    except NotLocked:
        pass
    assert names(here) == sorted(["notes.lock", unique_base(another)])
    another.release()
    assert names(here) == names(there) == []


def test_directory_removed_while_owned(tmp_path):
    directory = tmp_path / "directory"
    directory.mkdir()
    lock = LinkFileLock(directory / "README")
    lock.acquire()
    shutil.rmtree(directory)
    assert not lock.is_locked()
    assert not lock.i_am_locking()
    with pytest.raises(NotLocked):
        lock.release()


def test_lock_through_a_symlinked_directory_is_the_same_lock(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "other way").symlink_to("real")
    lock, same = (
        LinkFileLock(tmp_path / "real" / "README"),
        LinkFileLock(tmp_path / "other way" / "README"),
    )
    with OtherThread() as thread:
        with lock:
            same.acquire(timeout=0)
            assert same.i_am_locking()
            assert thread.run(same.is_locked)
            assert not thread.run(same.i_am_locking)
            with pytest.raises(AlreadyLocked):
                thread.run(same.acquire, timeout=0)
    assert not same.is_locked()
    lock.acquire()
    same.release()
    assert not lock.is_locked()
    assert names(tmp_path / "real") == []


# break_lock


def test_break_lock_condemns_what_was_waited_for_and_not_a_fresh_lock(path):
    with OtherThread() as stuck, OtherThread() as first, OtherThread() as second:
        lock, one, two = LinkFileLock(path), LinkFileLock(path), LinkFileLock(path)
        stuck.run(lock.acquire)
        waiting = [first.start(one.acquire, timeout=0.1), second.start(two.acquire, timeout=0.1)]
        for outcome in waiting:
            with pytest.raises(LockTimeout):
                outcome.result(PATIENCE)
        first.run(one.break_lock)
        first.run(one.acquire, timeout=0)
        second.run(two.break_lock)
        assert first.run(one.i_am_locking)
        with pytest.raises(AlreadyLocked):
            second.run(two.acquire, timeout=0)
        with pytest.raises(NotMyLock):
            stuck.run(lock.release)
        first.run(one.release)


def test_break_lock_spares_a_lock_that_came_during_the_wait(clock, lock, tmp_path):
    """Others broke what it waited for, and own now: their lock was not waited for in vain yet."""
    Path(lock.lock_file).touch()
    (tmp_path / "fresh").touch()
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        be_stopped()
        clock().stop_clock(None)  # time passes while it sleeps, and only then
        try:
            lock.acquire(timeout=0.5)
        except lockfile.LockTimeout:
            clock().start_clock()
            lock.break_lock()
            say("broken")
        """
    with SteppedChild(code, lock.path, kinds=("sleep", "say")) as contender:
        contender.run_to("sleep")
        os.rename(tmp_path / "fresh", lock.lock_file)
        assert contender.run_on() == "broken"
        contender.finish()
    assert os.path.exists(lock.lock_file)
    LinkFileLock(lock.path).break_lock()


def test_break_lock_does_not_take_a_new_file_with_an_old_number_for_the_old_one(lock, tmp_path):
    for turn in range(10):  # another program may be given the number first
        Path(lock.lock_file).touch()
        number = os.lstat(lock.lock_file).st_ino
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=0.1)
        os.unlink(lock.lock_file)
        if makes_file_of_number(lock.lock_file, number, tmp_path / f"unused{turn}"):
            break
    else:
        pytest.skip("this file system does not reuse numbers")
    lock.break_lock()
    assert os.path.exists(lock.lock_file)
    LinkFileLock(lock.path).break_lock()
    assert not os.path.exists(lock.lock_file)


def makes_file_of_number(path, number, unused):
    """Otherwise there is none."""
    unused.mkdir()
    for attempt in range(1000):
        Path(path).touch()
        if os.lstat(path).st_ino == number:
            return True
        os.rename(path, unused / str(attempt))
    return False


def test_break_lock_of_an_object_that_never_waited_condemns_what_is_there(lock):
    with OtherThread() as thread:
        thread.run(LinkFileLock(lock.path).acquire)
        lock.break_lock()
        assert not lock.is_locked()
        with pytest.raises(NotLocked):
            thread.run(lock.release)


def test_break_lock_of_ones_own_lock_leaves_nothing(lock, tmp_path):
    lock.acquire()
    lock.break_lock()
    assert not lock.is_locked()
    assert not lock.i_am_locking()
    assert names(tmp_path) == []
    with pytest.raises(NotLocked):
        lock.release()
    with lock:
        pass


def test_break_lock_of_another_thread_of_this_process_leaves_nothing(lock, tmp_path):
    with OtherThread() as thread:
        thread.run(lock.acquire)
        LinkFileLock(lock.path).break_lock()
        assert names(tmp_path) == []


def test_break_lock_of_another_process(lock, path, tmp_path):
    with holder(LinkFileLock, path) as owner:
        lock.break_lock()
        assert not lock.is_locked()
        lock.acquire(timeout=0)
        owner.say("release")
        assert owner._lines.get(timeout=PATIENCE) == b""  # NotMyLock ended it
        assert lock.i_am_locking()
        lock.release()
    assert names(tmp_path) == []


def test_break_lock_is_silent_where_there_is_no_lock(lock, tmp_path):
    assert lock.break_lock() is None
    assert LinkFileLock(tmp_path / "missing" / "README").break_lock() is None
    assert names(tmp_path) == []


def test_break_lock_of_a_dead_owners_lock(lock, path, tmp_path):
    plant(path)
    lock.break_lock()
    assert not os.path.exists(lock.lock_file)
    assert swept_clean(LinkFileLock, path)


def test_waiters_wake_when_the_lock_is_broken(lock, path):
    with OtherThread() as owner, OtherThread() as waiter:
        owner.run(lock.acquire)
        acquiring = waiter.start(lock.acquire)
        LinkFileLock(path).break_lock()
        acquiring.result(PATIENCE)
        waiter.run(lock.release)


@pytest.mark.parametrize("mode", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["shared", "exclusive"])
def test_program_that_locks_the_directory_for_itself_does_not_stop_us(lock, path, tmp_path, mode):
    with beacon(tmp_path, mode):
        with lock:
            pass
        assert names(tmp_path) == []
        plant(path)
        lock.acquire(timeout=PATIENCE)
        lock.release()
        assert names(tmp_path) == []


def test_break_lock_does_not_wait_for_ever_for_the_directory(lock, tmp_path):
    lock.acquire()
    with beacon(tmp_path):
        try:
            lock.break_lock()
        except UnlockError:
            assert lock.i_am_locking()
        else:
            assert not lock.is_locked()
    lock.break_lock()
    assert names(tmp_path) == []
