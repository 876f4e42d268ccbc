"""Attributes that programs and their subclasses assign, as those of the classic package."""

import copy
import os
import pickle
import re
import threading
from pathlib import Path

import pytest

import lockfile
from lockfile import AlreadyLocked, LockBase, LockFailed
from support import Child, OtherThread, in_thread, names

# path


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_path_is_what_was_given(lock_class, path, kind):
    given = kind(path)
    assert lock_class(given).path is given
    for duplicate in (copy.copy, copy.deepcopy, lambda lock: pickle.loads(pickle.dumps(lock))):
        assert duplicate(lock_class(given)).path == given
        assert type(duplicate(lock_class(given)).path) is type(given)


def test_path_that_no_pickle_can_hold_is_text_in_a_copy(lock_class, path, tmp_path):
    (tmp_path / "README").touch()
    [entry] = os.scandir(tmp_path)
    assert lock_class(entry).path is entry
    assert pickle.loads(pickle.dumps(lock_class(entry))).path == path


def test_assigned_path_counts(lock_class, path):
    other = path + "2"
    lock = lock_class(path)
    lock.path = other
    assert lock.path == other
    assert lock.lock_file == other + ".lock"
    with lock:
        assert lock_class(other).i_am_locking()
        assert not lock_class(path).is_locked()
        with pytest.raises(AlreadyLocked, match=f"^{re.escape(other)} is already locked"):
            in_thread(lock.acquire, 0)


def test_assigned_path_leaves_a_lock_file_that_was_named(lock_class, path):
    lock = lock_class(path, lock_file=path + ".lck")
    lock.path = path + "2"
    assert lock.lock_file == path + ".lck"
    lock = lock_class(path)
    lock.lock_file = path + ".lck"
    lock.path = path + "2"
    assert lock.lock_file == path + ".lck"


