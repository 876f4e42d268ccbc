"""Who owns: a thread, or all threads of a process, whatever lock object they use."""

import threading
import time

import pytest

from lockfile import AlreadyLocked, LockTimeout, NotLocked, NotMyLock
from support import PATIENCE, OtherThread, holder, in_thread, names


def test_lock_object_shared_by_threads_excludes_them(lock):
    lock.acquire()
    with OtherThread() as thread:
        assert thread.run(lock.is_locked)
        assert not thread.run(lock.i_am_locking)
        with pytest.raises(AlreadyLocked):
            thread.run(lock.acquire, timeout=0)
        with pytest.raises(LockTimeout):
            thread.run(lock.acquire, timeout=0.05)
        assert lock.i_am_locking()
        lock.release()
        thread.run(lock.acquire, timeout=0)
        assert not lock.i_am_locking()
        thread.run(lock.release)


def test_threads_count_with_one_shared_lock_object(lock):
    count = 0

    def work():
        nonlocal count
        for _ in range(200):
            with lock:
                seen = count
                time.sleep(0)
                count = seen + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert count == 4 * 200


def test_two_objects_in_one_thread_are_one_owner(lock_class, path):
    one, two = lock_class(path), lock_class(path)
    one.acquire()
    assert two.i_am_locking()
    two.acquire(timeout=0)
    assert one.unique_name == two.unique_name
    two.release()
    assert not one.is_locked()
    with pytest.raises(NotLocked):
        one.release()


def test_locking_twice_is_not_counted(lock):
    lock.acquire()
    lock.acquire()
    lock.release()
    assert not lock.is_locked()


def test_process_wide_lock_belongs_to_every_thread(lock_class, path):
    one, two = lock_class(path, threaded=False), lock_class(path, threaded=False)
    with OtherThread() as thread:
        thread.run(one.acquire)
        assert one.i_am_locking()
        assert two.i_am_locking()
        two.acquire(timeout=0)
        two.release()
        assert not thread.run(one.is_locked)


@pytest.mark.parametrize("owns", [True, False])
def test_process_wide_and_threaded_owner_differ(lock_class, path, owns):
    owner, another = lock_class(path, threaded=owns), lock_class(path, threaded=not owns)
    with owner:
        assert another.is_locked()
        assert not another.i_am_locking()
        with pytest.raises(AlreadyLocked):
            another.acquire(timeout=0)
        with pytest.raises(NotMyLock):
            another.release()
    assert not another.is_locked()


def test_threads_that_are_one_owner_do_not_wait_for_each_other(lock_class, path):
    start = threading.Barrier(2)

    def acquire(lock):
        start.wait(PATIENCE)
        lock.acquire(timeout=PATIENCE)

    with OtherThread() as first, OtherThread() as second:
        for _ in range(200):
            locks = [lock_class(path, threaded=False), lock_class(path, threaded=False)]
            outcomes = [
                thread.start(acquire, lock)
                for thread, lock in zip((first, second), locks, strict=True)
            ]
            for outcome in outcomes:
                outcome.result(2 * PATIENCE)
            assert locks[0].i_am_locking()
            locks[0].release()


def test_release_by_another_thread_names_the_owner(lock):
    with OtherThread() as thread:
        thread.run(lock.acquire)
        with pytest.raises(NotMyLock) as caught:
            lock.release()
        assert str(thread.ident) in str(caught.value)
        assert "threaded=False" in str(caught.value)
        assert thread.run(lock.i_am_locking)
        thread.run(lock.release)


def test_thread_that_ended_while_it_owned_still_owns(lock):
    in_thread(lock.acquire)
    assert lock.is_locked()
    assert not lock.i_am_locking()
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.05)
    with pytest.raises(NotMyLock):
        lock.release()
    lock.break_lock()


def test_new_thread_with_a_reused_identifier_does_not_own(lock):
    idents = set()

    def acquire():
        idents.add(threading.get_ident())
        lock.acquire(timeout=0)

    def look():
        return threading.get_ident() in idents, lock.i_am_locking()

    in_thread(acquire)
    looks = [in_thread(look) for _ in range(200)]
    assert not any(mine for _, mine in looks)
    lock.break_lock()
    if not any(reused for reused, _ in looks):
        pytest.skip("the system did not reuse the identifier")


def test_new_thread_with_a_reused_identifier_may_lock_something_else(file_lock_class, tmp_path):
    def acquire(name):
        lock = file_lock_class(tmp_path / name)
        lock.acquire(timeout=0)
        return lock, lock.unique_name

    locks, unique_names = zip(
        *[in_thread(acquire, f"file{number}") for number in range(5)], strict=True
    )
    assert len(set(unique_names)) == 5
    for lock in locks:
        assert lock.is_locked()
        lock.break_lock()
    assert names(tmp_path) == []


def test_threads_that_share_a_lock_object_do_not_break_each_others_locks(lock_class, path):
    lock = lock_class(path)
    with OtherThread() as stuck, OtherThread() as first, OtherThread() as second:
        stuck.run(lock_class(path).acquire)
        for waiter in (first, second):
            with pytest.raises(LockTimeout):
                waiter.run(lock.acquire, timeout=0.05)
        first.run(lock.break_lock)
        first.run(lock.acquire)
        second.run(lock.break_lock)
        assert first.run(lock.i_am_locking)
        first.run(lock.release)
        with pytest.raises(NotLocked):
            stuck.run(lock_class(path).release)


@pytest.mark.leaves_files
def test_lock_of_a_replaced_directory_is_not_that_of_the_path(file_lock_class, tmp_path):
    directory, moved = tmp_path / "directory", tmp_path / "moved"
    directory.mkdir()
    lock = file_lock_class(directory / "README")
    lock.acquire()
    directory.rename(moved)
    directory.mkdir()
    with holder(file_lock_class, directory / "README"):
        assert not lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
    assert names(moved)
    lock.release()
    assert names(moved) == []
