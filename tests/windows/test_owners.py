"""Owners that are killed, and what is left of them."""

import os
import stat
import subprocess
import sys

import pytest

from lockfile import AlreadyLocked, LockTimeout, MkdirFileLock, NotMyLock
from support import Child, holder, names
from support.killed_workers import run_workers


def test_lock_of_a_killed_process_is_recovered(lock_class, path):
    child = holder(lock_class, path)
    lock = lock_class(path)
    assert lock.is_locked()
    assert lock.owner().pid == child.pid
    assert lock.owner().alive is True
    child.kill()
    assert not lock.is_locked()
    assert lock.owner().alive is False
    lock.acquire(timeout=0)
    lock.release()


@pytest.mark.leaves_files
def test_waiter_gets_the_lock_of_a_killed_process(lock_class, path):
    child = holder(lock_class, path)
    with Child(
        """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        say("waits")
        lock.acquire()
        say(lock.i_am_locking())
        lock.release()
        """,
        lock_class.__name__,
        path,
    ) as waiter:
        assert waiter.hear() == "waits"
        child.kill()
        assert waiter.hear() is True
        waiter.finish()


@pytest.mark.leaves_files
def test_exclusion_while_workers_are_killed_at_random(lock_class, tmp_path):
    """Six of them; each looks whether it is alone."""
    result = run_workers(lock_class, tmp_path, workers=6, seconds=8, kills=True)
    assert result.breaches == 0
    assert result.stalls == 0
    assert result.failures == 0
    assert result.turns > 0
    assert result.kills > 5


@pytest.mark.leaves_files
def test_readers_and_writers_exclude_each_other_while_some_are_killed(shared_class, tmp_path):
    """Some writers read on."""
    result = run_workers(shared_class, tmp_path, workers=6, seconds=8, kills=True, reads=0.7)
    assert result.breaches == 0
    assert result.stalls == 0
    assert result.failures == 0
    assert result.turns > 0
    assert result.kills > 5


def is_stamped(path):
    return bool(os.stat(path).st_file_attributes & stat.FILE_ATTRIBUTE_SYSTEM)


@pytest.mark.leaves_files  # where Wine has made it, and was killed before it had stamped it
def test_what_is_left_of_the_killed_is_swept(file_lock_class, tmp_path):
    """By the next who breaks a stale lock. Windows stamps what it makes in one go."""
    run_workers(file_lock_class, tmp_path, workers=3, seconds=3, kills=True)
    path = tmp_path / "README"
    holder(file_lock_class, path).kill()
    with file_lock_class(path), file_lock_class(tmp_path / "worked"):
        pass
    assert [name for name in names(tmp_path) if is_stamped(tmp_path / name)] == []


@pytest.mark.leaves_files
def test_live_lock_can_be_broken(lock_class, path):
    with holder(lock_class, path):
        lock = lock_class(path)
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        lock.break_lock()
        lock.acquire(timeout=0)
        assert lock.i_am_locking()
        lock.release()


@pytest.mark.leaves_files
def test_owner_of_a_broken_lock_is_told(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    with Child(
        "getattr(lockfile, sys.argv[1])(sys.argv[2]).break_lock(); say('broken')",
        lock_class.__name__,
        path,
    ) as child:
        assert child.hear() == "broken"
    with holder(lock_class, path):
        assert not lock.i_am_locking()
        with pytest.raises(NotMyLock):
            lock.release()


def test_child_inherits_no_lock(lock_class, path):
    """Not even one that gets all handles that can be inherited: so it keeps no dead owner alive."""
    with Child(
        """
        import subprocess
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        lock.acquire()
        sleep = [sys.executable, "-c", "import time; time.sleep(100)"]
        say(subprocess.Popen(sleep, close_fds=False, stdout=subprocess.DEVNULL).pid)
        hear()
        """,
        lock_class.__name__,
        path,
    ) as owner:
        grandchild = owner.hear()
        owner.process.kill()
        owner.process.wait()
        lock = lock_class(path)
        try:
            lock.acquire(timeout=0)
        finally:
            os.kill(grandchild, 9)
        lock.release()


@pytest.mark.leaves_files
def test_ctrl_c_ends_a_wait_at_once(lock_class, path):
    with holder(lock_class, path):
        code = f"""
import ctypes, sys, threading, time
sys.path[:0] = {sys.path!r}
import lockfile
def press():
    time.sleep(1)
    ctypes.windll.kernel32.GenerateConsoleCtrlEvent(0, 0)
threading.Thread(target=press, daemon=True).start()
try:
    lockfile.{lock_class.__name__}({path!r}).acquire(timeout=90)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""
        own_console = 0x08000000
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, creationflags=own_console, text=True
        )
        assert done.stdout.strip() == "KeyboardInterrupt", done.stderr


@pytest.mark.leaves_files
def test_timeout_is_kept(lock_class, path):
    with holder(lock_class, path):
        with pytest.raises(LockTimeout):
            lock_class(path).acquire(timeout=0.3)


def test_empty_directory_of_another_program_is_held(tmp_path):
    (tmp_path / "README.lock").mkdir()
    lock = MkdirFileLock(tmp_path / "README")
    assert lock.is_locked()
    with pytest.raises(AlreadyLocked):
        lock.acquire(timeout=0)
    (tmp_path / "README.lock").rmdir()
