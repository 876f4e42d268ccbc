"""LinkFileLock: what is on disk, and what others may have put there."""

import errno
import fcntl
import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from lockfile import AlreadyLocked, LinkFileLock, LockTimeout, NotMyLock
from support import PATIENCE, Child, OtherThread, holder, in_thread, names, wait_until
from support.protocol import (
    HOST,
    beacon,
    inode,
    parsed,
    plant,
    plant_unique,
    processor_seconds,
    sleeps_in,
    unique_base,
)


@pytest.fixture
def lock(path):
    return LinkFileLock(path)


# Names


def test_unique_name_tells_host_thread_and_process(lock, tmp_path):
    assert lock.unique_name == str(tmp_path / f"{HOST}-{threading.get_ident():x}-{os.getpid()}")
    with lock:
        assert names(tmp_path) == sorted(["README.lock", unique_base(lock)])
    assert names(tmp_path) == []


def test_unique_name_of_a_process_wide_lock_has_no_thread(path, tmp_path):
    lock = LinkFileLock(path, threaded=False)
    assert lock.unique_name == str(tmp_path / f"{HOST}--{os.getpid()}")
    with lock:
        assert names(tmp_path) == sorted(["README.lock", unique_base(lock)])


def test_every_lock_of_one_owner_in_one_directory_has_a_name_of_its_own(tmp_path):
    locks = [LinkFileLock(tmp_path / f"file{number}") for number in range(12)]
    for lock in locks:
        lock.acquire()
    assert all(inode(lock.unique_name) == inode(lock.lock_file) for lock in locks)
    assert len({lock.unique_name for lock in locks}) == len(locks)
    for lock in locks:
        host, thread, process, suffix = parsed(lock.unique_name)
        assert (host, thread, process) == (HOST, threading.get_ident(), os.getpid())
        assert (suffix is None) == (lock is locks[0])
    for lock in locks:
        lock.release()
    assert names(tmp_path) == []


def test_slash_and_dash_in_the_host_name(path, tmp_path):
    code = """
        import socket
        namespace_of_host_names = 0x04000000
        if ctypes.CDLL(None).unshare(namespace_of_host_names):
            say(None)
        else:
            socket.sethostname("web/1-eu.x")
            lock = lockfile.LinkFileLock(sys.argv[1])
            lock.acquire()
            say([lock.unique_name, lock.owner().hostname])
            hear()
        """
    with Child(code, path) as child:
        answer = child.hear()
        if answer is None:
            pytest.skip("a host name of our own is not to be had")
        unique_name, hostname = answer
        assert hostname == parsed(unique_name)[0]
        assert os.path.dirname(unique_name) == str(tmp_path)
        assert parsed(unique_name)[0] == LinkFileLock(path).owner().hostname
        assert parsed(unique_name)[0].endswith("1-eu.x")
        assert parsed(unique_name)[2] == child.pid
    with LinkFileLock(path):
        pass
    assert names(tmp_path) == []


# Files


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_lock_file_is_a_link_to_an_empty_file_that_all_may_read(lock, umask):
    before = os.umask(umask)
    try:
        lock.acquire()
    finally:
        os.umask(before)
    status = os.lstat(lock.lock_file)
    assert inode(lock.lock_file) == inode(lock.unique_name)
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o1644
    assert status.st_size == 0
    assert status.st_nlink == 2
    lock.release()


def test_modification_time_is_that_of_the_acquisition(lock, tmp_path):
    earlier, before = LinkFileLock(lock.path), tmp_path / "before"
    with OtherThread() as thread:
        thread.run(earlier.acquire)
        acquiring = threading.Thread(target=lock.acquire)
        acquiring.start()
        wait_until(lambda: sleeps_in(os.getpid(), acquiring.native_id), "the contender to sleep")
        before.touch()
        thread.run(earlier.release)
        acquiring.join(PATIENCE)
    assert before.stat().st_mtime_ns <= os.stat(lock.lock_file).st_mtime_ns <= time.time_ns()
    lock.break_lock()


