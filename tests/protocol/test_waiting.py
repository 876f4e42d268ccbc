"""Waiting: what wakes a waiter, what does not, what it costs, and what is left when it gives up."""

import gc
import os
import signal
import textwrap
import time

import pytest

from lockfile import LockTimeout
from support import PATIENCE, OtherThread, in_thread, names, wait_until
from support.lock_classes import FILE_LOCK_CLASSES
from support.protocol import (
    SteppedChild,
    all_open_but_watches,
    inotify_descriptors,
    inotify_of,
    make_file,
    planned_pause,
    plant_unique,
)
from support.waiters import WAIT_AND_OWN, WAITER, asleep, settle, waiter

# It takes some to meet a waiter at each of its steps.
TURNS = 20


@pytest.fixture
def taker(no_second_look, lock_class, path, how):
    """A process that acquires and releases the lock each time it is told."""
    code = """
    while hear():
        lock.acquire()
        say("owns")
        lock.release()
        say("released")
    """
    with waiter(lock_class, path, code, how) as child:
        yield child


def takes_its_turn(child):
    assert child.hear() == "owns"
    assert child.hear() == "released"


# What wakes


def test_waiter_wakes_when_the_owner_releases(lock_class, path, taker, how):
    lock = lock_class(path)
    for _ in range(TURNS):
        lock.acquire()
        taker.say("acquire")
        asleep(taker, how)
        lock.release()
        takes_its_turn(taker)
    taker.finish()


def test_waiter_wakes_when_the_owner_is_killed(lock_class, path, taker, how):
    owners = """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while hear():
        if os.fork() == 0:
            lock.acquire()
            say(os.getpid())
            while True:
                time.sleep(PATIENCE)
    """
    with waiter(lock_class, path, owners) as parent:
        for _ in range(TURNS):
            parent.say("fork")
            owner = parent.hear()
            taker.say("acquire")
            asleep(taker, how)
            os.kill(owner, signal.SIGKILL)
            takes_its_turn(taker)
        parent.finish()
    taker.finish()


def rename(name):
    os.rename(name, name + "-moved")


def replace_by_a_dead_owners(name):
    unique = plant_unique(name)
    os.link(unique, name + "-link")
    os.rename(name + "-link", name)


REMOVALS = {
    "deleted": (make_file, os.unlink),
    "renamed": (make_file, rename),
    "replaced by a dead owner's": (make_file, replace_by_a_dead_owners),
    "a removed directory": (os.mkdir, os.rmdir),
}


@pytest.mark.parametrize("lock_class", FILE_LOCK_CLASSES, indirect=True)
@pytest.mark.parametrize(("make", "remove"), REMOVALS.values(), ids=REMOVALS.keys())
def test_waiter_wakes_when_a_foreign_lock_is(lock_class, path, tmp_path, taker, how, make, remove):
    for _ in range(TURNS):
        make(path + ".lock")
        taker.say("acquire")
        asleep(taker, how)
        remove(path + ".lock")
        takes_its_turn(taker)
    taker.finish()
    for moved in tmp_path.glob("*-moved"):
        moved.unlink()
    assert names(tmp_path) == []


def test_threads_of_one_process_wake_each_other(no_second_look, lock_class, path):
    code = f"""
    from support.protocol import has_settled
    with OtherThread() as thread:
        native = thread.run(threading.get_native_id)
        for _ in range({TURNS}):
            with lock:
                acquiring = thread.start(lock.acquire)
                wait_until(lambda: has_settled(os.getpid(), native), "the waiter to sleep")
            acquiring.result(PATIENCE)
            thread.run(lock.release)
    say("each time")
    """
    with waiter(lock_class, path, code) as child:
        assert child.hear() == "each time"
        child.finish()


