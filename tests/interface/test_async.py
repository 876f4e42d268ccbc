"""async with, and acquire_async()."""

import asyncio
import contextlib
import gc
import inspect
import os

import pytest

import lockfile
from lockfile import _waiting
from support import Child
from support.tasks import settle

LOOPS = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as first:
        first.run(asyncio.sleep(0))  # it keeps some descriptors from then on


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine in a loop of each kind."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(coroutine)

    return run


# Of the steps of a loop after which a task is cancelled: more than it takes.
MOMENTS = 12


def test_async_with_locks_and_unlocks(lock_class, path, run):
    lock = lock_class(path)

    async def main():
        async with lock as inside:
            assert inside is lock
            assert lock.i_am_locking()
        assert not lock.is_locked()
        assert await lock.acquire_async() is lock
        lock.release()

    run(main())


def test_one_task_is_inside_at_a_time(lock_class, path, run):
    lock = lock_class(path)
    inside, most, turns = 0, 0, 0

    async def work():
        nonlocal inside, most, turns
        for _ in range(5):
            async with lock:
                inside, turns = inside + 1, turns + 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

    async def main():
        await asyncio.gather(*(work() for _ in range(8)))

    run(main())
    assert (most, turns) == (1, 40)


def test_blocks_nest_in_a_task(lock_class, path, run):
    lock = lock_class(path)

    async def main():
        async with lock:
            async with lock:
                pass
            with lock:
                pass
            assert lock.i_am_locking()
        assert not lock.is_locked()

    run(main())


def test_time_runs_out(lock_class, path, run):
    lock = lock_class(path, timeout=0.01)

    async def hold(held):
        async with lock:
            held.set()
            await asyncio.Event().wait()

    async def main():
        held = asyncio.Event()
        holder = asyncio.create_task(hold(held))
        await held.wait()
        with pytest.raises(lockfile.LockTimeout):
            await lock.acquire_async()
        with pytest.raises(lockfile.LockTimeout):
            await lock.acquire_async(timeout=0.01)
        with pytest.raises(lockfile.AlreadyLocked):
            await lock.acquire_async(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), lock_class(path):
                pass
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
        assert not lock.is_locked()

    run(main())


