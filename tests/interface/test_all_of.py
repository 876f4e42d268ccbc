"""all_of(): several locks at once, all or none."""

import asyncio
import errno
import itertools
import os
from types import SimpleNamespace

import pytest

import lockfile
from lockfile import (
    AlreadyLocked,
    LinkFileLock,
    LockBase,
    LockFailed,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    SQLiteFileLock,
    UnlockError,
    all_of,
)
from support import PATIENCE, OtherThread, in_thread

# More than there are suspensions, or calls, in any of what is interrupted here.
MANY = 1000


@pytest.fixture
def calls():
    """What the recording locks of a test were asked for, in order."""
    return []


@pytest.fixture
def make(tmp_path, lock_class, calls):
    """Makes locks of each class that write down what they are asked for."""

    class Recording(lock_class):
        def acquire(self, timeout=None):
            super().acquire(timeout)
            calls.append(("acquire", os.path.basename(self.path)))
            return self

        def release(self):
            calls.append(("release", os.path.basename(self.path)))
            super().release()

    return lambda name, **keywords: Recording(tmp_path / name, **keywords)


@pytest.fixture(params=["ours", "subclass"])
def make_any(request, make, tmp_path, lock_class):
    """Makes locks of each class, and of one that has methods of its own."""
    if request.param == "subclass":
        return make
    return lambda name, **keywords: lock_class(tmp_path / name, **keywords)


class Scheme(LockBase):
    """A lock that brings only what with needs."""

    def __init__(self, path, calls, error=None):
        super().__init__(path)
        self.calls, self.error = calls, error

    def acquire(self, timeout=None):
        self.calls.append(("acquire", os.path.basename(self.path), timeout))

    def release(self):
        self.calls.append(("release", os.path.basename(self.path)))
        if self.error is not None:
            raise self.error


def sibling(path, name):
    """Another path in the directory; "A" comes before README."""
    return os.path.join(os.path.dirname(path), name)


def owned(*locks):
    return [lock.i_am_locking() for lock in locks]


# All of them


def test_all_are_owned_inside_and_none_after(make_any):
    one, two, three = make_any("one"), make_any("two"), make_any("three")
    both = all_of(one, two, three)
    with both as inside:
        assert inside is both
        assert owned(one, two, three) == [True] * 3
    assert owned(one, two, three) == [False] * 3
    assert both.acquire() is both
    assert owned(one, two, three) == [True] * 3
    both.release()
    assert owned(one, two, three) == [False] * 3


def test_mixture_of_classes(tmp_path):
    locks = [LinkFileLock(tmp_path / "b"), MkdirFileLock(tmp_path / "a")]
    locks += [SQLiteFileLock(tmp_path / "b"), SQLiteFileLock(tmp_path / "a")]
    with all_of(*locks):
        assert owned(*locks) == [True] * 4
    assert owned(*locks) == [False] * 4


def test_whatever_the_order_of_the_names_that_of_acquiring_is_one(make, calls):
    locks = [make(name) for name in ("one", "two", "three")]
    for named in itertools.permutations(locks):
        with all_of(*named):
            pass
    once = [("acquire", "one"), ("acquire", "three"), ("acquire", "two")]
    once += [("release", "two"), ("release", "three"), ("release", "one")]
    assert calls == once * 6


def test_order_is_that_of_resolved_directories(make, calls, tmp_path):
    """Not that of how they are spelt, in which "alias" comes before "m" and "zebra" after."""
    (tmp_path / "zebra").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "zebra")
    with all_of(make("alias/last"), make("m")):
        pass
    with all_of(make("zebra/last"), make("m")):
        pass
    once = [("acquire", "m"), ("acquire", "last"), ("release", "last"), ("release", "m")]
    assert calls == once * 2


def test_order_is_that_of_the_lock_files_that_a_subclass_names(make, calls, tmp_path):
    locks = [make("two"), make("one")]
    names = {locks[0]: "b.lock", locks[1]: "a.lock"}
    type(locks[0]).lock_file = property(lambda self: str(tmp_path / names[self]))
    for named in (locks, locks[::-1]):
        with all_of(*named):
            pass
    assert [call for call in calls if call[0] == "acquire"] == [
        ("acquire", "one"),
        ("acquire", "two"),
    ] * 2


