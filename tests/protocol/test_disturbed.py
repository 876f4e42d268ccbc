"""Locks beside what others do: programs that lock the same directory, processes that are stopped
or out of descriptors, mounts whose kernel locks exclude nobody, names that look like ours."""

import contextlib
import errno
import fcntl
import os
import re
import resource
import textwrap
from pathlib import Path

import pytest

from lockfile import (
    AlreadyLocked,
    FileLock,
    LinkFileLock,
    LockTimeout,
    MkdirFileLock,
    UnlockError,
)
from support import PATIENCE, Child, also_preloaded, holder, in_thread, names, wait_until
from support.lock_classes import FILE_LOCK_CLASSES
from support.protocol import (
    HOST,
    SteppedChild,
    plant,
)

# A program that locks the directory, without waiting

STEPS = ("open", "fcntl", "flock", "stat", "link", "mkdir", "rename", "unlink", "close", "say")
CYCLES = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    be_stopped()
    with lock:
        pass
    say("done")
    """


def locked_by_another_program(directory):
    """What flock -n DIRECTORY does: is it let in?"""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@pytest.mark.parametrize("stale", [False, True], ids=["free", "stale"])
def test_directory_is_never_locked_by_acquire_and_release(file_lock_class, path, tmp_path, stale):
    if stale:
        plant(path)
    with SteppedChild(CYCLES, file_lock_class.__name__, path, kinds=STEPS) as child:
        calls = 0
        while child.next_call().kind != "say":
            calls += 1
            assert locked_by_another_program(tmp_path), child.call
        assert child.run_on() == "done"
        child.finish()
    assert calls > 10


def test_program_that_keeps_the_directory_locked_disturbs_nobody(file_lock_class, path, tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        plant(path)
        with file_lock_class(path, timeout=0):
            pass
    finally:
        os.close(descriptor)


def test_program_that_has_all_bytes_of_the_directory_locked_disturbs_no_release(
    file_lock_class, path, tmp_path
):
    """What looks like the mark of a break_lock() is not one: nobody has the flock."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    try:
        with Child(RELEASE, file_lock_class.__name__, path) as child:
            assert child.hear() == "released"
            child.finish()
        plant(path)
        with Child(RELEASE, file_lock_class.__name__, path) as child:
            assert child.hear() == "released"
            child.finish()
    finally:
        os.close(descriptor)
    assert names(tmp_path) == []


RELEASE = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], timeout=0)
    lock.acquire()
    lock.release()
    say("released")
    """


def test_removal_that_is_stopped_lets_others_release_beside_a_break_lock(path, tmp_path):
    """Of the two only the break_lock() waits for it, and gives way to the others."""
    stopped = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        lock.acquire()
        be_stopped()
        lock.release()
        say("released")
        """
    breaking = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        say("begins")
        while True:
            try:
                lock.break_lock()
            except lockfile.UnlockError as error:
                say(str(error))
        """
    lock = LinkFileLock(tmp_path / "mine")
    with SteppedChild(stopped, path, kinds=("unlink", "say")) as owner:
        owner.run_to("unlink", "README.lock")
        with Child(breaking, tmp_path / "other") as breaker:
            assert breaker.hear() == "begins"
            plant(tmp_path / "other")
            assert "another program has it locked" in breaker.hear()
            for _ in range(20):
                lock.acquire()
                lock.release()
        assert owner.run_on() == "released"
        owner.finish()
    LinkFileLock(tmp_path / "other").break_lock()
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS])
def test_kernel_without_marks(file_lock_class, path, tmp_path, refusals, error):
    """Windows' Linux, the first of them, has none: all goes by the flock then."""

    def cycle():
        lock = file_lock_class(path)
        lock.acquire()
        lock.release()
        lock.acquire()
        lock.break_lock()
        assert not lock.is_locked()
        plant(path)
        lock.acquire(timeout=0)
        lock.release()

    in_thread(cycle, refused={"marks": error})
    assert names(tmp_path) == []


# A process without descriptors


@contextlib.contextmanager
def no_descriptor_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_process_out_of_descriptors_can_release(file_lock_class, path, tmp_path):
    lock = file_lock_class(path)
    lock.acquire()
    with no_descriptor_left():
        assert lock.i_am_locking()
        lock.release()
        assert names(tmp_path) == []
    with lock:  # it is as good as new
        pass


# An inode number that is given out again

OWN_AND_RELEASE = """
    lock = lockfile.MkdirFileLock(sys.argv[1])
    lock.acquire()
    say(os.stat(lock.lock_file).st_ino)
    if sys.argv[2] == "closing":
        os.closerange(3, 1000)
    hear()
    say(lock.i_am_locking())
    try:
        lock.release()
    except lockfile.Error as error:
        say(type(error).__name__)
    """


