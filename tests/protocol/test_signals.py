"""Signals, and other calls of the same owner, meet a thread that waits."""

import fcntl
import os
import signal
import time

import pytest

from support import names, wait_until
from support.protocol import (
    SteppedChild,
    wake_ups,
)
from support.waiters import asleep, settle, waiter

# Signals


def test_keyboard_interrupt_comes_at_once_and_leaves_nothing(lock_class, path, tmp_path, how):
    code = """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    say("waiting")
    try:
        lock.acquire()
    except KeyboardInterrupt:
        say("interrupted")
    hear()
    lock.acquire()
    say(lock.i_am_locking())
    lock.release()
    """
    lock = lock_class(path)
    lock.acquire()
    with waiter(lock_class, path, code, how) as child:
        owned = names(tmp_path)
        assert child.hear() == "waiting"
        asleep(child, how)
        os.kill(child.pid, signal.SIGINT)
        assert child.hear() == "interrupted"
        assert names(tmp_path) == owned
        lock.release()
        child.say("again")
        assert child.hear() is True
        child.finish()
    assert names(tmp_path) == []


def test_handler_that_returns_lets_the_wait_go_on(lock_class, path, how):
    code = """
    signal.signal(signal.SIGUSR1, lambda *arguments: say("handled"))
    say("waiting")
    lock.acquire()
    say("owns")
    lock.release()
    """
    lock = lock_class(path)
    lock.acquire()
    with waiter(lock_class, path, code, how) as child:
        assert child.hear() == "waiting"
        for _ in range(5):
            asleep(child, how)
            os.kill(child.pid, signal.SIGUSR1)
            assert child.hear() == "handled"
        lock.release()
        assert child.hear() == "owns"
        child.finish()


def test_handler_may_release_and_acquire_while_the_program_waits(lock_class, path):
    code = """
    other, third = type(lock)(sys.argv[2] + "2"), type(lock)(sys.argv[2] + "3")

    def handler(*arguments):
        with third:
            other.release()
        try:
            lock.release()
        except lockfile.NotMyLock:
            say("not mine")

    signal.signal(signal.SIGUSR1, handler)
    other.acquire()
    say("waiting")
    lock.acquire()
    say("owns")
    lock.release()
    """
    lock, other = lock_class(path), lock_class(path + "2")
    lock.acquire()
    with waiter(lock_class, path, code) as child:
        assert child.hear() == "waiting"
        settle(child)
        assert other.is_locked()
        os.kill(child.pid, signal.SIGUSR1)
        assert child.hear() == "not mine"
        assert not other.is_locked()
        lock.release()
        assert child.hear() == "owns"
        child.finish()


def test_handler_may_release_at_any_moment(lock_class, path, tmp_path):
    code = """
    handled = 0

    def handler(*arguments):
        global handled
        handled += 1
        try:
            lock.release()
        except lockfile.UnlockError:
            pass

    signal.signal(signal.SIGUSR1, handler)
    say("looping")
    while handled < 300:
        lock.acquire()
        try:
            lock.release()
        except lockfile.NotLocked:
            pass
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert not lock.is_locked()
    """
    with waiter(lock_class, path, code) as child:
        assert child.hear() == "looping"
        while child.process.poll() is None:
            os.kill(child.pid, signal.SIGUSR1)
            time.sleep(0.001)
        assert child.kill() == 0
    assert names(tmp_path) == []


# To each look it is free, since the path leads elsewhere by now; to each claim it is there.
MOVED = """
    def interrupt(*arguments):
        raise InterruptedError

    signal.signal(signal.SIGALRM, interrupt)
    directory, name = os.path.split(sys.argv[2])
    os.mkdir(directory)
    lock.acquire()
    os.rename(directory, directory + ".moved")
    moved = type(lock)(os.path.join(directory + ".moved", name))
    say("waiting")
    try:
        moved.acquire()
    except InterruptedError:
        say("interrupted")
    hear()
    lock.release()
    say(os.listdir(directory + ".moved"))
    """


