"""Inside a running asyncio task the owner is the task; with patched threading, the greenlet."""

import asyncio
import errno
import gc
import os

import pytest

import lockfile
from support.greenlets import GEVENT, GEVENT_WITHOUT_SELECT, each_package, greenlets


def run(*coroutines):
    """In one loop; what they return."""

    async def all_of_them():
        return await asyncio.gather(*coroutines)

    return asyncio.run(all_of_them())


def test_tasks_of_one_thread_exclude_each_other(lock_class, path):
    lock = lock_class(path)

    async def first():
        with lock:
            await asyncio.sleep(0)
            return lock.unique_name

    async def second():
        assert not lock.i_am_locking()
        assert lock.is_locked()
        with pytest.raises(lockfile.AlreadyLocked, match="this is another task of this thread"):
            lock.acquire(timeout=0)
        with pytest.raises(lockfile.NotMyLock):
            lock.release()

    run(first(), second())
    assert not lock.is_locked()


def test_tasks_have_unique_files_of_their_own(file_lock_class, tmp_path):
    one, other = file_lock_class(tmp_path / "one"), file_lock_class(tmp_path / "other")

    async def hold(lock):
        with lock:
            await asyncio.sleep(0)
            assert os.path.exists(lock.unique_name)
            return os.path.basename(lock.unique_name)

    names = run(hold(one), hold(other))
    assert len(set(names)) == 2


def test_blocking_acquire_for_what_a_task_of_the_same_thread_holds_says_so(lock_class, path):
    """It would stop the loop that must let the holder go on."""
    lock = lock_class(path)

    async def holder():
        with lock:
            await asyncio.sleep(0)

    async def waiter(timeout):
        with pytest.raises(lockfile.LockFailed, match="async with") as caught:
            lock.acquire(timeout=timeout)
        assert str(os.getpid()) in str(caught.value)
        assert caught.value.__cause__.errno == errno.EDEADLK

    run(holder(), waiter(1), waiter(None))
    assert not lock.is_locked()


def test_task_that_comes_later_is_another_owner(lock_class, path):
    """Though it may have the address of one that has ended while it owned."""
    lock = lock_class(path)

    async def forget():
        lock.acquire()

    async def look():
        return lock.i_am_locking()

    async def main():
        await asyncio.create_task(forget())
        gc.collect()
        return [await asyncio.create_task(look()) for _ in range(20)]

    assert asyncio.run(main()) == [False] * 20
    assert lock.is_locked()
    lock.break_lock()


def test_process_owns_whichever_task_calls(lock_class, path):
    lock = lock_class(path, threaded=False)

    async def acquire():
        lock.acquire(timeout=0)

    async def main():
        await asyncio.create_task(acquire())
        await asyncio.create_task(acquire())
        assert lock.i_am_locking()

    asyncio.run(main())
    lock.release()


def test_callback_of_the_loop_is_the_thread(lock_class, path):
    """No task runs then."""
    lock = lock_class(path)

    async def main():
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        loop.call_soon(lambda: (lock.acquire(), done.set()))
        await done.wait()
        assert not lock.i_am_locking()

    asyncio.run(main())
    assert lock.i_am_locking()
    lock.release()


def test_with_blocks_of_a_subclass_with_its_own_scheme_nest_by_task(path):
    class Counting(lockfile.LockBase):
        calls = ()

        def acquire(self, timeout=None):
            self.calls += ("acquire",)
            return self

        def release(self):
            self.calls += ("release",)

    lock = Counting(path)

    async def nest():
        with lock:
            await asyncio.sleep(0)
            with lock:
                await asyncio.sleep(0)

    run(nest(), nest())
    assert lock.calls.count("release") == 2


GREENLETS = """
    inside = []

    def hold():
        with lock:
            inside.append(lock.i_am_locking())
            let_others_run()

    def look():
        inside.append(lock.i_am_locking())
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            inside.append("refused")

    run(hold, look)
    say(inside)
    """


@each_package
def test_greenlets_exclude_each_other_where_threading_is_patched(lock_class, path, patch):
    with greenlets(patch, GREENLETS, lock_class, path) as child:
        assert child.hear() == [True, False, "refused"]


WAITING_GREENLETS = """
    told = []

    def hold():
        with lock:
            told.append("holds")
            for _ in range(3):
                let_others_run()
            told.append("held")

    def wait():
        with lock:
            told.append("waited")

    def other():
        told.append("runs")

    run(hold, wait, other)
    told.append(lock.is_locked())
    say(told)
    """


@each_package
def test_greenlet_that_waits_lets_the_others_run(lock_class, path, patch):
    with greenlets(patch, WAITING_GREENLETS, lock_class, path) as child:
        told = child.hear()
        assert told.index("runs") < told.index("waited")
        assert told.index("held") < told.index("waited")
        assert told[-1] is False


def test_thread_that_owns_itself_is_told_to_its_task(lock_class, path):
    async def main():
        with pytest.raises(lockfile.AlreadyLocked, match="this is this thread itself"):
            lock_class(path).acquire(timeout=0)
        with pytest.raises(lockfile.LockFailed, match="would stop its owner"):
            lock_class(path).acquire()

    with lock_class(path):
        asyncio.run(main())


def test_blocking_acquire_in_a_callback_of_the_loop_says_so(lock_class, path):
    def callback(answer):
        try:
            lock_class(path).acquire()
        except lockfile.LockFailed as error:
            answer.set_result(error.__cause__.errno)

    async def main():
        async with lock_class(path):
            loop = asyncio.get_running_loop()
            answer = loop.create_future()
            loop.call_soon(callback, answer)
            assert await answer == errno.EDEADLK

    asyncio.run(main())


LOOP_IN_A_GREENLET = """
    import asyncio, gevent.event
    told = []
    inside = gevent.event.Event()

    async def main():
        with lock:
            inside.set()
            gevent.sleep(0.01)
            told.append("task")

    def other():
        inside.wait()
        told.append(lock.i_am_locking())
        with lock:
            told.append("greenlet")

    gevent.joinall([gevent.spawn(asyncio.run, main()), gevent.spawn(other)], raise_error=True)
    say(told)
    """


def test_greenlet_beside_a_loop_is_no_task_of_it(lock_class, path):
    with greenlets(GEVENT, LOOP_IN_A_GREENLET, lock_class, path) as child:
        assert child.hear() == [False, "task", "greenlet"]


WITHOUT_SELECT = """
    def hold():
        with lock:
            gevent.sleep(0)

    def wait():
        try:
            lock.acquire()
        except lockfile.LockFailed as error:
            say(error.__cause__.errno)

    gevent.joinall([gevent.spawn(hold), gevent.spawn(wait)], raise_error=True)
    """


def test_greenlet_that_cannot_let_others_run_says_so(lock_class, path):
    with greenlets(GEVENT_WITHOUT_SELECT, WITHOUT_SELECT, lock_class, path) as child:
        assert child.hear() == errno.EDEADLK


MANY_DESCRIPTORS = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]

    def hold():
        with lock:
            gevent.sleep(0.01)

    def wait():
        with lock:
            say("waited")

    gevent.joinall([gevent.spawn(hold), gevent.spawn(wait)], raise_error=True)
    """


def test_greenlet_waits_though_descriptors_are_many(lock_class, path):
    with greenlets(GEVENT, MANY_DESCRIPTORS, lock_class, path) as child:
        assert child.hear() == "waited"
