"""The tree of exceptions."""

import copy
import errno
import math
import os
import pickle
import threading

import pytest

import lockfile
from support import in_thread

BASES = {
    "Error": (Exception,),
    "LockError": (lockfile.Error,),
    "LockTimeout": (lockfile.LockError, TimeoutError),
    "AlreadyLocked": (lockfile.LockError,),
    "LockFailed": (lockfile.LockError,),
    "UnlockError": (lockfile.Error,),
    "NotLocked": (lockfile.UnlockError,),
    "NotMyLock": (lockfile.UnlockError,),
}

every_exception = pytest.mark.parametrize(
    "exception", [getattr(lockfile, name) for name in BASES], ids=list(BASES)
)


@pytest.mark.parametrize("name", BASES)
def test_bases(name):
    assert getattr(lockfile, name).__bases__ == BASES[name]


@every_exception
def test_name_and_module(exception):
    assert exception.__module__ == "lockfile"
    assert getattr(lockfile, exception.__name__) is exception
    assert exception.__qualname__ == exception.__name__


@every_exception
def test_documentation(exception):
    assert exception.__doc__
    assert exception.__doc__ != exception.__base__.__doc__


@every_exception
@pytest.mark.parametrize("arguments", [(), ("reason",), ("a", "b"), ("a", 2, None)], ids=repr)
def test_arguments_are_kept(exception, arguments):
    assert exception(*arguments).args == arguments


@every_exception
def test_text_is_the_one_argument(exception):
    assert str(exception("README is taken")) == "README is taken"
    assert repr(exception("README is taken")) == f"{exception.__name__}('README is taken')"


@every_exception
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(exception, protocol):
    error = exception("README is taken")
    error.note = "kept"
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is exception
    assert again.args == ("README is taken",)
    assert again.note == "kept"


@every_exception
def test_copying(exception):
    error = copy.copy(exception("README is taken"))
    assert type(error) is exception
    assert error.args == ("README is taken",)


@every_exception
def test_subclassing_in_python(exception):
    class Special(exception):
        pass

    with pytest.raises(exception) as caught:
        raise Special("README")
    assert caught.value.args == ("README",)


def test_only_a_timeout_is_an_operating_system_error():
    errors = [getattr(lockfile, name) for name in BASES]
    assert [error for error in errors if issubclass(error, OSError)] == [lockfile.LockTimeout]


# What they know

copies = pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        *(
            lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
    ids=["copy", "deepcopy", *(f"pickle{n}" for n in range(pickle.HIGHEST_PROTOCOL + 1))],
)


def known(error):
    """What an exception says besides its text."""
    return error.path, error.owner, error.timeout


@every_exception
@pytest.mark.parametrize("arguments", [(), ("reason",), ("a", "b")], ids=repr)
def test_what_a_program_raises_itself_has_the_attributes(exception, arguments):
    """Also those of a class of the program's own, whose constructor calls no other."""

    class Special(exception):
        def __init__(self, *arguments):
            self.mine = arguments

    for error in (exception(*arguments), Special(*arguments)):
        assert known(error) == (None, None, None)


def test_what_a_program_raises_itself_may_be_given_the_attributes():
    error = lockfile.LockTimeout("README is taken")
    error.path, error.owner, error.timeout = "README", lockfile.Owner((None,) * 4), 3
    assert known(pickle.loads(pickle.dumps(error))) == ("README", (None,) * 4, 3)
    assert known(lockfile.LockTimeout()) == (None, None, None)


@copies
@pytest.mark.parametrize(
    ("timeout", "exception"),
    [(0, lockfile.AlreadyLocked), (-2, lockfile.AlreadyLocked), (0.01, lockfile.LockTimeout)],
)
def test_acquire_in_vain_says_which_lock_who_holds_it_and_what_was_asked_for(
    lock_class, path, duplicate, timeout, exception
):
    with lock_class(path) as lock, pytest.raises(exception) as caught:
        in_thread(lock_class(path).acquire, timeout)
    owner = lockfile.Owner((lock.hostname, os.getpid(), threading.get_ident(), True))
    assert known(caught.value) == (path, owner, timeout)
    assert type(caught.value.owner) is lockfile.Owner
    again = duplicate(caught.value)
    assert (type(again), again.args, known(again)) == (
        exception,
        caught.value.args,
        (path, owner, timeout),
    )
    assert type(again.owner) is lockfile.Owner


@pytest.mark.parametrize(
    ("timeout", "argument", "asked"),
    [(0.02, None, 0.02), (0.02, True, 0.02), (5, False, 0), (5, -1, -1), (None, 0.01, 0.01)],
)
def test_timeout_of_an_exception_is_the_one_that_counted(
    lock_class, path, timeout, argument, asked
):
    with lock_class(path), pytest.raises(lockfile.LockError) as caught:
        in_thread(lock_class(path, timeout=timeout).acquire, argument)
    assert caught.value.timeout == asked


@pytest.mark.parametrize("timeout", [None, 0, 3, math.inf])
def test_failure_says_what_was_asked_for(lock_class, path, timeout):
    with pytest.raises(lockfile.LockFailed) as caught:
        lock_class(os.path.join(path, "missing"), timeout=timeout).acquire()
    assert known(caught.value) == (os.path.join(path, "missing"), None, timeout)


def test_release_in_vain_says_who_holds_it(lock_class, path):
    with lock_class(path), pytest.raises(lockfile.NotMyLock) as caught:
        in_thread(lock_class(path).release)
    assert caught.value.path == path
    assert caught.value.owner.thread == threading.get_ident()
    assert caught.value.timeout is None
    with pytest.raises(lockfile.NotLocked) as caught:
        lock_class(path).release()
    assert known(caught.value) == (path, None, None)


def test_path_of_an_exception_is_as_it_was_given(lock_class, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(lockfile.NotLocked) as caught:
        lock_class(b"./\xff").release()
    assert caught.value.path == "./\udcff"


def test_owner_of_an_exception_is_unknown_where_nobody_says_who_it_is(file_lock_class, tmp_path):
    foreign = tmp_path / "README.lock"
    foreign.touch()
    lock = file_lock_class(tmp_path / "README")
    with pytest.raises(lockfile.AlreadyLocked) as caught:
        lock.acquire(0)
    assert caught.value.owner == lock.owner() == (None, None, None, None)
    foreign.unlink()


def test_owner_of_an_exception_is_what_was_known_then(lock_class, path):
    with lock_class(path) as lock, pytest.raises(lockfile.AlreadyLocked) as caught:
        in_thread(lock_class(path).acquire, 0)
    assert lock.owner() is None
    assert caught.value.owner.alive is True


@pytest.mark.parametrize("name", ["LinkFileLock", "MkdirFileLock"])
def test_release_that_fails_says_that_the_caller_owns_still(path, refusals, name):
    refused = {"LinkFileLock": "unlink", "MkdirFileLock": "rename"}[name]
    lock = getattr(lockfile, name)(path, threaded=False)
    lock.acquire()
    with pytest.raises(lockfile.UnlockError) as caught:
        in_thread(lock.release, refused={refused: errno.EIO})
    assert known(caught.value) == (path, (lock.hostname, os.getpid(), None, True), None)
    lock.release()


def test_real_errors_survive_pickling(lock_class, path):
    with pytest.raises(lockfile.NotLocked) as caught:
        lock_class(path).release()
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is lockfile.NotLocked
    assert str(again) == str(caught.value)
