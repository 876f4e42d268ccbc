"""What a signal handler raises at the worst of moments, and what a forked child finds."""

import contextlib
import os
import signal
import sys
import threading

import pytest

import lockfile
from lockfile.postgresql import PostgreSQLLock, attempt, holds, session, waits
from support import OtherThread, wait_until


def told_by_child(function):
    """What it returns, in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(function()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    told = os.read(reading, 1000).decode()
    os.close(reading)
    os.waitpid(child, 0)
    return told


class Stop(Exception):
    pass


@pytest.fixture
def alarm():
    """What the handler of SIGALRM does is set by the test."""

    def ring(action, seconds=0.2):
        signal.signal(signal.SIGALRM, lambda *_: action())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.getsignal(signal.SIGALRM)
    yield ring
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_child_owns_nothing_though_a_handler_raises_while_the_fork_waits(server, alarm):
    begun, go_on = threading.Event(), threading.Event()

    def keep_forks_waiting():
        with session.gate.lock:
            begun.set()
            go_on.wait()

    def stop():
        threading.Timer(0.2, go_on.set).start()
        raise Stop

    lock = PostgreSQLLock("README")
    with lock, OtherThread() as thread:
        keeping = thread.start(keep_forks_waiting)
        begun.wait()
        alarm(stop)
        assert told_by_child(lock.i_am_locking) == "False"
        keeping.result(60)
        assert server.held() == 1


def test_handler_that_raises_in_a_look_leaves_the_session_usable(server):
    """After whatever call: a look that took the connection for ever would see its end no more."""

    def raise_after_call(frame, event, argument):
        nonlocal left
        if event == "c_return" and frame.f_code.co_filename == session.__file__:
            left -= 1
            if left == 0:
                raise Stop

    lock = PostgreSQLLock("README")
    for number in range(1, 20):
        lock.acquire()
        left = number
        sys.setprofile(raise_after_call)
        with contextlib.suppress(Stop):
            lock.i_am_locking()
        sys.setprofile(None)
        lock.release()
    assert left > 0


class HandlersError(lockfile.AlreadyLocked):
    pass


def raise_handlers_error():
    raise HandlersError("another lock, which the handler wants")


def test_error_of_a_handlers_own_lock_ends_the_wait(server, alarm):
    lock = PostgreSQLLock("README")
    with OtherThread() as thread:
        thread.run(PostgreSQLLock("README").acquire)
        alarm(raise_handlers_error)
        with pytest.raises(HandlersError):
            lock.acquire()
        assert server.waiting() == 0
        thread.run(PostgreSQLLock("README").release)
    assert server.held() == 0
    assert lock.try_acquire()
    lock.release()


@pytest.mark.parametrize("moment", range(2))
def test_error_of_a_handlers_own_lock_gives_up_what_is_granted(server, monkeypatch, moment):
    """Amid the statement, and when its answer is there."""
    check_backend, sleep = attempt._check_backend, waits._sleep
    left = [moment]

    def raise_first(function):
        def raising(*arguments):
            left[0] -= 1
            if left[0] == -1:
                raise_handlers_error()
            return function(*arguments)

        return raising

    lock = PostgreSQLLock("README")
    with lock:
        pass
    monkeypatch.setattr(attempt, "_check_backend", raise_first(check_backend))
    monkeypatch.setattr(waits, "_sleep", raise_first(sleep))
    with contextlib.suppress(HandlersError):
        lock.acquire()
        lock.release()
    assert server.held() == 0


def test_forked_child_does_not_wait_for_a_thread_that_is_no_more(server, monkeypatch):
    inside, go_on = threading.Event(), threading.Event()
    readv = os.readv

    def slow_readv(*arguments):
        inside.set()
        go_on.wait()
        return readv(*arguments)

    monkeypatch.setattr(waits.os, "readv", slow_readv)
    with PostgreSQLLock("README"), OtherThread() as thread:
        monkeypatch.setattr(holds._watcher, "_bell", None)
        waiting = thread.start(PostgreSQLLock("README").try_acquire, 0.1)
        inside.wait()
        child = os.fork()
        if child == 0:
            os._exit(0)
        try:
            wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] == child, "the child")
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            go_on.set()
        assert waiting.result(60) is False


def test_nested_block_that_does_not_begin_is_not_counted(server, monkeypatch):
    def interrupted(*_):
        raise Stop

    lock = PostgreSQLLock("README")
    with lock:
        with monkeypatch.context() as patch:
            patch.setattr(PostgreSQLLock, "_begin_block", interrupted)
            with pytest.raises(Stop):
                lock.__enter__()
        assert lock.i_am_locking()
    assert not lock.i_am_locking()


@pytest.mark.parametrize("exit_", ["release", "__exit__"])
def test_release_that_is_interrupted_before_it_asks_has_released(server, monkeypatch, exit_):
    """Somebody may keep the exception, and so all that it has been through."""
    remove = holds.remove

    def interrupted(*arguments):
        monkeypatch.setattr(holds, "remove", remove)
        remove(*arguments)
        raise Stop

    lock = PostgreSQLLock("README")
    if exit_ == "release":
        lock.acquire()
    else:
        lock.__enter__()
    monkeypatch.setattr(holds, "remove", interrupted)
    with pytest.raises(Stop) as kept:
        getattr(lock, exit_)()
    wait_until(lambda: server.held() == 0, "the lock to be free")
    assert kept.value.__traceback__ is not None


def test_block_whose_lock_a_handler_takes_at_its_end_ends_without_a_word(server, monkeypatch):
    """The handler's block is the outermost then; and nobody gives what it has to others twice."""
    lock = PostgreSQLLock("README")
    remove, handlers = holds.remove, [lock]

    def interrupted(*arguments):
        while handlers:
            with handlers.pop():
                assert server.held() == 1
        return remove(*arguments)

    monkeypatch.setattr(holds, "remove", interrupted)
    with lock:
        pass
    assert server.held() == 0
    assert len({id(free) for free in lock._source._free}) == len(lock._source._free)


@pytest.mark.parametrize("moment", range(1, 13))
def test_release_that_a_handler_is_in_between_of_is_one(server, moment):
    """Two would unlock what another thread has by that connection since."""
    lock = PostgreSQLLock("README")
    calls, ends = [], []

    def handler(frame, event, argument):
        if event == "c_return" and frame.f_code.co_filename == holds.__file__:
            calls.append(event)
            if len(calls) == moment:
                sys.setprofile(None)
                with contextlib.suppress(lockfile.UnlockError):
                    lock.release()
                    ends.append("handler")

    kept = lock.acquire()._find().session
    sys.setprofile(handler)
    try:
        with contextlib.suppress(lockfile.UnlockError):
            lock.release()
            ends.append("interrupted")
    finally:
        sys.setprofile(None)
    assert len(ends) == 1
    assert server.held() == 0
    assert kept.lives()
    assert lock._source._free.count(kept) == 1