def loses_its_lock(owner, lock):
    """It finds that it owns nothing any more, and does no harm to us who own."""
    owner.say("go on")
    assert owner.hear() is False
    assert owner.hear() == "NotMyLock"
    assert lock.i_am_locking()
    lock.release()


def test_broken_lock_directory_is_not_taken_for_that_of_the_next_owner(path):
    """The owner keeps its own open, so nobody gets its number."""
    lock = MkdirFileLock(path)
    with Child(OWN_AND_RELEASE, path, "keeping") as owner:
        number = owner.hear()
        lock.break_lock()
        for _ in range(20):  # file systems give out again what was given back last
            lock.acquire()
            assert os.stat(lock.lock_file).st_ino != number
            lock.release()
        lock.acquire()
        loses_its_lock(owner, lock)


def test_owner_that_lost_its_descriptors_is_not_fooled_by_a_number_that_was_given_out_again(path):
    """Nothing keeps it then; but our own unique file is not in the next owner's directory."""
    lock = MkdirFileLock(path)
    for _ in range(10):  # another program may be given the number first
        with Child(OWN_AND_RELEASE, path, "closing") as owner:
            number = owner.hear()
            wait_until(lambda: not lock.is_locked(), "the descriptors to be closed")
            lock.break_lock()
            given_again = acquires_number(lock, number)
            loses_its_lock(owner, lock)
        if given_again:
            return
    pytest.skip("this file system does not give the number out again")


def acquires_number(lock, number):
    for _ in range(50):
        lock.acquire()
        if os.stat(lock.lock_file).st_ino == number:
            return True
        lock.release()
    lock.acquire()
    return False


# A rename that is refused

REFUSED = [errno.EXDEV, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EINVAL]


@pytest.mark.parametrize("error", REFUSED)
def test_lock_directory_that_cannot_be_renamed_is_released(path, tmp_path, refusals, error):
    """For want of room for the new name, too: what is there can be removed."""
    lock = MkdirFileLock(path, threaded=False)
    lock.acquire()
    in_thread(lock.release, refused={"rename": error})
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", REFUSED)
def test_dead_owners_directory_that_cannot_be_renamed_is_recovered(
    path, tmp_path, refusals, error, file_lock_class
):
    with holder(MkdirFileLock, path) as owner:
        owner.kill()
    lock = LinkFileLock(path, threaded=False)
    in_thread(lock.acquire, timeout=0, refused={"rename": error})
    lock.release()
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", REFUSED)
def test_directory_that_cannot_be_renamed_is_broken(path, tmp_path, refusals, error):
    with holder(MkdirFileLock, path):
        in_thread(MkdirFileLock(path).break_lock, refused={"rename": error})
        assert names(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EPERM, errno.EACCES, errno.EIO, errno.EROFS, errno.EBUSY])
def test_release_whose_rename_fails_keeps_the_lock(path, tmp_path, refusals, error):
    lock = MkdirFileLock(path, threaded=False)
    lock.acquire()
    with pytest.raises(UnlockError, match="still locked by me"):
        in_thread(lock.release, refused={"rename": error})
    assert lock.i_am_locking()
    lock.release()
    assert names(tmp_path) == []


# Names


def test_host_that_is_called_like_what_network_clients_keep(path, file_lock_class, tmp_path):
    """They call a removed file that is open .nfs and a number."""
    code = """
        import socket
        namespace_of_host_names = 0x04000000
        if ctypes.CDLL(None).unshare(namespace_of_host_names):
            say(None)
        else:
            socket.sethostname(".nfs1")
            getattr(lockfile, sys.argv[1])(sys.argv[2]).acquire()
            say(os.getpid())
            hear()
        """
    lock = file_lock_class(path)
    with Child(code, file_lock_class.__name__, path) as owner:
        pid = owner.hear()
        if pid is None:
            pytest.skip("a host name of our own is not to be had")
        assert (lock.owner().hostname, lock.owner().pid) == (".nfs1", pid)
        owner.kill()
    lock.acquire(timeout=0)
    lock.release()
    assert names(tmp_path) == []


def test_what_clients_keep_of_a_removed_file_does_not_make_a_directory_foreign(path, tmp_path):
    with holder(MkdirFileLock, path) as owner:
        lock = MkdirFileLock(path)
        for name in (".nfs00000000000d14af0000002b", ".fuse_hidden0000000300000001"):
            Path(lock.lock_file, name).touch()
        assert lock.owner().pid == owner.pid
        owner.kill()
        for name in names(lock.lock_file):
            if name.startswith("."):
                os.unlink(os.path.join(lock.lock_file, name))
    assert not lock.is_locked()
    with lock:
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("owners", FILE_LOCK_CLASSES)
@pytest.mark.parametrize("way", ["plain", "through a link to the directory"])
def test_unique_name_is_the_real_one_through_any_object(file_lock_class, owners, way, tmp_path):
    directory = tmp_path / "real"
    directory.mkdir()
    (tmp_path / "alias").symlink_to("real")
    other = file_lock_class((directory if way == "plain" else tmp_path / "alias") / "README")
    before = other.unique_name
    with owners(directory / "first"), owners(directory / "README") as lock:
        assert other.i_am_locking()
        assert os.path.samefile(other.unique_name, lock.unique_name)
        assert os.path.basename(other.unique_name).endswith(".1")
    assert other.unique_name == before
    (tmp_path / "alias").unlink()
    directory.rmdir()


