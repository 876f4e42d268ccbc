"""on_wait of tasks, of steps, and of greenlets."""

import asyncio
import os
import time

import pytest

from lockfile import LockTimeout, _waiting
from support import PATIENCE, OtherThread
from support.greenlets import each_package, greenlets


class Told(Exception):
    """What a callback raises."""


@pytest.fixture
def other():
    with OtherThread() as other:
        yield other


async def acquire_by_argument(lock, on_wait):
    assert await lock.acquire_async(on_wait=on_wait) is lock
    lock.release()


async def acquire_by_constructor(lock, on_wait):
    lock = type(lock)(lock.path, on_wait=on_wait)
    await lock.acquire_async(timeout=PATIENCE)
    lock.release()


async def enter(lock, on_wait):
    async with type(lock)(lock.path, on_wait=on_wait):
        pass


every_wait = pytest.mark.parametrize("wait", [acquire_by_argument, acquire_by_constructor, enter])


def is_tidy(lock):
    return not lock.is_locked() and not lock.i_am_locking() and not _waiting.waits_in


@every_wait
def test_task_is_told_whom_it_waits_for(lock, other, wait):
    told = []

    def on_wait(owner):
        told.append(owner)
        other.run(lock.release)

    other.run(lock.acquire)
    asyncio.run(wait(lock, on_wait))
    assert told == [(lock.hostname, os.getpid(), other.ident, True)]
    assert is_tidy(lock)


@every_wait
def test_task_is_told_again_and_again(lock, other, wait):
    told = []

    def on_wait(owner):
        told.append(owner)
        if len(told) == 3:
            other.run(lock.release)

    other.run(lock.acquire)
    asyncio.run(wait(lock, on_wait))
    assert len(told) == 3
    assert is_tidy(lock)


@every_wait
def test_what_it_raises_ends_the_wait_of_a_task(lock, other, wait):
    def on_wait(owner):
        raise Told(owner.pid)

    async def main():
        with pytest.raises(Told, match=str(os.getpid())):
            await wait(lock, on_wait)
        assert not _waiting.waits_in

    other.run(lock.acquire)
    asyncio.run(main())
    other.run(lock.release)
    assert is_tidy(lock)


def test_other_tasks_run_while_it_is_told(lock, other):
    """And another task may be the owner."""

    async def main():
        told = asyncio.Event()
        async with lock:
            task = asyncio.create_task(enter(lock, lambda owner: told.set()))
            await told.wait()
            assert not task.done()
        await task

    asyncio.run(main())
    assert is_tidy(lock)


def test_all_in_line_are_told(lock, other):
    """One of them waits for the lock, the others for their turn."""
    told = set()

    async def main():
        all_told = asyncio.Event()

        def telling(number):
            def on_wait(owner):
                assert owner.thread == other.ident
                told.add(number)
                if len(told) == 5:
                    all_told.set()

            return on_wait

        tasks = [asyncio.create_task(enter(lock, telling(number))) for number in range(5)]
        await all_told.wait()
        assert not any(task.done() for task in tasks)
        await asyncio.to_thread(other.run, lock.release)
        await asyncio.gather(*tasks)

    other.run(lock.acquire)
    asyncio.run(main())
    assert told == {0, 1, 2, 3, 4}
    assert is_tidy(lock)


@pytest.mark.parametrize("number", range(3))
def test_who_is_told_in_line_may_leave_it(lock, other, number):
    """The others keep their places."""

    def on_wait(owner):
        raise Told

    async def main():
        tasks = [
            asyncio.create_task(enter(lock, on_wait if index == number else None))
            for index in range(3)
        ]
        with pytest.raises(Told):
            await tasks.pop(number)
        assert not any(task.done() for task in tasks)
        await asyncio.to_thread(other.run, lock.release)
        await asyncio.gather(*tasks)

    other.run(lock.acquire)
    asyncio.run(main())
    assert is_tidy(lock)


def test_who_is_in_line_takes_no_step_of_its_own_to_be_told(file_lock_class, path, other):
    """A step would leave a watch behind: a thousand tasks have not so many."""
    lock = file_lock_class(path)

    async def main():
        told = asyncio.Event()
        first = asyncio.create_task(enter(lock, None))
        await asyncio.sleep(0)
        steps = []
        wait = _waiting.Turn.stand

        async def stand(turn):
            steps.append(turn.steps)
            await wait(turn)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_waiting.Turn, "stand", stand)
            second = asyncio.create_task(enter(lock, lambda owner: told.set()))
            await told.wait()
            assert [one.fileno() for one in steps] == [-1]
            await asyncio.to_thread(other.run, lock.release)
            await asyncio.gather(first, second)

    other.run(lock.acquire)
    asyncio.run(main())
    assert is_tidy(lock)


