"""The tree of exceptions."""

import copy
import pickle

import pytest

import lockfile

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


def test_real_errors_survive_pickling(lock_class, path):
    with pytest.raises(lockfile.NotLocked) as caught:
        lock_class(path).release()
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is lockfile.NotLocked
    assert str(again) == str(caught.value)
