"""Copies and pickles of locks: they protect the same, and own nothing."""

import copy
import os
import pickle

import pytest

from lockfile import (
    LinkFileLock,
    LockBase,
    MkdirFileLock,
    NotLocked,
    SQLiteFileLock,
)
from support import Child


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
    assert duplicate(lock_class(path)).path == path


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
        {"on_wait": "print"},
    ],
    ids=ascii,
)
def test_nonsense_from_a_pickle(lock_class, path, change):
    remake, arguments, _ = lock_class(path, timeout=1).__reduce__()
    names = (
        *("class", "new", "path", "threaded", "timeout", "lock_file", "database", "on_wait"),
        "shared",
    )
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
