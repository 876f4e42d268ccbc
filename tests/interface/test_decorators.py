"""Locks around functions: lock objects decorate, and so does locked()."""

import asyncio
import functools
import inspect
import os

import pytest

import lockfile
from lockfile import AlreadyLocked, FileLock, LockTimeout, NotLocked, locked
from support import OtherThread, in_thread, names


def by_lock(path, **keywords):
    return FileLock(path, **keywords)


BOTH = pytest.mark.parametrize("decorator", [by_lock, locked])


@BOTH
def test_each_call_is_locked_and_nothing_else(path, tmp_path, decorator):
    lock = FileLock(path)

    @decorator(path)
    def work(number, *, factor):
        assert lock.i_am_locking()
        return number * factor

    assert names(tmp_path) == []
    assert work(3, factor=7) == 21
    assert names(tmp_path) == []
    assert work(1, factor=2) == 2


@BOTH
def test_what_is_decorated_keeps_its_name_and_signature(path, decorator):
    @decorator(path)
    def work(number: int) -> int:
        """What it does."""
        return number

    assert work.__name__ == "work"
    assert work.__doc__ == "What it does."
    assert list(inspect.signature(work).parameters) == ["number"]
    assert work.__wrapped__(3) == 3


@BOTH
def test_an_exception_goes_through_and_unlocks(path, decorator):
    @decorator(path)
    def fail():
        raise KeyError("fail")

    with pytest.raises(KeyError):
        fail()
    assert not FileLock(path).is_locked()


@BOTH
def test_a_function_that_calls_itself_is_unlocked_by_the_outermost_call(path, decorator):
    lock = FileLock(path)

    @decorator(path)
    def count(number):
        if number > 0:
            count(number - 1)
        assert lock.i_am_locking()

    count(3)
    assert not lock.is_locked()


@BOTH
def test_the_owner_is_who_calls(path, decorator):
    @decorator(path, timeout=0)
    def work(then):
        return then()

    with pytest.raises(AlreadyLocked):
        work(lambda: in_thread(work, int))
    assert in_thread(work, int) == 0


@BOTH
def test_timeout(path, decorator):
    with FileLock(path), OtherThread() as thread:
        for timeout, error in [(0, AlreadyLocked), (-1, AlreadyLocked), (0.01, LockTimeout)]:
            with pytest.raises(error):
                thread.run(decorator(path, timeout=timeout)(int))


def test_timeout_of_locked_may_be_positional(path):
    with FileLock(path), pytest.raises(AlreadyLocked):
        in_thread(locked(path, 0)(int))


@BOTH
def test_the_lock_that_is_broken_in_the_call_is_told_at_its_end(path, decorator):
    with pytest.raises(NotLocked):
        decorator(path)(lambda: FileLock(path).break_lock())()


def test_every_class_decorates(lock_class, path):
    lock = lock_class(path)
    assert lock(lock.i_am_locking)() is True
    assert not lock.is_locked()


def test_a_lock_of_a_subclass_decorates_with_its_own_methods(lock_class, path):
    class Counting(lock_class):
        calls = ()

        def acquire(self, timeout=None):
            self.calls += ("acquire",)
            return super().acquire(timeout)

        def release(self):
            self.calls += ("release",)
            return super().release()

    lock = Counting(path)
    assert lock(lambda: lock.calls)() == ("acquire",)
    assert lock.calls == ("acquire", "release")


def test_what_is_not_overridden_in_a_subclass_of_lockbase_is_missed_when_called(path):
    function = lockfile.LockBase(path)(int)
    with pytest.raises(NotImplementedError):
        function()


def test_locked_finds_its_path_at_each_call(tmp_path, monkeypatch):
    """So it was: a program that changes its directory means the file there."""
    function = locked("README")(lambda: names("."))
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert "README.lock" in function()


def test_a_lock_object_means_the_path_that_it_was_made_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = FileLock("README")(lambda: names(tmp_path))
    monkeypatch.chdir("/")
    assert "README.lock" in function()


def test_locked_uses_the_class_that_is_called_filelock(path, monkeypatch):
    monkeypatch.setattr(lockfile, "FileLock", lockfile.MkdirFileLock)
    assert locked(path)(lambda: os.path.isdir(path + ".lock"))()


# Coroutine functions


@BOTH
def test_a_coroutine_function_is_locked_while_it_runs(path, tmp_path, decorator):
    lock = FileLock(path)
    running = []

    @decorator(path)
    async def work(number):
        assert lock.i_am_locking()
        running.append(number)
        assert len(running) == 1
        await asyncio.sleep(0)
        running.remove(number)
        return number

    async def main():
        return await asyncio.gather(*(work(number) for number in range(5)))

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(main()) == list(range(5))
    assert names(tmp_path) == []


@BOTH
def test_a_coroutine_is_not_locked_before_it_is_awaited(path, tmp_path, decorator):
    @decorator(path)
    async def work():
        pass

    coroutine = work()
    assert names(tmp_path) == []
    coroutine.close()


@BOTH
def test_timeout_of_a_coroutine_function(path, decorator):
    @decorator(path, timeout=0)
    async def work():
        pass

    with FileLock(path), pytest.raises(AlreadyLocked):
        asyncio.run(work())


# What cannot be decorated


@BOTH
def test_generators_are_refused(path, decorator):
    """Their bodies run after the call, when the lock would be free again."""

    def count():
        yield 1

    async def count_async():
        yield 1

    for function in (count, count_async):
        with pytest.raises(TypeError, match="generator"):
            decorator(path)(function)


@BOTH
def test_generator_behind_a_wrapper_is_refused_when_it_is_called(path, decorator):
    def count():
        yield 1

    async def count_async():
        yield 1

    for function in (count, count_async):
        with pytest.raises(TypeError, match="would run after the lock's release"):
            decorator(path)(lambda function=function: function())()
    assert not FileLock(path).is_locked()


@BOTH
@pytest.mark.filterwarnings("error")  # no coroutine is left that was never awaited
def test_coroutine_behind_a_wrapper_is_refused_when_it_is_called(path, decorator):
    async def work():
        pass

    with pytest.raises(TypeError, match="would run after the lock's release"):
        decorator(path)(lambda: work())()


@BOTH
def test_object_that_is_called_is_what_its_call_is(path, decorator):
    lock = FileLock(path)

    class Work:
        async def __call__(self):
            return lock.is_locked()

    class Count:
        def __call__(self):
            yield 1

    assert asyncio.run(decorator(path)(Work())())
    with pytest.raises(TypeError, match="generator"):
        decorator(path)(Count())


@BOTH
@pytest.mark.parametrize("thing", [None, 3, "README"])
def test_what_cannot_be_called_is_refused(path, decorator, thing):
    with pytest.raises(TypeError, match="function"):
        decorator(path)(thing)


def test_methods_and_partial_functions(path):
    lock = FileLock(path)

    class Account:
        balance = 0

        @lock
        def add(self, number):
            assert lock.i_am_locking()
            self.balance += number

    account = Account()
    account.add(3)
    lock(functools.partial(account.add, 4))()
    assert account.balance == 7
    assert not lock.is_locked()


def test_a_lock_is_called_with_one_function(path):
    for arguments in [(), (int, int)]:
        with pytest.raises(TypeError):
            FileLock(path)(*arguments)
