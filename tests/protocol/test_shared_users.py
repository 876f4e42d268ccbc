"""Readers of several users: they share where each of them, as the last one, could remove it."""

import os
import signal

import pytest

from lockfile import AlreadyLocked, LinkFileLock, MkdirFileLock
from support import PATIENCE, Child
from support.lock_classes import SHARED_FILE_CLASSES
from support.protocol import SteppedChild, swept_clean
from support.waiters import settle

READ = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
    say(lock.try_acquire(timeout=0))
    hear()
    lock.release()
    say("left")
    """

only_files = pytest.mark.parametrize("shared_class", SHARED_FILE_CLASSES, indirect=True)


@pytest.fixture
def path(public_directory):
    """Where all may write: not sticky."""
    os.chmod(public_directory, 0o777)
    return os.path.join(public_directory, "README")


def reader_of(user, shared_class, path):
    return Child(READ, shared_class.__name__, path, user=user)


@pytest.mark.parametrize("shared_class", [LinkFileLock], indirect=True)
@pytest.mark.parametrize("leaves_first", ["ours", "theirs"])
def test_readers_of_two_users_share(shared_class, path, other_user, leaves_first):
    """Whoever comes to be the last one removes what the other has made."""
    ours, writer = shared_class(path, shared=True), shared_class(path, threaded=False)
    ours.acquire(timeout=0)
    with reader_of(other_user, shared_class, path) as theirs:
        assert theirs.hear() is True
        assert len(ours.owners()) == 2
        if leaves_first == "ours":
            ours.release()
            with pytest.raises(AlreadyLocked):
                writer.acquire(timeout=0)
        theirs.say("go")
        assert theirs.hear() == "left"
        theirs.finish()
    if leaves_first == "theirs":
        ours.release()
    assert os.listdir(os.path.dirname(path)) == []


@pytest.mark.parametrize("shared_class", [MkdirFileLock], indirect=True)
def test_reader_waits_for_a_lock_directory_that_it_could_not_empty(shared_class, path, other_user):
    ours = shared_class(path, shared=True)
    with ours:
        with reader_of(other_user, shared_class, path) as theirs:
            assert theirs.hear() is False
            theirs.kill()
    assert os.listdir(os.path.dirname(path)) == []


@only_files
def test_reader_of_another_user_waits_in_a_sticky_directory(shared_class, path, other_user):
    """It could not remove the lock in the end."""
    os.chmod(os.path.dirname(path), 0o1777)
    third_user = other_user - 1
    with reader_of(other_user, shared_class, path) as theirs:
        assert theirs.hear() is True
        with reader_of(third_user, shared_class, path) as third:
            assert third.hear() is False
            third.kill()
        theirs.say("go")
        assert theirs.hear() == "left"
        theirs.finish()


READ_AFTER_OTHERS = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
    say("waits")
    lock.acquire()
    """

READ_IN_STEPS = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
    be_stopped()
    lock.acquire()
    say("reads")
    """


@only_files
@pytest.mark.leaves_files
def test_reader_of_another_user_who_waits_is_let_in_by_those_who_come(
    shared_class, path, other_user
):
    """As a writer is: else they would overlap for ever."""
    os.chmod(os.path.dirname(path), 0o1777)
    arguments = (shared_class.__name__, path)
    with reader_of(other_user, shared_class, path) as theirs:
        assert theirs.hear() is True
        with Child(READ_AFTER_OTHERS, *arguments, user=other_user - 1) as third:
            assert third.hear() == "waits"
            settle(third)
            with SteppedChild(
                READ_IN_STEPS,
                *arguments,
                kinds=("sleep", "say"),
                user=other_user,
                before="from support import protocol\n",  # what it may not read afterwards
            ) as comes:
                comes.run_to("sleep")


@pytest.mark.parametrize("shared_class", [LinkFileLock], indirect=True)
def test_reader_of_another_user_that_is_killed_delays_nobody_for_long(
    shared_class, path, other_user
):
    ours, writer = shared_class(path, shared=True), shared_class(path, threaded=False)
    ours.acquire(timeout=0)
    with reader_of(other_user, shared_class, path) as theirs:
        assert theirs.hear() is True
        ours.release()
        os.kill(theirs.pid, signal.SIGKILL)
        writer.acquire(timeout=PATIENCE)
        writer.release()
    assert swept_clean(shared_class, path)
