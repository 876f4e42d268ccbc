"""Bad arguments, which touch nothing, and bad luck, which leaves nothing."""

import errno
import math
import os
import pathlib
import subprocess
import sys
from contextlib import contextmanager
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lockfile
from lockfile import AlreadyLocked, LockBase, LockFailed, LockTimeout, NotLocked, UnlockError
from support import ORDINARY_USER, PATIENCE, Child, OtherThread, in_thread, names


class PathOf:
    """Something whose path is whatever it is told, an exception included."""

    def __init__(self, answer):
        self.answer = answer

    def __repr__(self):
        return f"{type(self).__name__}({self.answer!a})"

    def __fspath__(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class NumberOf(PathOf):
    def __float__(self):
        return self.__fspath__()

    def __bool__(self):
        return self.__fspath__()


# The path

wrong_types = pytest.mark.parametrize(
    "wrong",
    [None, 3, 3.5, True, [], ["README"], 1j, bytearray(b"README"), PathOf(3), PathOf(None)],
    ids=repr,
)
wrong_values = pytest.mark.parametrize(
    "wrong",
    ["", b"", "a\0b", b"a\0b", "\0", "\ud800", PathOf(""), PathOf("a\0b"), PathOf(b"a\0b")],
    ids=ascii,
)


@wrong_types
def test_path_of_a_wrong_type(lock_class, wrong):
    with pytest.raises(TypeError):
        lock_class(wrong)
    with pytest.raises(TypeError):
        LockBase(wrong)


@wrong_values
def test_path_of_a_wrong_value(lock_class, wrong):
    with pytest.raises(ValueError):
        lock_class(wrong)
    with pytest.raises(ValueError):
        LockBase(wrong)


def test_error_of_a_path_object_comes_through(lock_class):
    with pytest.raises(ZeroDivisionError):
        lock_class(PathOf(ZeroDivisionError()))


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((), {}),
        (("README", True, 1, 2), {}),
        (("README",), {"path": "README"}),
        (("README",), {"thread": True}),
        (("README",), {"Timeout": 1}),
        ((), {"threaded": True}),
    ],
)
def test_wrong_number_or_names_of_arguments(lock_class, arguments, keywords):
    with pytest.raises(TypeError):
        lock_class(*arguments, **keywords)
    with pytest.raises(TypeError):
        LockBase(*arguments, **keywords)


