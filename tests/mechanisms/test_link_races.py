"""LinkFileLock: races, each provoked: one process is stopped between two steps, another acts.

Most tests run their code once for each step: stopped before the first, the second, ... system call.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import threading

import pytest

from lockfile import AlreadyLocked, LinkFileLock, LockTimeout, NotLocked, NotMyLock
from support import PATIENCE, Child, OtherThread, names, wait_until
from support.protocol import SteppedChild, beacon, begin, inode, parsed, plant, sleeps_in

STEPS = ("open", "flock", "link", "unlink", "stat", "close", "say")

# What the other process does, round by round; it is stopped from "ready" on.
CLAIM = """
    lock = lockfile.LinkFileLock(sys.argv[1])
    be_stopped()
    while hear():
        say("ready")
        hear()
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            pass
        say(lock.i_am_locking())
        hear()
        if lock.i_am_locking():
            lock.release()
        say("over")
    """

RELEASE = """
    lock = lockfile.LinkFileLock(sys.argv[1])
    be_stopped()
    while hear():
        lock.acquire()
        say("ready")
        hear()
        lock.release()
        say("released")
        hear()
        say("over")
    """

BREAK = """
    lock = lockfile.LinkFileLock(sys.argv[1])
    be_stopped()
    while hear():
        try:
            lock.acquire(timeout=0.02)
        except lockfile.LockTimeout:
            say("ready")
        hear()
        lock.break_lock()
        say("broken")
        hear()
        say("over")
    """


def stopped_before_every_step(code, prepare, path):
    """The other process, one step further each round; `prepare()` comes before each."""
    with SteppedChild(code, path, kinds=STEPS) as child:
        for count in itertools.count(1):
            prepare()
            begin(child)
            for _ in range(count):
                child.next_call()
            at_its_end = child.call.kind == "say"
            yield child
            end(child)
            assert names(os.path.dirname(path)) == []
            if at_its_end:
                assert count > 5  # or it was not stopped at all
                break
        child.finish()


def end(child):
    child.say("end")
    assert child.run_on() == "over"


def intact(lock):
    """Is it ours, with all that belongs to it?"""
    return lock.i_am_locking() and inode(lock.lock_file) == inode(lock.unique_name)


def one_of_us_owns(child, lock):
    """We try to acquire while it is stopped in a claim."""
    try:
        lock.acquire(timeout=0)
    except AlreadyLocked:
        assert child.run_on() is True
    else:
        assert child.run_on() is False
        assert intact(lock)
        lock.release()


def test_claim_against_a_claim(path):
    lock = LinkFileLock(path)
    for child in stopped_before_every_step(CLAIM, lambda: None, path):
        one_of_us_owns(child, lock)


def test_claim_against_a_release(path):
    lock = LinkFileLock(path)
    for child in stopped_before_every_step(RELEASE, lambda: None, path):
        try:
            lock.acquire(timeout=0)
        except AlreadyLocked:
            assert child.run_on() == "released"
        else:
            assert child.run_on() == "released"
            assert intact(lock)
            lock.release()


def test_claim_and_release_against_a_claim(path):
    """What it looked at is gone, and perhaps its number has another file, when it looks again."""
    lock = LinkFileLock(path)
    for child in stopped_before_every_step(CLAIM, lambda: lock.acquire(), path):
        if lock.i_am_locking():
            lock.release()
        one_of_us_owns(child, lock)


def test_breaker_against_a_breaker(path):
    lock = LinkFileLock(path)
    for child in stopped_before_every_step(CLAIM, lambda: plant(path), path):
        one_of_us_owns(child, lock)


def test_breaker_against_a_breaker_that_released_again(path):
    lock = LinkFileLock(path)
    for child in stopped_before_every_step(CLAIM, lambda: plant(path), path):
        try:
            lock.acquire(timeout=0)
            lock.release()
        except AlreadyLocked:
            pass
        assert child.run_on() is True


def test_sweep_against_a_claim(path, tmp_path):
    """A sweep may take the file of one who has not taken its beacon yet, which then starts over."""
    other = LinkFileLock(tmp_path / "other")
    for child in stopped_before_every_step(CLAIM, lambda: plant(other.path), path):
        with other:
            pass
        assert child.run_on() is True
        assert LinkFileLock(path).is_locked()
        [lock_file, unique] = sorted(names(tmp_path), key=lambda name: name != "README.lock")
        assert lock_file == "README.lock"
        assert inode(tmp_path / lock_file) == inode(tmp_path / unique)
        assert parsed(unique)[2] == child.pid


def test_claim_against_a_sweep_that_has_its_beacon(path, tmp_path):
    """A claim whose file somebody looks at leaves that name alone and takes the next."""
    with SteppedChild(CLAIM, path, kinds=["flock", "say"]) as claimer:
        begin(claimer)
        while not names(tmp_path):
            claimer.next_call()
        [swept] = names(tmp_path)
        plant(tmp_path / "other")
        with SteppedChild(CLAIM, tmp_path / "other", kinds=["unlink", "say"]) as sweeper:
            begin(sweeper)
            sweeper.run_to("unlink", swept)
            assert claimer.run_on() is True
            assert swept in names(tmp_path)
            [unique] = [name for name in names(tmp_path) if name.startswith(swept + ".")]
            assert inode(path + ".lock") == inode(tmp_path / unique)
            assert sweeper.run_on() is True
            end(sweeper)
            sweeper.finish()
        assert swept not in names(tmp_path)
        end(claimer)
        claimer.finish()
    assert names(tmp_path) == []


def test_release_does_not_fall_between_check_and_removal_of_break_lock(path):
    """Condemned is the lock that was waited for: never the fresh one that comes after it."""
    with OtherThread() as before, OtherThread() as after:
        old, fresh = LinkFileLock(path), LinkFileLock(path)
        threads = [thread.run(threading.get_native_id) for thread in (before, after)]
        for child in stopped_before_every_step(BREAK, lambda: before.run(old.acquire), path):
            releasing = before.start(old.release)
            acquiring = after.start(fresh.acquire, timeout=PATIENCE)
            wait_until(lambda: all(map(waits, threads)), "the others to act or wait")
            assert child.run_on() == "broken"
            with contextlib.suppress(NotLocked, NotMyLock):
                releasing.result(PATIENCE)
            acquiring.result(PATIENCE)
            assert after.run(intact, fresh)
            after.run(fresh.release)


def waits(thread):
    return all(sleeps_in(os.getpid(), thread) for _ in range(5))


def test_many_waiters_that_break_do_not_break_each_others_locks(path, tmp_path):
    """All have waited in vain for a stuck lock, and break it at once: it is broken once."""
    stuck = LinkFileLock(path)
    held, overlaps = [], []
    start = threading.Barrier(5)

    def wait_and_break():
        lock = LinkFileLock(path)
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=0.1)
        start.wait(PATIENCE)
        lock.break_lock()
        lock.acquire()
        held.append(lock)
        if len(held) > 1 or not lock.i_am_locking():
            overlaps.append(lock)
        held.remove(lock)
        lock.release()

    with OtherThread() as owner:
        for _ in range(5):
            owner.run(stuck.acquire)
            threads = [threading.Thread(target=wait_and_break) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert not overlaps
            assert not stuck.is_locked()
    assert names(tmp_path) == []


def test_breaker_that_is_stopped_keeps_nobody_but_the_lock(path, tmp_path):
    """Others time out beside it without harm, and take over when it is killed."""
    plant(path)
    lock = LinkFileLock(path)
    with SteppedChild(CLAIM, path, kinds=["unlink", "say"]) as breaker:
        begin(breaker)
        breaker.run_to("unlink", "README.lock")
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=0.1)
        with LinkFileLock(tmp_path / "other"):
            pass
        waiting = threading.Thread(target=lock.acquire)
        waiting.start()
    waiting.join(PATIENCE)
    assert lock.is_locked()
    LinkFileLock(path).break_lock()
    assert names(tmp_path) == []


def test_claim_whose_success_was_reported_as_failure_owns(path, tmp_path):
    """A network server linked, its answer was lost, and asked again it says: the file exists."""
    with SteppedChild(CLAIM, path, kinds=["link", "unlink", "say"]) as child:
        begin(child)
        child.run_to("link", "README.lock")
        [unique] = names(tmp_path)
        os.link(tmp_path / unique, path + ".lock")
        child.fail(errno.EEXIST)
        assert child.next_call().kind == "say"
        assert child.run_on() is True
        with pytest.raises(AlreadyLocked):
            LinkFileLock(path).acquire(timeout=0)
        end(child)
        child.finish()
    assert names(tmp_path) == []


def test_unique_file_that_vanishes_before_the_link_is_made_again(path, tmp_path):
    with SteppedChild(CLAIM, path, kinds=["link", "say"]) as child:
        begin(child)
        child.run_to("link", "README.lock")
        [unique] = names(tmp_path)
        os.unlink(tmp_path / unique)
        assert child.run_on() is True
        assert len(names(tmp_path)) == 2
        end(child)
        child.finish()
    assert names(tmp_path) == []


def test_lock_file_that_vanishes_at_any_step_of_a_contender(path):
    def foreign():
        open(path + ".lock", "x").close()

    for child in stopped_before_every_step(CLAIM, foreign, path):
        os.unlink(path + ".lock")
        mine = child.run_on()
        assert LinkFileLock(path).is_locked() is mine


# Namesakes: owners in two containers that share a directory may have one name.

NAMESAKE = """
    namespace_of_processes = 0x20000000
    if ctypes.CDLL(None).unshare(namespace_of_processes):
        say("refused")
        sys.exit()
    if inner := os.fork():
        os.waitpid(inner, 0)
        sys.exit()
    die_with_parent = 1
    ctypes.CDLL(None).prctl(die_with_parent, 9, 0, 0, 0)
    """


@pytest.fixture
def namesake():
    """A process that is the first one of a container, and tries to acquire when told."""
    code = (
        NAMESAKE
        + """
    say("ready")
    while (told := hear()) is not None:
        lock = lockfile.LinkFileLock(told, threaded=False)
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            say(None)
        else:
            say(lock.unique_name)
            hear()
            mine = lock.i_am_locking()
            lock.release()
            say(mine)
    """
    )
    with Child(code) as child:
        if child.hear() != "ready":
            pytest.skip("only root can make a namespace")
        yield child


def test_namesakes_own_different_locks_in_one_directory(path, tmp_path, namesake):
    namesake.say(path)
    first = namesake.hear()
    assert parsed(first)[1:] == ("", 1, None)
    with Child(
        NAMESAKE
        + """
    lock, free = [lockfile.LinkFileLock(path, threaded=False) for path in sys.argv[1:]]
    assert lock.is_locked() and not lock.i_am_locking()
    try:
        lock.acquire(timeout=0.1)
    except lockfile.LockTimeout:
        free.acquire()
        say(free.unique_name)
    free.release()
    """,
        path,
        tmp_path / "free",
    ) as other:
        second = other.hear()
        assert parsed(second)[:3] == parsed(first)[:3]
        assert parsed(second)[3] is not None
        other.finish()
    namesake.say("release")
    assert namesake.hear() is True
    namesake.finish()
    assert names(tmp_path) == []


def test_claim_against_the_claim_of_a_namesake(path, namesake):
    """The name that one has just created may be reaped by the other, who looks like it."""
    code = NAMESAKE + CLAIM.replace("sys.argv[1]", "sys.argv[1], threaded=False")
    for child in stopped_before_every_step(code, lambda: None, path):
        namesake.say(path)
        if namesake.hear() is None:
            assert child.run_on() is True
        else:
            assert child.run_on() is False
            namesake.say("release")
            assert namesake.hear() is True


def test_claim_against_the_claim_of_a_namesake_for_another_lock(path, tmp_path, namesake):
    """It never links the file that the other has made under their name."""
    code = NAMESAKE + CLAIM.replace("sys.argv[1]", "sys.argv[1], threaded=False")
    other = str(tmp_path / "other")
    for child in stopped_before_every_step(code, lambda: None, path):
        namesake.say(other)
        assert namesake.hear() is not None
        assert child.run_on() is True
        assert inode(path + ".lock") != inode(other + ".lock")
        namesake.say("release")
        assert namesake.hear() is True
        assert LinkFileLock(path).is_locked()


def test_dead_namesake_is_recovered(path, tmp_path, namesake):
    namesake.say(path)
    namesake.hear()
    namesake.kill()
    with Child(
        NAMESAKE
        + """
    with lockfile.LinkFileLock(sys.argv[1], threaded=False, timeout=PATIENCE) as lock:
        say(lock.unique_name)
    """,
        path,
    ) as other:
        assert parsed(other.hear())[:3] == parsed(f"{os.uname().nodename}--1")[:3]
        other.finish()
    assert names(tmp_path) == []


# Looks


def test_look_does_not_leave_the_file_locked(path, tmp_path):
    """Not even when it was copied by a fork meanwhile: it is unlocked before it is closed."""
    plant(path)
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        go, forked = threading.Event(), threading.Event()

        def look():
            go.wait()
            be_stopped()
            say(lock.is_locked())

        thread = threading.Thread(target=look)
        thread.start()
        go.set()
        hear()
        child = os.fork()
        if child == 0:
            hear()
            os._exit(0)
        forked.set()
        say(child)
        thread.join()
        hear()
        """
    with SteppedChild(code, path, kinds=["flock", "close"]) as child:
        while child.run_to("flock").arguments[1] & fcntl.LOCK_UN == 0:
            pass
        child.say("fork")
        child.hear()
        child.next_call()
        with beacon(path + ".lock", fcntl.LOCK_EX):
            pass
        child.kill()
    LinkFileLock(path).break_lock()
