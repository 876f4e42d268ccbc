"""all_of() in coroutines, and whatever interrupts it: all or none, and never a moment between."""

import asyncio
import gc
import os
import sys

import pytest

import lockfile
from lockfile import AlreadyLocked, LockFailed, LockTimeout, NotLocked, all_of
from support import PATIENCE, Child, OtherThread, in_thread, names, wait_until
from support.protocol import SteppedChild, begin, has_settled

# More than there are suspensions, or calls, in any of what is interrupted here.
MANY = 1000


@pytest.fixture(params=["ours", "subclass"])
def make_any(request, tmp_path, lock_class):
    """Makes locks of each class, and of one that has methods of its own."""

    class Own(lock_class):
        def acquire(self, timeout=None):
            return super().acquire(timeout)

        async def acquire_async(self, timeout=None):
            return await super().acquire_async(timeout)

        def release(self):
            super().release()

    made = Own if request.param == "subclass" else lock_class
    return lambda name, **keywords: made(tmp_path / name, **keywords)


def sibling(path, name):
    """Another path in the directory; "A" comes before README."""
    return os.path.join(os.path.dirname(path), name)


def owned(*locks):
    return [lock.i_am_locking() for lock in locks]


def notes_of(caught):
    return caught.value.__notes__


# Interruptions


class InterruptedAfter:
    """Raises KeyboardInterrupt after so many calls of functions in C, as a signal does."""

    def __init__(self, count, between=0):
        self.left = count
        self.between = between  # after so many more, once more

    def __enter__(self):
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exception):
        sys.setprofile(None)

    def _profile(self, frame, event, argument):
        ours = frame.f_code.co_filename == lockfile._all_of.__file__
        if ours and event == "c_return":
            self.left -= 1
            if self.left == 0:
                sys.setprofile(self._profile)  # which what it raises would end
                raise KeyboardInterrupt
            if self.between and self.left == -self.between:
                raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["acquire", "__enter__"])
def test_interrupted_after_any_call_it_leaves_none(lock_class, tmp_path, method):
    locks = [lock_class(tmp_path / name) for name in ("one", "two", "three")]
    group = all_of(*locks, timeout=0)
    for count in range(1, MANY):
        interruption = InterruptedAfter(count)
        try:
            with interruption:
                getattr(group, method)()
        except KeyboardInterrupt:
            assert owned(*locks) == [False] * 3, count
        if interruption.left > 0:
            break
    assert count > 9
    assert owned(*locks) == [True] * 3
    group.__exit__()
    assert owned(*locks) == [False] * 3


def test_interrupted_after_any_call_it_leaves_what_was_owned_before(lock_class, tmp_path):
    one, two = lock_class(tmp_path / "one"), lock_class(tmp_path / "two")
    group = all_of(one, two, timeout=0)
    for method in (group.acquire, group.__enter__):
        for count in range(1, MANY):
            one.acquire()
            interruption = InterruptedAfter(count)
            try:
                with interruption:
                    method()
            except KeyboardInterrupt:
                assert owned(one, two) == [True, False], count
            if interruption.left > 0:
                break
        assert count > 9
        assert owned(one, two) == [True, True]
        group.__exit__()
        assert owned(one, two) == [False, False]


def test_interrupted_twice_it_leaves_none(lock_class, tmp_path):
    """In what gives back, too."""
    locks = [lock_class(tmp_path / name) for name in ("one", "two")]
    group = all_of(*locks, timeout=0)
    for count in range(1, MANY):
        for between in (1, 2, 3, 5, 8):
            interruption = InterruptedAfter(count, between)
            try:
                with interruption:
                    group.__enter__()
            except KeyboardInterrupt:
                assert owned(*locks) == [False] * 2, (count, between)
            else:
                group.__exit__()
        if interruption.left > 0:
            break
    assert count > 9


