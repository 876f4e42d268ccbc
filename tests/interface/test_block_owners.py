"""A with block is the owner's who began it, whoever ends it."""

import asyncio
import contextlib
import gc
import threading

import pytest

import lockfile
from support import in_thread


def test_block_ends_in_another_thread(lock_class, path):
    """As a dependency of a web framework does, whose halves run in a pool."""
    lock = lock_class(path)
    in_thread(lock.__enter__)
    assert lock.is_locked()
    assert not lock.i_am_locking()
    in_thread(lock.__exit__, None, None, None)
    assert not lock.is_locked()


def test_nested_blocks_end_in_other_threads(lock_class, path):
    lock = lock_class(path)
    for _ in range(2):
        lock.__enter__()
    in_thread(lock.__exit__, None, None, None)
    assert lock.is_locked()
    in_thread(lock.__exit__, None, None, None)
    assert not lock.is_locked()


def test_generator_that_another_task_closes(lock_class, path):
    lock = lock_class(path)

    async def with_generator():
        with lock:
            yield

    async def async_with_generator():
        async with lock:
            yield

    async def main():
        for generator in with_generator(), async_with_generator():
            await asyncio.create_task(anext(generator))
            assert lock.is_locked()
            await generator.aclose()
            assert not lock.is_locked()

    asyncio.run(main())


def test_coroutine_that_is_collected_after_its_loop(lock_class, path):
    lock = lock_class(path)

    async def begin(coroutine):
        loop = asyncio.get_running_loop()
        task = loop.create_task(coroutine(loop.create_future()))
        await asyncio.sleep(0)
        assert lock.is_locked()
        task._log_destroy_pending = False

    async def plain(future):
        with lock:
            await future

    async def awaiting(future):
        async with lock:
            await future

    for coroutine in plain, awaiting:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin(coroutine))
        loop.close()
        del loop
        gc.collect()
        assert not lock.is_locked()


def test_other_owner_in_its_own_block_ends_its_own(lock_class, path):
    """Though the block of one whose lock was broken is still open."""
    lock = lock_class(path)
    begun, broken, ended = threading.Event(), threading.Event(), threading.Event()
    told = []

    def lose():
        try:
            with lock:
                begun.set()
                broken.wait()
        except lockfile.NotMyLock:
            told.append("not mine")
        ended.set()

    thread = threading.Thread(target=lose)
    thread.start()
    begun.wait()
    lock.break_lock()
    with lock:
        broken.set()
        ended.wait()
        assert lock.i_am_locking()
    thread.join()
    assert told == ["not mine"]
    assert not lock.is_locked()


def test_who_would_know_which_block_it_is(lock_class, path):
    """Of several that others have begun: none is ended."""
    lock = lock_class(path)
    in_thread(lock.__enter__)
    lock.break_lock()
    in_thread(lock.__enter__)
    with pytest.raises(lockfile.NotMyLock):
        lock.__exit__(None, None, None)
    assert lock.is_locked()
    lock.break_lock()


def test_subclass_whose_release_is_its_own_ends_it_elsewhere(lock_class, path):
    class Own(lock_class):
        def release(self):
            released.append(True)
            super().release()

    released = []
    lock = Own(path)
    in_thread(lock.__enter__)
    in_thread(lock.__exit__, None, None, None)
    assert released == [True]
    assert not lock.is_locked()


def test_scheme_of_ones_own_counts_its_blocks_by_who_began_them(path):
    class Own(lockfile.LockBase):
        def acquire(self, timeout=None):
            calls.append("acquire")
            return self

        def release(self):
            calls.append("release")

    calls = []
    lock = Own(path)
    in_thread(lock.__enter__)
    in_thread(lock.__exit__, None, None, None)
    assert calls == ["acquire", "release"]


async def while_another_is_inside(lock, *functions):
    """A task for each of them, while another one's block runs; it must own until its end."""

    async def hold():
        async with lock:
            begun.set()
            await end.wait()
            assert lock.i_am_locking()

    begun, end = asyncio.Event(), asyncio.Event()
    holder = asyncio.create_task(hold())
    await begun.wait()
    await asyncio.gather(*(asyncio.create_task(function()) for function in functions))
    end.set()
    await holder


def test_exit_of_who_could_not_acquire_ends_nobodys_block(lock_class, path):
    """As of a stack that was told to release what was then refused."""
    lock = lock_class(path)

    async def refused():
        with pytest.raises(lockfile.NotMyLock):
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_exit(lock)
                with pytest.raises(lockfile.AlreadyLocked):
                    await lock.acquire_async(timeout=0)
        with pytest.raises(lockfile.NotMyLock):
            try:
                assert not lock.try_acquire()
            finally:
                lock.__exit__(None, None, None)

    asyncio.run(while_another_is_inside(lock, refused))
    assert not lock.is_locked()


def test_owner_ends_its_own_though_anothers_block_was_never_ended(lock_class, path):
    lock = lock_class(path)
    in_thread(lock.__enter__)
    lock.break_lock()
    lock.acquire()
    lock.__exit__(None, None, None)
    assert not lock.is_locked()


@pytest.mark.parametrize("how", ["wait_for", "cancel", "enter"])
def test_exit_of_who_gave_up_ends_nobodys_block(lock_class, path, how):
    lock = lock_class(path)

    async def give_up():
        with pytest.raises((TimeoutError, asyncio.CancelledError, lockfile.LockTimeout)):
            if how == "enter":
                await lock.__aenter__()
            elif how == "wait_for":
                await asyncio.wait_for(lock.acquire_async(), 0.01)
            else:
                asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)
                await lock.acquire_async()
        with pytest.raises(lockfile.NotMyLock):
            await lock.__aexit__(None, None, None)

    lock.timeout = 0.01 if how == "enter" else None
    asyncio.run(while_another_is_inside(lock, *[give_up] * 12))
    assert not lock.is_locked()


def test_refusal_of_long_ago_keeps_nobody_from_ending_a_block(lock_class, path):
    lock = lock_class(path)
    with lock_class(path, owner="object"):
        assert not lock.try_acquire()
    in_thread(lock.__enter__)
    lock.__exit__(None, None, None)
    assert not lock.is_locked()
