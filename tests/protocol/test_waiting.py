"""Waiting: what wakes a waiter, what does not, and what is left when it gives up."""

import contextlib
import fcntl
import os
import signal
import textwrap
import time

import pytest

import lockfile
from lockfile import LockTimeout
from support import PATIENCE, Child, OtherThread, in_thread, names, wait_until
from support.protocol import (
    SteppedChild,
    has_settled,
    inotify_descriptors,
    inotify_of,
    planned_pause,
    plant_unique,
    wake_ups,
    watches,
)

# It takes some to meet a waiter at each of its steps.
TURNS = 20

WAITER = """
    import errno, signal
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    if sys.argv[3] == "polling":
        refuse("inotify", errno.EMFILE)
    """


def waiter(lock_class, path, code, how="events"):
    return Child(WAITER + code, lock_class.__name__, path, how)


@pytest.fixture(params=["events", "polling"])
def how(request):
    """With the kernel's events, and where they are refused."""
    if request.param == "polling":
        request.getfixturevalue("refusals")
    return request.param


@pytest.fixture
def taker(no_second_look, lock_class, path, how):
    """A process that acquires and releases the lock each time it is told."""
    code = """
    while hear():
        lock.acquire()
        say("owns")
        lock.release()
        say("released")
    """
    with waiter(lock_class, path, code, how) as child:
        yield child


def settle(child):
    wait_until(lambda: has_settled(child.pid), "the waiter to sleep")


def asleep(child, how):
    """Wait until it waits: for long, or in the steps of a poll."""
    if how == "events":
        settle(child)
    else:
        count = wake_ups(child.pid)
        wait_until(lambda: wake_ups(child.pid) > count + 2, "the waiter to poll")


def takes_its_turn(child):
    assert child.hear() == "owns"
    assert child.hear() == "released"


# What wakes


def test_waiter_wakes_when_the_owner_releases(lock_class, path, taker, how):
    lock = lock_class(path)
    for _ in range(TURNS):
        lock.acquire()
        taker.say("acquire")
        asleep(taker, how)
        lock.release()
        takes_its_turn(taker)
    taker.finish()


def test_waiter_wakes_when_the_owner_is_killed(lock_class, path, taker, how):
    owners = """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while hear():
        if os.fork() == 0:
            lock.acquire()
            say(os.getpid())
            while True:
                time.sleep(PATIENCE)
    """
    with waiter(lock_class, path, owners) as parent:
        for _ in range(TURNS):
            parent.say("fork")
            owner = parent.hear()
            taker.say("acquire")
            asleep(taker, how)
            os.kill(owner, signal.SIGKILL)
            takes_its_turn(taker)
        parent.finish()
    taker.finish()


def make_file(name):
    open(name, "x").close()


def rename(name):
    os.rename(name, name + "-moved")


def replace_by_a_dead_owners(name):
    unique = plant_unique(name)
    os.link(unique, name + "-link")
    os.rename(name + "-link", name)


FILE_CLASSES = [lockfile.LinkFileLock, lockfile.MkdirFileLock]
REMOVALS = {
    "deleted": (make_file, os.unlink),
    "renamed": (make_file, rename),
    "replaced by a dead owner's": (make_file, replace_by_a_dead_owners),
    "a removed directory": (os.mkdir, os.rmdir),
}


@pytest.mark.parametrize("lock_class", FILE_CLASSES, indirect=True)
@pytest.mark.parametrize(("make", "remove"), REMOVALS.values(), ids=REMOVALS.keys())
def test_waiter_wakes_when_a_foreign_lock_is(lock_class, path, tmp_path, taker, how, make, remove):
    for _ in range(TURNS):
        make(path + ".lock")
        taker.say("acquire")
        asleep(taker, how)
        remove(path + ".lock")
        takes_its_turn(taker)
    taker.finish()
    for moved in tmp_path.glob("*-moved"):
        moved.unlink()
    assert names(tmp_path) == []


def test_threads_of_one_process_wake_each_other(no_second_look, lock_class, path):
    code = f"""
    from support.protocol import has_settled
    with OtherThread() as thread:
        native = thread.run(threading.get_native_id)
        for _ in range({TURNS}):
            with lock:
                acquiring = thread.start(lock.acquire)
                wait_until(lambda: has_settled(os.getpid(), native), "the waiter to sleep")
            acquiring.result(PATIENCE)
            thread.run(lock.release)
    say("each time")
    """
    with waiter(lock_class, path, code) as child:
        assert child.hear() == "each time"
        child.finish()


