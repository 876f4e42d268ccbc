"""Tasks of one loop that wait for one lock: in line, by their owners."""

import asyncio

import pytest

import lockfile
from lockfile import _waiting
from support import Child
from support.tasks import settle

HOLD = """
    with getattr(lockfile, sys.argv[1])(sys.argv[2]):
        say("owns")
        hear()
    """


async def inside(lock, order=None, number=None):
    async with lock:
        if order is not None:
            order.append(number)
        await asyncio.sleep(0)


async def begin(coroutine):
    """A task that waits."""
    task = asyncio.create_task(coroutine)
    await settle()
    assert not task.done()
    return task


def test_who_came_first_is_first(file_lock_class, path):
    order = []

    async def main():
        async with file_lock_class(path):
            tasks = [
                asyncio.create_task(inside(file_lock_class(path), order, number))
                for number in range(20)
            ]
            await settle()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert order == list(range(20))


def test_owner_does_not_queue_behind_those_who_wait_for_it(lock_class, path):
    lock = lock_class(path)

    async def main():
        async with lock:
            task = await begin(inside(lock_class(path)))
            async with lock_class(path):
                pass
            assert await lock.acquire_async() is lock
            assert lock.i_am_locking()
        await task

    asyncio.run(main())
    assert not lock.is_locked()


def test_process_that_owns_does_not_queue_behind_those_who_wait_for_it(lock_class, path):
    process = lock_class(path, threaded=False)

    async def main():
        async with process:
            task = await begin(inside(lock_class(path)))
            await asyncio.create_task(inside(process))
        await task

    asyncio.run(main())
    assert not process.is_locked()


def test_owner_that_waits_twice_is_let_in_twice(lock_class, path):
    """The second wait is over when the first one is, whoever else is before it in line."""
    lock = lock_class(path)

    async def twice():
        async with asyncio.timeout(60):
            await asyncio.gather(lock.acquire_async(), later(), lock.acquire_async())
        assert lock.i_am_locking()
        lock.release()

    async def later():
        other.append(asyncio.create_task(inside(lock_class(path))))
        await settle()

    other = []

    async def main():
        async with lock_class(path):
            task = asyncio.create_task(twice())
            await settle()
        await task
        await other[0]

    asyncio.run(main())
    assert not lock.is_locked()


def test_who_times_out_in_line_breaks_what_was_there_all_the_time(lock_class, path):
    """Whether it looked itself, or another waited ahead of it."""

    async def main(child):
        async with asyncio.timeout(60):
            waits = asyncio.Event()
            first = lock_class(path)
            ahead = asyncio.create_task(first.acquire_async(on_wait=lambda _: waits.set()))
            await waits.wait()
            behind = lock_class(path)
            with pytest.raises(lockfile.LockTimeout):
                await behind.acquire_async(timeout=0.05)
            behind.break_lock()
            (await ahead).release()
            child.say("go on")

    with Child(HOLD, lock_class.__name__, path) as child:
        assert child.hear() == "owns"
        asyncio.run(main(child))
        child.process.wait()  # it has ended with NotLocked


def test_who_times_out_in_line_breaks_nothing_that_came_meanwhile(lock_class, path):
    behind = lock_class(path)

    async def time_out():
        with pytest.raises(lockfile.LockTimeout):
            await behind.acquire_async(timeout=0.2)
        behind.break_lock()

    async def hold(waits, end):
        async with lock_class(path, on_wait=lambda _: waits.set()) as lock:
            await end.wait()
            return lock.i_am_locking()

    async def main():
        waits, end = asyncio.Event(), asyncio.Event()
        await first.acquire_async()
        ahead = asyncio.create_task(hold(waits, end))
        await waits.wait()  # it is the next one
        task = asyncio.create_task(time_out())
        await settle()
        first.release()
        await task
        end.set()
        assert await ahead

    first = lock_class(path)
    asyncio.run(main())


def test_zero_timeout_does_not_wait_for_its_turn(lock_class, path):
    async def impatient():
        with pytest.raises(lockfile.AlreadyLocked):
            await lock_class(path).acquire_async(timeout=0)

    async def main():
        async with lock_class(path):
            task = await begin(inside(lock_class(path)))
            await asyncio.create_task(impatient())
        await task

    asyncio.run(main())


def test_loop_that_was_closed_is_forgotten(lock_class, path):
    """With those who waited in it."""

    async def begin_to_wait():
        waits.append(asyncio.create_task(inside(lock_class(path))))
        await settle()

    waits = []
    with lock_class(path, owner="object"):
        for _ in range(3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(begin_to_wait())
            loop.close()
        assert len(_waiting.waits_in) == 1
        for each in waits:
            each.get_coro().close()
    assert _waiting.waits_in == {}
    for each in waits:
        each._log_destroy_pending = False
