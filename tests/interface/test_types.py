"""What the types are: signatures, attributes, subclasses, copies, and the memory they take."""

import copy
import ctypes
import functools
import gc
import inspect
import math
import os
import pickle
import socket
import subprocess
import sys
import threading
import tracemalloc
import unittest.mock
import weakref

import pytest

import lockfile
from lockfile import (
    AlreadyLocked,
    LinkFileLock,
    LockBase,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    NotMyLock,
    SQLiteFileLock,
)
from support import PATIENCE, Child, OtherThread, holder, in_thread, names, uses
from support.uses import ATTRIBUTES

METHODS = {
    "acquire": "(timeout=None)",
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


def test_signature_of_a_subclass_is_its_own(lock_class):
    class Named(lock_class):
        def __init__(self, name, *, directory="/tmp"):
            super().__init__(os.path.join(directory, name))

    assert str(inspect.signature(Named)) == "(name, *, directory='/tmp')"


# Attributes


def test_attributes(lock_class, path):
    lock = lock_class(path, threaded=True, timeout=2.5)
    assert lock.path == path
    assert lock.lock_file == path + ".lock"
    assert lock.hostname == socket.gethostname()
    assert lock.pid == os.getpid()
    assert lock.threaded is True
    assert lock.timeout == 2.5
    assert os.path.isabs(lock.unique_name)


def test_defaults(lock_class, path):
    lock = lock_class(path)
    assert lock.threaded is True
    assert lock.timeout is None


def test_unique_name_has_host_thread_and_process(path):
    name = os.path.basename(lockfile.LinkFileLock(path).unique_name)
    assert name == f"{socket.gethostname()}-{threading.get_ident():x}-{os.getpid()}"


def test_unique_name_without_thread(path):
    name = os.path.basename(lockfile.LinkFileLock(path, threaded=False).unique_name)
    assert name == f"{socket.gethostname()}--{os.getpid()}"


def test_unique_name_is_of_the_calling_thread(lock_class, path):
    lock = lock_class(path)
    with OtherThread() as thread:
        assert thread.run(lambda: lock.unique_name) != lock.unique_name
        assert f"-{thread.ident:x}-" in thread.run(lambda: lock.unique_name)


def test_unique_name_is_the_real_file_while_owned(path, tmp_path):
    with lockfile.LinkFileLock(path) as lock:
        assert os.path.samefile(lock.unique_name, lock.lock_file)
        assert names(tmp_path) == sorted(["README.lock", os.path.basename(lock.unique_name)])


def test_process_is_the_calling_process(lock_class, path):
    with Child(
        """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        child = os.fork()
        if child == 0:
            right = lock.pid == os.getpid() and lock.unique_name.endswith(f"-{os.getpid()}")
            os._exit(0 if right else 1)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        lock_class.__name__,
        path,
    ) as child:
        assert child.hear() == 0


def test_assigned_timeout_is_used(lock_class, path):
    with lock_class(path), OtherThread() as thread:
        lock = lock_class(path)
        lock.timeout = 0
        with pytest.raises(AlreadyLocked):
            thread.run(lock.acquire)
        lock.timeout = 0.01
        assert lock.timeout == 0.01
        with pytest.raises(LockTimeout):
            thread.run(lock.acquire)
        lock.timeout = None
        assert lock.timeout is None


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("pid", 1), ("pid", None), ("unique_name", "/tmp/somebody"), ("unique_name", None)],
)
def test_assigned_identity_does_not_mislead_the_lock(lock_class, path, tmp_path, attribute, value):
    lock = lock_class(path)
    setattr(lock, attribute, value)
    lock.acquire()
    assert lock.i_am_locking()
    assert lock_class(path).i_am_locking()
    setattr(lock, attribute, value)
    with pytest.raises(AlreadyLocked):
        in_thread(lock.acquire, timeout=0)
    lock.release()
    assert names(tmp_path) == []


@pytest.mark.parametrize("attribute", [name for name in ATTRIBUTES if name != "timeout"])
def test_attributes_cannot_be_deleted(lock_class, path, attribute):
    lock = lock_class(path)
    with pytest.raises(AttributeError):
        delattr(lock, attribute)
    assert hasattr(lock, attribute)


@pytest.mark.parametrize(
    ("attribute", "value"), [("timeout", 5), ("timeout", None), ("pid", 1), ("unique_name", "/x")]
)
def test_attributes_patched_for_a_while(lock_class, path, attribute, value):
    lock = lock_class(path, timeout=1)
    before = getattr(lock, attribute)
    with unittest.mock.patch.object(lock, attribute, value):
        assert getattr(lock, attribute) == value
    assert getattr(lock, attribute) == before


def test_repr(lock_class, path):
    lock = lock_class(path)
    assert repr(lock) == f"<{lock_class.__name__}: {lock.unique_name!r} -- {path!r}>"
    with lock:
        assert repr(lock) == f"<{lock_class.__name__}: {lock.unique_name!r} -- {path!r}>"


@pytest.mark.parametrize("name", ["it's", 'a "b"', "a\nb", "Straße", "\udcff", "%s%n"], ids=ascii)
def test_repr_of_an_unusual_path(lock_class, tmp_path, name):
    lock = lock_class(tmp_path / name)
    assert repr(lock).endswith(f" -- {str(tmp_path / name)!r}>")


def test_repr_of_a_subclass(path):
    class Special(LockBase):
        pass

    assert repr(Special(path)).startswith("<Special: '")


def test_locks_are_compared_by_identity(lock_class, path):
    first, second = lock_class(path), lock_class(path)
    assert first != second
    assert first == first
    assert len({first, second, first}) == 2


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


@pytest.mark.parametrize(
    "name", ["pid", "unique_name", "threaded", "path", "lock_file", "hostname"]
)
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
    assert lock.path == str(tmp_path / "second")
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


# Copies


def pickled(protocol):
    return lambda lock: pickle.loads(pickle.dumps(lock, protocol))


every_copy = pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, *(pickled(number) for number in range(pickle.HIGHEST_PROTOCOL + 1))],
    ids=["copy", "deepcopy", *(f"pickle{number}" for number in range(pickle.HIGHEST_PROTOCOL + 1))],
)


@every_copy
@pytest.mark.parametrize(
    ("threaded", "timeout"),
    [(True, None), (False, 0), (True, -1), (False, 2.5), (True, float("inf"))],
)
def test_copy_has_the_arguments_and_the_dictionary(lock_class, path, duplicate, threaded, timeout):
    lock = lock_class(path, threaded, timeout)
    lock.purpose = ["testing"]
    again = duplicate(lock)
    assert again is not lock
    assert type(again) is lock_class
    assert (again.path, again.threaded, again.timeout) == (path, threaded, timeout)
    assert again.lock_file == lock.lock_file
    assert vars(again) == {"purpose": ["testing"]}


def test_deep_copy_copies_the_dictionary_deeply(lock_class, path):
    lock = lock_class(path)
    lock.purpose = ["testing"]
    assert copy.copy(lock).purpose is lock.purpose
    assert copy.deepcopy(lock).purpose is not lock.purpose


@every_copy
def test_copy_has_the_assigned_timeout(lock_class, path, duplicate):
    lock = lock_class(path, timeout=1)
    lock.timeout = 2
    assert duplicate(lock).timeout == 2


@every_copy
def test_copy_of_a_path_that_is_no_text(lock_class, tmp_path, duplicate):
    path = os.fsencode(tmp_path) + b"/\xff"
    assert duplicate(lock_class(path)).path == os.fsdecode(path)


@every_copy
def test_copy_made_elsewhere_protects_the_same(lock_class, tmp_path, monkeypatch, duplicate):
    monkeypatch.chdir(tmp_path)
    lock = lock_class("README")
    monkeypatch.chdir("/")
    again = duplicate(lock)
    assert again.path == "README"
    assert again.lock_file == str(tmp_path / "README.lock")


@pytest.mark.parametrize(
    "change",
    [
        {"class": dict},
        {"class": None},
        {"new": ((), None)},
        {"path": None},
        {"path": "a\0"},
        {"timeout": "1"},
        {"timeout": float("nan")},
        {"lock_file": "relative.lock"},
        {"lock_file": "/a\0.lock"},
        {"lock_file": 1},
        {"database": None},
        {"database": "relative.db"},
    ],
    ids=ascii,
)
def test_nonsense_from_a_pickle(lock_class, path, change):
    remake, arguments, _ = lock_class(path, timeout=1).__reduce__()
    names = ("class", "new", "path", "threaded", "timeout", "lock_file", "database")
    nonsense = {**dict(zip(names, arguments, strict=True)), **change}
    with pytest.raises((TypeError, ValueError)):
        remake(*nonsense.values())
    with pytest.raises(TypeError):
        remake(*list(nonsense.values())[:-1])


class NamedLock(LockBase):
    def __init__(self, name):
        super().__init__(os.path.join("/tmp", name), timeout=3)
        self.name = name


@every_copy
def test_copy_of_a_subclass_with_other_arguments(duplicate):
    again = duplicate(NamedLock("README"))
    assert type(again) is NamedLock
    assert (again.path, again.timeout, again.name) == ("/tmp/README", 3, "README")


class SlottedLock(LinkFileLock):
    __slots__ = ("__secret", "colour", "unset")

    def __init__(self, path):
        super().__init__(path)
        self.colour, self.__secret = "green", ["deep"]

    def secret(self):
        return self.__secret


@every_copy
def test_copy_has_what_is_in_slots(path, duplicate):
    lock = SlottedLock(path)
    lock.purpose = "testing"
    again = duplicate(lock)
    assert (again.colour, again.secret(), vars(again)) == (
        "green",
        ["deep"],
        {"purpose": "testing"},
    )
    assert not hasattr(again, "unset")
    with again:
        assert lock.i_am_locking()


class CarefulLock(MkdirFileLock):
    """Leaves out what cannot be copied, and says so itself."""

    def __init__(self, name, place):
        super().__init__(os.path.join(place, name), threaded=False, timeout=3)
        self.name, self.open = name, lambda: "not to be pickled"

    def __getstate__(self):
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "open"}

    def __setstate__(self, state):
        vars(self).update(state, open=lambda: "made anew")


@every_copy
def test_copy_of_a_subclass_that_says_what_its_state_is(tmp_path, duplicate):
    lock = CarefulLock("README", tmp_path)
    again = duplicate(lock)
    assert (again.name, again.open()) == ("README", "made anew")
    assert (again.path, again.threaded, again.timeout) == (lock.path, False, 3)
    with again:
        assert lock.i_am_locking()


class InitialisedAnew(SQLiteFileLock):
    def __getstate__(self):
        return ["any", self.path]

    def __setstate__(self, state):
        self.__init__(state[1] + "-of-the-copy")


@every_copy
def test_copy_of_a_subclass_that_calls_its_constructor_again(path, duplicate):
    assert duplicate(InitialisedAnew(path)).lock_file == path + "-of-the-copy.lock"


class LockOfAKind(LinkFileLock):
    def __new__(cls, kind, *arguments):
        self = super().__new__(cls)
        self.kind = kind
        return self

    def __init__(self, kind, path):
        super().__init__(path)

    def __getnewargs__(self):
        return (self.kind,)


class LockOfANamedKind(LockOfAKind):
    def __new__(cls, path="", *, kind):
        return super().__new__(cls, kind)

    def __init__(self, path, *, kind):
        super().__init__(kind, path)

    def __getnewargs_ex__(self):
        return (), {"kind": self.kind}


@every_copy
def test_copy_of_a_subclass_whose_new_wants_arguments(path, duplicate):
    for lock in (LockOfAKind("kind", path), LockOfANamedKind(path, kind="kind")):
        again = duplicate(lock)
        assert (type(again), again.kind, again.lock_file) == (type(lock), "kind", path + ".lock")


class ReducedByItself(LinkFileLock):
    def __reduce__(self):
        return ReducedByItself, (self.path,)


@every_copy
def test_copy_of_a_subclass_that_reduces_itself(path, duplicate):
    lock = ReducedByItself(path)
    lock.purpose = "testing"
    assert vars(duplicate(lock)) == {}


def test_copy_travels_to_another_process_and_does_not_own_there(lock_class, path):
    with (
        lock_class(path, timeout=0) as lock,
        Child(
            """
            import pickle
            lock = pickle.loads(bytes.fromhex(sys.argv[1]))
            say([lock.is_locked(), lock.i_am_locking()])
            """,
            pickle.dumps(lock).hex(),
        ) as child,
    ):
        assert child.hear() == [True, False]


def test_copy_does_not_keep_the_lock(lock_class, path):
    lock = lock_class(path)
    with lock:
        again = copy.copy(lock)
    assert not again.is_locked()
    with pytest.raises(NotLocked):
        again.release()


def test_copy_made_inside_with_counts_no_bodies(lock_class, path):
    lock = lock_class(path)
    with lock:
        again = copy.copy(lock)
    with again:
        assert again.i_am_locking()
    assert not again.is_locked()


# owner() and fileno()


def test_owner_of_a_free_lock(lock_class, path):
    assert lock_class(path).owner() is None


def test_owner_is_me(lock_class, path):
    with lock_class(path) as lock:
        owner = lock.owner()
        assert isinstance(owner, lockfile.Owner)
        assert owner.hostname == socket.gethostname()
        assert owner.pid == os.getpid()
        assert owner.thread == threading.get_ident()
        assert owner.alive is True
    assert lock.owner() is None


def test_owner_is_another_thread(lock_class, path):
    with OtherThread() as thread:
        lock = lock_class(path)
        thread.run(lock.acquire)
        owner = lock.owner()
        assert (owner.pid, owner.thread, owner.alive) == (os.getpid(), thread.ident, True)
        thread.run(lock.release)


def test_owner_is_a_process_without_threads(lock_class, path):
    with lock_class(path, threaded=False) as lock:
        assert lock.owner().pid == os.getpid()
        assert lock.owner().thread is None
        assert lock.owner().alive is True


def test_owner_is_another_process(lock_class, path):
    lock = lock_class(path)
    with holder(lock_class, path) as child:
        owner = lock.owner()
        assert (owner.hostname, owner.pid) == (socket.gethostname(), child.pid)
        assert owner.alive is True
        child.say("release")
        child.hear()
        assert lock.owner() is None


def test_owner_of_a_stale_lock_is_dead(lock_class, path):
    lock = lock_class(path)
    with holder(lock_class, path) as child:
        child.kill()
    owner = lock.owner()
    assert (owner.hostname, owner.pid, owner.alive) == (socket.gethostname(), child.pid, False)
    assert not lock.is_locked()
    with lock:
        assert lock.owner().alive is True


def test_owner_of_a_lock_that_somebody_unknown_made(file_lock_class, tmp_path):
    foreign = tmp_path / "README.lock"
    foreign.touch()
    assert file_lock_class(tmp_path / "README").owner() == (None, None, None, None)
    foreign.unlink()


def test_owner_is_a_named_tuple(lock_class, path):
    with lock_class(path) as lock:
        owner = lock.owner()
    hostname, pid, thread, alive = owner
    assert owner == (hostname, pid, thread, alive)
    assert (hostname, pid, thread, alive) == (owner.hostname, owner.pid, owner.thread, owner.alive)
    assert repr(owner).startswith("lockfile.Owner(hostname=")
    assert pickle.loads(pickle.dumps(owner)) == owner


def test_fileno_is_the_descriptor_of_the_lock(lock_class, path):
    with lock_class(path) as lock:
        os.fstat(lock.fileno())
        assert lock.fileno() == lock.fileno() == lock_class(path).fileno()
        assert not os.get_inheritable(lock.fileno())


def test_fileno_of_a_link_is_its_lock_file(path):
    with lockfile.LinkFileLock(path) as lock:
        assert os.path.samestat(os.fstat(lock.fileno()), os.stat(lock.lock_file))


def test_fileno_of_a_lock_that_is_not_owned(lock_class, path):
    lock = lock_class(path)
    with pytest.raises(NotLocked):
        lock.fileno()
    with lock:
        with pytest.raises(NotMyLock):
            in_thread(lock.fileno)
    with pytest.raises(NotLocked):
        lock.fileno()


# Memory


def test_cycle_through_a_lock_is_collected(lock_class, path):
    lock = lock_class(path)
    assert gc.is_tracked(lock)
    lock.myself = lock
    reference = weakref.ref(lock)
    del lock
    gc.collect()
    assert reference() is None


def test_cycle_through_a_type_is_collected(lock_class):
    class Passing(lock_class):
        pass

    Passing.example = Passing("README")
    reference = weakref.ref(Passing)
    del Passing
    gc.collect()
    assert reference() is None


def test_finaliser_of_a_subclass_runs(lock_class):
    finished = []

    class Passing(lock_class):
        def __del__(self):
            finished.append(self.path)

    Passing("README")
    gc.collect()
    assert finished == ["README"]


def test_object_that_goes_away_releases_nothing(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    del lock
    gc.collect()
    assert lock_class(path).i_am_locking()
    lock_class(path).release()


LEAK = 8
every_use = pytest.mark.parametrize("use", uses.ALL, ids=lambda function: function.__name__)


def growth(function, allocated):
    """The bytes that a call leaves: a leak (16 at least) shows in every round, whatever else is
    allocated in some of them."""
    rounds, times = 20, 200
    least, before = math.inf, None
    while rounds > 0 and least >= LEAK:
        for _ in range(times):
            function()
        gc.collect()
        after = allocated()
        least = least if before is None else min(least, (after - before) / times)
        rounds, before = rounds - 1, after
    return least


@pytest.fixture
def allocated_by_python():
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


@pytest.fixture
def allocated_by_c():
    class Statistics(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    try:
        statistics = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        pytest.skip("this C library does not count its memory")
    statistics.restype = Statistics
    return lambda: statistics().uordblks


@pytest.fixture(params=["allocated_by_python", "allocated_by_c"])
def allocated(request):
    return request.getfixturevalue(request.param)


@every_use
def test_memory_does_not_grow(lock_class, path, allocated, use):
    assert growth(functools.partial(use, lock_class, path), allocated) < LEAK


def test_memory_does_not_grow_by_contention(lock_class, path, allocated):
    with OtherThread() as thread:
        lock = lock_class(path)
        thread.run(lock.acquire)
        assert growth(functools.partial(uses.contend, lock_class, path, lock), allocated) < LEAK
        thread.run(lock.release)


@every_use
def test_references_do_not_leak(lock_class, path, use):
    def counts():
        gc.collect()
        watched = [lock_class, LockBase, lockfile.Owner, lockfile.Error, path]
        if sys.version_info < (3, 12):  # later ones do not count who refers to these
            watched += [None, True, False]
        return [sys.getrefcount(value) for value in watched]

    use(lock_class, path)
    before = counts()
    for _ in range(500):
        use(lock_class, path)
    for count_before, count_after in zip(before, counts(), strict=True):
        assert abs(count_after - count_before) < 100


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
