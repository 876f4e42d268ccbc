"""What the types are: their names, signatures and documentation, and what subclasses may do."""

import copy
import gc
import inspect
import os
import pickle
import subprocess
import sys
import weakref

import pytest

import lockfile
from lockfile import (
    AlreadyLocked,
    LockBase,
    LockTimeout,
)
from support import PATIENCE, OtherThread, in_thread
from support.uses import ATTRIBUTES

METHODS = {
    "acquire": "(timeout=None, *, on_wait=None, shared=None)",
    "try_acquire": "(timeout=0, *, on_wait=None, shared=None)",
    "release": "()",
    "is_locked": "()",
    "i_am_locking": "()",
    "break_lock": "()",
}


METHODS_OF_MECHANISMS = METHODS | {"owner": "()", "fileno": "()"}


PUBLIC = [
    "Error",
    "LockError",
    "LockTimeout",
    "AlreadyLocked",
    "LockFailed",
    "UnlockError",
    "NotLocked",
    "NotMyLock",
    "LockBase",
    "LinkFileLock",
    "FileLock",
    "LockFile",
    "Owner",
]


# Names, signatures, documentation


def test_public_names():
    assert set(PUBLIC) <= set(lockfile.__all__)
    assert len(set(lockfile.__all__)) == len(lockfile.__all__)


def test_star_import_brings_all_public_names_and_no_other():
    namespace = {}
    exec("from lockfile import *", namespace)
    del namespace["__builtins__"]
    assert sorted(namespace) == sorted(lockfile.__all__)


def test_types_say_that_they_live_in_the_package():
    for name in lockfile.__all__:
        value = getattr(lockfile, name)
        if isinstance(value, type):
            assert value.__module__ == "lockfile"
            assert getattr(lockfile, value.__qualname__) is value


def test_short_names_stand_for_the_mechanism_of_this_platform():
    assert lockfile.FileLock is lockfile.LinkFileLock
    assert lockfile.LockFile is lockfile.FileLock


def test_everything_public_is_documented(lock_class):
    assert lockfile.__doc__
    for name in lockfile.__all__:
        assert inspect.getdoc(getattr(lockfile, name)), name
    for name in [*METHODS, *ATTRIBUTES]:
        assert getattr(LockBase, name).__doc__, name
    for name in [*METHODS_OF_MECHANISMS, *ATTRIBUTES]:
        assert getattr(lock_class, name).__doc__, name


@pytest.mark.parametrize("kind", ["class", "instance"])
@pytest.mark.parametrize("method", METHODS_OF_MECHANISMS)
def test_signature_of_methods(lock_class, path, kind, method):
    signature = METHODS_OF_MECHANISMS[method]
    if kind == "class":
        signature = signature.replace("(", "(self, /, " if signature != "()" else "(self, /")
        assert str(inspect.signature(getattr(lock_class, method))) == signature
    else:
        assert str(inspect.signature(getattr(lock_class(path), method))) == signature


@pytest.mark.parametrize("method", METHODS)
def test_signature_of_methods_of_lockbase(method):
    assert str(inspect.signature(getattr(LockBase("README"), method))) == METHODS[method]


def test_signature_of_the_constructor(lock_class):
    for type_ in (lock_class, LockBase):
        parameters = inspect.signature(type_).parameters
        assert list(parameters)[:3] == ["path", "threaded", "timeout"]
        assert parameters["path"].default is inspect.Parameter.empty
        assert parameters["threaded"].default is True
        assert parameters["timeout"].default is None
        assert parameters["lock_file"].default is None
        assert parameters["lock_file"].kind is inspect.Parameter.KEYWORD_ONLY


def test_signature_of_a_subclass_is_its_own(lock_class):
    class Named(lock_class):
        def __init__(self, name, *, directory="/tmp"):
            super().__init__(os.path.join(directory, name))

    assert str(inspect.signature(Named)) == "(name, *, directory='/tmp')"


# Mutable heap types


def test_type_is_mutable(lock_class, monkeypatch):
    monkeypatch.setattr(lock_class, "colour", "green", raising=False)
    assert lock_class("README").colour == "green"
    assert lock_class.__flags__ & (1 << 9), "a heap type"


