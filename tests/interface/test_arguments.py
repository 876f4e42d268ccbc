"""Arguments: paths of all kinds, timeouts, and bad ones, which touch nothing."""

import math
import os
import pathlib
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lockfile
from lockfile import AlreadyLocked, LockBase, LockTimeout, NotLocked
from support import PATIENCE, OtherThread, in_thread, names
from support.lock_classes import kind_of


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
    given = kind(path)
    lock = lock_class(given)
    assert lock.path is given
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
    assert lock.path == path
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
    inside = kind_of(lock_class).is_directory
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
