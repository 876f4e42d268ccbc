"""SymlinkLockFile: a lock file that leads to its owner's unique file."""

import contextlib
import os

import pytest

from lockfile import AlreadyLocked, LinkFileLock, NotMyLock, SymlinkLockFile
from support import PATIENCE, Child, OtherThread, names, wait_until
from support.protocol import (
    DEAD,
    HOST,
    SteppedChild,
    beacon,
    has_settled,
    plant,
    plant_as,
    plant_unique,
    unique_base,
)


@pytest.fixture
def lock(path):
    return SymlinkLockFile(path)


def hold(path):
    """Owners by the class that is named."""
    return Child(
        "(lock := getattr(lockfile, sys.argv[1])(sys.argv[2])).acquire(); say(1); hear()",
        "SymlinkLockFile",
        path,
    )


def test_lock_file_leads_to_the_unique_file(lock, path):
    with lock:
        assert os.readlink(path + ".lock") == unique_base(lock)
        with open(lock.unique_name) as file:
            assert file.read() == "lock file: README.lock\n"
        assert os.lstat(lock.unique_name).st_nlink == 1
    assert names(os.path.dirname(path)) == []


@pytest.mark.parametrize("target", ["nowhere", DEAD, "../" + DEAD, "/" + DEAD, ".", "x" * 1000])
def test_foreign_link_is_held(lock, path, target):
    """Wherever it leads; and nothing is made there."""
    os.symlink(target, path + ".lock")
    assert lock.is_locked() and not lock.i_am_locking()
    with pytest.raises(AlreadyLocked, match="symbolic link"):
        lock.acquire(0)
    with pytest.raises(NotMyLock):
        lock.release()
    assert names(os.path.dirname(path)) == ["README.lock"]
    lock.break_lock()
    assert names(os.path.dirname(path)) == []


@pytest.mark.parametrize(
    "contents", [b"lock file: another.lock\n", b"lock file: README.lock", b"README.lock\n"]
)
def test_unique_file_of_another_lock_proves_nothing(lock, path, contents):
    """Who makes a link to it might want it to be removed."""
    another = os.path.join(os.path.dirname(path), "another.lock")
    unique = plant_unique(path, DEAD, contents)
    os.symlink(DEAD, another)
    os.symlink(DEAD, path + ".lock")
    with pytest.raises(AlreadyLocked):
        lock.acquire(0)
    lock.break_lock()
    assert sorted(names(os.path.dirname(path))) == ["another.lock", DEAD]
    os.remove(unique)
    os.remove(another)


def test_unique_file_that_is_a_link_is_not_followed(lock, path):
    plant_unique(path, DEAD + ".1", b"lock file: README.lock\n")
    os.symlink(DEAD + ".1", os.path.join(os.path.dirname(path), DEAD))
    os.symlink(DEAD, path + ".lock")
    with pytest.raises(AlreadyLocked):
        lock.acquire(0)
    for name in names(os.path.dirname(path)):
        os.remove(os.path.join(os.path.dirname(path), name))


def test_sweep_of_another_lock_leaves_what_a_dead_owner_needs(lock, path):
    """Its unique file has one link, as one that nobody has published."""
    plant_as(SymlinkLockFile, path)
    left_over = plant_unique(path, DEAD + ".1", b"lock file: README.lock\n")
    other = os.path.join(os.path.dirname(path), "other")
    plant(other, DEAD + ".2")
    with LinkFileLock(other):
        pass
    assert not os.path.exists(left_over)
    assert sorted(names(os.path.dirname(path))) == ["README.lock", DEAD]
    assert not lock.is_locked()
    with lock:
        pass
    assert names(os.path.dirname(path)) == []


def test_sweep_leaves_what_is_not_stamped(lock, path):
    kept = os.path.join(os.path.dirname(path), f"{HOST}-20241101-1")
    with open(kept, "w") as file:
        file.write("lock file: none.lock\n")
    plant_as(SymlinkLockFile, path)
    with lock:
        pass
    assert names(os.path.dirname(path)) == [os.path.basename(kept)]
    os.remove(kept)


def test_sweep_between_creation_and_publication(path):
    """The claim is lit by then, so it is left; and not lit, it is swept and made anew."""
    code = """
        lock = lockfile.SymlinkLockFile(sys.argv[1])
        be_stopped()
        hear()
        say("begin")
        lock.acquire()
        say("owns")
        lock.release()
        """
    other = os.path.join(os.path.dirname(path), "other")
    for kind in ("flock", "write", "symlink"):
        with SteppedChild(code, path, kinds=["flock", "write", "symlink", "say"]) as child:
            child.say("go")
            child.run_to("say")
            child.run_to(kind)
            plant(other)
            with LinkFileLock(other):
                pass
            left = names(os.path.dirname(path))
            assert len(left) == (0 if kind == "flock" else 1)
            child.run_to("say")
            assert SymlinkLockFile(path).owner().pid == child.pid
            child.go_on()
            child.finish()


def test_owner_whose_unique_file_is_gone_does_not_own(lock, path):
    """It could not prove any more that it lives; the link is held, until somebody breaks it."""
    lock.acquire()
    os.remove(lock.unique_name)
    assert not lock.i_am_locking()
    assert lock.is_locked()
    with pytest.raises(NotMyLock):
        lock.release()
    lock.break_lock()
    with lock:
        pass


def test_link_that_leads_elsewhere_is_not_the_owners(lock, path):
    lock.acquire()
    os.remove(path + ".lock")
    os.symlink(DEAD, path + ".lock")
    assert not lock.i_am_locking()
    with pytest.raises(NotMyLock):
        lock.release()
    assert os.readlink(path + ".lock") == DEAD
    lock.break_lock()


@pytest.mark.parametrize("way", ["release", "kill", "break_lock"])
def test_waiter_is_told(lock, path, way, no_second_look):
    """By an event of the unique file, since the link itself has none when its owner dies."""
    with hold(path) as owner:
        assert owner.hear() == 1
        wait = "with lockfile.SymlinkLockFile(sys.argv[1], timeout=PATIENCE): say(1)"
        with Child(wait, path) as waiter:
            wait_until(lambda: has_settled(waiter.pid), "the waiter to sleep")
            if way == "release":
                owner.finish()
            elif way == "kill":
                owner.kill()
            else:
                lock.break_lock()
            assert waiter.hear() == 1
            waiter.finish()
        if way == "break_lock":
            owner.finish()


def test_break_lock_of_own_is_noticed(lock, path):
    with OtherThread() as thread:
        other = SymlinkLockFile(path)
        thread.run(other.acquire)
        lock.break_lock()
        assert not thread.run(other.i_am_locking)
    assert names(os.path.dirname(path)) == []


def test_live_owner_without_links_counts_as_alive(lock, path):
    unique = plant_as(SymlinkLockFile, path)
    with beacon(unique):
        assert lock.is_locked()
        assert lock.owner().alive
    with contextlib.closing(open(unique)):
        assert not lock.is_locked()
    lock.acquire(PATIENCE)
    lock.release()