def test_every_one_of_many_waiters_gets_its_turn(lock_class, path, tmp_path):
    code = """
    say("waiting")
    lock.acquire()
    say("owns")
    hear()
    """
    lock = lock_class(path)
    lock.acquire()
    waiters = [waiter(lock_class, path, code) for _ in range(5)]
    try:
        for child in waiters:
            assert child.hear() == "waiting"
        for child in waiters:
            settle(child)
        lock.release()
        left = set(waiters)
        while left:  # each is killed as soon as it owns
            wait_until(
                lambda: any(not child._lines.empty() for child in left), "the next one to own"
            )
            [owner] = [child for child in left if not child._lines.empty()]
            assert owner.hear() == "owns"
            owner.kill()
            left.remove(owner)
    finally:
        for child in waiters:
            child.kill()
    with lock:
        pass
    assert names(tmp_path) == []


# The eldest watch, the others nap

IN_LINE = """
    say("waiting")
    lock.acquire()
    say("owns")
    lock.release()
    hear()
    """

FOURTH = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    be_stopped()
    lock.acquire()
    lock.release()
    say("owned")
    """


@pytest.fixture
def line(file_lock_class, path):
    """Three who wait for a lock that has just changed hands, and a fourth that has yet to see."""
    kinds = ["watch", "sleep", "say"]
    make_file(path + ".lock")
    with contextlib.ExitStack() as stack:
        eldest = [stack.enter_context(waiter(file_lock_class, path, IN_LINE)) for _ in range(3)]
        for child in eldest:
            assert child.hear() == "waiting"
            settle(child)
        fourth = SteppedChild(FOURTH, file_lock_class.__name__, path, kinds=kinds)
        stack.enter_context(fourth)
        fourth.run_to("sleep")
        make_file(path + "-other")
        os.rename(path + "-other", path + ".lock")
        for child in eldest:
            settle(child)
        yield eldest, fourth


def naps(fourth):
    """Does it sleep next without having set a watch?"""
    return fourth.next_call().kind == "sleep"


def test_fourth_of_those_who_wait_naps(line, path):
    eldest, fourth = line
    assert all(watches(child.pid) for child in eldest)
    assert naps(fourth)
    assert watches(fourth.pid) == 0
    os.unlink(path + ".lock")
    assert {child.hear() for child in eldest} == {"owns"}
    assert fourth.run_on() == "owned"


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_nobody_waits_for_elders_that_are_stopped_or_killed(line, path, how):
    eldest, fourth = line
    assert naps(fourth)
    for child in eldest:
        os.kill(child.pid, how)
    os.unlink(path + ".lock")
    kinds = []
    while (call := fourth.next_call()).kind != "say":
        kinds.append(call.kind)
    assert kinds == []  # it owns after that nap
    assert fourth.run_on() == "owned"


def test_who_naps_watches_once_it_is_one_of_the_eldest(line, path):
    eldest, fourth = line
    assert naps(fourth)
    eldest[0].kill()
    assert fourth.next_call().kind == "watch"
    os.unlink(path + ".lock")
    assert fourth.run_on() == "owned"


def test_who_naps_watches_at_last_while_the_lock_stays(line, path):
    _, fourth = line
    assert naps(fourth)
    fourth.run_to("watch")
    os.unlink(path + ".lock")
    assert fourth.run_on() == "owned"


# What does not


WAIT = """
    say("waiting")
    be_stopped()
    lock.acquire()
    """


def pauses(child, seconds):
    """How long it means to sleep each time, until that makes so many seconds; it takes none."""
    planned = []
    while sum(planned) < seconds:
        planned.append(planned_pause(child.run_to("sleep")))
        child.answer(0)
    return planned


def test_waiting_takes_few_wake_ups(lock_class, path):
    """At most twelve in ten seconds."""
    code = textwrap.dedent(WAITER) + textwrap.dedent(WAIT)
    with lock_class(path):
        arguments = (lock_class.__name__, path, "events")
        with SteppedChild(code, *arguments, kinds=("sleep", "say")) as child:
            assert child.hear() == "waiting"
            assert len(pauses(child, seconds=10)) <= 12


def test_waiters_do_not_wake_each_other(lock_class, path):
    """What one does who comes, looks and sleeps again, the others are not told of."""
    code = textwrap.dedent(WAITER) + textwrap.dedent(WAIT)
    with lock_class(path), waiter(lock_class, path, "lock.acquire()") as asleep:
        settle(asleep)
        os.kill(asleep.pid, signal.SIGSTOP)  # what it is told stays to be read
        arguments = (lock_class.__name__, path, "events")
        with (
            inotify_of(asleep.pid) as told,
            SteppedChild(code, *arguments, kinds=("sleep", "say")) as other,
        ):
            assert other.hear() == "waiting"
            pauses(other, seconds=3)
            assert not told()


def test_polling_takes_little_time(lock_class, path, refusals):
    """The pauses double, to not more than 50 ms, each by chance up to a quarter shorter."""
    code = textwrap.dedent(WAITER) + textwrap.dedent(WAIT)
    with lock_class(path):
        arguments = (lock_class.__name__, path, "polling")
        with SteppedChild(code, *arguments, kinds=("sleep", "say")) as child:
            assert child.hear() == "waiting"
            planned = pauses(child, seconds=1)
            assert inotify_descriptors(child.pid) == 0
    longest = 0.001
    for pause in planned:
        assert 0.74 * longest < pause <= longest
        longest = min(2 * pause, 0.05)


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
    with waiter(lock_class, path, code, how) as child:
        lock.acquire()
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
    with waiter(lock_class, path, code, how) as child:
        lock.acquire()
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
    with waiter(lock_class, path, code) as child:
        lock.acquire()
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


# Deadlines


@pytest.mark.parametrize("timeout", [0.001, 0.0035, 0.02, 0.3])
def test_timeout_is_never_early(lock_class, path, timeout):
    lock = lock_class(path)
    with OtherThread() as thread:
        thread.run(lock.acquire)
        for _ in range(3):
            start = time.monotonic()
            with pytest.raises(LockTimeout):
                lock.acquire(timeout=timeout)
            assert time.monotonic() - start >= timeout
        thread.run(lock.release)


def test_timeout_is_never_early_where_events_are_refused(lock_class, path, refusals):
    lock = lock_class(path)

    def waited(timeout):
        start = time.monotonic()
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=timeout)
        return time.monotonic() - start

    with lock:
        for timeout in (0.001, 0.0035, 0.02, 0.3):
            assert in_thread(waited, timeout, refused={"inotify": 24}) >= timeout


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 10**10])
def test_endless_timeouts_wait(lock_class, path, timeout):
    lock = lock_class(path)
    with OtherThread() as thread:
        with lock:
            acquiring = thread.start(lock.acquire, timeout=timeout)
        acquiring.result(PATIENCE)
        thread.run(lock.release)


def test_lock_freed_shortly_before_the_deadline_is_ours(lock_class, path):
    """Who is told "timeout" was still refused at the end: never a timeout beside a free lock."""
    lock = lock_class(path)
    with OtherThread() as thread:
        for _ in range(30):
            lock.acquire()
            acquiring = thread.start(lock.acquire, timeout=0.02)
            time.sleep(0.015)
            lock.release()
            try:
                acquiring.result(PATIENCE)
            except LockTimeout:
                pass
            else:
                thread.run(lock.release)
            assert not lock.is_locked()


# Courtesy


# How turns alternate then, is counted by the benchmark: it depends on who gets a processor.


def test_who_released_lets_a_waiting_process_in_before_it_claims_again(clock, lock_class, path):
    """It looks whether the waiter has come, and pauses in between; see clock.c."""
    code = """
    def pause():
        clock().start_clock()
        say("pauses")
        hear()

    lock.acquire()
    say("owns")
    hear()
    pause = ctypes.CFUNCTYPE(None)(pause)
    clock().stop_clock(pause)
    lock.release()
    lock.acquire()
    say("owns again")
    lock.release()
    """
    waiting = """
    lock.acquire()
    say("owns")
    hear()
    lock.release()
    say("released")
    """
    with waiter(lock_class, path, code) as owner:
        assert owner.hear() == "owns"
        with waiter(lock_class, path, waiting) as child:
            settle(child)
            os.kill(child.pid, signal.SIGSTOP)
            owner.say("release")
            assert owner.hear() == "pauses"
            os.kill(child.pid, signal.SIGCONT)
            assert child.hear() == "owns"
            owner.say("go on")
            child.say("release")
            assert child.hear() == "released"
            assert owner.hear() == "owns again"
            owner.finish()
            child.finish()


def test_who_released_lets_a_waiting_thread_in_before_it_claims_again(clock, lock_class, path):
    code = """
    from support.protocol import has_settled
    turns, entered = [], threading.Event()

    def take_a_turn():
        lock.acquire()
        turns.append("the waiter")
        entered.set()
        lock.release()

    def pause():
        entered.wait(PATIENCE)
        clock().start_clock()

    pause = ctypes.CFUNCTYPE(None)(pause)
    lock.acquire()
    thread = threading.Thread(target=take_a_turn)
    thread.start()
    wait_until(lambda: has_settled(os.getpid(), thread.native_id), "the waiter to sleep")
    clock().stop_clock(pause)
    lock.release()
    lock.acquire()
    turns.append("who released")
    lock.release()
    thread.join()
    say(turns)
    """
    with waiter(lock_class, path, code) as child:
        assert child.hear() == ["the waiter", "who released"]
        child.finish()


def test_stopped_contender_does_not_keep_the_owner_from_its_lock(lock_class, path):
    code = """
    say("waiting")
    lock.acquire()
    say("owns")
    hear()
    """
    lock = lock_class(path)
    with waiter(lock_class, path, code) as child:
        lock.acquire()
        assert child.hear() == "waiting"
        settle(child)
        os.kill(child.pid, signal.SIGSTOP)
        for timeout in (0, -1, None, 1):
            lock.release()
            lock.acquire(timeout=timeout)
            with lock_class(path + "2"):
                pass
        lock.release()
        os.kill(child.pid, signal.SIGCONT)
        assert child.hear() == "owns"
        assert lock.is_locked()
    with lock:
        pass


# What waiting costs


def test_contended_acquires_do_not_use_up_descriptors(lock_class, path):
    code = """
    from support.protocol import open_files

    def work():
        for _ in range(150):
            with lock:
                pass

    before = open_files()
    for _ in range(3):
        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wait_until(lambda: len(open_files()) == len(before) + 1, "one watch to be left")
    say("done")
    hear()
    """
    with waiter(lock_class, path, code) as child:
        assert child.hear() == "done"
        assert inotify_descriptors(child.pid) == 1
        child.finish()


def test_process_that_waits_no_more_keeps_one_watch(lock_class, path):
    """The user has 128 of them, for all programs; while many threads wait, a few serve."""
    code = """
    def wait():
        lock.acquire()
        lock.release()

    threads = [threading.Thread(target=wait) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say("done")
    hear()
    """
    with lock_class(path):
        child = waiter(lock_class, path, code)
        wait_until(lambda: len(os.listdir(f"/proc/{child.pid}/task")) == 41, "all to start")
        wait_until(lambda: inotify_descriptors(child.pid) > 1, "more than one to watch")
        settle(child)
        assert inotify_descriptors(child.pid) <= 8
    with child:
        assert child.hear() == "done"
        wait_until(lambda: inotify_descriptors(child.pid) == 1, "one watch to be left")
        wait_until(lambda: len(os.listdir(f"/proc/{child.pid}/task")) == 1, "no thread to be left")
        child.finish()


def test_one_long_wait_keeps_no_more_watches_than_it_needs(lock_class, path):
    code = """
    short = getattr(lockfile, sys.argv[1])(sys.argv[2] + "-short", timeout=1000)
    threads = [threading.Thread(target=short.__class__.acquire, args=[lock, 1000], daemon=True)]
    threads += [threading.Thread(target=lambda: short.acquire().release()) for _ in range(20)]
    for thread in threads:
        thread.start()
    hear()
    """
    short = lock_class(path + "-short")
    with lock_class(path), short, waiter(lock_class, path, code) as child:
        wait_until(lambda: inotify_descriptors(child.pid) > 2, "many to watch")
        short.release()
        wait_until(lambda: inotify_descriptors(child.pid) <= 2, "most watches to be closed")
        wait_until(lambda: len(os.listdir(f"/proc/{child.pid}/task")) == 2, "one to wait on")
        short.acquire()


def test_waits_that_time_out_do_not_use_up_descriptors(lock_class, path):
    lock = lock_class(path)
    with OtherThread() as thread:
        with lock:
            for _ in range(3):
                with pytest.raises(LockTimeout):
                    thread.run(lock.acquire, timeout=0.01)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(50):
                with pytest.raises(LockTimeout):
                    thread.run(lock.acquire, timeout=0.003)
            assert len(os.listdir("/proc/self/fd")) == before
