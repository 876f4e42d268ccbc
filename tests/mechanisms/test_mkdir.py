"""MkdirFileLock: what is on disk, and what others may have put there."""

import errno
import os
import stat
from pathlib import Path

import pytest

from lockfile import (
    AlreadyLocked,
    LinkFileLock,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    NotMyLock,
    UnlockError,
)
from support import (
    PATIENCE,
    Child,
    OtherThread,
    holder,
    in_thread,
    names,
)
from support.lock_directories import (
    Stepped,
    acquires,
    filled,
    is_intact,
    plant_directory,
    release_if_mine,
    sweep,
    wait_for_sleep,
)
from support.protocol import (
    DEAD,
    HOST,
    beacon,
    contents,
    inode,
    parsed,
    plant_unique,
    unique_base,
)


@pytest.fixture
def lock(path):
    return MkdirFileLock(path)


# On disk


def test_lock_file_is_a_directory_that_holds_the_unique_file(way, lock, tmp_path):
    way.run(lock.acquire)
    unique_name = way.run(lambda: lock.unique_name)
    assert names(tmp_path) == ["README.lock"]
    assert os.path.dirname(unique_name) == lock.lock_file
    assert names(lock.lock_file) == [os.path.basename(unique_name)]
    assert parsed(unique_name) == (HOST, way.ident, os.getpid(), None)
    assert os.path.getsize(unique_name) == 0
    way.run(lock.release)
    assert names(tmp_path) == []


def test_unique_name_is_known_before_the_lock_is_owned(lock):
    before = lock.unique_name
    with lock:
        assert lock.unique_name == before