def test_instance_has_a_dictionary(lock_class, path):
    lock = lock_class(path)
    lock.purpose = "testing"
    assert vars(lock) == {"purpose": "testing"}


def test_instance_can_be_referenced_weakly(lock_class, path):
    lock = lock_class(path)
    reference = weakref.ref(lock)
    assert reference() is lock
    del lock
    gc.collect()
    assert reference() is None


def test_patched_acquire_is_undone(lock_class, path, monkeypatch):
    monkeypatch.setattr(lock_class, "acquire", lambda self, timeout=None: "patched")
    assert lock_class(path).acquire() == "patched"
    monkeypatch.undo()
    with lock_class(path) as lock:
        assert lock.i_am_locking()


def test_subclass_with_a_new_of_its_own(lock_class, path):
    class Tracked(lock_class):
        made = 0

        def __new__(cls, *arguments, **keywords):
            cls.made += 1
            return super().__new__(cls, *arguments, **keywords)

    with Tracked(path, timeout=1) as lock:
        assert lock.i_am_locking()
    assert Tracked.made == 1


def test_subclass_with_slots(lock_class, path):
    class Slotted(lock_class):
        __slots__ = ("colour",)

    lock = Slotted(path)
    lock.colour = "green"
    with lock:
        assert lock.i_am_locking()


def sets_it(lock_class):
    class Impatient(lock_class):
        timeout = 0.01

    return Impatient


def computes_it(lock_class):
    class Configured(lock_class):
        @property
        def timeout(self):
            return self.configured

        configured = 0.01

    return Configured


def answers_for_it(lock_class):
    class Asked(lock_class):
        def __getattribute__(self, name):
            return 0.01 if name == "timeout" else super().__getattribute__(name)

    return Asked


@pytest.mark.parametrize("derive", [sets_it, computes_it, answers_for_it])
def test_timeout_of_a_subclass_is_what_counts(lock_class, path, derive):
    """What lock.timeout says is how long acquire() and with wait; the constructor's is hidden."""
    lock = derive(lock_class)(path, timeout=PATIENCE)
    assert lock.timeout == 0.01
    with lock_class(path):
        for enter in (lock.acquire, lock.__enter__):
            with pytest.raises(LockTimeout):
                in_thread(enter)
        with pytest.raises(AlreadyLocked):
            in_thread(lock.acquire, timeout=0)
    with lock:
        assert lock.i_am_locking()


def test_timeout_of_a_subclass_may_be_none_or_assigned(lock_class, path):
    lock = sets_it(lock_class)(path)
    lock.timeout = 0
    with lock_class(path), pytest.raises(AlreadyLocked):
        in_thread(lock.acquire)
    del lock.timeout
    type(lock).timeout = None
    with OtherThread() as thread:
        with lock_class(path):
            acquiring = thread.start(lock.acquire)
        acquiring.result(PATIENCE)
        thread.run(lock.release)


@pytest.mark.parametrize("wrong", ["1", lambda self: 1, float("nan")], ids=["str", "method", "nan"])
def test_timeout_of_a_subclass_that_is_none(lock_class, path, wrong):
    lock = type("Odd", (lock_class,), {"timeout": wrong})(path)
    with pytest.raises((TypeError, ValueError), match="timeout"):
        lock.acquire()
    assert not lock.is_locked()


def test_error_of_a_computed_timeout_comes_through(lock_class, path):
    lock = computes_it(lock_class)(path)
    del type(lock).configured
    with pytest.raises(AttributeError, match="configured"):
        lock.acquire()
    assert not lock.is_locked()


@pytest.mark.parametrize("name", ["pid", "tname", "unique_name", "threaded", "path", "hostname"])
def test_other_attributes_of_a_subclass_change_only_what_they_say(lock_class, path, name):
    lock = type("Special", (lock_class,), {name: "special"})(path)
    with lock:
        assert getattr(lock, name) == "special"
        assert lock_class(path).i_am_locking()
        assert not in_thread(lock_class(path).i_am_locking)
    assert vars(lock) == {}


class Meddler:
    """Is compared with the name of an attribute, and deletes that when its time has come."""

    def __init__(self, name, dictionary):
        self.name, self.dictionary, self.compared, self.time = name, dictionary, 0, None

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        self.compared += 1
        if self.compared == self.time:
            self.dictionary.pop(self.name, None)
        return False