def test_every_one_of_many_waiters_gets_its_turn(lock_class, path, tmp_path):
    lock = lock_class(path)
    lock.acquire()
    waiters = [waiter(lock_class, path, WAIT_AND_OWN) for _ in range(5)]
    try:
        for child in waiters:
            assert child.hear() == "waiting"
        for child in waiters:
            settle(child)
        lock.release()
        left = set(waiters)
        while left:  # each is killed as soon as it owns
            wait_until(
                lambda: any(not child._lines.empty() for child in left), "the next one to own"
            )
            [owner] = [child for child in left if not child._lines.empty()]
            assert owner.hear() == "owns"
            owner.kill()
            left.remove(owner)
    finally:
        for child in waiters:
            child.kill()
    with lock:
        pass
    assert names(tmp_path) == []


# What does not


WAIT = """
    say("waiting")
    be_stopped()
    lock.acquire()
    """


def pauses(child, seconds):
    """How long it means to sleep each time, until that makes so many seconds; it takes none."""
    planned = []
    while sum(planned) < seconds:
        planned.append(planned_pause(child.run_to("sleep")))
        child.answer(0)
    return planned


def test_waiting_takes_few_wake_ups(lock_class, path):
    """At most twelve in ten seconds."""
    code = textwrap.dedent(WAITER) + textwrap.dedent(WAIT)
    with lock_class(path):
        arguments = (lock_class.__name__, path, "events")
        with SteppedChild(code, *arguments, kinds=("sleep", "say")) as child:
            assert child.hear() == "waiting"
            assert len(pauses(child, seconds=10)) <= 12


def test_waiting_for_readers_takes_few_wake_ups(shared_class, path):
    code = textwrap.dedent(WAITER) + textwrap.dedent(WAIT)
    with shared_class(path, shared=True):
        arguments = (shared_class.__name__, path, "events")
        with SteppedChild(code, *arguments, kinds=("sleep", "say")) as child:
            assert child.hear() == "waiting"
            assert len(pauses(child, seconds=10)) <= 12


def test_waiters_do_not_wake_each_other(lock_class, path):
    """What one does who comes, looks and sleeps again, the others are not told of."""
    code = textwrap.dedent(WAITER) + textwrap.dedent(WAIT)
    with lock_class(path), waiter(lock_class, path, "lock.acquire()") as asleep:
        settle(asleep)
        os.kill(asleep.pid, signal.SIGSTOP)  # what it is told stays to be read
        arguments = (lock_class.__name__, path, "events")
        with (
            inotify_of(asleep.pid) as told,
            SteppedChild(code, *arguments, kinds=("sleep", "say")) as other,
        ):
            assert other.hear() == "waiting"
            pauses(other, seconds=3)
            assert not told()


def test_polling_takes_little_time(lock_class, path, refusals):
    """The pauses double, to not more than 50 ms, each by chance up to a quarter shorter."""
    code = textwrap.dedent(WAITER) + textwrap.dedent(WAIT)
    with lock_class(path):
        arguments = (lock_class.__name__, path, "polling")
        with SteppedChild(code, *arguments, kinds=("sleep", "say")) as child:
            assert child.hear() == "waiting"
            planned = pauses(child, seconds=1)
            assert inotify_descriptors(child.pid) == 0
    longest = 0.001
    for pause in planned:
        assert 0.74 * longest < pause <= longest
        longest = min(2 * pause, 0.05)


# Deadlines


@pytest.mark.parametrize("timeout", [0.001, 0.0035, 0.02, 0.3])
def test_timeout_is_never_early(lock_class, path, timeout):
    lock = lock_class(path)
    with OtherThread() as thread:
        thread.run(lock.acquire)
        for _ in range(3):
            start = time.monotonic()
            with pytest.raises(LockTimeout):
                lock.acquire(timeout=timeout)
            assert time.monotonic() - start >= timeout
        thread.run(lock.release)


def test_timeout_is_never_early_where_events_are_refused(lock_class, path, refusals):
    lock = lock_class(path)

    def waited(timeout):
        start = time.monotonic()
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=timeout)
        return time.monotonic() - start

    with lock:
        for timeout in (0.001, 0.0035, 0.02, 0.3):
            assert in_thread(waited, timeout, refused={"inotify": 24}) >= timeout


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 10**10])
def test_endless_timeouts_wait(lock_class, path, timeout):
    lock = lock_class(path)
    with OtherThread() as thread:
        with lock:
            acquiring = thread.start(lock.acquire, timeout=timeout)
        acquiring.result(PATIENCE)
        thread.run(lock.release)


