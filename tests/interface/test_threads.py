"""Threads that use one object, one class or one module at the same time.

Without a GIL they really do; with one, they change places wherever Python lets them.
"""

import contextlib
import copy
import gc
import subprocess
import sys
import threading
import weakref

import pytest

import lockfile
from support import PATIENCE, Child

THREADS = 8
ROUNDS = 200


def at_once(*functions, rounds=ROUNDS):
    """Call each of them so often, in THREADS threads that take turns to pick one; raise what they
    raise."""
    start = threading.Barrier(THREADS)
    failures = []

    def work(number):
        try:
            start.wait(PATIENCE)
            for turn in range(rounds):
                functions[(number + turn) % len(functions)]()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if failures:
        raise failures[0]


def test_one_object_lets_one_thread_in(lock, tmp_path):
    inside = []

    def enter():
        with lock:
            inside.append(threading.get_ident())
            assert len(inside) == 1
            assert lock.i_am_locking()
            assert lock.owner().thread == threading.get_ident()
            inside.pop()

    def look():
        lock.is_locked()
        lock.owner()
        assert not lock.i_am_locking()

    def try_to_enter():
        if lock.try_acquire():
            lock.release()

    at_once(enter, look, try_to_enter, rounds=50)
    assert not lock.is_locked()


def test_one_object_that_is_broken_all_the_time(lock):
    def enter():
        lock.acquire()
        with contextlib.suppress(lockfile.UnlockError):
            lock.release()

    at_once(enter, lock.break_lock, lock.is_locked, rounds=50)
    lock.break_lock()
    assert not lock.is_locked()


@pytest.mark.parametrize(
    "name, values", [("timeout", (1, 2)), ("pid", (1, 2)), ("unique_name", "ab")]
)
def test_attributes_are_assigned_and_deleted(lock, name, values):
    usual = getattr(lock, name)

    def assign(value):
        setattr(lock, name, value)

    def delete():
        with contextlib.suppress(AttributeError):
            delattr(lock, name)

    def read():
        # A thread's unique name is its own.
        assert getattr(lock, name) in (usual, *values) or name == "unique_name"

    at_once(lambda: assign(values[0]), read, delete, lambda: assign(values[1]), lambda: repr(lock))
    delete()
    assert getattr(lock, name) == usual


def test_dictionary_is_made_once(lock_class, path):
    """It is made when it is wanted first: here, by all of them at once."""
    for _ in range(50):
        lock = lock_class(path)
        numbers = iter(range(THREADS))
        names = [f"name{number}" for number in range(THREADS)]
        at_once(lambda: setattr(lock, names[next(numbers)], 1), rounds=1)  # noqa: B023
        assert sorted(vars(lock)) == names


def test_constructor_is_called_again_while_others_look(lock_class, path):
    lock = lock_class(path)
    others = [path + str(number) for number in range(2)]

    def look():
        assert lock.path in others
        assert lock.lock_file[: -len(".lock")] in others
        assert lock.timeout in (None, 3)
        assert copy.copy(lock).path in others
        assert not lock.is_locked()

    lock.__init__(others[0])
    at_once(
        lambda: lock.__init__(others[0]),
        look,
        lambda: lock.__init__(others[1], timeout=3),
        lambda: repr(lock),
    )


def test_constructor_is_called_first_while_others_look(lock_class, path):
    for _ in range(20):
        lock = lock_class.__new__(lock_class)

        def look():
            try:
                assert lock.path == path  # noqa: B023
            except RuntimeError as error:
                assert "__init__" in str(error)
            repr(lock)  # noqa: B023

        at_once(look, look, lambda: lock.__init__(path), rounds=5)  # noqa: B023
        assert lock.path == path


def test_class_is_changed_while_others_make_objects(lock_class, path, tmp_path):
    class Changing(lock_class):
        pass

    def add():
        Changing.extra = Changing.__repr__
        Changing.acquire = lambda self, timeout=None: lock_class.acquire(self, timeout)

    def remove():
        for name in ("extra", "acquire"):
            with contextlib.suppress(AttributeError):
                delattr(Changing, name)

    def make():
        lock = Changing(path)
        assert isinstance(copy.copy(lock), Changing)
        with contextlib.suppress(lockfile.AlreadyLocked), lock.acquire(timeout=0):
            assert lock.i_am_locking()

    at_once(make, add, make, remove, rounds=50)


