"""What the exceptions say: first what the classic package said, then who the owner is."""

import errno
import os
import socket
import threading

import pytest

import lockfile
from lockfile import AlreadyLocked, LockFailed, LockTimeout, NotLocked, NotMyLock, UnlockError
from support import Child, OtherThread, holder, in_thread, names


def message_of(caught, beginning):
    """The text of an exception: its only argument, which begins as it should."""
    message = str(caught.value)
    assert caught.value.args == (message,)
    assert message.startswith(beginning)
    return message


def check_owner(message, pid, thread):
    """The message names the owner, who is alive."""
    assert socket.gethostname() in message
    assert str(pid) in message
    if thread is not None:
        assert f"{thread:x}" in message or str(thread) in message
    assert "alive" in message
    assert "\n" not in message


# Beginnings, and the owner after them


@pytest.mark.parametrize(
    ("timeout", "error", "beginning"),
    [
        (0.01, LockTimeout, "Timeout waiting to acquire lock for {}"),
        (0, AlreadyLocked, "{} is already locked"),
    ],
)
def test_acquire_in_vain_names_the_owning_thread(lock_class, path, timeout, error, beginning):
    with lock_class(path), pytest.raises(error) as caught:
        in_thread(lock_class(path).acquire, timeout)
    message = message_of(caught, beginning.format(path))
    check_owner(message, os.getpid(), threading.get_ident())


@pytest.mark.parametrize(
    ("timeout", "error", "beginning"),
    [
        (0.01, LockTimeout, "Timeout waiting to acquire lock for {}"),
        (0, AlreadyLocked, "{} is already locked"),
    ],
)
def test_acquire_in_vain_names_the_owning_process(lock_class, path, timeout, error, beginning):
    with holder(lock_class, path) as child:
        with pytest.raises(error) as caught:
            lock_class(path).acquire(timeout)
        child.say("release")
        child.hear()
    message = message_of(caught, beginning.format(path))
    check_owner(message, child.pid, None)


def test_acquire_in_vain_names_an_owner_without_thread(lock_class, path):
    with lock_class(path, threaded=False), pytest.raises(AlreadyLocked) as caught:
        lock_class(path).acquire(0)
    check_owner(message_of(caught, f"{path} is already locked"), os.getpid(), None)


def test_nothing_to_release(lock_class, path):
    with pytest.raises(NotLocked) as caught:
        lock_class(path).release()
    message_of(caught, f"{path} is not locked")


def test_release_for_another_thread(lock_class, path):
    with lock_class(path), pytest.raises(NotMyLock) as caught:
        in_thread(lock_class(path).release)
    message = message_of(caught, f"{path} is locked, but not by me")
    check_owner(message, os.getpid(), threading.get_ident())
    assert "threaded=False" in message


def test_release_for_another_process(lock_class, path):
    with holder(lock_class, path) as child:
        with pytest.raises(NotMyLock) as caught:
            lock_class(path).release()
        child.say("release")
        child.hear()
    message = message_of(caught, f"{path} is locked, but not by me")
    check_owner(message, child.pid, None)
    assert "threaded=False" not in message


def test_release_of_a_broken_lock_that_is_free(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    in_thread(lock_class(path).break_lock)
    with pytest.raises(NotLocked) as caught:
        lock.release()
    message_of(caught, f"{path} is not locked")


def test_release_of_a_broken_lock_that_is_taken(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    with OtherThread() as thread:
        thread.run(lock.break_lock)
        thread.run(lock.acquire)
        with pytest.raises(NotMyLock) as caught:
            lock.release()
        message = message_of(caught, f"{path} is locked, but not by me")
        check_owner(message, os.getpid(), thread.ident)
        thread.run(lock.release)


def test_release_of_a_stale_lock(lock_class, path):
    lock = lock_class(path)
    with holder(lock_class, path) as child:
        child.kill()
    with pytest.raises(NotLocked) as caught:
        lock.release()
    message_of(caught, f"{path} is not locked")
    lock.break_lock()


@pytest.mark.parametrize("method", ["release", "fileno"])
def test_lock_of_somebody_unknown(file_lock_class, tmp_path, method):
    foreign = tmp_path / "README.lock"
    foreign.touch()
    lock = file_lock_class(tmp_path / "README")
    with pytest.raises(NotMyLock) as caught:
        getattr(lock, method)()
    message_of(caught, f"{lock.path} is locked, but not by me")
    foreign.unlink()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "fifo"])