def test_assigned_path_counts_from_where_it_was_assigned(lock_class, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lock = lock_class("README")
    lock.path = "other"
    monkeypatch.chdir("/")
    with lock:
        assert lock_class(tmp_path / "other").i_am_locking()


# lock_file


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_assigned_lock_file_counts(lock_class, path, tmp_path, kind):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    lock = lock_class(path)
    lock.lock_file = kind(str(elsewhere / "lock"))
    with lock:
        assert lock_class(path, lock_file=elsewhere / "lock").i_am_locking()
        assert not lock_class(path).is_locked()
        if issubclass(lock_class, lockfile.LinkFileLock | lockfile.MkdirFileLock):
            assert "lock" in names(elsewhere)
            assert names(tmp_path) == ["elsewhere"]
    assert not lock.is_locked()


def test_assigned_lock_file_may_be_the_path_itself(file_lock_class, path, tmp_path):
    lock = file_lock_class(path)
    lock.lock_file = path
    with lock:
        assert os.path.exists(path)
        assert not os.path.exists(path + ".lock")
    assert names(tmp_path) == []


def test_subclass_chooses_in_its_constructor(lock_class, path, tmp_path):
    class SpoolLock(lock_class):
        def __init__(self, path, threaded=True):
            super().__init__(path, threaded)
            self.path = path + "2"
            self.lock_file = path + ".lck"
            self.hostname = "somewhere"

    lock = SpoolLock(path)
    with lock:
        assert lock_class(path, lock_file=path + ".lck").i_am_locking()
        assert lock.path == path + "2"
        assert lock.hostname == "somewhere"
        assert os.path.basename(lock.unique_name).startswith("somewhere-")
        with pytest.raises(AlreadyLocked, match=r"README2 is already locked.* on host somewhere"):
            in_thread(SpoolLock(path).acquire, 0)
    if lock_class is not lockfile.SQLiteFileLock:
        assert names(tmp_path) == []


def test_lock_file_that_a_subclass_computes_is_asked_each_time(lock_class, path):
    class SpoolLock(lock_class):
        suffix = ".one"

        @property
        def lock_file(self):
            return self.path + self.suffix

    lock = SpoolLock(path)
    for suffix in (".one", ".two"):
        lock.suffix = suffix
        with lock:
            assert lock.i_am_locking()
            assert lock_class(path, lock_file=path + suffix).i_am_locking()
            assert os.path.dirname(lock.unique_name).startswith(os.path.dirname(path))
        assert not lock.is_locked()


def test_lock_file_of_a_subclass_may_build_on_ours(lock_class, path):
    class SpoolLock(lock_class):
        @property
        def lock_file(self):
            return super().lock_file + ".lck"

    with SpoolLock(path) as lock:
        assert lock_class(path, lock_file=path + ".lock.lck").i_am_locking()
        assert pickle.loads(pickle.dumps(lock_class(path))).lock_file == path + ".lock"
        assert lock.lock_file == path + ".lock.lck"


def test_lock_file_of_a_subclass_may_be_a_plain_attribute(lock_class, path):
    lock = type("SpoolLock", (lock_class,), {"lock_file": path + ".lck"})(path)
    with lock:
        assert lock_class(path, lock_file=path + ".lck").i_am_locking()


def test_lock_file_of_a_subclass_that_fails(lock_class, path):
    class SpoolLock(lock_class):
        answer = None

        @property
        def lock_file(self):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    lock = SpoolLock(path)
    with lock:  # None: the usual one
        assert lock_class(path).i_am_locking()
    lock.answer = KeyError("spool")
    for method in (lock.acquire, lock.release, lock.is_locked, lock.break_lock, lock.owner):
        with pytest.raises(KeyError):
            method()
    lock.answer = 3
    with pytest.raises(TypeError, match="lock_file"):
        lock.acquire()


# hostname, tname, pid, threaded


def test_assigned_hostname_counts(lock_class, path):
    lock = lock_class(path)
    lock.hostname = "some/where"
    assert lock.hostname == "some/where"
    name = f"some_where-{threading.get_ident():x}-{os.getpid()}"
    assert os.path.basename(lock.unique_name) == name
    with lock:
        assert os.path.basename(lock.unique_name) == name
        assert lock.owner().pid == os.getpid()
        with Child(
            """
            say(getattr(lockfile, sys.argv[1])(sys.argv[2]).owner().hostname)
            """,
            lock_class.__name__,
            path,
        ) as child:
            assert child.hear() == "some_where"
    assert not lock.is_locked()


def test_a_dead_owner_of_another_hostname_is_recovered(lock_class, path):
    with Child(
        """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        lock.hostname = "somewhere"
        lock.acquire()
        say(lock.unique_name)
        hear()
        """,
        lock_class.__name__,
        path,
    ) as child:
        assert "somewhere-" in child.hear()
        child.kill()
    lock_class(path).acquire(timeout=0)
    lock_class(path).release()


def test_tname_is_of_the_calling_thread(lock_class, path):
    lock = lock_class(path)
    assert lock.tname == f"-{threading.get_ident():x}"
    assert f"{lock.hostname}{lock.tname}-{lock.pid}" == os.path.basename(lock.unique_name)
    with OtherThread() as thread:
        assert thread.run(lambda: lock.tname) == f"-{thread.ident:x}"
    assert lock_class(path, threaded=False).tname == ""


@pytest.mark.parametrize(
    ("attribute", "value"), [("tname", "-x"), ("threaded", False), ("pid", 1), ("timeout", 3)]
)
def test_what_only_says_what_it_was_told(lock_class, path, attribute, value):
    lock = lock_class(path)
    setattr(lock, attribute, value)
    assert getattr(lock, attribute) == value
    with lock:
        assert lock_class(path).i_am_locking()
        assert not in_thread(lock.i_am_locking)
    delattr(lock, attribute)
    assert getattr(lock, attribute) == getattr(lock_class(path), attribute)


# All of them


ASSIGNED = {
    "path": "README2",
    "lock_file": "/tmp/README.lck",
    "hostname": "somewhere",
    "unique_name": "/tmp/mine",
    "pid": 1,
    "tname": "-1",
    "timeout": 3.0,
}


def test_what_was_assigned_is_copied(lock_class, path):
    lock = lock_class(path)
    for name, value in ASSIGNED.items():
        setattr(lock, name, value)
    for again in (copy.copy(lock), copy.deepcopy(lock), pickle.loads(pickle.dumps(lock))):
        for name, value in ASSIGNED.items():
            assert getattr(again, name) == value
        del again.lock_file
        assert again.lock_file == os.path.abspath("README2.lock")


def test_copy_of_an_assigned_lock_file_is_the_same_lock(lock_class, path):
    lock = lock_class(path)
    lock.lock_file = path + ".lck"
    lock.hostname = "somewhere"
    with pickle.loads(pickle.dumps(lock)) as again:
        assert lock.i_am_locking()
        assert "somewhere-" in again.unique_name


def test_what_was_assigned_may_be_deleted_again(lock_class, path):
    lock = lock_class(path)
    before = {name: getattr(lock, name) for name in ASSIGNED}
    for name, value in ASSIGNED.items():
        setattr(lock, name, value)
    for name in ASSIGNED:
        delattr(lock, name)
    assert {name: getattr(lock, name) for name in ASSIGNED} == before
    with lock:
        assert lock_class(path).i_am_locking()
    for name in ASSIGNED:
        with pytest.raises(AttributeError):
            delattr(lock, name)


def test_the_constructor_says_all_anew(lock_class, path):
    """As the classic one, which assigned them all: what came before it does not count."""

    class Early(lock_class):
        def __init__(self, path):
            for name, value in ASSIGNED.items():
                setattr(self, name, value)
            self.purpose = "testing"
            super().__init__(path)

    lock, plain = Early(path), lock_class(path)
    for name in ASSIGNED:
        assert getattr(lock, name) == getattr(plain, name)
    assert vars(lock) == {"purpose": "testing"}


@pytest.mark.parametrize(
    ("attribute", "wrong"),
    [
        *[("path", value) for value in (3, None, "", "a\0b")],
        *[("lock_file", value) for value in (3, None, "", "a\0b", "x/", "..")],
        *[("hostname", value) for value in (3, None, "", "a\0b", b"here", "x" * 300)],
    ],
)
def test_what_cannot_be_is_refused(lock_class, path, attribute, wrong):
    lock = lock_class(path)
    before = getattr(lock, attribute)
    for assigned in (False, True):
        if assigned:
            setattr(lock, attribute, before)
        with pytest.raises((TypeError, ValueError), match=attribute):
            setattr(lock, attribute, wrong)
        assert getattr(lock, attribute) == before
    with lock:
        assert lock_class(path).i_am_locking()


def test_another_lock_file_while_owned_is_another_lock(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    lock.lock_file = path + ".lck"
    assert not lock.is_locked()
    del lock.lock_file
    assert lock.i_am_locking()
    lock.release()


def test_subclass_of_lockbase_assigns_what_it_likes(path):
    class Own(LockBase):
        def __init__(self, path):
            self.path = path
            self.lock_file = path + ".own"
            self.hostname, self.unique_name = "here", "me"

    lock = Own(path)
    assert (lock.path, lock.lock_file) == (path, path + ".own")
    assert (lock.hostname, lock.unique_name) == ("here", "me")


def test_failure_names_the_assigned_lock_file(file_lock_class, path):
    lock = file_lock_class(path)
    lock.lock_file = os.path.join(path, "missing", "lock")
    with pytest.raises(LockFailed, match=f"^failed to create {re.escape(lock.lock_file)}"):
        lock.acquire()
