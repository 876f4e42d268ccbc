"""on_wait: who waits is told for whom."""

import asyncio
import copy
import functools
import gc
import logging
import os
import pickle
import sqlite3
import threading
import time
import weakref

import pytest

import lockfile
from lockfile import AlreadyLocked, LockTimeout, Owner, SQLiteFileLock
from support import PATIENCE, Child, OtherThread, in_thread

UNKNOWN = (None, None, None, None)


class Told(Exception):
    """What a callback raises."""


@pytest.fixture
def other():
    with OtherThread() as other:
        yield other


def acquire_by_argument(lock, on_wait):
    assert lock.acquire(on_wait=on_wait) is lock
    lock.release()


def acquire_by_attribute(lock, on_wait):
    lock.on_wait = on_wait
    lock.acquire()
    lock.release()


def acquire_by_constructor(lock, on_wait):
    lock = type(lock)(lock.path, on_wait=on_wait)
    lock.acquire()
    lock.release()


def enter(lock, on_wait):
    with type(lock)(lock.path, on_wait=on_wait):
        pass


def try_to_acquire(lock, on_wait):
    assert lock.try_acquire(timeout=PATIENCE, on_wait=on_wait) is True
    lock.release()


every_wait = pytest.mark.parametrize(
    "wait",
    [acquire_by_argument, acquire_by_attribute, acquire_by_constructor, enter, try_to_acquire],
)


@every_wait
def test_who_waits_is_told_whom_it_waits_for(lock, other, wait):
    told = []

    def on_wait(owner):
        told.append(owner)
        other.run(lock.release)

    other.run(lock.acquire)
    wait(lock, on_wait)
    assert told == [(lock.hostname, os.getpid(), other.ident, True)]
    assert type(told[0]) is Owner
    assert not lock.is_locked()


@every_wait
def test_what_it_raises_ends_the_wait(lock, other, wait):
    def on_wait(owner):
        raise Told(owner.pid)

    other.run(lock.acquire)
    with pytest.raises(Told, match=str(os.getpid())):
        wait(lock, on_wait)
    assert not lock.i_am_locking()
    other.run(lock.release)
    lock.on_wait = None
    lock.acquire(timeout=0)
    lock.release()


def test_it_is_told_again_and_again(lock, other):
    told = []

    def on_wait(owner):
        told.append(owner.thread)
        if len(told) == 3:
            other.run(lock.release)

    other.run(lock.acquire)
    lock.acquire(on_wait=on_wait)
    lock.release()
    assert told == [other.ident] * 3


def test_who_does_not_wait_is_told_nothing(lock, other):
    lock.on_wait = pytest.fail
    with lock, lock:
        pass
    other.run(lock.acquire)
    with pytest.raises(AlreadyLocked):
        lock.acquire(timeout=0)
    assert not lock.try_acquire()
    other.run(lock.release)


def test_who_waits_for_a_moment_is_told_nothing(lock, other):
    told = []
    other.run(lock.acquire)
    begun = time.monotonic()
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.01, on_wait=told.append)
    assert not told or time.monotonic() - begun >= 0.1
    other.run(lock.release)


def test_time_is_up_all_the_same(lock, other):
    told = []
    other.run(lock.acquire)
    begun = time.monotonic()
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.15, on_wait=told.append)
    assert len(told) < 2 or time.monotonic() - begun >= 0.2  # when it is told again
    other.run(lock.release)


def test_owner_in_another_process(lock, lock_class):
    told = []
    with Child(
        "with getattr(lockfile, sys.argv[1])(sys.argv[2]): say(threading.get_ident()); hear()",
        lock_class.__name__,
        lock.path,
    ) as child:
        thread = child.hear()

        def on_wait(owner):
            told.append(owner)
            if len(told) == 1:  # it may be slow to hear
                child.say("release")

        with lock_class(lock.path, on_wait=on_wait):
            pass
        assert set(told) == {(lock.hostname, child.pid, thread, True)}
        child.finish()


@pytest.mark.leaves_files
def test_lock_file_of_another_program(file_lock_class, path):
    told = []

    def on_wait(owner):
        told.append(owner)
        os.unlink(f"{path}.lock")

    open(f"{path}.lock", "x").close()
    with file_lock_class(path, on_wait=on_wait):
        assert told == [UNKNOWN]


