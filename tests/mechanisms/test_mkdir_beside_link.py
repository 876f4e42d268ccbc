"""MkdirFileLock and LinkFileLock on one path exclude, wake and recover each other."""

import os
import textwrap

import pytest

from lockfile import (
    LinkFileLock,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    NotMyLock,
)
from support import (
    PATIENCE,
    Child,
    OtherThread,
    holder,
    names,
    wait_until,
)
from support.lock_directories import HOLD, KNOWING, acquires, is_intact, wait_for_sleep
from support.protocol import (
    has_settled,
    parsed,
)

PAIRS = pytest.mark.parametrize(
    ("owning", "other"),
    [
        (MkdirFileLock, LinkFileLock),
        (LinkFileLock, MkdirFileLock),
        (MkdirFileLock, MkdirFileLock),
    ],
    ids=lambda one: one.__name__.removesuffix("FileLock"),
)


@PAIRS
def test_threads_exclude_each_other(way, path, owning, other):
    lock, contender = owning(path), other(path)
    way.run(lock.acquire)
    assert contender.is_locked()
    assert not contender.i_am_locking()
    assert not acquires(contender)
    with pytest.raises(LockTimeout):
        contender.acquire(timeout=0.02)
    with pytest.raises(NotMyLock):
        contender.release()
    owner = contender.owner()
    assert (owner.pid, owner.thread, owner.alive) == (os.getpid(), way.ident, True)
    assert way.run(is_intact, lock)
    way.run(lock.release)
    assert acquires(contender)
    contender.release()


@PAIRS
def test_processes_exclude_each_other(way, path, tmp_path, owning, other):
    with Child(KNOWING + textwrap.dedent(HOLD), path, owning.__name__, way.name) as child:
        child.say("acquire")
        unique_name = child.hear()
        contender = other(path)
        assert way.run(contender.is_locked)
        assert not way.run(acquires, contender)
        with pytest.raises(LockTimeout):
            way.run(contender.acquire, timeout=0.02)
        owner = way.run(contender.owner)
        assert (owner.hostname, owner.thread, owner.pid) == parsed(unique_name)[:3]
        assert owner.alive is True
        child.say("release")
        assert child.hear() == "released"
        assert way.run(acquires, contender)
        child.say("acquire")
        wait_until(lambda: has_settled(child.pid), "the child to sleep")
        way.run(contender.release)
        child.hear()
        assert not way.run(acquires, contender)
        child.say("release")
        assert child.hear() == "released"
        child.finish()
    assert names(tmp_path) == []


@PAIRS
def test_waiter_wakes_at_the_release(way, path, owning, other):
    with holder(owning, path) as owner:
        lock = other(path)
        acquiring = way.start(lock.acquire)
        wait_for_sleep(way)
        owner.say("release")
        assert owner.hear() == "released"  # not killed in the middle of it
        acquiring.result(PATIENCE)
        assert way.run(is_intact, lock)
        way.run(lock.release)


@PAIRS
def test_waiter_wakes_at_the_death_of_the_owner(way, path, tmp_path, owning, other):
    with holder(owning, path) as owner:
        lock = other(path)
        acquiring = way.start(lock.acquire)
        wait_for_sleep(way)
        owner.kill()
        acquiring.result(PATIENCE)
        assert way.run(is_intact, lock)
        way.run(lock.release)
    assert names(tmp_path) == []


@PAIRS
def test_stale_lock_of_the_other_class_is_recovered(way, path, tmp_path, owning, other):
    with holder(owning, path):
        pass
    lock = other(path)
    assert not lock.is_locked()
    assert lock.owner() is None or lock.owner().alive is False
    with pytest.raises(NotLocked):
        lock.release()
    assert way.run(acquires, lock)
    way.run(lock.release)
    assert names(tmp_path) == []


@PAIRS
def test_break_lock_breaks_the_lock_of_the_other_class(way, path, tmp_path, owning, other):
    with OtherThread() as thread:
        lock, breaker = owning(path), other(path)
        thread.run(lock.acquire)
        way.run(breaker.break_lock)
        assert names(tmp_path) == []
        assert not thread.run(lock.i_am_locking)
        assert way.run(acquires, breaker)
        with pytest.raises(NotMyLock):
            thread.run(lock.release)
        assert way.run(is_intact, breaker)
        way.run(breaker.release)


@PAIRS
def test_break_lock_breaks_the_lock_of_another_process(way, path, tmp_path, owning, other):
    breaker = other(path)
    with holder(owning, path) as owner:
        way.run(breaker.break_lock)
        assert not os.path.exists(breaker.lock_file)
        assert way.run(acquires, breaker)
        owner.say("release")
        assert owner._lines.get(timeout=PATIENCE) == b""  # NotMyLock ended it
        assert way.run(is_intact, breaker)
        way.run(breaker.release)
    assert names(tmp_path) == []


def test_one_owner_owns_whatever_the_class(path):
    with MkdirFileLock(path), LinkFileLock(path) as same:
        assert same.i_am_locking()
        assert names(os.path.dirname(path)) == ["README.lock"]
    assert not same.is_locked()