@pytest.mark.parametrize("method", ["release", "__exit__"])
def test_interrupted_after_any_call_the_end_releases_all(lock_class, tmp_path, method):
    locks = [lock_class(tmp_path / name) for name in ("one", "two", "three")]
    group = all_of(*locks, timeout=0)
    for count in range(1, MANY):
        group.__enter__()
        interruption = InterruptedAfter(count)
        try:
            with interruption:
                getattr(group, method)()
        except KeyboardInterrupt:
            pass
        else:
            assert interruption.left > 0, count
        assert owned(*locks) == [False] * 3, count
        if interruption.left > 0:
            break
    assert count > 9


def test_interrupted_at_its_end_an_inner_block_ends_once(lock_class, tmp_path):
    locks = [lock_class(tmp_path / name) for name in ("one", "two")]
    group = all_of(*locks)
    for count in range(1, MANY):
        with group:
            group.__enter__()
            interruption = InterruptedAfter(count)
            try:
                with interruption:
                    group.__exit__()
            except KeyboardInterrupt:
                pass
            assert owned(*locks) == [True] * 2, count
        assert owned(*locks) == [False] * 2, count
        if interruption.left > 0:
            break
    assert count > 9


def test_thread_of_the_same_owner_keeps_what_it_acquired_meanwhile(lock_class, tmp_path):
    """An interruption gives back what this call has acquired, not what its owner has."""
    one, two = (lock_class(tmp_path / name, threaded=False) for name in ("one", "two"))
    group = all_of(one, two)
    for count in range(1, MANY):
        interruption = InterruptedAfter(count)
        try:
            with interruption:
                group.acquire()
        except KeyboardInterrupt:
            assert owned(one, two) == [False, False], count
        if interruption.left > 0:
            break
    group.release()
    two.acquire()
    with pytest.raises(KeyboardInterrupt), InterruptedAfter(count - 1):
        group.acquire()
    assert owned(one, two) == [False, True]
    two.release()


def test_interrupted_while_it_waits_it_leaves_none(lock_class, path):
    code = """
        import signal
        lock_class = getattr(lockfile, sys.argv[1])
        one, two = lock_class(sys.argv[3]), lock_class(sys.argv[2])
        for enter in (lockfile.all_of(one, two).acquire, lockfile.all_of(one, two).__enter__):
            say("waits")
            try:
                enter()
            except KeyboardInterrupt:
                say([one.is_locked(), two.i_am_locking()])
        """
    first = lock_class(sibling(path, "A"))
    with lock_class(path), Child(code, lock_class.__name__, path, first.path) as child:
        for _ in range(2):
            assert child.hear() == "waits"
            wait_until(first.is_locked)
            wait_until(lambda: has_settled(child.pid))
            os.kill(child.pid, 2)
            assert child.hear() == [False, False]
        child.finish()


# Processes

TAKE_BOTH = """
    kind = getattr(lockfile, sys.argv[1])
    both = lockfile.all_of(*(kind(path) for path in sys.argv[2:]))
    """
STOPPED = f"""{TAKE_BOTH}
    be_stopped()
    while hear():
        say("ready")
        hear()
        with both:
            pass
        say("over")
    """
FREE = f"""{TAKE_BOTH}
    while hear():
        with both:
            pass
        say("over")
    """


def test_who_name_them_in_opposite_orders_never_wait_for_each_other(file_lock_class, tmp_path):
    """Wherever the one is stopped: the other gets both at once, or waits with none that the
    one lacks."""
    paths = [str(tmp_path / name) for name in ("one", "two")]
    name = file_lock_class.__name__
    kinds = ("open", "link", "rename", "unlink", "say")
    with (
        SteppedChild(STOPPED, name, *paths, kinds=kinds) as one,
        Child(FREE, name, *reversed(paths)) as other,
        OtherThread() as listener,
    ):
        for count in range(1, MANY):
            begin(one)
            for _ in range(count):
                one.next_call()
            at_its_end = one.call.kind == "say"
            other.say("go")
            heard = listener.start(other.hear)
            wait_until(lambda heard=heard: heard.done() or has_settled(other.pid))
            assert one.run_on() == "over"
            assert heard.result(PATIENCE) == "over"
            assert names(tmp_path) == []
            if at_its_end:
                break
        assert count > 8
        one.kill()