def test_database_that_is_busy(path):
    """Who owns the lock, if anybody, cannot even be asked."""
    told = []
    lock = SQLiteFileLock(path)
    with lock:
        pass
    connection = sqlite3.connect(lock.database, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")

    def on_wait(owner):
        told.append(owner)
        connection.execute("ROLLBACK")

    with SQLiteFileLock(path, on_wait=on_wait):
        assert told == [UNKNOWN]
    connection.close()


def test_all_of_many_are_told(lock, other):
    """The eldest watch, and the others nap."""
    told = set()
    all_told = threading.Event()

    def wait():
        def on_wait(owner):
            told.add(threading.get_ident())
            if len(told) == 6:
                all_told.set()

        lock.acquire(on_wait=on_wait)
        lock.release()

    other.run(lock.acquire)
    threads = [threading.Thread(target=wait) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert all_told.wait(PATIENCE)
    other.run(lock.release)
    for thread in threads:
        thread.join()
    assert not lock.is_locked()


# ---- What it may do ----


def test_it_may_ask_the_lock_that_is_waited_for(lock, other):
    told = []

    def on_wait(owner):
        told.append((lock.is_locked(), lock.i_am_locking(), lock.owner() == owner))
        assert lock.try_acquire() is False
        other.run(lock.release)

    other.run(lock.acquire)
    lock.acquire(on_wait=on_wait)
    assert told == [(True, False, True)]
    lock.release()


def test_it_may_acquire_the_lock_itself(lock, other):
    def on_wait(owner):
        other.run(lock.release)
        with type(lock)(lock.path):
            pass
        lock.acquire()

    other.run(lock.acquire)
    lock.acquire(on_wait=on_wait)
    assert lock.i_am_locking()
    lock.release()
    assert not lock.is_locked()


def test_it_may_wait_for_the_lock_itself(lock, other):
    """The one that waits in the other's callback is told by a callback of its own."""

    def release(owner):
        other.run(lock.release)

    def on_wait(owner):
        lock.acquire(on_wait=release)
        lock.release()

    other.run(lock.acquire)
    lock.acquire(on_wait=on_wait)
    lock.release()


def test_it_may_break_the_lock(lock, other):
    def on_wait(owner):
        lock.break_lock()

    other.run(lock.acquire)
    with lock.acquire(on_wait=on_wait):
        assert lock.i_am_locking()
    with pytest.raises(lockfile.NotLocked):
        other.run(lock.release)


def test_it_may_initialise_the_lock_object_anew(lock, other, path):
    def on_wait(owner):
        lock.__init__(f"{path}-other")
        gc.collect()
        other.run(type(lock)(path).release)

    other.run(lock.acquire)
    lock.acquire(on_wait=on_wait)
    assert type(lock)(path).i_am_locking()
    type(lock)(path).release()


def test_it_may_never_return(lock, other):
    """While one is busy with it, others use the same lock object."""
    told, returns = threading.Event(), threading.Event()

    def on_wait(owner):
        told.set()
        assert returns.wait(PATIENCE)

    lock.acquire()
    waiting = other.start(lock.acquire, on_wait=on_wait)
    assert told.wait(PATIENCE)
    lock.release()
    for _ in range(3):
        in_thread(enter, lock, None)
        with lock:
            pass
    assert not waiting.done()
    returns.set()
    assert waiting.result(PATIENCE) is lock
    other.run(lock.release)


FORK = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    parent, ends = os.getpid(), os.pipe()
    owners = []

    def on_wait(owner):
        owners.append(owner)
        if len(owners) > 1:
            return  # told again, since it waits for long
        if os.fork() == 0:
            os.close(ends[1])
            os.read(ends[0], 1)  # until the parent is gone
        elif owner.pid != os.getpid():
            say("told")

    lock.on_wait = on_wait
    lock.acquire()
    say(["child", "parent"][os.getpid() == parent])
    lock.release()
    """


def test_it_may_fork(lock, lock_class, other):
    """Both go on waiting."""
    other.run(lock.acquire)
    with Child(FORK, lock_class.__name__, lock.path) as child:
        assert child.hear() == "told"
        other.run(lock.release)
        assert child.hear() == "parent"
        assert child.hear() == "child"
        child.finish()
    assert not lock.is_locked()


CLOSE_ALL = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    owners = []

    def on_wait(owner):
        owners.append(owner)
        if len(owners) > 1:
            return  # told again, since it waits for long
        for number in os.listdir("/proc/self/fd"):
            try:
                name = os.readlink(f"/proc/self/fd/{number}")
                if not name.startswith(("pipe:", "socket:", "/dev/")):  # by which it talks to us
                    os.close(int(number))
            except FileNotFoundError:
                pass
        say("told")

    lock.on_wait = on_wait
    lock.acquire()
    say(lock.i_am_locking())
    lock.release()
    """


def test_it_may_close_all_descriptors(file_lock_class, path, other):
    lock = file_lock_class(path)
    other.run(lock.acquire)
    with Child(CLOSE_ALL, file_lock_class.__name__, path) as child:
        assert child.hear() == "told"
        other.run(lock.release)
        assert child.hear() is True
        child.finish()


# ---- The argument, and the attribute ----


def announce(owner, text=""):
    """A function that can be pickled."""


@pytest.mark.parametrize("wrong", [1, "print", ()])
def test_what_cannot_be_called_is_refused(lock_class, path, wrong):
    lock = lock_class(path)
    for use in (
        functools.partial(lock_class, path, on_wait=wrong),
        functools.partial(lock.acquire, on_wait=wrong),
        functools.partial(lock.acquire_async, on_wait=wrong),
        functools.partial(lock.acquire_in_steps, on_wait=wrong),
        functools.partial(lock.try_acquire, on_wait=wrong),
        functools.partial(setattr, lock, "on_wait", wrong),
    ):
        with pytest.raises(TypeError, match="on_wait must be callable or None, not <class"):
            use()
    assert lock.on_wait is None
    assert not lock.is_locked()


def test_it_is_named(lock_class, path):
    with pytest.raises(TypeError):
        lock_class(path, True, None, None, None, announce)
    with pytest.raises(TypeError):
        lock_class(path).acquire(None, announce)


def test_attribute_is_what_the_constructor_was_given(lock_class, path):
    lock = lock_class(path, on_wait=announce)
    assert lock.on_wait is announce
    lock.on_wait = None
    assert lock.on_wait is None
    lock.on_wait = print
    del lock.on_wait
    assert lock.on_wait is None


def test_argument_comes_before_the_attribute(lock, other):
    lock.on_wait = pytest.fail
    other.run(lock.acquire)
    lock.acquire(on_wait=lambda owner: other.run(lock.release))
    lock.release()


def test_method_of_a_subclass(lock_class, path, other):
    class Telling(lock_class):
        told = None

        def on_wait(self, owner):
            self.told = owner.thread
            other.run(lock.release)

    lock = Telling(path)
    other.run(lock.acquire)
    with lock:
        pass
    assert lock.told == other.ident


def test_acquire_of_a_subclass_is_called_with_it_if_it_is_given(lock_class, path):
    class Recording(lock_class):
        def acquire(self, *args, **kwargs):
            self.given = args, kwargs

    lock = Recording(path)
    lock.try_acquire()
    assert lock.given == ((0,), {})
    lock.try_acquire(3, on_wait=announce)
    assert lock.given == ((3,), {"on_wait": announce})
    with pytest.raises(TypeError):
        lock.try_acquire(on_wait=announce, other=1)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda lock: pickle.loads(pickle.dumps(lock))]
)
@pytest.mark.parametrize("on_wait", [None, print, announce])
def test_copy_calls_the_same(lock_class, path, duplicate, on_wait):
    assert duplicate(lock_class(path, on_wait=on_wait)).on_wait is on_wait


