"""Any path that a file system can hold, and any argument beside it, made up by hypothesis.

LOCKFILE_FUZZ_EXAMPLES=2000 tries so many instead of a few.
"""

import contextlib
import errno
import math
import os
import pathlib
import tempfile

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from lockfile import (
    AlreadyLocked,
    LockBase,
    LockFailed,
    LockTimeout,
    NotLocked,
    SQLiteFileLock,
    UnlockError,
)
from support import OtherThread, in_thread, names
from support.protocol import DEAD, HOST

fuzzed = settings(
    max_examples=int(os.environ.get("LOCKFILE_FUZZ_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

LONGEST_NAME = 255 - len(".lock")


class PathOf:
    """Something that has a path."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


# What a name in a directory can be: any bytes but two, and not the two names that every directory
# has. Characters that are no UTF-8 come as surrogates.
BYTE_NAMES = st.binary(min_size=1, max_size=40).map(
    lambda name: name.replace(b"\0", b"\n").replace(b"/", b"\\")
)
TEXT_NAMES = st.text(
    st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=40
).map(os.fsencode)
LONG_NAMES = st.builds(
    lambda character, size: (character.encode() * size)[:size],
    st.sampled_from(["x", "é", "日"]),
    st.integers(LONGEST_NAME - 3, LONGEST_NAME + 8),
)
NAMES_LIKE_OURS = st.sampled_from(
    [
        b".lock",
        b"README.lock",
        b".lockfile.sqlite3",
        b".lockfile.sqlite3-beacons",
        b"-rf",
        b"...",
        b" ",
        os.fsencode(DEAD),
        os.fsencode(f"{HOST}--1"),
        os.fsencode(f"{HOST}-7f0000001000-{os.getpid()}.1"),
    ]
)
NAMES = st.one_of(BYTE_NAMES, TEXT_NAMES, LONG_NAMES, NAMES_LIKE_OURS).filter(
    lambda name: name not in (b".", b"..")
)
KINDS = st.sampled_from(
    [
        os.fsdecode,
        os.fsencode,
        lambda path: pathlib.Path(os.fsdecode(path)),
        lambda path: PathOf(os.fsdecode(path)),
        lambda path: PathOf(os.fsencode(path)),
    ]
)


@pytest.fixture
def fresh(tmp_path):
    """Makes a fresh directory for each example, which must be empty at its end."""

    @contextlib.contextmanager
    def fresh():
        directory = tempfile.mkdtemp(dir=tmp_path)
        yield directory
        assert names(directory) == []

    return fresh


def reason_to_fail(lock):
    """Which error number the kernel has for a lock file there; 0: none."""
    try:
        os.close(os.open(os.path.dirname(lock.lock_file), os.O_RDONLY | os.O_DIRECTORY))
    except OSError as error:
        return error.errno
    too_long = len(os.fsencode(os.path.basename(lock.lock_file))) > 255
    return errno.ENAMETOOLONG if too_long and not isinstance(lock, SQLiteFileLock) else 0


def check_that_it_locks(lock, same):
    """It locks, and keeps another thread with another object of the path out; its end frees it."""
    with OtherThread() as other, lock:
        assert lock.i_am_locking()
        assert same.i_am_locking()
        assert other.run(same.is_locked)
        assert not other.run(same.i_am_locking)
        assert other.run(same.owner) == lock.owner()
        with pytest.raises(AlreadyLocked) as caught:
            other.run(same.acquire, 0)
        assert str(caught.value).startswith(f"{os.fsdecode(same.path)} is already locked")
    assert not same.is_locked()
    with pytest.raises(NotLocked) as caught:
        lock.release()
    assert str(caught.value).startswith(f"{os.fsdecode(lock.path)} is not locked")


def check_that_it_fails(lock, reason):
    """It cannot be locked, for this reason; where there is no such directory, nobody has."""
    with pytest.raises(LockFailed) as caught:
        lock.acquire()
    assert str(caught.value).startswith("failed to create ")
    assert os.path.dirname(lock.lock_file) in str(caught.value)
    assert caught.value.__cause__.errno == reason
    if reason == errno.ELOOP:
        with pytest.raises(UnlockError, match=os.strerror(reason)):
            lock.is_locked()
        return
    assert not lock.is_locked()
    assert not lock.i_am_locking()
    assert lock.owner() is None
    lock.break_lock()
    with pytest.raises(NotLocked):
        lock.release()


def check(lock, same):
    """It locks, if the kernel could make a file there."""
    reason = reason_to_fail(lock)
    if reason:
        check_that_it_fails(lock, reason)
    else:
        check_that_it_locks(lock, same)


@fuzzed
@given(name=NAMES, kind=KINDS, other_kind=KINDS)
@example(name=b"\xff\n", kind=os.fsencode, other_kind=os.fsdecode)
@example(name=b"x" * LONGEST_NAME, kind=os.fsdecode, other_kind=os.fsencode)
@example(name=b"x" * (LONGEST_NAME + 1), kind=os.fsdecode, other_kind=os.fsencode)
def test_any_name(lock_class, fresh, name, kind, other_kind):
    """str, bytes and path objects of any name mean the same lock; nothing is left of it."""
    with fresh() as directory:
        path = os.path.join(os.fsencode(directory), name)
        lock = lock_class(kind(path))
        assert os.fsencode(lock.path) == path
        assert lock.lock_file == os.path.abspath(os.fsdecode(path)) + ".lock"
        assert repr(os.fsdecode(path)) in repr(lock)
        check(lock, lock_class(other_kind(path)))


@fuzzed
@given(name=NAMES, other_name=NAMES)
@example(name=b"\xc3\xa9", other_name=b"e\xcc\x81")
@example(name=b"a", other_name=b"A")
def test_locks_of_different_names_are_different_locks(lock_class, fresh, name, other_name):
    """Who owns the one does not own the other, and another thread can."""
    assume(name != other_name and max(len(name), len(other_name)) <= LONGEST_NAME)
    with fresh() as directory:
        lock = lock_class(os.path.join(os.fsencode(directory), name))
        other = lock_class(os.path.join(os.fsencode(directory), other_name))
        with lock:
            assert not other.is_locked()
            in_thread(other.acquire, 0)
            assert lock.i_am_locking()
            assert not other.i_am_locking()
            other.break_lock()
            assert lock.i_am_locking()


# Deep enough for all the ".." that are tried.
DEPTH = 5
PARTS = st.sampled_from(["", ".", "..", "real", "link", "loop", "nowhere", "file", "missing", "x"])


@fuzzed
@given(parts=st.lists(PARTS, min_size=1, max_size=DEPTH), is_absolute=st.booleans(), kind=KINDS)
@example(parts=["link", "..", "x"], is_absolute=False, kind=os.fsdecode)
@example(parts=["real", ""], is_absolute=False, kind=os.fsdecode)
def test_any_way_to_a_path(lock_class, tmp_path, parts, is_absolute, kind):
    """Through directories, links, files, what is missing: it locks where a file could be made."""
    top = tempfile.mkdtemp(dir=tmp_path)
    start = os.path.join(top, *["d"] * DEPTH)
    os.makedirs(os.path.join(start, "real"))
    for link, target in (("link", "real"), ("loop", "loop"), ("nowhere", "missing")):
        os.symlink(target, os.path.join(start, link))
    with open(os.path.join(start, "file"), "x"):
        pass
    before = tree(top)
    assume(is_absolute or parts[0])  # or it would begin with the root directory
    path = kind("/".join(([start] if is_absolute else []) + parts))
    with contextlib.chdir(start):
        lock = lock_class(path)
        absolute = os.path.abspath(os.fsdecode(path))
    assert lock.path is path
    assert lock.lock_file == absolute + ".lock"
    check(lock, lock_class(absolute))
    assert tree(top) == before


def tree(top):
    """All names below a directory, but for those of databases."""
    return [(where, sorted(directories), names(where)) for where, directories, _ in os.walk(top)]


UNHEARD_OF = st.sampled_from(["\0", "\ud800", "\udbff", "\udfff"])


@fuzzed
@given(before=st.text(max_size=5), wrong=UNHEARD_OF, after=st.text(max_size=5), kind=KINDS)
def test_what_no_path_can_hold(lock_class, fresh, before, wrong, after, kind):
    """A NUL byte, or a surrogate that stands for no byte: ValueError, and nothing is touched."""
    path = before + wrong + after
    with contextlib.suppress(UnicodeEncodeError):
        path = kind(path)
    with fresh() as directory, contextlib.chdir(directory):
        for wanted in (lock_class, LockBase):
            with pytest.raises(ValueError):
                wanted(path)
        assert os.listdir() == []


# timeout and threaded


class NumberOf:
    """Something that can be read as a number."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"{type(self).__name__}({self.value!r})"


class FloatOf(NumberOf):
    def __float__(self):
        return self.value


class IndexOf(NumberOf):
    def __index__(self):
        return self.value


HUGE_NUMBERS = st.integers(-(10**400), 10**400)
NUMBERS = st.one_of(
    st.booleans(),
    st.floats(),
    st.floats(0, 0.001),
    st.integers(-(2**70), 2**70),
    HUGE_NUMBERS,
    st.decimals(),
    st.fractions(),
    st.builds(FloatOf, st.floats()),
    st.builds(IndexOf, HUGE_NUMBERS),
)


def seconds_of(number):
    """The number as Python reads it; None: it is no time."""
    try:
        seconds = float(number)
    except (OverflowError, ValueError):
        return None
    return None if math.isnan(seconds) else seconds


@fuzzed
@given(number=NUMBERS)
@example(number=IndexOf(2**1024))
@example(number=5e-324)
def test_any_number_of_seconds(lock_class, fresh, number):
    """Given to the constructor, assigned or given to acquire(), it counts as what it says."""
    seconds = seconds_of(number)
    with fresh() as directory:
        path = os.path.join(directory, "README")
        lock = lock_class(path)
        if seconds is None:
            refuse_number(lock, number)
            assert os.listdir(directory) == []
            return
        assert lock_class(path, timeout=number).timeout == seconds
        lock.timeout = number
        assert lock.timeout is number
        lock.acquire(number)
        if seconds <= 0.001:
            error = AlreadyLocked if seconds <= 0 else LockTimeout
            for call in (lock.acquire, lambda: lock_class(path).acquire(number)):
                with pytest.raises(error):
                    in_thread(call)
        lock.release()


def refuse_number(lock, number):
    """It is no time anywhere."""
    with pytest.raises(ValueError):
        type(lock)(lock.path, timeout=number)
    with pytest.raises(ValueError):
        lock.timeout = number
    with pytest.raises(ValueError):
        lock.acquire(number)
    assert lock.timeout is None


class TruthOf(NumberOf):
    def __bool__(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class LengthOf(NumberOf):
    def __len__(self):
        return self.value


TRUTHS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=2),
    st.binary(max_size=2),
    st.lists(st.none(), max_size=2),
    st.decimals(),
    st.builds(TruthOf, st.one_of(st.booleans(), st.integers(), st.just(KeyError("no truth")))),
    st.builds(LengthOf, st.integers(-2, 2)),
    st.builds(LengthOf, st.just(2**64)),
)


def truth_of(value):
    """Whether Python takes it for true, or the class of what it raises then."""
    try:
        return bool(value)
    except Exception as error:
        return type(error)


@fuzzed
@given(value=TRUTHS)
def test_any_truth_of_threaded(lock_class, fresh, value):
    """threaded is what Python takes it for, and makes the owner a thread or the process."""
    truth = truth_of(value)
    with fresh() as directory:
        path = os.path.join(directory, "README")
        if isinstance(truth, type):
            with pytest.raises(truth):
                lock_class(path, value)
            return
        lock = lock_class(path, value)
        assert lock.threaded is truth
        with lock:
            assert in_thread(lock.i_am_locking) is not truth