# Coroutines


class ThrownAt:
    """Awaits a coroutine; when it is suspended for the given time, throws an exception there."""

    def __init__(self, coroutine, count, error):
        self.coroutine, self.count, self.error = coroutine, count, error
        self.thrown = False

    def __await__(self):
        iterator = self.coroutine.__await__()
        try:
            future = iterator.send(None)
            while True:
                self.count -= 1
                if self.count == 0:
                    self.thrown = True
                    if self.error is GeneratorExit:
                        return iterator.close()
                    future = iterator.throw(self.error())
                future._asyncio_future_blocking = False
                yield from asyncio.sleep(0).__await__()
                if future.done():
                    future = iterator.send(None)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("method", ["acquire_async", "__aenter__"])
@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
def test_whatever_is_thrown_at_any_await_leaves_none(lock_class, tmp_path, method, error):
    locks = [lock_class(tmp_path / name) for name in ("one", "two", "three")]
    group = all_of(*locks)

    async def hold(lock, turns):
        async with lock:
            for _ in range(turns):
                await asyncio.sleep(0)

    async def enter(count):
        holders = [asyncio.create_task(hold(lock, 3 * i)) for i, lock in enumerate(locks, 1)]
        await asyncio.sleep(0)
        throwing = ThrownAt(getattr(group, method)(), count, error)
        try:
            await throwing
        except error:
            pass
        await asyncio.gather(*holders)
        assert owned(*locks) == [not throwing.thrown] * 3
        if not throwing.thrown:
            await group.__aexit__()
        assert [lock.is_locked() for lock in locks] == [False] * 3
        return throwing.thrown

    async def main():
        count = 1
        while await enter(count):
            count += 1
        assert count > 3

    asyncio.run(main())


def test_async_with_waits_while_other_tasks_run(make_any):
    one, two = make_any("one"), make_any("two")
    inside, most = 0, 0

    async def work(*locks):
        nonlocal inside, most
        for _ in range(5):
            async with all_of(*locks) as group:
                assert owned(*group.locks) == [True, True]
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

    async def main():
        await asyncio.gather(work(one, two), work(two, one), work(one, two))

    asyncio.run(main())
    assert most == 1
    assert owned(one, two) == [False, False]


def test_blocks_of_a_task_nest(make_any):
    one, two = make_any("one"), make_any("two")
    group = all_of(one, two)

    async def main():
        async with group:
            async with all_of(two, one):
                pass
            with group:
                pass
            assert owned(one, two) == [True, True]
        assert owned(one, two) == [False, False]
        assert await group.acquire_async() is group
        group.release()

    asyncio.run(main())


def test_async_failure_leaves_none(make_any):
    one, two = make_any("one"), make_any("two")

    async def main():
        group = all_of(one, two, timeout=0.01)
        for enter in (group.acquire_async, group.__aenter__):
            with pytest.raises(LockTimeout, match="two"):
                await enter()
            assert not one.is_locked()
        with pytest.raises(AlreadyLocked, match="two"):
            await group.acquire_async(timeout=0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), all_of(one, two):
                pass
        assert not one.is_locked()
        with one:
            with pytest.raises(LockTimeout):
                await group.__aenter__()
            assert one.i_am_locking()

    with OtherThread() as thread:
        thread.run(two.acquire)
        asyncio.run(main())
        thread.run(two.release)


def test_async_release_that_fails_does_not_keep_the_others(make_any):
    one, two = make_any("one"), make_any("two")

    async def main():
        with pytest.raises(NotLocked, match="two is not locked"):
            async with all_of(one, two):
                two.break_lock()
        with pytest.raises(ZeroDivisionError) as caught:
            async with all_of(one, two):
                two.break_lock()
                raise ZeroDivisionError
        assert "two is not locked" in notes_of(caught)[0]

    asyncio.run(main())
    assert not one.is_locked()


