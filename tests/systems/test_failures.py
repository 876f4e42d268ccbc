"""Bad luck, which leaves nothing: directories that cannot hold a lock, machines that have run out
of something, kernels that refuse.
"""

import errno
import os
import subprocess
from contextlib import contextmanager

import pytest

import lockfile
from lockfile import LockFailed, NotLocked, UnlockError
from support import ORDINARY_USER, Child, in_thread, names
from support.lock_classes import FILE_LOCK_CLASSES

# Directories that cannot hold a lock


@contextmanager
def fails_to_create(path, error):
    """LockFailed says what could not be made and why, and has what the system said."""
    with pytest.raises(LockFailed) as caught:
        yield
    message = str(caught.value)
    assert caught.value.args == (message,)
    assert message.startswith("failed to create ")
    assert os.path.dirname(os.path.abspath(path)) in message
    assert os.strerror(error) in message
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == error


@pytest.mark.parametrize("timeout", [None, 0, 1])
def test_missing_directory(lock_class, tmp_path, timeout):
    path = tmp_path / "missing" / "README"
    lock = lock_class(path)
    with fails_to_create(path, errno.ENOENT):
        lock.acquire(timeout)
    assert not lock.is_locked()
    assert not lock.i_am_locking()
    assert lock.owner() is None
    assert lock.break_lock() is None
    with pytest.raises(NotLocked):
        lock.release()
    assert names(tmp_path) == []


def test_directory_that_is_a_file(lock_class, tmp_path):
    (tmp_path / "file").touch()
    lock = lock_class(tmp_path / "file" / "README")
    with fails_to_create(lock.path, errno.ENOTDIR):
        lock.acquire()
    assert not lock.is_locked()
    assert lock.break_lock() is None
    with pytest.raises(NotLocked):
        lock.release()
    assert names(tmp_path) == ["file"]


def test_directory_that_is_a_loop_of_links(lock_class, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    lock = lock_class(tmp_path / "loop" / "README")
    with fails_to_create(lock.path, errno.ELOOP):
        lock.acquire()
    assert names(tmp_path) == ["loop"]


def test_longest_name_can_be_locked(lock_class, tmp_path):
    lock = lock_class(tmp_path / ("x" * (255 - len(".lock"))))
    with lock:
        assert lock.i_am_locking()
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 251, "x" * 255, "x" * 300], ids=len)
def test_name_that_is_too_long(file_lock_class, tmp_path, name):
    lock = file_lock_class(tmp_path / name)
    with fails_to_create(lock.path, errno.ENAMETOOLONG):
        lock.acquire()
    assert names(tmp_path) == []


def test_path_that_is_too_long(lock_class, tmp_path):
    lock = lock_class(os.path.join(tmp_path, *["directory"] * 1000))
    with fails_to_create(lock.path, errno.ENAMETOOLONG):
        lock.acquire()
    assert names(tmp_path) == []


ACQUIRE_AND_TELL = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    try:
        lock.acquire(timeout=0.1)
    except lockfile.LockFailed as error:
        say([str(error), error.__cause__.errno])
"""


def test_directory_that_is_not_ours_to_write(lock_class, public_directory):
    public_directory.chmod(0o555)
    path = public_directory / "README"
    with Child(ACQUIRE_AND_TELL, lock_class.__name__, path, user=ORDINARY_USER) as child:
        message, error = child.hear()
        child.finish()
    assert error == errno.EACCES
    assert message.startswith("failed to create ")
    assert str(public_directory) in message
    assert os.strerror(errno.EACCES) in message
    if lock_class in FILE_LOCK_CLASSES:
        assert "lock_file= can name a lock file in another" in message
    assert names(public_directory) == []


def test_directory_that_is_not_ours_to_enter(lock_class, public_directory, other_user):
    public_directory.chmod(0o600)
    path = public_directory / "README"
    with Child(ACQUIRE_AND_TELL, lock_class.__name__, path, user=other_user) as child:
        message, error = child.hear()
        child.finish()
    assert error == errno.EACCES
    assert str(public_directory) in message
    assert names(public_directory) == []


# A machine that has run out of something


TAKE_ALL_DESCRIPTORS = """
    import resource

    def take_all_descriptors():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            return taken

    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