def test_lock_freed_shortly_before_the_deadline_is_ours(lock_class, path):
    """Who is told "timeout" was still refused at the end: never a timeout beside a free lock."""
    lock = lock_class(path)
    with OtherThread() as thread:
        for _ in range(30):
            lock.acquire()
            acquiring = thread.start(lock.acquire, timeout=0.02)
            time.sleep(0.015)
            lock.release()
            try:
                acquiring.result(PATIENCE)
            except LockTimeout:
                pass
            else:
                thread.run(lock.release)
            assert not lock.is_locked()


# What waiting costs


def test_contended_acquires_do_not_use_up_descriptors(lock_class, path):
    code = """
    from support.protocol import open_files

    def work():
        for _ in range(40):
            with lock:
                pass

    before = open_files()
    for _ in range(3):
        threads = [threading.Thread(target=work) for _ in range(5)]
        with lock:
            for thread in threads:
                thread.start()
            wait_until(lambda: "anon_inode:inotify" in open_files(), "one of them to watch")
        for thread in threads:
            thread.join()
    wait_until(lambda: len(open_files()) == len(before) + 1, "one watch to be left")
    say("done")
    hear()
    """
    with waiter(lock_class, path, code) as child:
        assert child.hear() == "done"
        assert inotify_descriptors(child.pid) == 1
        child.finish()


def test_process_that_waits_no_more_keeps_one_watch(lock_class, path):
    """The user has 128 of them, for all programs; while many threads wait, a few serve."""
    code = """
    def wait():
        lock.acquire()
        lock.release()

    threads = [threading.Thread(target=wait) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say("done")
    hear()
    """
    with lock_class(path):
        child = waiter(lock_class, path, code)
        wait_until(lambda: len(os.listdir(f"/proc/{child.pid}/task")) == 41, "all to start")
        wait_until(lambda: inotify_descriptors(child.pid) > 1, "more than one to watch")
        settle(child)
        assert inotify_descriptors(child.pid) <= 8
    with child:
        assert child.hear() == "done"
        wait_until(lambda: inotify_descriptors(child.pid) == 1, "one watch to be left")
        wait_until(lambda: len(os.listdir(f"/proc/{child.pid}/task")) == 1, "no thread to be left")
        child.finish()


def test_one_long_wait_keeps_no_more_watches_than_it_needs(lock_class, path):
    code = """
    short = getattr(lockfile, sys.argv[1])(sys.argv[2] + "-short", timeout=1000)
    threads = [threading.Thread(target=short.__class__.acquire, args=[lock, 1000], daemon=True)]
    threads += [threading.Thread(target=lambda: short.acquire().release()) for _ in range(20)]
    for thread in threads:
        thread.start()
    hear()
    """
    short = lock_class(path + "-short")
    with lock_class(path), short, waiter(lock_class, path, code) as child:
        wait_until(lambda: inotify_descriptors(child.pid) > 2, "many to watch")
        short.release()
        wait_until(lambda: inotify_descriptors(child.pid) <= 2, "most watches to be closed")
        wait_until(lambda: len(os.listdir(f"/proc/{child.pid}/task")) == 2, "one to wait on")
        short.acquire()


def test_waits_that_time_out_do_not_use_up_descriptors(lock_class, path):
    lock = lock_class(path)
    with OtherThread() as thread:
        with lock:
            for _ in range(3):
                with pytest.raises(LockTimeout):
                    thread.run(lock.acquire, timeout=0.01)
            before = all_open_but_watches()
            for _ in range(50):
                with pytest.raises(LockTimeout):
                    thread.run(lock.acquire, timeout=0.003)
            assert all_open_but_watches() == before
    gc.collect()  # what other tests have left may keep some
    wait_until(lambda: inotify_descriptors("self") <= 1, "no more than one watch to be left")