def test_partial_function_is_pickled(lock_class, path):
    on_wait = functools.partial(announce, text="hello")
    again = pickle.loads(pickle.dumps(lock_class(path, on_wait=on_wait)))
    assert again.on_wait.keywords == {"text": "hello"}


def test_what_cannot_be_pickled_says_so(lock_class, path):
    """To leave it out in silence would surprise whoever finds no message in a worker."""
    lock = lock_class(path, on_wait=lambda owner: None)
    assert copy.copy(lock).on_wait is lock.on_wait
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(lock)


def test_lock_that_calls_its_own_object_is_collected(lock_class, path):
    class Program:
        def __init__(self):
            self.lock = lock_class(path, on_wait=self.tell)

        def tell(self, owner):
            pass

    program = Program()
    gone = weakref.ref(program.lock)
    again = copy.deepcopy(program)
    assert again.lock.on_wait.__self__ is again
    del program, again
    gc.collect()
    assert gone() is None


# ---- The log ----


class Records(logging.Handler):
    """What is logged; then it goes on."""

    def __init__(self, go_on):
        super().__init__()
        self.lines, self.go_on = [], go_on

    def emit(self, record):
        self.lines.append((record.levelname, record.getMessage()))
        self.go_on()


@pytest.fixture
def log(lock, other):
    logger = logging.getLogger("lockfile")
    handler = Records(lambda: other.run(lock.release))
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_long_wait_is_logged_once_where_that_is_wanted(lock, other, log):
    log.setLevel(logging.DEBUG)
    other.run(lock.acquire)
    with lock:
        pass
    ((level, line),) = log.handlers[0].lines
    assert level == "DEBUG"
    assert line.startswith(f"{lock.path}: waiting for lockfile.Owner(")
    assert f"pid={os.getpid()}" in line


def test_task_that_waits_is_logged(lock, other, log):
    async def main():
        async with lock:
            pass

    log.setLevel(logging.DEBUG)
    other.run(lock.acquire)
    asyncio.run(main())
    assert len(log.handlers[0].lines) == 1


def test_nothing_else_is_logged(lock, other, log):
    log.setLevel(logging.INFO)
    other.run(lock.acquire)
    lock.acquire(on_wait=lambda owner: other.run(lock.release))
    lock.release()
    log.setLevel(logging.DEBUG)
    with lock:
        assert lock.owner().alive
    assert log.handlers[0].lines == []


def test_log_that_raises_ends_the_wait(lock, other, log):
    def refuse(record):
        raise Told

    log.addFilter(refuse)
    log.setLevel(logging.DEBUG)
    other.run(lock.acquire)
    with pytest.raises(Told):
        lock.acquire()
    log.removeFilter(refuse)
    other.run(lock.release)
    assert lock.try_acquire()
    lock.release()


def test_logging_is_not_imported(lock_class, path, other):
    other.run(lock_class(path).acquire)
    code = """
        sys.modules.pop("logging", None)

        def on_wait(owner):
            say("logging" in sys.modules)
            raise SystemExit
        getattr(lockfile, sys.argv[1])(sys.argv[2]).acquire(on_wait=on_wait)
        """
    with Child(code, lock_class.__name__, path) as child:
        assert child.hear() is False
        child.finish()
    other.run(lock_class(path).release)
