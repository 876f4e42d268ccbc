"""What is on disk, and what is left of it when processes are killed."""

import errno
import fcntl
import itertools
import os
import shutil
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from lockfile import AlreadyLocked, LinkFileLock, LockTimeout, NotLocked, NotMyLock, UnlockError
from support import PATIENCE, Child, OtherThread, holder, in_thread, names, wait_until
from support.protocol import (
    DEAD,
    HOST,
    SteppedChild,
    beacon,
    inode,
    parsed,
    plant,
    plant_unique,
    processor_seconds,
    sleeps_in,
    stamp,
    swept_clean,
)

STEPS = ("open", "flock", "link", "unlink", "close", "say")


@pytest.fixture
def lock(path):
    return LinkFileLock(path)


def unique_base(lock):
    return os.path.basename(lock.unique_name)


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


# Killed owners and contenders


@pytest.fixture(params=["here", "/dev/shm"])
def local_directory(request, tmp_path):
    """A fresh directory on each file system at hand."""
    if request.param == "here":
        yield tmp_path
        return
    if not os.access(request.param, os.W_OK):
        pytest.skip(f"there is no {request.param}")
    directory = Path(request.param, f"lockfile-{os.getpid()}")
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def test_next_one_owns_when_the_owner_was_killed(local_directory):
    path = str(local_directory / "README")
    lock = LinkFileLock(path)
    with holder(LinkFileLock, path) as owner:
        assert lock.is_locked()
    assert not lock.is_locked()
    assert names(local_directory) == sorted(["README.lock", os.path.basename(owner.unique_name)])
    lock.acquire(timeout=0)
    assert names(local_directory) == sorted(["README.lock", unique_base(lock)])
    lock.release()
    assert names(local_directory) == []


def test_contender_killed_while_it_waits_leaves_nothing(lock, path, tmp_path):
    with lock:
        owned = names(tmp_path)
        code = """
            lock = lockfile.LinkFileLock(sys.argv[1])
            say("waiting")
            lock.acquire()
            """
        with Child(code, path) as contender:
            assert contender.hear() == "waiting"
            wait_until(lambda: sleeps_in(contender.pid), "the contender to sleep")
            assert names(tmp_path) == owned
        assert names(tmp_path) == owned
    assert names(tmp_path) == []


def killed_before_every_step(code, path):
    """Run the code again and again, killed one step later each time; yields the step."""
    for count in itertools.count(1):
        with SteppedChild(code, path, kinds=STEPS) as child:
            for _ in range(count):
                call = child.next_call()
        yield call
        if call.kind == "say":
            assert count > 5  # or it was not stopped at all
            return


def test_owner_killed_at_any_step_of_acquire_and_release(lock, path, tmp_path):
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        be_stopped()
        lock.acquire()
        lock.release()
        say("done")
        """
    for call in killed_before_every_step(code, path):
        lock.acquire(timeout=PATIENCE)
        lock.release()
        left = names(tmp_path)
        assert len(left) <= 1, f"killed before {call}"
        assert all(os.path.getsize(tmp_path / name) == 0 for name in left)
        assert swept_clean(LinkFileLock, path), f"killed before {call}"


def test_contender_killed_at_any_step_does_no_harm(lock, path, tmp_path):
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        be_stopped()
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            say("done")
        """
    with lock:
        owned = names(tmp_path)
        for call in killed_before_every_step(code, path):
            assert lock.i_am_locking()
            left = set(names(tmp_path)) - set(owned)
            assert len(left) <= 1, f"killed before {call}"
            for name in left:
                os.unlink(tmp_path / name)
    assert names(tmp_path) == []


