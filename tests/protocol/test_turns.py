"""Turns: of many who wait the eldest watch, the others nap, and who releases lets one in first."""

import contextlib
import os
import signal

import pytest

from support.protocol import (
    SteppedChild,
    make_file,
    watches,
)
from support.waiters import WAIT_AND_OWN, settle, waiter

# The eldest watch, the others nap

IN_LINE = """
    say("waiting")
    lock.acquire()
    say("owns")
    lock.release()
    hear()
    """


FOURTH = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    be_stopped()
    lock.acquire()
    lock.release()
    say("owned")
    """


@pytest.fixture
def line(file_lock_class, path):
    """Three who wait for a lock that has just changed hands, and a fourth that has yet to see."""
    kinds = ["watch", "sleep", "say"]
    make_file(path + ".lock")
    with contextlib.ExitStack() as stack:
        eldest = [stack.enter_context(waiter(file_lock_class, path, IN_LINE)) for _ in range(3)]
        for child in eldest:
            assert child.hear() == "waiting"
            settle(child)
        fourth = SteppedChild(FOURTH, file_lock_class.__name__, path, kinds=kinds)
        stack.enter_context(fourth)
        fourth.run_to("sleep")
        make_file(path + "-other")
        os.rename(path + "-other", path + ".lock")
        for child in eldest:
            settle(child)
        yield eldest, fourth
        for child in eldest:
            if child.process.poll() is None:  # it gets the lock yet, or had it
                os.kill(child.pid, signal.SIGCONT)
                child.finish()


def naps(fourth):
    """Does it sleep next without having set a watch?"""
    return fourth.next_call().kind == "sleep"


def test_fourth_of_those_who_wait_naps(line, path):
    eldest, fourth = line
    assert all(watches(child.pid) for child in eldest)
    assert naps(fourth)
    assert watches(fourth.pid) == 0
    os.unlink(path + ".lock")
    assert {child.hear() for child in eldest} == {"owns"}
    assert fourth.run_on() == "owned"


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_nobody_waits_for_elders_that_are_stopped_or_killed(line, path, how):
    eldest, fourth = line
    assert naps(fourth)
    for child in eldest:
        os.kill(child.pid, how)
        if how == signal.SIGKILL:
            child.process.wait()
    os.unlink(path + ".lock")
    kinds = []
    while (call := fourth.next_call()).kind != "say":
        kinds.append(call.kind)
    assert kinds == []  # it owns after that nap
    assert fourth.run_on() == "owned"


def test_who_naps_watches_once_it_is_one_of_the_eldest(line, path):
    eldest, fourth = line
    assert naps(fourth)
    eldest[0].kill()
    assert fourth.next_call().kind == "watch"
    os.unlink(path + ".lock")
    assert fourth.run_on() == "owned"


def test_who_naps_watches_at_last_while_the_lock_stays(line, path):
    _, fourth = line
    assert naps(fourth)
    fourth.run_to("watch")
    os.unlink(path + ".lock")
    assert fourth.run_on() == "owned"


# Courtesy


# How turns alternate then, is counted by the benchmark: it depends on who gets a processor.


def test_who_released_lets_a_waiting_process_in_before_it_claims_again(clock, lock_class, path):
    """It looks whether the waiter has come, and pauses in between; see clock.c."""
    code = """
    def pause():
        clock().start_clock()
        say("pauses")
        hear()

    lock.acquire()
    say("owns")
    hear()
    pause = ctypes.CFUNCTYPE(None)(pause)
    clock().stop_clock(pause)
    lock.release()
    lock.acquire()
    say("owns again")
    lock.release()
    """
    waiting = """
    lock.acquire()
    say("owns")
    hear()
    lock.release()
    say("released")
    """
    with waiter(lock_class, path, code) as owner:
        assert owner.hear() == "owns"
        with waiter(lock_class, path, waiting) as child:
            settle(child)
            os.kill(child.pid, signal.SIGSTOP)
            owner.say("release")
            assert owner.hear() == "pauses"
            os.kill(child.pid, signal.SIGCONT)
            assert child.hear() == "owns"
            owner.say("go on")
            child.say("release")
            assert child.hear() == "released"
            assert owner.hear() == "owns again"
            owner.finish()
            child.finish()


def test_who_released_lets_a_waiting_thread_in_before_it_claims_again(clock, lock_class, path):
    code = """
    from support.protocol import has_settled
    turns, entered = [], threading.Event()

    def take_a_turn():
        lock.acquire()
        turns.append("the waiter")
        entered.set()
        lock.release()

    def pause():
        entered.wait(PATIENCE)
        clock().start_clock()

    pause = ctypes.CFUNCTYPE(None)(pause)
    lock.acquire()
    thread = threading.Thread(target=take_a_turn)
    thread.start()
    wait_until(lambda: has_settled(os.getpid(), thread.native_id), "the waiter to sleep")
    clock().stop_clock(pause)
    lock.release()
    lock.acquire()
    turns.append("who released")
    lock.release()
    thread.join()
    say(turns)
    """
    with waiter(lock_class, path, code) as child:
        assert child.hear() == ["the waiter", "who released"]
        child.finish()


def test_stopped_contender_does_not_keep_the_owner_from_its_lock(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    with waiter(lock_class, path, WAIT_AND_OWN) as child:
        assert child.hear() == "waiting"
        settle(child)
        os.kill(child.pid, signal.SIGSTOP)
        for timeout in (0, -1, None, 1):
            lock.release()
            lock.acquire(timeout=timeout)
            with lock_class(path + "2"):
                pass
        lock.release()
        os.kill(child.pid, signal.SIGCONT)
        assert child.hear() == "owns"
        assert lock.is_locked()
    with lock:
        pass