def test_time_is_up_in_line_all_the_same(lock, other):
    told = []

    async def main():
        first = asyncio.create_task(enter(lock, None))
        await asyncio.sleep(0)
        begun = time.monotonic()
        with pytest.raises(LockTimeout):
            await lock.acquire_async(timeout=0.15, on_wait=told.append)
        assert len(told) < 2 or time.monotonic() - begun >= 0.2  # when it is told again
        await asyncio.to_thread(other.run, lock.release)
        await first

    other.run(lock.acquire)
    asyncio.run(main())
    assert is_tidy(lock)


@every_wait
def test_it_may_cancel_its_task(lock, other, wait):
    async def main():
        def on_wait(owner):
            task.cancel()

        task = asyncio.create_task(wait(lock, on_wait))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not _waiting.waits_in

    other.run(lock.acquire)
    asyncio.run(main())
    other.run(lock.release)
    assert is_tidy(lock)


def test_it_may_cancel_who_is_ahead(lock, other):
    async def main():
        first = asyncio.create_task(enter(lock, None))
        await asyncio.sleep(0)

        def on_wait(owner):
            if not first.cancelling():  # or it is about the first, who was given the lock by then
                first.cancel()
                other.run(lock.release)

        await enter(lock, on_wait)
        with pytest.raises(asyncio.CancelledError):
            await first

    other.run(lock.acquire)
    asyncio.run(main())
    assert is_tidy(lock)


def test_it_may_acquire_the_lock_for_its_task(lock, other):
    async def main():
        def on_wait(owner):
            other.run(lock.release)
            lock.acquire()

        await lock.acquire_async(on_wait=on_wait)
        assert lock.i_am_locking()
        lock.release()

    other.run(lock.acquire)
    asyncio.run(main())
    assert is_tidy(lock)


# ---- Steps ----


def drive(steps):
    while (seconds := steps.step()) is not None:
        time.sleep(min(seconds, 0.01))


def test_steps_say_when_they_are_to_tell(lock, other):
    told = []

    def on_wait(owner):
        told.append(owner.thread)
        other.run(lock.release)

    other.run(lock.acquire)
    steps = lock.acquire_in_steps(on_wait=on_wait)
    assert steps.step() <= 0.1
    drive(steps)
    assert told == [other.ident]
    lock.release()


def test_it_may_end_the_steps(lock, other):
    other.run(lock.acquire)
    steps = lock.acquire_in_steps(on_wait=lambda owner: steps.end())
    with pytest.raises(RuntimeError, match="over already"):
        drive(steps)
    other.run(lock.release)
    assert is_tidy(lock)


def test_it_may_take_a_step(lock, other):
    def on_wait(owner):
        assert steps.step() is not None
        other.run(lock.release)

    other.run(lock.acquire)
    steps = lock.acquire_in_steps(on_wait=on_wait)
    drive(steps)
    assert lock.i_am_locking()
    lock.release()


def test_it_may_take_the_last_step(lock, other):
    def on_wait(owner):
        other.run(lock.release)
        drive(steps)

    other.run(lock.acquire)
    steps = lock.acquire_in_steps(on_wait=on_wait)
    with pytest.raises(RuntimeError, match="over already"):
        drive(steps)
    assert lock.i_am_locking()
    lock.release()


# ---- Greenlets ----

GREENLETS = """
    import os
    told = []

    def on_wait(owner):
        told.append(owner.pid == os.getpid())
        let_others_run()
        if len(told) == 2:
            raise ValueError
        released.append(True)

    def hold():
        with lock:
            while not released:
                let_others_run()

    def wait():
        lock.acquire(on_wait=on_wait)
        lock.release()

    released = []
    run(hold, wait)
    say([told, lock.is_locked()])

    def hold_still():
        with lock:
            while len(told) < 2:
                let_others_run()

    def wait_in_vain():
        try:
            with type(lock)(lock.path, on_wait=on_wait):
                told.append("entered")
        except ValueError:
            told.append("raised")

    run(hold_still, wait_in_vain)
    say([told[2:], lock.is_locked()])
    """


@each_package
def test_greenlet_is_told_whom_it_waits_for(lock_class, path, patch):
    with greenlets(patch, GREENLETS, lock_class, path) as child:
        assert child.hear() == [[True], False]
        assert child.hear() == [["raised"], False]
