"""owner=: who owns is said outright."""

import asyncio
import copy
import gc
import os
import pickle
import threading

import pytest

import lockfile
from support import Child, in_thread, time_to_see_an_end


def pickled(lock):
    return pickle.loads(pickle.dumps(lock))


def in_task(function):
    async def main():
        return function()

    return asyncio.run(main())


def test_object_owns_whichever_thread_or_task_calls(lock_class, path):
    lock = lock_class(path, owner="object")
    in_thread(lock.acquire)
    assert lock.i_am_locking()
    assert in_thread(lock.i_am_locking)
    assert in_task(lock.i_am_locking)
    in_task(lock.release)
    assert not lock.is_locked()


def test_objects_exclude_each_other_in_one_thread(lock_class, path):
    one, other = lock_class(path, owner="object"), lock_class(path, owner="object")
    with one:
        assert other.is_locked()
        assert not other.i_am_locking()
        with pytest.raises(lockfile.AlreadyLocked, match="another lock object of this process"):
            other.acquire(timeout=0)
        with pytest.raises(lockfile.NotMyLock):
            other.release()
        with pytest.raises(lockfile.AlreadyLocked):
            lock_class(path).acquire(timeout=0)
    with other:
        assert not one.i_am_locking()


def test_object_is_told_from_thread_and_process(lock_class, path):
    with lock_class(path, owner="object") as lock:
        owner = lock.owner()
        assert owner.thread is None
        assert owner.alive
        for ownership in "thread", "process", "task":
            assert not lock_class(path, owner=ownership).i_am_locking()


def test_object_waits_for_another_object(lock_class, path):
    one, other = lock_class(path, owner="object"), lock_class(path, owner="object")
    one.acquire()
    thread = threading.Thread(target=other.acquire)
    thread.start()
    one.release()
    thread.join()
    assert other.i_am_locking()
    other.release()


def test_tasks_that_share_an_object_share_its_lock(lock_class, path):
    """Blocks are counted, and the last one releases."""
    lock = lock_class(path, owner="object")

    async def work():
        async with lock:
            await asyncio.sleep(0)
            assert lock.i_am_locking()

    async def main():
        await asyncio.gather(*(work() for _ in range(5)))

    asyncio.run(main())
    assert not lock.is_locked()


def assert_released(lock):
    lock.acquire(timeout=time_to_see_an_end(type(lock)))
    lock.release()


def test_object_that_is_collected_while_it_owns_warns_and_releases(lock_class, path):
    lock = lock_class(path, owner="object")
    lock.acquire()
    with pytest.warns(ResourceWarning, match="never released"):
        del lock
        gc.collect()
    assert_released(lock_class(path))


def test_object_that_is_collected_in_a_circle_releases(lock_class, path):
    lock = lock_class(path, owner="object")
    lock.itself = lock
    lock.acquire()
    with pytest.warns(ResourceWarning):
        del lock
        gc.collect()
    assert_released(lock_class(path))


@pytest.mark.filterwarnings("error")
def test_object_that_owns_nothing_goes_without_a_word(lock_class, path):
    for owner in "object", "thread", "process", None:
        lock = lock_class(path, owner=owner)
        lock.acquire()
        lock.release()
        del lock
        gc.collect()