def test_what_the_owner_writes_into_the_lock_file_is_kept(lock):
    contender = LinkFileLock(lock.path)
    with lock:
        Path(lock.lock_file).write_text("backup of 3 a.m.")
        with pytest.raises(LockTimeout):
            in_thread(contender.acquire, timeout=0.05)
        assert in_thread(contender.is_locked)
        assert lock.i_am_locking()
        kept = open(lock.lock_file)
    with kept:
        assert kept.read() == "backup of 3 a.m."


def test_dead_owner_that_wrote_into_its_lock_file_is_dead_all_the_same(lock, path, tmp_path):
    plant(path, contents=b"backup of 3 a.m.")
    assert not lock.is_locked()
    with lock:
        assert lock.i_am_locking()
    assert names(tmp_path) == []


def test_relative_path_is_locked_where_it_was_when_the_lock_was_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lock = LinkFileLock("README")
    monkeypatch.chdir("/")
    with lock:
        assert (tmp_path / "README.lock").exists()


def test_long_names_and_names_with_odd_characters(tmp_path):
    for name in ("a" * 250, "with space", "new\nline", "-rf", "ü", ".hidden", "x.lock"):
        with LinkFileLock(tmp_path / name) as lock:
            assert inode(tmp_path / (name + ".lock")) == inode(lock.unique_name)
    assert names(tmp_path) == []


# Taken names


def test_name_taken_by_somebody_elses_file_gets_a_suffix(path, tmp_path):
    lock = LinkFileLock(path)
    base = unique_base(lock)
    taken = [base, *(f"{base}.{number}" for number in range(20))]
    for name in taken:
        (tmp_path / name).write_text("not ours")
    with lock:
        host, thread, process, suffix = parsed(lock.unique_name)
        assert (host, thread, process) == parsed(base)[:3]
        assert suffix is not None
    assert names(tmp_path) == sorted(taken)
    for name in taken:
        assert (tmp_path / name).read_text() == "not ours"
        (tmp_path / name).unlink()


@pytest.mark.parametrize("mode", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["looked at", "owned"])
def test_name_that_somebody_keeps_locked_is_left_alone(lock, path, tmp_path, mode):
    taken = plant_unique(path, name=unique_base(lock))
    before = inode(taken)
    with beacon(taken, mode):
        with lock:
            assert lock.unique_name != taken
            assert inode(lock.lock_file) == inode(lock.unique_name)
        assert inode(taken) == before
        assert names(tmp_path) == [os.path.basename(taken)]
    os.unlink(taken)


# Foreign lock files


def classic(name):
    """A lock as the classic package leaves it."""

    def make(lock_file):
        unique = os.path.join(os.path.dirname(lock_file), name)
        open(unique, "x").close()
        os.link(unique, lock_file)
        return [name]

    return make


def listening(lock_file):
    with socket.socket(socket.AF_UNIX) as server:
        at = os.open(os.path.dirname(lock_file), os.O_RDONLY)
        server.bind(
            f"/proc/self/fd/{at}/{os.path.basename(lock_file)}"
        )  # the path itself may be too long
        os.close(at)


FOREIGN = {
    "an empty file": lambda lock_file: open(lock_file, "x").close(),
    "a file": lambda lock_file: Path(lock_file).write_text("1234\n"),
    "an unreadable file": lambda lock_file: os.close(os.open(lock_file, os.O_CREAT, 0)),
    "classic 0.12": classic(f"{HOST}-7f12abcd.1234-5678901234567890123"),
    "classic 0.12, positive": classic(f"{HOST}-7f12abcd.12345678901234567890123"),
    "classic 0.8": classic(f"{HOST}.MainThread-1234"),
    "classic 0.8, numbered": classic(f"{HOST}.Thread-1-1234"),
    "classic 0.9": classic(f"{HOST}.7f12abcd-1234"),
    "a name like a user's": classic("report-final-11"),
    "a directory": os.mkdir,
    "a symbolic link": lambda lock_file: os.symlink(os.path.dirname(lock_file), lock_file),
    "a dangling symbolic link": lambda lock_file: os.symlink("nowhere", lock_file),
    "a symbolic link to itself": lambda lock_file: os.symlink(lock_file, lock_file),
    "a pipe": os.mkfifo,
    "a socket": listening,
}


