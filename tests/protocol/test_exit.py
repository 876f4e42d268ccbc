"""What becomes of a lock when its process ends."""

import gc

import pytest

from lockfile import AlreadyLocked, UnlockError
from support import PATIENCE, child_of, in_thread, names, wait_until
from support.protocol import sleeps_in, swept_clean


def test_normal_exit_releases_after_the_atexit_handlers(lock_class, path, tmp_path):
    code = """
        import atexit

        def last_words():
            say([lock.i_am_locking(), lock.is_locked()])

        atexit.register(last_words)
        lock = lock_class(path)
        lock.acquire()
        owned_by_a_thread = lock_class(path + "2")
        threading.Thread(target=owned_by_a_thread.acquire).start()
        """
    with child_of(lock_class, code, path) as child:
        assert child.hear() == [True, True]
        child.finish()
    assert names(tmp_path) == []


def test_exit_while_daemon_threads_wait(lock_class, path, tmp_path):
    code = """
        lock = lock_class(path)
        threads = [threading.Thread(target=lock.acquire, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        say([thread.native_id for thread in threads])
        hear()
        """
    with lock_class(path):
        owned = names(tmp_path)
        with child_of(lock_class, code, path) as child:
            for thread in child.hear():
                wait_until(
                    lambda thread=thread: sleeps_in(child.pid, thread), "the threads to wait"
                )
            child.finish()
        assert names(tmp_path) == owned


def test_exit_while_daemon_threads_lock(lock_class, path):
    code = """
        begun = threading.Semaphore(0)

        def work(number):
            lock = lock_class(path + str(number % 2))
            lock.acquire()
            begun.release()
            while True:
                lock.release()
                lock.acquire()

        for number in range(4):
            threading.Thread(target=work, args=(number,), daemon=True).start()
        for number in range(4):
            begun.acquire()
        """
    for _ in range(3):
        with child_of(lock_class, code, path) as child:
            child.finish()
        for name in (path + "0", path + "1"):  # a thread may have got it after the last release
            lock = lock_class(name)
            lock.acquire(timeout=0)
            lock.release()
    assert swept_clean(lock_class, path)


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise ValueError"])
def test_exit_by_an_exception_releases(lock_class, path, tmp_path, end):
    with child_of(lock_class, f"lock_class(path).acquire()\n{end}\n", path, stderr=-3) as child:
        assert child.process.wait(PATIENCE) != 0
    assert names(tmp_path) == []


@pytest.mark.parametrize("end", ["os._exit(0)", "os.abort()", "os.kill(os.getpid(), 15)"])
def test_end_without_farewell_leaves_a_lock_that_the_next_recovers(lock_class, path, tmp_path, end):
    with child_of(lock_class, f"lock_class(path).acquire()\n{end}\n", path, stderr=-3) as child:
        child.process.wait(PATIENCE)
    lock = lock_class(path)
    assert lock.owner().alive is False
    assert not lock.is_locked()
    lock.acquire(timeout=0)
    lock.release()
    assert names(tmp_path) == []


def test_exit_does_not_touch_a_lock_that_was_taken_over(lock_class, path, tmp_path):
    code = """
        lock_class(path).acquire()
        say("owned")
        hear()
        """
    lock = lock_class(path)
    with child_of(lock_class, code, path) as child:
        assert child.hear() == "owned"
        lock.break_lock()
        lock.acquire(timeout=0)
        child.finish()
    assert lock.i_am_locking()
    lock.release()
    assert names(tmp_path) == []


def test_lock_object_that_goes_away_releases_nothing(lock_class, path):
    lock_class(path).acquire()
    gc.collect()
    assert lock_class(path).i_am_locking()
    with pytest.raises(AlreadyLocked):
        in_thread(lock_class(path).acquire, timeout=0)
    lock_class(path).release()
    with pytest.raises(UnlockError):
        lock_class(path).release()