def test_constructor_takes_keywords(lock_class, path):
    lock = lock_class(path=path, threaded=False, timeout=2)
    assert (lock.path, lock.threaded, lock.timeout) == (path, False, 2)


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path, PathOf])
def test_kinds_of_paths(lock_class, path, tmp_path, kind):
    lock = lock_class(kind(path))
    assert type(lock.path) is str
    assert lock.path == path
    with lock:
        assert os.listdir(tmp_path)
        assert lock_class(path).i_am_locking()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [b"\xff\xfe", "Straße".encode(), "日本語".encode(), b"a b\nc\t'\"\\", b"%s%n{}", b"-rf", b"~"],
)
def test_unusual_names(lock_class, tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    lock = lock_class(path)
    assert lock.path == os.fsdecode(path)
    assert lock.lock_file == os.fsdecode(path + b".lock")
    with lock:
        assert lock_class(os.fsdecode(path)).i_am_locking()
    assert names(tmp_path) == []


def test_lock_file_of_an_unusual_name_is_named_after_it(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff"
    with lockfile.LinkFileLock(path):
        assert b"\xff.lock" in os.listdir(os.fsencode(tmp_path))


@pytest.mark.parametrize(
    "given_path",
    [
        "README",
        "./README",
        "x/../README",
        "README/",
        "README//",
        "x//README",
        "x/./README",
        "..",
        ".",
        "../..",
        "/",
        "//README",
        "///README",
        "/../README",
        "x/..",
    ],
)
def test_lock_file_lies_beside_the_absolute_path(lock_class, tmp_path, monkeypatch, given_path):
    monkeypatch.chdir(tmp_path)
    lock = lock_class(given_path)
    assert lock.path == given_path
    assert lock.lock_file == os.path.abspath(given_path) + ".lock"
    inside = lock_class is lockfile.MkdirFileLock
    place = lock.lock_file if inside else os.path.dirname(lock.lock_file)
    assert os.path.dirname(lock.unique_name) == place


@given(st.text(st.sampled_from("/.a\udcff\u20ac"), min_size=1, max_size=12))
def test_any_path_is_made_absolute_as_python_does(given_path):
    assert LockBase(given_path).lock_file == os.path.abspath(given_path) + ".lock"


def test_path_is_fixed_at_construction(lock_class, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lock = lock_class("README")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with lock:
        assert lock.lock_file == str(tmp_path / "README.lock")
        assert not lock_class("README").is_locked()
    assert names(tmp_path / "elsewhere") == []


# timeout and threaded


wrong_timeouts = pytest.mark.parametrize("wrong", ["1", b"1", [], {}, 1j, NumberOf("1")], ids=repr)


@wrong_timeouts
def test_timeout_of_a_wrong_type(lock_class, path, tmp_path, wrong):
    with pytest.raises(TypeError):
        lock_class(path, timeout=wrong)
    with pytest.raises(TypeError):
        LockBase(path, timeout=wrong)
    with pytest.raises(TypeError):
        lock_class(path).acquire(wrong)
    assert names(tmp_path) == []


def test_timeout_that_is_not_a_number(lock_class, path, tmp_path):
    with pytest.raises(ValueError):
        lock_class(path, timeout=math.nan)
    with pytest.raises(ValueError):
        LockBase(path, timeout=math.nan)
    with pytest.raises(ValueError):
        lock_class(path).acquire(math.nan)
    assert names(tmp_path) == []


@pytest.mark.parametrize("wrong", [math.nan, "1"], ids=repr)
def test_wrong_timeout_assigned(lock_class, path, tmp_path, wrong):
    lock = lock_class(path)
    with pytest.raises((TypeError, ValueError)):
        lock.timeout = wrong
        lock.acquire()
    assert names(tmp_path) == []


@pytest.mark.parametrize("huge", [10**400, -(10**400)], ids=["positive", "negative"])
def test_timeout_beyond_all_floats(lock_class, path, tmp_path, huge):
    with pytest.raises((OverflowError, ValueError)):
        lock_class(path, timeout=huge)
    with pytest.raises((OverflowError, ValueError)):
        lock_class(path).acquire(huge)
    assert names(tmp_path) == []


def test_error_of_a_number_object_comes_through(lock_class, path, tmp_path):
    with pytest.raises(ZeroDivisionError):
        lock_class(path, timeout=NumberOf(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        lock_class(path).acquire(NumberOf(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        lock_class(path, threaded=NumberOf(ZeroDivisionError()))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "timeout",
    [
        None,
        0,
        -1,
        1,
        True,
        2**63,
        pytest.param(10**300, id="10**300"),
        sys.float_info.max,
        5e-324,
        math.inf,
        -math.inf,
    ],
)
def test_free_lock_is_taken_with_any_timeout(lock_class, path, timeout):
    lock = lock_class(path)
    lock.acquire(timeout)
    assert lock.i_am_locking()
    lock.release()
    with lock_class(path, timeout=timeout) as lock:
        assert lock.i_am_locking()


@pytest.mark.parametrize(
    "timeout", [0, 0.0, -0.0, -1, -0.5, False, pytest.param(-(10**300), id="-10**300"), -math.inf]
)
def test_timeout_of_zero_and_less_does_not_wait(lock_class, path, timeout):
    with lock_class(path), pytest.raises(AlreadyLocked):
        in_thread(lock_class(path).acquire, timeout)


@pytest.mark.parametrize("timeout", [5e-324, 1e-9, 0.01, Decimal("0.01")])
def test_timeout_above_zero_waits(lock_class, path, timeout):
    with lock_class(path), pytest.raises(LockTimeout):
        in_thread(lock_class(path).acquire, timeout)


@pytest.mark.parametrize(
    "timeout",
    [None, math.inf, sys.float_info.max, pytest.param(10**300, id="10**300"), 2**63, 2**31, 1e10],
)
def test_long_timeout_or_none_waits_until_the_release(lock_class, path, timeout):
    lock = lock_class(path)
    with OtherThread() as thread:
        with lock:
            waiting = thread.start(lock.acquire, timeout)
            with pytest.raises(TimeoutError):
                waiting.result(0.05)
        waiting.result(PATIENCE)
        assert thread.run(lock.i_am_locking)
        thread.run(lock.release)


def test_infinity_overrules_the_timeout_of_the_constructor(lock_class, path):
    lock = lock_class(path, timeout=0)
    with OtherThread() as thread:
        with lock:
            waiting = thread.start(lock.acquire, math.inf)
            with pytest.raises(TimeoutError):
                waiting.result(0.05)
        waiting.result(PATIENCE)
        thread.run(lock.release)


@pytest.mark.parametrize("method", ["release", "is_locked", "i_am_locking", "break_lock", "owner"])
def test_methods_that_take_no_arguments(lock_class, path, method):
    with pytest.raises(TypeError):
        getattr(lock_class(path), method)(1)
    with pytest.raises(TypeError):
        getattr(lock_class(path), method)(timeout=1)


def test_acquire_takes_one_argument(lock_class, path, tmp_path):
    lock = lock_class(path)
    with pytest.raises(TypeError):
        lock.acquire(1, 2)
    with pytest.raises(TypeError):
        lock.acquire(patience=1)
    assert names(tmp_path) == []


def test_methods_return_none_but_for_acquire(lock_class, path):
    lock = lock_class(path)
    assert lock.acquire() is lock
    assert lock.acquire(timeout=1) is lock
    assert lock.release() is None
    assert lock.break_lock() is None


def test_with_acquire_releases_once_at_the_end(lock_class, path):
    lock = lock_class(path)
    with lock.acquire(timeout=5) as entered:
        assert entered is lock
        assert lock.i_am_locking()
    assert not lock.is_locked()


@pytest.mark.parametrize("threaded", [True, False])
def test_with_acquire_nests(lock_class, path, threaded):
    lock = lock_class(path, threaded)
    with lock.acquire():
        with lock.acquire(timeout=0):
            with lock:
                assert lock.i_am_locking()
            with lock_class(path, threaded).acquire():
                pass
            assert lock.i_am_locking()
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_with_acquire_does_not_hide_what_happens_in_it(lock_class, path):
    lock = lock_class(path)
    with pytest.raises(ZeroDivisionError):
        with lock.acquire():
            raise ZeroDivisionError
    with pytest.raises(NotLocked):
        with lock.acquire():
            lock.break_lock()


def test_with_acquire_of_what_is_held_runs_no_body(lock_class, path):
    lock = lock_class(path)

    def enter(timeout):
        with lock.acquire(timeout=timeout):
            return "in"

    with lock:
        with pytest.raises(AlreadyLocked):
            in_thread(enter, 0)
        with pytest.raises(LockTimeout):
            in_thread(enter, 0.01)


def test_true_and_false_say_what_they_say_to_a_lock_of_threads(lock_class, path):
    """acquire(True) waits, acquire(False) does not; where it says False, AlreadyLocked."""
    lock, impatient = lock_class(path), lock_class(path, timeout=0.01)
    with OtherThread() as thread:
        with lock:
            with pytest.raises(AlreadyLocked):
                thread.run(lock.acquire, False)
            with pytest.raises(LockTimeout):
                thread.run(impatient.acquire, True)
            waiting = thread.start(lock.acquire, True)
            with pytest.raises(TimeoutError):
                waiting.result(1.1)  # it was taken for one second once
        assert waiting.result(PATIENCE) is lock
        thread.run(lock.release)
    assert lock.acquire(False) is lock
    lock.release()


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