@pytest.mark.filterwarnings("error")
def test_other_objects_release_nothing_when_they_go(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    del lock
    gc.collect()
    lock_class(path).release()


def test_warning_that_is_an_error_is_not_lost(lock_class, path):
    """Nobody can be told of it but by sys.unraisablehook, and the lock is released."""
    code = """
        import warnings, gc
        warnings.simplefilter("error")
        sys.unraisablehook = lambda told: say(type(told.exc_value).__name__)
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2], owner="object")
        lock.acquire()
        del lock
        gc.collect()
        say("collected")
        hear()
        """
    with Child(code, lock_class.__name__, path) as child:
        assert child.hear() == "ResourceWarning"
        assert child.hear() == "collected"
        assert_released(lock_class(path))
        child.finish()


def test_thread_owns_whichever_task_calls(lock_class, path):
    lock = lock_class(path, owner="thread")

    async def main():
        await asyncio.create_task(acquire())
        assert lock.i_am_locking()

    async def acquire():
        lock.acquire()

    asyncio.run(main())
    assert lock.i_am_locking()
    assert not in_thread(lock.i_am_locking)
    lock.release()


def test_owner_wins_over_threaded(lock_class, path):
    with lock_class(path, threaded=False, owner="thread") as lock:
        assert lock.threaded
        assert not in_thread(lock.i_am_locking)
    with lock_class(path, threaded=True, owner="process") as lock:
        assert not lock.threaded
        assert in_thread(lock.i_am_locking)
    with lock_class(path, threaded=False, owner="task") as lock:
        assert lock.i_am_locking()  # where no task runs, the thread
        assert not in_task(lock.i_am_locking)


@pytest.mark.parametrize("owner", ["me", "", "Object"])
def test_unknown_owner_is_refused(lock_class, path, owner):
    with pytest.raises(ValueError, match="'object'"):
        lock_class(path, owner=owner)


@pytest.mark.parametrize("owner", [1, True, b"object", object()])
def test_owner_that_is_no_text_is_refused(lock_class, path, owner):
    with pytest.raises(TypeError, match="owner must be"):
        lock_class(path, owner=owner)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
def test_copy_is_an_owner_of_its_own(lock_class, path, duplicate):
    with lock_class(path, owner="object") as lock:
        other = duplicate(lock)
        assert not other.i_am_locking()
        with pytest.raises(lockfile.AlreadyLocked):
            other.acquire(timeout=0)
    with other:
        assert in_thread(other.i_am_locking)


def test_child_process_owns_nothing_of_an_object(lock_class, path):
    lock = lock_class(path, owner="object")
    lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(lock.i_am_locking())
    assert os.waitpid(child, 0)[1] == 0
    assert lock.i_am_locking()
    lock.release()


def test_object_that_is_made_anew_while_it_owns_warns_and_releases(lock_class, path, tmp_path):
    lock = lock_class(path, owner="object")
    lock.acquire()
    with pytest.warns(ResourceWarning, match="never released"):
        lock.__init__(tmp_path / "other", owner="object")
    assert_released(lock_class(path))
    with lock:
        assert lock.i_am_locking()


def test_object_that_owns_until_the_end_is_released_there(lock_class, path):
    """Though it goes away with its class, after the module."""
    code = """
        class Lock(getattr(lockfile, sys.argv[1])):
            pass

        Lock.instance = Lock(sys.argv[2], owner="object")
        Lock.instance.acquire()
        say(Lock.instance.is_locked())
        """
    with Child(code, lock_class.__name__, path) as child:
        assert child.hear() is True
        child.finish()
    assert not lock_class(path).is_locked()


def test_object_that_means_another_lock_by_now_releases_what_it_owns(lock_class, path, tmp_path):
    """Both: nobody else could."""
    lock = lock_class(path, owner="object")
    lock.acquire()
    lock.path = tmp_path / "other"
    lock.acquire()
    assert lock_class(path).is_locked() and lock_class(tmp_path / "other").is_locked()
    with pytest.warns(ResourceWarning, match="never released") as warned:
        del lock
        gc.collect()
    assert len(warned) == 2
    assert not lock_class(path).is_locked() and not lock_class(tmp_path / "other").is_locked()


def test_object_whose_class_tells_another_lock_releases_what_it_owns(lock_class, path):
    class Moving(lock_class):
        lock_file = path + ".1"

    lock = Moving(path, owner="object")
    lock.acquire()
    Moving.lock_file = path + ".2"
    assert not lock.i_am_locking()
    with pytest.warns(ResourceWarning, match="never released"):
        del lock
        gc.collect()
    assert not lock_class(path, lock_file=path + ".1").is_locked()