@pytest.mark.leaves_files
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_lock_file_is_held_until_break_lock(lock, tmp_path, make):
    left = make(lock.lock_file) or []
    left = left if isinstance(left, list) else []
    before = inode(lock.lock_file)
    assert lock.is_locked()
    assert not lock.i_am_locking()
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.05)
    with pytest.raises(AlreadyLocked):
        lock.acquire(timeout=0)
    with pytest.raises(NotMyLock):
        lock.release()
    assert inode(lock.lock_file) == before
    assert names(tmp_path) == sorted(["README.lock", *left])

    lock.break_lock()
    assert not lock.is_locked()
    assert names(tmp_path) == left
    with lock:
        assert lock.i_am_locking()
    assert names(tmp_path) == left


def test_owner_of_a_foreign_lock_file_is_unknown(lock):
    Path(lock.lock_file).touch()
    assert lock.owner() is None or lock.owner().alive is None
    lock.break_lock()


# Other users


def test_lock_that_we_may_not_look_at_is_held(public_directory, other_user):
    lock = LinkFileLock(public_directory / "README")
    lock.acquire()
    os.chmod(lock.lock_file, 0)
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        say([lock.is_locked(), lock.i_am_locking()])
        try:
            lock.acquire(timeout=0.05)
        except lockfile.LockTimeout as error:
            say(str(error))
        """
    with Child(code, lock.path, user=other_user) as child:
        assert child.hear() == [True, False]
        message = child.hear()
        child.finish()
    assert message.startswith(f"Timeout waiting to acquire lock for {lock.path}")
    assert os.strerror(errno.EACCES) in message
    assert lock.i_am_locking()
    lock.release()


def test_other_users_see_each_others_locks(public_directory, other_user):
    path = public_directory / "README"
    owner = holder(LinkFileLock, path, user=other_user)
    with owner:
        lock = LinkFileLock(path)
        assert lock.is_locked()
        assert lock.owner().pid == owner.pid
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
    lock.acquire(timeout=0)
    with Child(
        """
        lock = lockfile.LinkFileLock(sys.argv[1])
        say(lock.is_locked())
        say("waiting")
        lock.acquire()
        lock.release()
        say("done")
        """,
        path,
        user=other_user,
    ) as child:
        assert child.hear() is True
        assert child.hear() == "waiting"
        lock.release()
        assert child.hear() == "done"
        child.finish()
    assert names(public_directory) == []


def test_stale_lock_that_we_may_not_remove_is_held_without_spinning(public_directory, other_user):
    public_directory.chmod(0o1777)
    path = str(public_directory / "README")
    unique = plant(path)
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        say("ready")
        try:
            lock.acquire(timeout=2)
        except lockfile.LockTimeout as error:
            say(str(error))
        hear()
        """
    with Child(code, path, user=other_user) as child:
        assert child.hear() == "ready"
        before = processor_seconds(child.pid)
        message = child.hear()
        busy = processor_seconds(child.pid) - before
        child.finish()
    assert message.startswith(f"Timeout waiting to acquire lock for {path}")
    assert any(
        os.strerror(number) in message for number in (errno.EPERM, errno.EACCES, errno.EBUSY)
    )
    assert busy < 0.4  # of 2 seconds; who spins takes 1.8
    assert names(public_directory) == sorted(["README.lock", os.path.basename(unique)])
    with LinkFileLock(path):  # we may
        pass
    assert names(public_directory) == []


# What others may have put in our way


def test_file_that_others_may_write_is_not_removed_with_a_stale_lock(lock, path, tmp_path):
    """Whoever may write it may have linked it to where the lock file goes."""
    data = tmp_path / "shared--20241101"
    data.write_text("data")
    data.chmod(0o666)
    os.link(data, lock.lock_file)
    with lock:
        pass
    assert data.read_text() == "data"
    assert names(tmp_path) == [data.name]
    data.unlink()


def test_leased_lock_file_is_held(lock):
    Path(lock.lock_file).touch()
    with open(lock.lock_file) as file:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # ignored, unlike the default
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        assert lock.is_locked()
        with pytest.raises(LockTimeout, match="leased"):
            lock.acquire(timeout=0.05)
    lock.break_lock()