def test_objects_are_dropped_while_others_ask_for_them(lock_class, path):
    kept = []
    references = []

    def make():
        lock = lock_class(path)
        lock.itself = lock  # for the garbage collector
        kept.append(lock)
        references.append(weakref.ref(lock))
        del lock
        kept.pop()

    def ask():
        for reference in references[-20:]:
            lock = reference()
            if lock is not None:
                assert lock.path == path
                assert isinstance(lock.__dict__, dict)

    at_once(make, ask, make, gc.collect if lock_class is lockfile.LinkFileLock else ask, rounds=40)
    gc.collect()
    assert not [reference for reference in references if reference() is not None]


FIRST_COROUTINES = """
    import asyncio, gc

    lock_class, path, count = getattr(lockfile, sys.argv[1]), sys.argv[2], int(sys.argv[3])
    start = threading.Barrier(count)

    async def use(number):
        await lock_class(f"{path}{number}").acquire_async()

    def work(number):
        start.wait()
        asyncio.run(use(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    say(sys.getrefcount(sys.modules["lockfile._waiting"]))
    """


def test_first_coroutines_of_threads_keep_their_module_once(path):
    counts = []
    for threads in ("1", str(THREADS)):
        with Child(FIRST_COROUTINES, "LinkFileLock", path, threads) as child:
            counts.append(child.hear())
            child.finish()
    assert counts[0] == counts[1]


# Two module objects, each made by a thread, and the first ones of this interpreter: both are
# in the middle of it at the same time.
MODULES = """
import importlib.util, os, sys, threading

file, directory = sys.argv[1:]
specification = importlib.util.spec_from_file_location("lockfile._lockfile", file)
meeting = threading.Barrier(2)
register, modules = os.register_at_fork, []

def meet_and_register(**hooks):
    meeting.wait()
    register(**hooks)

def work():
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    modules.append(module)

os.register_at_fork = meet_and_register
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for module in modules:
    with module.SQLiteFileLock(directory + "/README") as lock:
        assert lock.i_am_locking()
links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
files = [os.readlink(link) for link in links if os.path.islink(link)]
print(len(modules), files.count(directory + "/.lockfile.sqlite3"))
"""


def test_modules_made_by_threads_share_what_the_interpreter_has(tmp_path):
    command = [sys.executable, "-c", MODULES, lockfile._lockfile.__file__, tmp_path]
    assert subprocess.check_output(command, text=True) == "2 1\n"


ENDING = """
    lock_class, path = getattr(lockfile, sys.argv[1]), sys.argv[2]
    busy = threading.Barrier(9)

    def work(number):
        own, shared = lock_class(f"{path}{number}"), lock_class(path)
        own.acquire()
        busy.wait()
        while True:
            shared.try_acquire() and shared.release()
            repr(shared), shared.is_locked(), lock_class(path).owner()

    for number in range(8):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    busy.wait()
    """


@pytest.mark.leaves_files
def test_interpreter_ends_while_threads_lock(lock_class, path):
    """They stop wherever they are; what they own is free again."""
    for _ in range(3):
        with Child(ENDING, lock_class.__name__, path) as child:
            child.finish()
        for number in range(THREADS):
            assert not lock_class(f"{path}{number}").is_locked()
        with lock_class(path, timeout=PATIENCE):
            pass


FORGOTTEN = """
    import gc

    lock_class, path = getattr(lockfile, sys.argv[1]), sys.argv[2]
    start = threading.Barrier(8)
    failures = []

    def work(lock):
        try:
            start.wait()
            for turn in range(50):
                with lock:
                    assert lock.i_am_locking()
                lock = type(lock)(lock.path)
        except BaseException as error:
            failures.append(repr(error))

    locks = [lock_class(f"{path}{number}") for number in range(8)]
    threads = [threading.Thread(target=work, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    del lock_class, lockfile, locks
    for name in [name for name in sys.modules if name.startswith("lockfile")]:
        del sys.modules[name]
    while any(thread.is_alive() for thread in threads):
        gc.collect()
    say(failures)
    """


def test_module_is_forgotten_while_threads_lock(lock_class, path):
    with Child(FORGOTTEN, lock_class.__name__, path) as child:
        assert child.hear() == []
        child.finish()