def test_rows_of_two_databases_are_two_locks(tmp_path):
    (tmp_path / "alias.lockfile.sqlite3").symlink_to(tmp_path / "first.lockfile.sqlite3")
    first, second, alias = (
        SQLiteFileLock(tmp_path / "README", database=tmp_path / name)
        for name in ("first.lockfile.sqlite3", "second.lockfile.sqlite3", "alias.lockfile.sqlite3")
    )
    with first:  # makes what the link points to
        pass
    with all_of(second, alias, first):
        assert owned(first, second, alias) == [True] * 3
    assert owned(first, second, alias) == [False] * 3


def test_none_at_all():
    nothing = all_of()
    with nothing, nothing.acquire(timeout=0):
        pass
    nothing.release()
    assert nothing.locks == ()


# Named twice


def test_what_is_named_twice_is_acquired_once(make, calls, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    locks = [make("real/one"), make("alias/one")]
    group = all_of(*locks, *locks)
    assert group.locks == tuple(locks)
    for _ in range(2):
        with group:
            assert owned(*locks) == [True, True]
        group.acquire()
        group.release()
    assert calls == [("acquire", "one"), ("release", "one")] * 4


def test_link_and_directory_on_one_path_are_one_lock(path):
    locks = [LinkFileLock(path), MkdirFileLock(path)]
    with all_of(*locks):
        assert owned(*locks) == [True, True]
    assert owned(*locks) == [False, False]
    all_of(*locks).acquire().release()


def test_one_lock_for_two_owners_is_refused(lock_class, path):
    """The one would wait for the other for ever."""
    before = lock_class(sibling(path, "A"))
    group = all_of(before, lock_class(path), lock_class(path, threaded=False))
    for enter in (group.acquire, group.__enter__):
        with pytest.raises(LockFailed, match="two owners") as caught:
            enter()
        assert str(caught.value).startswith(f"failed to create {path}.lock")
        assert caught.value.__cause__.errno == errno.EDEADLK
        assert owned(*group.locks) == [False] * 3


# Or none


@pytest.mark.parametrize(
    ("timeout", "error", "beginning"),
    [
        (0.01, LockTimeout, "Timeout waiting to acquire lock for {}"),
        (0, AlreadyLocked, "{} is already locked"),
        (False, AlreadyLocked, "{} is already locked"),
        (-1, AlreadyLocked, "{} is already locked"),
    ],
)
def test_one_that_is_held_leaves_none(make, calls, timeout, error, beginning):
    one, three, two = make("one"), make("three"), make("two")
    with OtherThread() as thread:
        thread.run(two.acquire)
        calls.clear()
        for enter in (
            lambda: all_of(two, three, one).acquire(timeout),
            lambda: all_of(one, two, three, timeout=timeout).acquire(),
            lambda: all_of(one, two, three, timeout=timeout).__enter__(),
        ):
            with pytest.raises(error) as caught:
                enter()
            assert str(caught.value).startswith(beginning.format(two.path))
            assert calls == [
                ("acquire", "one"),
                ("acquire", "three"),
                ("release", "three"),
                ("release", "one"),
            ]
            calls.clear()
            assert not one.is_locked()
            assert not three.is_locked()
        thread.run(two.release)


def test_one_that_cannot_be_made_leaves_none(lock_class, path, tmp_path):
    one, missing = lock_class(path), lock_class(tmp_path / "missing" / "README")
    group = all_of(missing, one)
    for enter in (group.acquire, group.__enter__):
        with pytest.raises(LockFailed, match="missing"):
            enter()
        assert not one.is_locked()


def test_failure_does_not_release_what_the_caller_owned_before(make_any):
    one, two, three = make_any("one"), make_any("three"), make_any("two")
    group = all_of(one, two, three, timeout=0)
    with OtherThread() as thread:
        thread.run(three.acquire)
        one.acquire()
        for enter in (group.acquire, group.__enter__):
            with pytest.raises(AlreadyLocked):
                enter()
            assert owned(one, two) == [True, False]
        one.release()
        with two:
            for enter in (group.acquire, group.__enter__):
                with pytest.raises(AlreadyLocked):
                    enter()
                assert owned(one, two) == [False, True]
        assert owned(one, two) == [False, False]
        thread.run(three.release)


def test_blocking_acquire_in_a_task_for_what_another_task_holds_leaves_none(make_any):
    one, two = make_any("one"), make_any("two")

    async def hold(held):
        with two:
            held.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def main():
        held = asyncio.Event()
        holder = asyncio.create_task(hold(held))
        await held.wait()
        with pytest.raises(LockFailed, match="async with"):
            all_of(one, two).acquire(timeout=60)
        assert not one.is_locked()
        await holder

    asyncio.run(main())


# How long


def test_one_deadline_for_all(calls, monkeypatch):
    """What is left of the time is passed on; never zero, which would say not to wait."""
    now = itertools.count(100.0, 2.0)
    monkeypatch.setattr("lockfile._all_of.time", SimpleNamespace(monotonic=lambda: next(now)))
    all_of(*(Scheme(name, calls) for name in "abcd")).acquire(timeout=5)
    timeouts = [timeout for _, _, timeout in calls]
    assert timeouts[:2] == [3, 1]
    assert 0 < timeouts[2] == timeouts[3] < 0.001


@pytest.mark.parametrize(
    ("given", "passed"),
    [(None, None), (True, None), (False, 0), (0, 0), (-1, -1), (float("inf"), float("inf"))],
)
def test_timeouts_that_are_passed_on(calls, given, passed):
    all_of(Scheme("a", calls), Scheme("b", calls)).acquire(given)
    assert [timeout for _, _, timeout in calls] == [passed, passed]


def test_without_a_timeout_each_lock_waits_as_long_as_it_says(lock_class, path):
    group = all_of(lock_class(sibling(path, "A")), lock_class(path, timeout=0.01))
    with OtherThread() as thread:
        thread.run(lock_class(path).acquire)
        for enter in (group.acquire, group.__enter__):
            with pytest.raises(LockTimeout):
                enter()
        thread.run(lock_class(path).release)


@pytest.mark.parametrize("wrong", ["soon", float("nan"), 10**400, b"1"])
def test_bad_timeout_is_refused(lock_class, path, wrong):
    lock = lock_class(path)
    with pytest.raises((TypeError, ValueError), match="timeout"):
        all_of(lock, timeout=wrong)
    with pytest.raises((TypeError, ValueError), match="timeout"):
        all_of(lock).acquire(wrong)
    assert not lock.is_locked()


@pytest.mark.parametrize("wrong", ["README", None, LinkFileLock])
def test_what_is_no_lock_is_refused(wrong):
    with pytest.raises(TypeError, match="all_of"):
        all_of(wrong)


# Blocks


def test_blocks_nest(make_any):
    one, two = make_any("one"), make_any("two")
    group, other = all_of(one, two), all_of(two, one)
    with group:
        with other, group:
            pass
        assert owned(one, two) == [True, True]
        with one:
            pass
        assert owned(one, two) == [True, True]
    assert owned(one, two) == [False, False]
    with one:
        with group:
            pass
        assert owned(one, two) == [True, False]
    assert owned(one, two) == [False, False]


def test_block_releases_once_what_acquire_has_acquired_before(make, calls):
    one, two = make("one"), make("two")
    with all_of(one, two).acquire(timeout=5):
        assert owned(one, two) == [True, True]
    assert owned(one, two) == [False, False]
    one.acquire()
    with all_of(one, two):
        pass
    assert owned(one, two) == [False, False]
    assert calls.count(("release", "one")) == 2


def test_thread_that_waits_for_a_block_gets_all(make_any):
    group = all_of(make_any("one"), make_any("two"))

    def enter():
        with group:
            return owned(*group.locks)

    with OtherThread() as thread:
        with group:
            entering = thread.start(enter)
        assert entering.result(PATIENCE) == [True, True]
    assert not group.locks[0].is_locked()


def test_lock_that_is_lost_between_the_look_and_the_block_is_acquired_anew(lock_class, path):
    """Nothing of the block is left in the others, which are given back meanwhile."""

    class Losing(lock_class):
        losses = 1

        def _begin_block(self):
            if self.losses:
                self.losses -= 1
                self.break_lock()
            return super()._begin_block()

    before, lock = lock_class(sibling(path, "A")), Losing(path)
    for owned_before in (True, False):
        Losing.losses = 1
        if owned_before:
            lock.acquire()
        with all_of(before, lock):
            assert owned(before, lock) == [True, True]
        assert owned(before, lock) == [False, False]


# Schemes of one's own


def test_scheme_with_acquire_and_release_alone(calls):
    one, two = Scheme("/tmp/one", calls), Scheme("/tmp/two", calls)
    with all_of(two, one, timeout=0), all_of(one, two, timeout=0):
        pass
    assert calls.count(("release", "one")) == calls.count(("release", "two")) == 1
    assert calls[-2:] == [("release", "two"), ("release", "one")]


def test_failure_leaves_the_blocks_of_a_scheme_as_they_were(lock_class, path, calls):
    scheme, held = Scheme(sibling(path, "A"), calls), lock_class(path)
    with OtherThread() as thread:
        thread.run(lock_class(path).acquire)
        with scheme:
            with pytest.raises(AlreadyLocked):
                all_of(scheme, held, timeout=0).__enter__()
            assert ("release", "A") not in calls
        assert calls.count(("release", "A")) == 1
        thread.run(lock_class(path).release)


def test_scheme_without_coroutines_leaves_none(lock_class, path, calls):
    lock = lock_class(path)

    async def main():
        with pytest.raises(NotImplementedError, match="acquire_async"):
            await all_of(lock, Scheme(f"{path}9", calls)).acquire_async()

    asyncio.run(main())
    assert not lock.is_locked()


# Releases that fail


def notes_of(caught):
    return caught.value.__notes__


def test_release_that_fails_does_not_keep_the_others(make_any):
    locks = one, two, three = make_any("one"), make_any("three"), make_any("two")
    group = all_of(*locks)
    group.acquire()
    three.break_lock()
    one.break_lock()
    with pytest.raises(NotLocked, match="two is not locked") as caught:
        group.release()
    assert [note for note in notes_of(caught) if "one is not locked" in note] != []
    assert not two.is_locked()


def test_end_of_a_block_that_fails_does_not_keep_the_others(make_any):
    one, two = make_any("one"), make_any("two")
    with pytest.raises(NotLocked, match="two is not locked"), all_of(one, two):
        two.break_lock()
    assert not one.is_locked()


def test_error_of_the_body_is_not_replaced(make_any):
    one, two = make_any("one"), make_any("two")
    with pytest.raises(ZeroDivisionError) as caught, all_of(one, two):
        two.break_lock()
        raise ZeroDivisionError
    assert "two is not locked" in notes_of(caught)[0]
    assert not one.is_locked()


def test_error_of_a_release_is_a_note_of_why_the_lock_was_not_to_be_had(lock_class, path, calls):
    scheme = Scheme(sibling(path, "A"), calls, UnlockError("it is stuck"))
    group = all_of(scheme, lock_class(path), timeout=0)
    with OtherThread() as thread:
        thread.run(lock_class(path).acquire)
        for enter in (group.acquire, group.__enter__):
            with pytest.raises(AlreadyLocked) as caught:
                enter()
            assert "it is stuck" in notes_of(caught)[0]
        thread.run(lock_class(path).release)


def test_interruption_is_more_urgent_than_an_error(calls):
    locks = [
        Scheme("/tmp/a", calls, UnlockError("the second")),
        Scheme("/tmp/b", calls, KeyboardInterrupt()),
        Scheme("/tmp/c", calls, UnlockError("the first")),
    ]
    with pytest.raises(KeyboardInterrupt) as caught:
        all_of(*locks).release()
    assert "the first" in notes_of(caught)[0]
    assert "the second" in notes_of(caught)[1]
    assert len(calls) == 3


# What it is


def test_what_it_says_of_itself(lock_class, path):
    lock = lock_class(path)
    group = all_of(lock, timeout=3)
    assert isinstance(group, lockfile.AllOf)
    assert (group.locks, group.timeout) == ((lock,), 3.0)
    assert all_of(lock).timeout is None
    assert repr(group) == f"<AllOf: {lock!r}>"


def test_lock_that_was_never_initialised_says_so(lock_class, path):
    lock = lock_class(path)
    with pytest.raises(RuntimeError, match="__init__"):
        all_of(lock, lock_class.__new__(lock_class)).acquire()
    assert not lock.is_locked()


def test_it_serves_several_threads_at_once(lock_class, path):
    group = all_of(lock_class(path), lock_class(f"{path}2"))
    with group:
        with pytest.raises(AlreadyLocked):
            in_thread(group.acquire, 0)
        with pytest.raises(lockfile.NotMyLock):
            in_thread(group.release)
        assert owned(*group.locks) == [True, True]