def test_asyncio_is_not_imported_for_it(path):
    code = """
        with lockfile.all_of(lockfile.FileLock(sys.argv[1])):
            say("asyncio" in sys.modules)
        """
    with Child(code, path) as child:
        assert child.hear() is False
        child.finish()


# Whose they are


@pytest.mark.parametrize("gathers", [asyncio.wait_for, lambda awaited, _: asyncio.gather(awaited)])
def test_owner_is_the_task_that_calls_whichever_awaits(lock_class, tmp_path, gathers):
    locks = [lock_class(tmp_path / name) for name in ("one", "two")]
    group = all_of(*locks)

    async def main():
        await gathers(group.acquire_async(), PATIENCE)
        assert owned(*locks) == [True, True]
        await gathers(group.acquire_async(), PATIENCE)
        group.release()
        assert owned(*locks) == [False, False]

    asyncio.run(main())


def test_what_is_named_twice_is_the_task_that_calls_as_well(lock_class, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    group = all_of(lock_class(tmp_path / "real" / "one"), lock_class(tmp_path / "alias" / "one"))

    async def main():
        await asyncio.gather(group.acquire_async())
        assert owned(*group.locks) == [True, True]
        group.release()
        assert owned(*group.locks) == [False, False]

    asyncio.run(main())


def test_one_lock_for_two_owners_is_refused_in_coroutines(lock_class, path):
    group = all_of(lock_class(path), lock_class(path, threaded=False))

    async def main():
        for enter in (group.acquire_async, group.__aenter__):
            with pytest.raises(LockFailed, match="two owners"):
                await enter()
            assert owned(*group.locks) == [False] * 2

    asyncio.run(main())


def test_failure_leaves_the_callers_own_whichever_awaits(lock_class, tmp_path):
    one, two = lock_class(tmp_path / "one"), lock_class(tmp_path / "two")
    group = all_of(one, two, timeout=0)

    async def main():
        one.acquire()
        with pytest.raises(AlreadyLocked):
            await asyncio.gather(group.acquire_async())
        with pytest.raises(AlreadyLocked):
            await group.__aenter__()
        assert owned(one, two) == [True, False]
        one.release()

    with OtherThread() as thread:
        thread.run(two.acquire)
        asyncio.run(main())
        thread.run(two.release)


def test_locks_that_objects_own_serve_any_thread_and_task(lock_class, tmp_path):
    group = all_of(*(lock_class(tmp_path / name, owner="object") for name in ("one", "two")))
    rival = all_of(*(lock_class(tmp_path / name, owner="object") for name in ("two", "one")))
    in_thread(group.acquire)
    assert owned(*group.locks) == [True, True]
    assert not rival.try_acquire()

    async def main():
        with pytest.raises(LockTimeout):
            await rival.acquire_async(0.01)
        group.release()
        async with rival:
            assert owned(*rival.locks) == [True, True]

    asyncio.run(main())


def test_block_may_end_in_another_thread(lock_class, tmp_path):
    """As the two ends of a web framework's dependency do."""
    group = all_of(lock_class(tmp_path / "one"), lock_class(tmp_path / "two"))
    with OtherThread() as thread:
        thread.run(group.__enter__)
        assert not group.try_acquire()
        in_thread(group.__exit__)
        assert thread.run(owned, *group.locks) == [False, False]
        assert group.try_acquire()
        group.release()


def test_locks_that_objects_own_are_released_when_all_goes_away(lock_class, tmp_path):
    group = all_of(*(lock_class(tmp_path / name, owner="object") for name in ("one", "two")))
    group.acquire()
    with pytest.warns(ResourceWarning, match="never released"):
        del group
        gc.collect()
    assert names(tmp_path) == []