@pytest.mark.parametrize("timeout", ["soon", float("nan"), 10**400])
def test_bad_timeout_is_refused(lock_class, path, timeout, run):
    async def main():
        with pytest.raises((TypeError, ValueError)):
            await lock_class(path).acquire_async(timeout)

    run(main())


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_cancelled_wait_leaves_nothing(lock_class, path, moment, run):
    """Whenever it is cancelled: while others hold the lock, wait before it or behind it, or just
    when it was granted."""
    lock = lock_class(path)
    outcomes = []

    async def work():
        async with lock:
            outcomes.append("in")
            await asyncio.sleep(0)

    async def main():
        await lock.acquire_async()
        tasks = [asyncio.create_task(work()) for _ in range(3)]
        await settle(moment // 2)
        if moment % 2:
            lock.release()
        await settle(moment // 2)
        tasks[moment % 3].cancel()
        if not moment % 2:
            lock.release()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = [each for each in done if isinstance(each, asyncio.CancelledError)]
        assert [each for each in done if each is not None and each not in cancelled] == []
        assert len(outcomes) >= 3 - len(cancelled)
        async with asyncio.timeout(60):
            async with lock:
                pass

    run(main())
    assert not lock.is_locked()


def test_loop_that_ends_leaves_nothing(lock_class, path, run):
    lock = lock_class(path)

    async def wait():
        async with lock:
            pass

    async def main():
        await lock.acquire_async()
        waiting = [asyncio.create_task(wait()) for _ in range(3)]
        await settle()
        lock.release()
        return waiting

    async def ended():
        async with lock:
            pass

    run(main())  # which cancels what is left
    run(ended())
    assert not lock.is_locked()


def test_coroutine_that_is_never_awaited_does_nothing(lock_class, path):
    coroutine = lock_class(path).acquire_async()
    assert inspect.iscoroutine(coroutine)
    coroutine.close()
    assert not lock_class(path).is_locked()


async def acquire(lock, **options):
    """The owner is the task that runs it; by acquire_async() alone it is the one that calls."""
    return await lock.acquire_async(**options)


def test_wait_is_dropped_with_its_coroutine(lock_class, path, run):
    lock = lock_class(path)

    async def main():
        await lock.acquire_async()
        coroutine = acquire(lock_class(path))
        task = asyncio.create_task(coroutine)
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task, coroutine
        gc.collect()
        lock.release()

    run(main())
    assert not lock.is_locked()


HOLD = """
    with getattr(lockfile, sys.argv[1])(sys.argv[2]):
        say("owns")
        hear()
    """


def test_release_of_another_process_wakes_the_task(lock_class, path, run):
    async def main(child):
        task = asyncio.create_task(lock_class(path).acquire_async(timeout=600))
        await settle()
        assert not task.done()
        child.say("release")
        lock = await task
        assert lock.i_am_locking()
        lock.release()

    with Child(HOLD, lock_class.__name__, path) as child:
        assert child.hear() == "owns"
        run(main(child))
        child.finish()


def test_dead_owner_is_recovered(lock_class, path, run):
    async def main(child):
        task = asyncio.create_task(enter(lock_class(path)))
        await settle()
        child.process.kill()
        await task

    async def enter(lock):
        async with lock:
            assert lock.i_am_locking()

    with Child(HOLD, lock_class.__name__, path) as child:
        assert child.hear() == "owns"
        run(main(child))
    assert not lock_class(path).is_locked()


def test_thousand_tasks_wait_for_one_lock(file_lock_class, path, run):
    """With no descriptor for each: only the first in line has any."""
    lock = file_lock_class(path)
    entered = 0

    async def work():
        nonlocal entered
        async with lock:
            entered += 1

    async def main():
        await lock.acquire_async()
        before = len(os.listdir("/proc/self/fd"))
        tasks = [asyncio.create_task(work()) for _ in range(1000)]
        await settle()
        assert len(os.listdir("/proc/self/fd")) < before + 10
        lock.release()
        await asyncio.gather(*tasks)

    run(main())
    assert entered == 1000
    assert not lock.is_locked()


def test_subclass_with_a_scheme_of_its_own_has_no_coroutine(path, run):
    class Own(lockfile.LockBase):
        def acquire(self, timeout=None):
            return self

    async def main():
        with pytest.raises(NotImplementedError, match="acquire_async"):
            await Own(path).acquire_async()

    run(main())


def test_thread_waits_for_a_task_and_a_task_for_a_thread(lock_class, path, run):
    lock = lock_class(path)

    def blocking():
        with lock:
            return lock.i_am_locking()

    async def main():
        async with lock:
            thread = asyncio.create_task(asyncio.to_thread(blocking))
            await settle()
        assert await thread
        async with lock:
            assert lock.i_am_locking()

    run(main())
    assert not lock.is_locked()


@pytest.mark.parametrize("owner", ["task", "process", "object"])
def test_subclass_whose_acquire_async_acquires_nothing_is_entered(lock_class, path, owner, run):
    """As with is: who does so, knows why. It does not try for ever."""

    class Dry(lock_class):
        async def acquire_async(self, timeout=None, *, on_wait=None):
            return self

        def release(self):
            released.append(True)

    released = []

    async def main():
        async with Dry(path, owner=owner):
            pass

    run(main())
    assert released == [True]


def test_waiters_hear_of_releases_though_a_burst_of_others_came_and_went(lock_class, path, run):
    """The loop's watch serves them as long as any of them waits."""
    many = 40
    lock = lock_class(path)

    async def wait(number):
        async with lock_class(f"{path}{number % 20}"):
            await asyncio.sleep(0)

    async def main():
        async with lock:
            tasks = [asyncio.create_task(wait(number)) for number in range(many)]
            await settle()
        await asyncio.gather(*tasks)

    run(main())
    assert _waiting.waits_in == {}
