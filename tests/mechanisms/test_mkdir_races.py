"""MkdirFileLock: races, each provoked: one process is stopped between two steps, another acts."""

import itertools
import os
import threading

import pytest

from lockfile import (
    LinkFileLock,
    MkdirFileLock,
)
from support import (
    PATIENCE,
    names,
    wait_until,
)
from support.lock_directories import (
    BREAK,
    CLAIM,
    LEFT,
    RELEASE,
    Stepped,
    Way,
    acquires,
    end,
    is_intact,
    leftover,
    plant_directory,
    release_if_mine,
)
from support.protocol import (
    begin,
    plant,
    sleeps_in,
)


def stopped_before_every_step(code, path, way, lock_class=MkdirFileLock, prepare=lambda: None):
    """The other process, one step further each round; `prepare()` comes before each."""
    with Stepped(code, path, lock_class.__name__, way.name) as child:
        for count in itertools.count(1):
            prepare()
            begin(child)
            for _ in range(count):
                child.next_call()
            step = repr(child.call)
            at_its_end = child.call.kind == "say"
            yield child
            assert names(os.path.dirname(path)) == [], step
            if at_its_end:
                assert count > 5  # or it was not stopped at all
                break
        child.finish()


def act_against(child, way, lock):
    """We try to acquire while it is stopped: one owns then, and only one."""
    step = repr(child.call)
    ours = way.run(acquires, lock)
    theirs = child.run_on()
    assert [ours, theirs].count(True) == 1, step
    if ours:
        assert way.run(is_intact, lock), step
        way.run(lock.release)
    assert end(child) is theirs, step


RACERS = pytest.mark.parametrize(
    ("stopped", "other"),
    [
        (MkdirFileLock, MkdirFileLock),
        (MkdirFileLock, LinkFileLock),
        (LinkFileLock, MkdirFileLock),
    ],
    ids=lambda one: one.__name__.removesuffix("FileLock"),
)


@RACERS
def test_claim_against_a_claim(way, path, stopped, other):
    lock = other(path)
    for child in stopped_before_every_step(CLAIM, path, way, stopped):
        act_against(child, way, lock)


@RACERS
def test_claim_against_a_release(way, path, stopped, other):
    lock = other(path)
    for child in stopped_before_every_step(RELEASE, path, way, stopped):
        step = repr(child.call)
        ours = way.run(acquires, lock)
        assert child.run_on() is False, step
        if ours:
            assert way.run(is_intact, lock), step
            way.run(lock.release)
        assert end(child) is False, step


@RACERS
def test_claim_and_release_against_a_claim(way, path, stopped, other):
    """What it looked at is gone, and perhaps its number has another directory, when it looks."""
    lock = other(path)
    for child in stopped_before_every_step(
        CLAIM, path, way, stopped, lambda: way.run(lock.acquire)
    ):
        if way.run(lock.i_am_locking):
            way.run(lock.release)
        act_against(child, way, lock)


@RACERS
def test_breaker_against_a_breaker(way, path, stopped, other):
    lock = other(path)
    for child in stopped_before_every_step(
        CLAIM, path, way, stopped, lambda: plant_directory(path)
    ):
        act_against(child, way, lock)


def test_breaker_of_a_link_against_a_breaker(way, path):
    lock = MkdirFileLock(path)
    for child in stopped_before_every_step(CLAIM, path, way, prepare=lambda: plant(path)):
        act_against(child, way, lock)


@RACERS
def test_breaker_against_a_breaker_that_released_again(way, path, stopped, other):
    lock = other(path)
    for child in stopped_before_every_step(
        CLAIM, path, way, stopped, lambda: plant_directory(path)
    ):
        step = repr(child.call)
        if way.run(acquires, lock):
            way.run(lock.release)
        assert child.run_on() is True, step
        assert end(child) is True, step


@RACERS
def test_break_lock_against_a_claim(way, path, stopped, other):
    """Whatever it was about to do, it does not own what comes after the break."""
    lock = other(path)
    for child in stopped_before_every_step(CLAIM, path, way, stopped):
        step = repr(child.call)
        way.run(lock.break_lock)
        assert way.run(acquires, lock), step
        child.run_on()  # what it thought when it was stopped, perhaps
        assert way.run(is_intact, lock), step
        assert end(child) is False, step
        assert way.run(is_intact, lock), step
        way.run(lock.release)


def test_release_does_not_fall_between_check_and_removal_of_break_lock(way, path):
    """Condemned is the lock that was waited for: never the fresh one that comes after it."""
    with Way(way.name) as after:
        old, fresh = MkdirFileLock(path), MkdirFileLock(path)
        threads = [thread.run(threading.get_native_id) for thread in (way, after)]
        for child in stopped_before_every_step(
            BREAK, path, way, prepare=lambda: way.run(old.acquire)
        ):
            step = repr(child.call)
            releasing = way.start(release_if_mine, old)
            acquiring = after.start(fresh.acquire, timeout=PATIENCE)
            wait_until(lambda: all(map(waits, threads)), "the others to act or wait")
            assert child.run_on() is False, step
            releasing.result(PATIENCE)
            acquiring.result(PATIENCE)
            assert after.run(is_intact, fresh), step
            after.run(fresh.release)
            assert end(child) is False, step


def waits(thread):
    return all(sleeps_in(os.getpid(), thread) for _ in range(5))


@RACERS
def test_sweep_against_a_claim(way, path, tmp_path, stopped, other):
    """A sweep may take what has no beacon yet; whose it was then starts over."""
    beside = other(tmp_path / "other")
    for child in stopped_before_every_step(CLAIM, path, way, stopped, lambda: plant(beside.path)):
        step = repr(child.call)
        assert way.run(acquires, beside), step
        way.run(beside.release)
        assert child.run_on() is True, step
        assert way.run(other(path).is_locked), step
        assert end(child) is True, step


def test_claim_against_a_sweep(way, path, tmp_path):
    """One that is stopped while it sweeps hinders nobody, and takes nothing that is in use."""
    lock = MkdirFileLock(path)
    beside = str(tmp_path / "other")

    def prepare():
        plant(beside)
        leftover(tmp_path, LEFT, LEFT)

    for child in stopped_before_every_step(CLAIM, beside, way, prepare=prepare):
        step = repr(child.call)
        assert way.run(acquires, lock), step
        assert child.run_on() is True, step
        assert way.run(is_intact, lock), step
        way.run(lock.release)
        assert end(child) is True, step
