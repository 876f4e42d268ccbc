"""What programs do with a lock, again and again: all that is public, and what fails."""

import copy
import os
import pickle

import pytest

import lockfile
from lockfile import AlreadyLocked, LockTimeout, NotLocked, NotMyLock
from support.lock_classes import kind_of

ATTRIBUTES = ["path", "lock_file", "unique_name", "hostname", "pid", "threaded", "timeout"]


def lock_and_release(lock_class, path):
    lock = lock_class(path, timeout=1)
    lock.purpose = "testing"
    lock.acquire()
    lock.release()
    lock.try_acquire()
    lock.release()


def lock_elsewhere(lock_class, path):
    if kind_of(lock_class).is_pid_file:
        with pytest.raises(TypeError):
            lock_class("README", lock_file=path)
        return
    with lock_class("README", lock_file=path):
        pass
    with pytest.raises(ValueError):
        lock_class("README", lock_file="")


def leave_by_an_exception(lock_class, path):
    with pytest.raises(KeyError), lock_class(path) as lock:
        lock.break_lock()
        raise KeyError


def nest(lock_class, path):
    with lock_class(path) as lock:
        if kind_of(lock_class).is_pid_file:  # nobody gets it twice
            with pytest.raises(AlreadyLocked), lock:
                pass
            return
        with lock:
            lock.is_locked()
            lock.i_am_locking()


def ask(lock_class, path):
    with lock_class(path) as lock:
        repr(lock)
        lock.owner()
        lock.fileno()
        if kind_of(lock_class).is_pid_file:
            lock.read_pid()
        for attribute in ATTRIBUTES:
            getattr(lock, attribute)


def duplicate(lock_class, path):
    lock = lock_class(path)
    lock.purpose = "testing"
    pickle.loads(pickle.dumps(copy.deepcopy(copy.copy(lock))))


def release_in_vain(lock_class, path):
    lock = lock_class(path)
    with pytest.raises(NotLocked):
        lock.release()
    with pytest.raises(NotLocked):
        lock.fileno()


def acquire_in_vain(lock_class, path):
    with pytest.raises(lockfile.LockFailed):
        lock_class(os.path.join(path, "missing", "README")).acquire()


def break_own(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    lock_class(path).break_lock()


def initialise_wrongly(lock_class, path):
    for arguments in [(3,), ("",), (path, True, "1"), (path, True, float("nan")), ()]:
        with pytest.raises((TypeError, ValueError)):
            lock_class(*arguments)
    with pytest.raises(RuntimeError):
        lock_class.__new__(lock_class).acquire()


def initialise_again(lock_class, path):
    lock = lock_class(path, timeout=1)
    lock.__init__(path + "2", timeout=2)
    lock.timeout = 3


def subclass(lock_class, path):
    type("Passing", (lock_class,), {})(path).is_locked()


def contend(lock_class, path, lock):
    for timeout, error in [(0, AlreadyLocked), (0.001, LockTimeout)]:
        with pytest.raises(error):
            lock_class(path, timeout=timeout).acquire()
        lock_class(path).try_acquire(timeout)
    if not kind_of(lock_class).is_pid_file:  # a thread may release what another has
        with pytest.raises(NotMyLock):
            lock_class(path).release()
    lock.owner()


ALL = [
    lock_and_release,
    lock_elsewhere,
    leave_by_an_exception,
    nest,
    ask,
    duplicate,
    release_in_vain,
    acquire_in_vain,
    break_own,
    initialise_wrongly,
    initialise_again,
    subclass,
]