# A look that does not end


@contextlib.contextmanager
def stopped_in_a_look(dead_owners_class, path):
    """A process between taking and giving back a dead owner's beacon."""
    code = """
        lock = lockfile.FileLock(sys.argv[1])
        be_stopped()
        say(lock.is_locked())
        """
    with holder(dead_owners_class, path) as owner:
        owner.kill()
    with SteppedChild(code, path, kinds=("flock", "say")) as looker:
        looker.run_to("flock", where=lambda call: call.arguments[1] & fcntl.LOCK_UN)
        yield looker


@pytest.mark.parametrize("dead_owners_class", FILE_LOCK_CLASSES)
def test_process_stopped_in_a_look_keeps_nobody_from_recovering(
    file_lock_class, dead_owners_class, path, tmp_path
):
    with stopped_in_a_look(dead_owners_class, path) as looker:
        lock = file_lock_class(path)
        lock.acquire(timeout=PATIENCE)
        assert lock.i_am_locking()
        assert looker.run_on() is False
        looker.finish()
        assert lock.i_am_locking()
        lock.release()
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.ENOLCK])
def test_process_stopped_in_a_look_is_in_the_way_where_there_are_no_marks(
    file_lock_class, path, tmp_path, refusals, error
):
    """There those who would pass it could not take turns."""
    with stopped_in_a_look(LinkFileLock, path) as looker:

        def wait_in_vain(lock):
            with pytest.raises(LockTimeout):
                lock.acquire(timeout=0.5)

        in_thread(wait_in_vain, file_lock_class(path), refused={"marks": error})
        assert looker.run_on() is False
        looker.finish()
    with file_lock_class(path):
        pass
    assert names(tmp_path) == []


def test_two_breakers_beside_a_look_that_does_not_end_make_one_owner(path, tmp_path):
    turn = """
        lock = lockfile.FileLock(sys.argv[1])
        lock.acquire(timeout=PATIENCE)
        say("owns")
        hear()
        lock.release()
        """
    with stopped_in_a_look(LinkFileLock, path) as looker:
        with Child(turn, path) as one, Child(turn, path) as two:
            wait_until(lambda: FileLock(path).is_locked(), "one of them to own")
            owner = FileLock(path).owner().pid
            first, second = (one, two) if one.pid == owner else (two, one)
            assert first.hear() == "owns"
            first.say("release")
            assert second.hear() == "owns"
            second.say("release")
            first.finish()
            second.finish()
        looker.run_on()
    assert names(tmp_path) == []


# Kernel locks that exclude nobody


@pytest.mark.parametrize("device", [False, True], ids=["anybody's", "this machine's"])
@pytest.mark.parametrize("way", ["by renaming", "in place"])
def test_live_owner_is_not_taken_for_dead_where_kernel_locks_are_granted_to_all(
    file_lock_class, path, tmp_path, preloadable, refusals, device, way, monkeypatch
):
    """Its name says that it proves nothing; what excludes is link() and mkdir()."""
    monkeypatch.setenv("LD_PRELOAD", also_preloaded(preloadable("liar.c")))
    if device:
        monkeypatch.setenv("LIAR_DEVICE", "1")
    prelude = "refuse('rename', errno.EINVAL)\n" if way == "in place" else ""
    own = """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        lock.acquire()
        say(lock.unique_name)
        hear()
        lock.release()
        """
    contend = """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        try:
            lock.acquire(timeout=0.1)
        except lockfile.LockTimeout as error:
            say([str(error), lock.is_locked(), lock.owner().alive])
        """
    code = "import errno\n" + prelude
    with Child(code + textwrap.dedent(own), file_lock_class.__name__, path) as owner:
        unique_name = owner.hear()
        assert re.search(r"-\d+\.f{16}", unique_name)  # a K that nobody has
        below = file_lock_class(path)  # where a name without K would prove
        with pytest.raises(AlreadyLocked, match="nothing can tell here"):
            below.acquire(timeout=0)
        with Child(code + textwrap.dedent(contend), file_lock_class.__name__, path) as contender:
            message, locked, alive = contender.hear()
            assert HOST in message
            assert (locked, alive) == (True, None)
            contender.finish()
        owner.say("release")
        owner.finish()
    assert names(tmp_path) == []
