"""LinkFileLock: what is left when processes are killed, how it is recovered and swept away."""

import fcntl
import itertools
import os
import shutil
import threading
from pathlib import Path

import pytest

from lockfile import LinkFileLock, LockTimeout
from support import PATIENCE, Child, holder, names, wait_until
from support.protocol import (
    DEAD,
    HOST,
    SteppedChild,
    beacon,
    inode,
    plant,
    plant_unique,
    sleeps_in,
    stamp,
    swept_clean,
    unique_base,
)


@pytest.fixture
def lock(path):
    return LinkFileLock(path)


STEPS = ("open", "flock", "link", "unlink", "close", "say")


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