def test_unique_name_of_a_process_wide_lock_has_no_thread(path):
    with MkdirFileLock(path, threaded=False) as lock:
        assert names(lock.lock_file) == [f"{HOST}--{os.getpid()}"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(way, lock, umask):
    before = os.umask(umask)
    try:
        way.run(lock.acquire)
    finally:
        os.umask(before)
    directory = os.lstat(lock.lock_file)
    unique = os.lstat(way.run(lambda: lock.unique_name))
    assert (stat.S_ISDIR(directory.st_mode), stat.S_IMODE(directory.st_mode)) == (True, 0o1755)
    assert (stat.S_ISREG(unique.st_mode), stat.S_IMODE(unique.st_mode)) == (True, 0o1644)
    way.run(lock.release)


def test_every_lock_of_one_owner_in_one_directory_has_its_own_unique_file(way, tmp_path):
    locks = [MkdirFileLock(tmp_path / f"file{number}") for number in range(5)]
    for lock in locks:
        way.run(lock.acquire)
    assert names(tmp_path) == [f"file{number}.lock" for number in range(5)]
    for lock in locks:
        assert way.run(is_intact, lock)
        assert len(names(lock.lock_file)) == 1
    for lock in locks:
        way.run(lock.release)
        assert not os.path.exists(lock.lock_file)
    assert names(tmp_path) == []


def test_both_classes_in_one_directory_do_not_hinder_each_other(tmp_path):
    with MkdirFileLock(tmp_path / "one") as one, LinkFileLock(tmp_path / "two") as two:
        assert is_intact(one)
        assert is_intact(two)
        assert names(tmp_path) == sorted(["one.lock", "two.lock", unique_base(two)])
    assert names(tmp_path) == []


def test_lock_directory_is_never_seen_without_its_unique_file(path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        be_stopped()
        lock.acquire()
        lock.release()
        say("released")
        """
    seen = 0
    with Stepped(code, path) as child:
        while child.next_call().kind != "say":
            if os.path.exists(path + ".lock"):
                [unique] = names(path + ".lock")
                assert parsed(unique)[2] == child.pid
                with pytest.raises(BlockingIOError), beacon(f"{path}.lock/{unique}"):
                    pass
                seen += 1
        assert child.run_on() == "released"
        child.finish()
    assert seen > 0


def test_claim_of_a_held_lock_does_not_touch_it(way, lock, path):
    with OtherThread() as owner:
        owner.run(lock.acquire)
        before = os.stat(lock.lock_file)
        assert not way.run(acquires, MkdirFileLock(path))
        after = os.stat(lock.lock_file)
        owner.run(lock.release)
    assert before.st_mtime_ns == after.st_mtime_ns
    assert before.st_ctime_ns == after.st_ctime_ns


# Foreign directories


def with_one(make_one):
    """A directory with one thing in it that is called like an owner, but is no file."""

    def make(lock_file):
        os.mkdir(lock_file)
        make_one(os.path.join(lock_file, DEAD))

    return make


def with_data(name):
    def make(lock_file):
        os.mkdir(lock_file)
        Path(lock_file, name).write_text("precious")

    return make


BREAKABLE = {
    "empty": os.mkdir,
    "a file not of our form": filled("notes"),
    "a hidden file": filled(".notes"),
    "two files": filled("one", "two"),
    "a dead owner and a file": filled(DEAD, "notes"),
    "two dead owners": filled(DEAD, DEAD + ".1"),
    "classic 0.12": filled(f"{HOST}-7f12abcd.1234-5678901234567890123"),
    "classic 0.12, positive": filled(f"{HOST}-7f12abcd.12345678901234567890123"),
    "classic 0.8": filled(f"{HOST}.MainThread-1234"),
    "classic 0.9": filled(f"{HOST}.7f12abcd-1234"),
    "another kernel's owner": filled(DEAD + ".0123456789abcdef"),
    "a name that is too long": filled("x" * 62 + "-" + "7" * 16 + "-" + "1" * 150),
}


UNBREAKABLE = {
    "a user's data": with_data("notes"),
    "data in a second file": lambda lock_file: (
        filled(DEAD)(lock_file),
        Path(lock_file, "notes").write_text("precious"),
    ),
    "a symbolic link": with_one(lambda name: os.symlink("nowhere", name)),
    "a symbolic link to a file": with_one(lambda name: os.symlink(__file__, name)),
    "a pipe": with_one(os.mkfifo),
    "a directory": with_one(os.mkdir),
    "a full directory": lambda lock_file: os.makedirs(f"{lock_file}/{DEAD}/{DEAD}"),
}


FOREIGN = BREAKABLE | UNBREAKABLE


@pytest.mark.leaves_files
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_directory_is_held(file_lock_class, path, tmp_path, make):
    lock = file_lock_class(path)
    make(lock.lock_file)
    before = contents(tmp_path)
    assert lock.is_locked()
    assert not lock.i_am_locking()
    owner = lock.owner()
    assert owner is None or owner.alive is None
    with pytest.raises(AlreadyLocked):
        lock.acquire(timeout=0)
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.02)
    with pytest.raises(NotMyLock):
        lock.release()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("make", BREAKABLE.values(), ids=BREAKABLE.keys())
def test_break_lock_removes_a_directory_of_empty_files(way, file_lock_class, path, tmp_path, make):
    lock = file_lock_class(path)
    make(lock.lock_file)
    way.run(lock.break_lock)
    assert names(tmp_path) == []
    assert way.run(acquires, lock)
    way.run(lock.release)


@pytest.mark.leaves_files
@pytest.mark.parametrize("make", UNBREAKABLE.values(), ids=UNBREAKABLE.keys())
def test_break_lock_spares_a_directory_with_anything_else(
    way, file_lock_class, path, tmp_path, make
):
    lock = file_lock_class(path)
    make(lock.lock_file)
    before = contents(tmp_path)
    with pytest.raises(UnlockError) as caught:
        way.run(lock.break_lock)
    assert type(caught.value) is UnlockError
    assert contents(tmp_path) == before
    assert way.run(lock.is_locked)


@pytest.mark.parametrize("make", [os.mkdir, filled("notes")], ids=["empty", "filled"])
def test_waiter_wakes_when_a_foreign_directory_is_removed(way, file_lock_class, path, make):
    lock = file_lock_class(path)
    make(lock.lock_file)
    acquiring = way.start(lock.acquire)
    wait_for_sleep(way)
    for name in names(lock.lock_file):
        os.unlink(os.path.join(lock.lock_file, name))
    os.rmdir(lock.lock_file)
    acquiring.result(PATIENCE)
    assert way.run(is_intact, lock)
    way.run(lock.release)


def test_waiter_wakes_when_a_foreign_directory_is_moved(way, lock, tmp_path):
    os.mkdir(lock.lock_file)
    acquiring = way.start(lock.acquire)
    wait_for_sleep(way)
    os.rename(lock.lock_file, tmp_path / "moved")
    acquiring.result(PATIENCE)
    way.run(lock.release)
    os.rmdir(tmp_path / "moved")


def test_dead_owner_that_wrote_into_its_unique_file_is_dead_all_the_same(lock, path, tmp_path):
    plant_directory(path, contents=b"backup of 3 a.m.")
    assert not lock.is_locked()
    assert acquires(lock)
    lock.release()
    assert names(tmp_path) == []


# Renamed, replaced, removed


def test_directory_renamed_while_owned(way, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    lock = MkdirFileLock(before / "README")
    way.run(lock.acquire)
    before.rename(after)
    way.run(lock.release)
    assert names(after) == []


def test_directory_replaced_while_owned(way, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    lock = MkdirFileLock(here / "README")
    way.run(lock.acquire)
    here.rename(there)
    here.mkdir()
    another = MkdirFileLock(here / "README")
    assert acquires(another)
    before = contents(here)
    way.run(release_if_mine, lock)
    assert contents(here) == before
    assert is_intact(another)
    another.release()
    assert names(here) == names(there) == []


def test_lock_directory_that_was_moved_away_is_not_ours_any_more(way, lock, tmp_path):
    way.run(lock.acquire)
    os.rename(lock.lock_file, tmp_path / "moved")
    assert not way.run(lock.i_am_locking)
    assert not way.run(lock.is_locked)
    with pytest.raises(NotLocked):
        way.run(lock.release)
    for name in names(tmp_path / "moved"):
        os.unlink(tmp_path / "moved" / name)
    os.rmdir(tmp_path / "moved")


def test_lock_directory_that_was_replaced_is_left(way, lock, tmp_path):
    way.run(lock.acquire)
    os.rename(lock.lock_file, tmp_path / "moved")
    plant_unique(lock.path)
    os.mkdir(lock.lock_file)
    before = inode(lock.lock_file)
    with pytest.raises(NotMyLock):
        way.run(lock.release)
    assert inode(lock.lock_file) == before
    way.run(lock.break_lock)
    sweep(MkdirFileLock, lock.path)
    for name in names(tmp_path / "moved"):
        os.unlink(tmp_path / "moved" / name)
    os.rmdir(tmp_path / "moved")


def test_removed_unique_file_does_not_lose_the_lock(way, lock, tmp_path):
    way.run(lock.acquire)
    os.unlink(way.run(lambda: lock.unique_name))
    assert way.run(lock.i_am_locking)
    contender = MkdirFileLock(lock.path)
    assert contender.is_locked()
    assert not acquires(contender)
    way.run(lock.release)
    assert names(tmp_path) == []


def test_file_of_a_user_in_the_lock_directory_is_not_lost(lock, path, tmp_path):
    """The lock is free all the same; the file stays, beside it, under the owner's name."""
    lock.acquire()
    Path(lock.lock_file, "notes").write_text("precious")
    assert not in_thread(acquires, MkdirFileLock(path))
    lock.release()
    assert not lock.is_locked()
    [left] = names(tmp_path)
    assert (tmp_path / left / "notes").read_text() == "precious"
    with lock:
        pass
    os.unlink(tmp_path / left / "notes")
    os.rmdir(tmp_path / left)


# Other users

OWN_WHERE_NOTHING_CAN_BE_REMOVED = """
    from support import lock_directories
    directory = os.path.dirname(sys.argv[1])
    become(int(sys.argv[2]))
    lock_directories.go(sys.argv[3])
    lock = lockfile.MkdirFileLock(sys.argv[1])
    lock.acquire()
    os.chmod(directory, 0o555)
    try:
        lock.release()
    except lockfile.UnlockError as error:
        say("still locked by me" in str(error))
    say(lock.i_am_locking())
    os.chmod(directory, 0o755)
    lock.break_lock()
    """


def test_release_where_nothing_can_be_removed_says_who_owns(public_directory, way, other_user):
    os.chown(public_directory, other_user, other_user)
    path = public_directory / "README"
    with Child(OWN_WHERE_NOTHING_CAN_BE_REMOVED, path, str(other_user), way.name) as child:
        said = child.hear()
        assert child.hear() is said
        child.finish()
    assert names(public_directory) == []


TRY = """
    from support import lock_directories
    lock = lockfile.MkdirFileLock(sys.argv[1])
    become(int(sys.argv[2]))
    try:
        lock.acquire(timeout=0.2)
    except lockfile.LockTimeout as error:
        say(str(error))
    else:
        say("acquired")
        hear()
        lock.release()
        say("released")
    """


def test_stale_lock_that_may_not_be_renamed_is_held_with_the_reason(public_directory, other_user):
    public_directory.chmod(0o1777)
    path = public_directory / "README"
    plant_directory(path)
    before = contents(public_directory)
    with Child(TRY, path, str(other_user)) as child:
        message = child.hear()
        child.finish()
    assert message.startswith(f"Timeout waiting to acquire lock for {path}")
    assert os.strerror(errno.EPERM) in message
    assert contents(public_directory) == before
    with MkdirFileLock(path):  # we may
        pass
    assert names(public_directory) == []


def test_stale_lock_that_may_only_be_renamed_is_broken_all_the_same(public_directory, other_user):
    path = public_directory / "README"
    plant_directory(path)
    with Child(TRY, path, str(other_user)) as child:
        assert child.hear() == "acquired"
        child.say("release")
        assert child.hear() == "released"
        child.finish()
    [left] = names(public_directory)
    assert names(public_directory / left) == [DEAD]
    sweep(MkdirFileLock, path)
    assert names(public_directory) == []


def test_other_users_see_each_others_locks(public_directory, other_user):
    path = public_directory / "README"
    lock = MkdirFileLock(path)
    with holder(MkdirFileLock, path, user=other_user) as owner:
        assert lock.is_locked()
        assert lock.owner().pid == owner.pid
        assert not acquires(lock)
    assert acquires(lock)
    with Child(TRY, path, str(other_user)) as child:
        assert child.hear().startswith("Timeout")
        child.finish()
    lock.release()
    assert names(public_directory) == []
