"""What a lock tells of itself: attributes, owner() and fileno()."""

import os
import pickle
import socket
import threading
import unittest.mock

import pytest

import lockfile
from lockfile import (
    AlreadyLocked,
    LockBase,
    LockTimeout,
    NotLocked,
    NotMyLock,
)
from support import Child, OtherThread, holder, in_thread, names
from support.uses import ATTRIBUTES

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