"""


def test_no_descriptors(file_lock_class, path, tmp_path):
    with Child(
        TAKE_ALL_DESCRIPTORS
        + """
    for number in take_all_descriptors():
        try:
            lock.acquire(timeout=1)
        except lockfile.LockFailed as error:
            say([str(error), error.__cause__.errno])
            hear()
            os.close(number)
        else:
            lock.release()
            break
    say(None)
        """,
        file_lock_class.__name__,
        path,
    ) as child:
        failures = 0
        while answer := child.hear():
            message, error = answer
            assert error == errno.EMFILE
            assert message.startswith("failed to create ")
            assert str(tmp_path) in message
            assert os.strerror(errno.EMFILE) in message
            assert names(tmp_path) == []
            failures += 1
            child.say("try again")
        child.finish()
    assert failures
    assert names(tmp_path) == []


def test_no_descriptors_to_wait_with(file_lock_class, path, tmp_path):
    with (
        file_lock_class(path),
        Child(
            TAKE_ALL_DESCRIPTORS
            + """
    for number in take_all_descriptors():
        try:
            lock.acquire(timeout=0.01)
        except lockfile.LockError as error:
            say([type(error).__name__, error.__cause__ and error.__cause__.errno])
        os.close(number)
    say(None)
            """,
            file_lock_class.__name__,
            path,
        ) as child,
    ):
        answers = list(iter(child.hear, None))
        child.finish()
    assert answers[0] == ["LockFailed", errno.EMFILE]
    assert answers[-1] == ["LockTimeout", None]
    assert answers == sorted(answers), "no failures once there is one more than enough"
    assert names(tmp_path) == []


def test_release_without_free_descriptors_releases_or_says_that_it_did_not(lock_class, path):
    with Child(
        TAKE_ALL_DESCRIPTORS
        + """
    lock.acquire()
    taken = take_all_descriptors()
    try:
        lock.release()
        released = True
    except lockfile.UnlockError as error:
        assert type(error) is lockfile.UnlockError, repr(error)
        released = False
    for number in taken:
        os.close(number)
    say(lock.i_am_locking() is not released)
    if not released:
        lock.release()
    say(lock.is_locked())
        """,
        lock_class.__name__,
        path,
    ) as child:
        assert child.hear() is True
        assert child.hear() is False
        child.finish()


@pytest.fixture
def full_directory(tmp_path):
    """A directory in a file system that has no room for one more file, and a way to make room."""
    directory = tmp_path / "full"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "nr_inodes=20,size=64k", "none", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small file system can be mounted here")
    files = []
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        for number in range(100):
            file = directory / f"file{number}"
            file.touch()
            files.append(file)
    yield directory, files
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_full_disk(file_lock_class, full_directory):
    directory, files = full_directory
    lock = file_lock_class(directory / "README")
    failures = 0
    while not lock.i_am_locking():
        try:
            lock.acquire(timeout=1)
        except LockFailed as error:
            assert error.__cause__.errno == errno.ENOSPC
            assert str(error).startswith("failed to create ")
            assert str(directory) in str(error)
            assert os.strerror(errno.ENOSPC) in str(error)
            assert names(directory) == sorted(file.name for file in files)
            files.pop().unlink()
            failures += 1
    lock.release()
    assert failures >= 1
    assert names(directory) == sorted(file.name for file in files)


def test_release_on_a_full_disk(file_lock_class, full_directory):
    directory, files = full_directory
    for file in files[-3:]:
        file.unlink()
    lock = file_lock_class(directory / "README")
    lock.acquire()
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        for number in range(100):
            (directory / f"more{number}").touch()
    lock.release()
    assert not lock.is_locked()


# A kernel that refuses


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV])
@pytest.mark.parametrize("timeout", [None, 0, 1])
def test_hard_links_refused_for_good(path, tmp_path, refusals, error, timeout):
    lock = lockfile.LinkFileLock(path)
    with fails_to_create(path, error):
        in_thread(lock.acquire, timeout, refused={"link": error})
    assert not lock.is_locked()
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.EACCES])
def test_who_finds_hard_links_refused_is_told_what_to_use(path, refusals, error):
    """By the file system, or by a policy of the system, which says EACCES."""
    with pytest.raises(LockFailed, match="MkdirFileLock"):
        in_thread(lockfile.LinkFileLock(path).acquire, refused={"link": error})


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_hard_link_that_fails(path, tmp_path, refusals, error):
    with fails_to_create(path, error):
        in_thread(lockfile.LinkFileLock(path).acquire, timeout=1, refused={"link": error})
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.ENOLCK, errno.EIO])
def test_kernel_locks_refused_on_a_local_file_system(path, tmp_path, refusals, error):
    with fails_to_create(path, error):
        in_thread(lockfile.LinkFileLock(path).acquire, timeout=1, refused={"flock": error})
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EPERM, errno.EACCES, errno.EIO, errno.EROFS])
def test_release_that_fails_keeps_the_lock(path, tmp_path, refusals, error):
    lock = lockfile.LinkFileLock(path, threaded=False)
    lock.acquire()
    with pytest.raises(UnlockError) as caught:
        in_thread(lock.release, refused={"unlink": error})
    assert caught.type is UnlockError
    assert caught.value.__cause__.errno == error
    assert path in str(caught.value)
    assert os.strerror(error) in str(caught.value)
    assert lock.is_locked()
    assert lock.i_am_locking()
    lock.release()
    assert names(tmp_path) == []


def test_block_whose_end_failed_is_over_all_the_same(path, tmp_path, refusals):
    """The lock is kept, as the message says; the end of the next block releases it."""
    lock = lockfile.LinkFileLock(path, threaded=False)

    def block():
        with lock:
            pass

    with pytest.raises(UnlockError, match="still locked by me"):
        in_thread(block, refused={"unlink": errno.EIO})
    assert lock.i_am_locking()
    block()
    assert not lock.is_locked()
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EPERM, errno.EACCES, errno.EIO, errno.EROFS])
def test_break_that_fails_keeps_the_lock(path, tmp_path, refusals, error):
    lock = lockfile.LinkFileLock(path)
    lock.acquire()
    with pytest.raises(UnlockError) as caught:
        in_thread(lockfile.LinkFileLock(path).break_lock, refused={"unlink": error})
    assert caught.type is UnlockError
    assert caught.value.__cause__.errno == error
    assert lock.i_am_locking()
    lock.release()
    assert names(tmp_path) == []