@pytest.mark.parametrize("attribute", ["pid", "unique_name", "timeout"])
def test_attribute_deleted_while_it_is_read(lock_class, path, attribute):
    """As another thread may do without a GIL: it is what was assigned, or what it is else."""
    lock = lock_class(path)
    usual = getattr(lock, attribute)
    dictionary = vars(lock)
    meddler = Meddler(attribute, dictionary)
    dictionary[meddler] = "before the name itself"
    dictionary[attribute] = 5
    meddler.compared = 0
    dictionary.get(attribute)  # which may compare more than once, as the hash wants it
    meddler.time = 2 * meddler.compared + 1
    assert getattr(lock, attribute) == 5
    assert getattr(lock, attribute) == usual


def test_subclass_with_a_second_base(lock_class, path):
    class Mixin:
        def work(self):
            with self:
                return self.i_am_locking()

    class Combined(Mixin, lock_class):
        pass

    assert Combined(path).work() is True


def test_initialising_again_changes_the_lock(lock_class, tmp_path):
    lock = lock_class(tmp_path / "first", timeout=1)
    lock.__init__(tmp_path / "second", threaded=False)
    assert lock.path == tmp_path / "second"
    assert lock.lock_file == str(tmp_path / "second.lock")
    assert lock.threaded is False
    assert lock.timeout is None
    with lock:
        assert lock.i_am_locking()


@pytest.mark.parametrize(
    "wrong", [(3,), ("",), ("README", True, "1"), ("README", True, float("nan"))]
)
def test_initialising_again_in_vain_changes_nothing(lock_class, path, wrong):
    lock = lock_class(path, timeout=1)
    with pytest.raises((TypeError, ValueError)):
        lock.__init__(*wrong)
    assert (lock.path, lock.threaded, lock.timeout) == (path, True, 1)
    with lock:
        assert lock.i_am_locking()


# Locks that were never initialised


@pytest.fixture(params=["forgotten", "failed"])
def uninitialised(lock_class, request):
    class Forgetful(lock_class):
        pass

    lock = Forgetful.__new__(Forgetful, "anything", at=["all"])
    if request.param == "failed":
        with pytest.raises(TypeError):
            lock.__init__(3)
    return lock


@pytest.mark.parametrize("method", METHODS_OF_MECHANISMS)
def test_methods_of_an_uninitialised_lock(uninitialised, method):
    with pytest.raises(RuntimeError, match="Forgetful"):
        getattr(uninitialised, method)()


def test_with_of_an_uninitialised_lock(uninitialised):
    with pytest.raises(RuntimeError, match="Forgetful"), uninitialised:
        pytest.fail("the body ran")
    with pytest.raises(RuntimeError, match="Forgetful"):
        uninitialised.__exit__(None, None, None)


@pytest.mark.parametrize("attribute", ["path", "lock_file", "unique_name"])
def test_attributes_of_an_uninitialised_lock(uninitialised, attribute):
    with pytest.raises(RuntimeError, match="Forgetful"):
        getattr(uninitialised, attribute)


@pytest.mark.parametrize("function", [pickle.dumps, copy.copy, copy.deepcopy])
def test_copies_of_an_uninitialised_lock(uninitialised, function):
    with pytest.raises(RuntimeError, match="Forgetful"):
        function(uninitialised)


def test_uninitialised_lock_can_still_be_shown(uninitialised):
    try:
        text = repr(uninitialised)
    except RuntimeError as error:
        text = str(error)
    assert "Forgetful" in text


def test_uninitialised_lock_can_still_be_initialised(uninitialised, path):
    uninitialised.__init__(path)
    with uninitialised:
        assert uninitialised.i_am_locking()


@pytest.mark.parametrize(
    ("platform", "name"),
    [("win32", "MkdirFileLock"), ("linux", "LinkFileLock"), ("darwin", "LinkFileLock")],
)
def test_file_lock_is_the_class_for_the_platform(platform, name):
    code = f"""
import os, sys
sys.platform = {platform!r}
import lockfile
assert lockfile.FileLock is lockfile.LockFile is lockfile.{name}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