def test_waiting_for_somebody_unknown(file_lock_class, tmp_path, kind):
    foreign = tmp_path / "README.lock"
    make = {
        "file": foreign.touch,
        "directory": foreign.mkdir,
        "link": lambda: foreign.symlink_to("nowhere"),
        "fifo": lambda: os.mkfifo(foreign),
    }
    make[kind]()
    lock = file_lock_class(tmp_path / "README")
    with pytest.raises(LockTimeout) as caught:
        lock.acquire(0.01)
    timeout = message_of(caught, f"Timeout waiting to acquire lock for {lock.path}")
    with pytest.raises(AlreadyLocked) as caught:
        lock.acquire(0)
    already = message_of(caught, f"{lock.path} is already locked")
    assert len(timeout) > len(f"Timeout waiting to acquire lock for {lock.path}"), "and why"
    assert len(already) > len(f"{lock.path} is already locked"), "and why"
    lock.break_lock()
    assert names(tmp_path) == []


def test_missing_directory_is_named_with_the_reason(lock_class, tmp_path):
    with pytest.raises(LockFailed) as caught:
        lock_class(tmp_path / "missing" / "README").acquire()
    message = message_of(caught, f"failed to create {tmp_path / 'missing'}")
    assert os.strerror(errno.ENOENT) in message
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert caught.value.__cause__.errno == errno.ENOENT


@pytest.mark.leaves_files
def test_stale_lock_that_may_not_be_removed(public_directory, other_user):
    public_directory.chmod(0o1777)
    path = public_directory / "README"
    with holder(lockfile.LinkFileLock, path, user=other_user) as owner:
        owner.kill()
    with Child(
        """
        lock = lockfile.LinkFileLock(sys.argv[1])
        try:
            lock.acquire(timeout=0.05)
        except lockfile.LockTimeout as error:
            say(str(error))
        """,
        path,
        user=other_user - 1,
    ) as contender:
        message = contender.hear()
        contender.finish()
    assert message.startswith(f"Timeout waiting to acquire lock for {path}")
    assert "dead" in message
    assert os.strerror(errno.EPERM) in message


def test_release_that_fails_says_that_the_lock_is_kept(path, refusals):
    lock = lockfile.LinkFileLock(path, threaded=False)
    lock.acquire()
    with pytest.raises(UnlockError) as caught:
        in_thread(lock.release, refused={"unlink": errno.EIO})
    message = message_of(caught, "")
    assert path in message
    assert os.strerror(errno.EIO) in message
    assert "still" in message
    lock.release()


# Paths as they were given


def test_path_is_named_as_it_was_given(lock_class, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with lock_class("./README"), pytest.raises(AlreadyLocked) as caught:
        in_thread(lock_class("./README").acquire, 0)
    message_of(caught, "./README is already locked")


@pytest.mark.parametrize(
    "name", ["100%s%n%d", "a {brace}", "Straße", "日本語", "\udcff", "a\nb", "it's"], ids=ascii
)
def test_unusual_paths(lock_class, tmp_path, name):
    path = str(tmp_path / name)
    lock = lock_class(path)
    with pytest.raises(NotLocked) as caught:
        lock.release()
    message_of(caught, f"{path} is not locked")
    with lock:
        with pytest.raises(LockTimeout) as caught:
            in_thread(lock_class(path).acquire, 0.01)
        message_of(caught, f"Timeout waiting to acquire lock for {path}")
        with pytest.raises(AlreadyLocked) as caught:
            in_thread(lock_class(path).acquire, 0)
        message_of(caught, f"{path} is already locked")
        with pytest.raises(NotMyLock) as caught:
            in_thread(lock_class(path).release)
        message_of(caught, f"{path} is locked, but not by me")
    with pytest.raises(LockFailed) as caught:
        lock_class(os.path.join(path, "README")).acquire()
    message_of(caught, f"failed to create {path}")


def test_timeout_is_an_operating_system_error_without_a_number(lock_class, path):
    with lock_class(path), pytest.raises(TimeoutError) as caught:
        in_thread(lock_class(path).acquire, 0.01)
    assert caught.type is LockTimeout
    assert caught.value.errno is None
    assert caught.value.strerror is None


def test_uninitialised_lock_is_told_by_its_class(lock_class):
    class Forgetful(lock_class):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match="Forgetful"):
        Forgetful().acquire()