def test_owner_of_a_moved_lock_sleeps_and_hears_signals(file_lock_class, tmp_path, how):
    """It waits for its own lock, by the path that this has now."""
    with waiter(file_lock_class, tmp_path / "directory" / "README", MOVED, how) as child:
        assert child.hear() == "waiting"
        asleep(child, how)
        os.kill(child.pid, signal.SIGALRM)
        assert child.hear() == "interrupted"
        child.say("release")
        assert child.hear() == []
        child.finish()


TAKEN = """
    import signal

    def interrupt(*arguments):
        raise InterruptedError

    signal.signal(signal.SIGUSR1, interrupt)
    other = threading.Thread(target=time.sleep, args=[PATIENCE], daemon=True)
    other.start()
    say(other.native_id)
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    be_stopped()
    try:
        lock.acquire()
    except InterruptedError:
        say("interrupted")
    hear()
    os._exit(0)
    """


def test_signal_that_another_thread_takes_interrupts_the_next_long_sleep(file_lock_class, path):
    """While a look lasts, signals are held off in the thread that waits."""
    kinds = ["watch", "flock", "sleep", "say"]
    with (
        file_lock_class(path),
        SteppedChild(TAKEN, file_lock_class.__name__, path, kinds=kinds) as child,
    ):
        other = child.hear()
        child.run_to("flock", where=lambda call: call.arguments[1] & fcntl.LOCK_SH)
        child.run_to("sleep")
        child.run_to("flock")  # the second look, before the first long sleep
        before = wake_ups(child.pid, other)
        os.kill(child.pid, signal.SIGUSR1)
        wait_until(lambda: wake_ups(child.pid, other) > before, "the other thread to take it")
        kinds = []
        while (call := child.next_call()).kind != "say":
            kinds.append(call.kind)
        assert set(kinds) <= {"flock", "sleep"} and kinds.count("sleep") == 1
        assert kinds.index("sleep") >= kinds.count("flock")  # no other look
        assert child.run_on() == "interrupted"


# Another thread of the same owner hangs in the middle of its release

HANGING = """
    import signal
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], threaded=False)

    class Interrupted(Exception):
        pass

    def interrupt(*arguments):
        raise Interrupted

    def release():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        be_stopped()
        lock.release()

    def use():
        with lock:
            pass

    def outcome_of(call):
        try:
            return eval(call)
        except (lockfile.Error, Interrupted) as error:
            return type(error).__name__

    signal.signal(signal.SIGALRM, interrupt)
    lock.acquire()
    thread = threading.Thread(target=release)
    thread.start()
    hear()
    while (call := hear()) != "no more":
        signal.setitimer(signal.ITIMER_REAL, 0.05 if call[1] else 0)
        say(outcome_of(call[0]))
    thread.join()
    assert not lock.is_locked()
    use()
    """


@pytest.fixture
def hanging(file_lock_class, path):
    """What the calls of a process come to, one thread of which is stopped while it releases."""
    with SteppedChild(HANGING, file_lock_class.__name__, path, kinds=["rename", "unlink"]) as child:
        child.next_call()
        child.say("begin")

        def outcome_of(call, alarm=False):
            child.say([call, alarm])
            return child.hear()

        yield outcome_of
        child.go_on()
        child.say("no more")
        child.finish()


def test_claim_that_does_not_wait_finds_the_lock_held_while_it_is_released(hanging):
    assert hanging("lock.acquire(timeout=0)") == "AlreadyLocked"


def test_claim_waits_for_a_release_no_longer_than_it_would_for_another_owner(hanging):
    assert hanging("lock.acquire(timeout=0.01)") == "LockTimeout"
    assert hanging("lock.acquire(timeout=0.3)") == "LockTimeout"


@pytest.mark.parametrize(
    "call",
    ["acquire()", "release()", "is_locked()", "i_am_locking()", "owner()", "fileno()"],
)
def test_signals_interrupt_the_wait_for_another_call_of_the_owner(hanging, call):
    assert hanging(f"lock.{call}", alarm=True) == "Interrupted"


def test_signals_interrupt_a_block_that_waits_for_another_call_of_the_owner(hanging):
    assert hanging("use()", alarm=True) == "Interrupted"


def test_names_are_told_while_another_call_of_the_owner_hangs(hanging, path):
    assert os.path.dirname(hanging("lock.unique_name")).startswith(os.path.dirname(path))
    assert hanging("repr(lock)").endswith(f"-- {path!r}>")