def test_breaker_killed_at_any_step_leaves_the_rest_to_the_next(lock, path, tmp_path):
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        be_stopped()
        lock.acquire()
        say("done")
        """
    plant(path)
    for call in killed_before_every_step(code, path):
        lock.acquire(timeout=PATIENCE)
        lock.release()
        assert not lock.is_locked()
        assert swept_clean(LinkFileLock, path), f"killed before {call}"
        plant(path)
    with lock:
        pass


@pytest.mark.parametrize("threaded", [True, False])
@pytest.mark.parametrize("linked", [True, False])
def test_name_that_a_dead_namesake_left_is_reaped(path, tmp_path, threaded, linked):
    lock = LinkFileLock(path, threaded)
    (plant if linked else plant_unique)(path, name=unique_base(lock))
    assert not lock.is_locked()
    assert not lock.i_am_locking()
    lock.acquire(timeout=PATIENCE)
    assert inode(lock.lock_file) == inode(lock.unique_name)
    lock.release()
    assert names(tmp_path) == []


def test_dead_owner_with_a_suffix_is_recovered(lock, path, tmp_path):
    for suffix in (".1", ".7", ".4006513215"):
        plant(path, name=DEAD + suffix)
        assert not lock.is_locked()
        with lock:
            pass
        assert names(tmp_path) == [], suffix


def test_dead_owner_of_another_host_name_on_a_local_file_system_is_recovered(lock, path, tmp_path):
    plant(path, name="a-container.example-7f00deadbeef-1")
    assert not lock.is_locked()
    with lock:
        pass
    assert names(tmp_path) == []


def test_dead_owner_of_another_kernel_is_not_judged(lock, path, tmp_path):
    plant(path, name=DEAD + "." + "0123456789abcdef")
    assert lock.is_locked()
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.05)
    lock.break_lock()
    os.unlink(tmp_path / (DEAD + ".0123456789abcdef"))


def test_backup_of_a_dead_owners_lock_does_not_keep_it(lock, path, tmp_path):
    unique = plant(path)
    os.link(unique, tmp_path / "backup")
    assert not lock.is_locked()
    with lock:
        pass
    assert names(tmp_path) == ["backup"]


def test_another_look_at_a_dead_owner_is_only_in_the_way(lock, path):
    plant(path)
    with beacon(path + ".lock", fcntl.LOCK_SH):
        assert not lock.is_locked()
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=0.05)
        waiting = threading.Thread(target=lock.acquire)
        waiting.start()
    waiting.join(PATIENCE)
    assert lock.is_locked()
    LinkFileLock(path).break_lock()


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


# The sweep


def test_sweep_removes_what_dead_owners_left(lock, path, tmp_path):
    for name in (
        f"{HOST}-7f0000000001-123",
        f"{HOST}--124",
        f"{HOST}-7f0000000001-123.1",
        f"{HOST}--124.998877",
    ):
        plant_unique(path, name=name)
    plant(path)
    with lock:
        assert names(tmp_path) == sorted(["README.lock", unique_base(lock)])


def test_sweep_needs_a_break(lock, path, tmp_path):
    left = plant_unique(path)
    with lock:
        pass
    assert names(tmp_path) == [os.path.basename(left)]
    os.unlink(left)


def test_sweep_removes_what_was_left_under_a_former_host_name(lock, path, tmp_path):
    """A container that is made anew has another name each time."""
    for name in ("0123456789ab-7f0000000001-7", "x" + HOST + "--7", HOST[:-1] + "--7"):
        plant_unique(path, name=name)
    plant(path)
    with lock:
        assert names(tmp_path) == sorted(["README.lock", unique_base(lock)])


def stamped(directory, name, contents=b""):
    plant_unique(directory / "README", name=name, contents=contents)


def full_directory(directory):
    within = directory / f"{HOST}-7f0000000001-123"
    (within / "sub").mkdir(parents=True)
    stamp(within)


SPARED = {
    "a user's marker": lambda directory: (directory / f"{HOST}-20241101-1").touch(),
    "a user's marker with a number": lambda directory: (directory / f"{HOST}-20241101-7.2").touch(),
    "a user's marker like a process": lambda directory: (directory / f"{HOST}--42").touch(),
    "a user's marker like an address": lambda directory: (
        directory / f"{HOST}-7f0000000001-123"
    ).touch(),
    "a user's directory": lambda directory: (directory / f"{HOST}-20241102-1").mkdir(),
    "thread too low": lambda directory: stamped(directory, "data-2024-11"),
    "thread not hexadecimal": lambda directory: stamped(directory, f"{HOST}-main-123"),
    "process not decimal": lambda directory: stamped(directory, f"{HOST}-7f0000000001-12e"),
    "not a name": lambda directory: stamped(directory, HOST),
    "not empty": lambda directory: stamped(directory, f"{HOST}-7f0000000001-123", b"x"),
    "a symbolic link": lambda directory: (directory / f"{HOST}-7f0000000001-123").symlink_to(
        "nowhere"
    ),
    "a pipe": lambda directory: os.mkfifo(directory / f"{HOST}-7f0000000001-123"),
    "a full directory": full_directory,
}


@pytest.mark.leaves_files
@pytest.mark.parametrize("make", SPARED.values(), ids=SPARED.keys())
def test_sweep_spares(lock, path, tmp_path, make):
    make(tmp_path)
    before = names(tmp_path)
    plant(path)
    with lock:
        pass
    assert names(tmp_path) == before


@pytest.mark.leaves_files
def test_sweep_spares_a_file_with_two_names(lock, path, tmp_path):
    os.link(plant_unique(path, name=f"{HOST}-7f0000000001-123"), tmp_path / "backup")
    plant(path)
    with lock:
        pass
    assert names(tmp_path) == sorted(["backup", f"{HOST}-7f0000000001-123"])


@pytest.mark.leaves_files
@pytest.mark.parametrize("mode", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["looked at", "owned"])
def test_sweep_spares_a_file_that_somebody_keeps_locked(lock, path, tmp_path, mode):
    left = plant_unique(path, name=f"{HOST}-7f0000000001-123")
    plant(path)
    with beacon(left, mode), lock:
        pass
    assert names(tmp_path) == [os.path.basename(left)]


@pytest.mark.leaves_files
def test_sweep_spares_the_files_of_other_users(lock, path, tmp_path, other_user):
    left = plant_unique(path, name=f"{HOST}-7f0000000001-123")
    os.chown(left, other_user, other_user)
    plant(path)
    with lock:
        pass
    assert names(tmp_path) == [os.path.basename(left)]


def test_sweep_spares_the_other_locks_of_a_living_process(path, tmp_path):
    others = [LinkFileLock(tmp_path / f"file{number}") for number in range(3)]
    for other in others:
        other.acquire()
    plant(path)
    with LinkFileLock(path):
        pass
    for other in others:
        assert other.i_am_locking()
        assert inode(other.unique_name) == inode(other.lock_file)
        other.release()


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
    Path(lock.lock_file).touch()
    number = os.lstat(lock.lock_file).st_ino
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.1)
    os.unlink(lock.lock_file)
    for attempt in range(1000):
        Path(lock.lock_file).touch()
        if os.lstat(lock.lock_file).st_ino == number:
            break
        os.rename(lock.lock_file, tmp_path / f"unused{attempt}")
    else:
        pytest.skip("this file system does not reuse numbers")
    lock.break_lock()
    assert os.path.exists(lock.lock_file)
    LinkFileLock(lock.path).break_lock()
    assert not os.path.exists(lock.lock_file)


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
