"""Paths as Windows has them."""

import os

import pytest

from lockfile import AlreadyLocked, LockFailed
from support import holder, names


@pytest.mark.leaves_files
def test_names_that_differ_in_case_are_one_lock(lock_class, tmp_path):
    with holder(lock_class, tmp_path / "readme"):
        other = lock_class(tmp_path / "README")
        assert other.is_locked()
        with pytest.raises(AlreadyLocked):
            other.acquire(timeout=0)


def test_owner_finds_its_own_lock_by_a_name_in_another_case(lock_class, tmp_path):
    with lock_class(tmp_path / "readme"):
        other = lock_class(tmp_path / "README")
        assert other.i_am_locking()
        other.acquire(timeout=0)
    assert not other.is_locked()


def test_separators_of_both_kinds(lock_class, tmp_path):
    with lock_class(str(tmp_path / "README").replace("\\", "/")):
        assert lock_class(tmp_path / "README").i_am_locking()


def test_path_of_a_drives_current_directory(lock_class, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drive = os.path.splitdrive(tmp_path)[0]
    with lock_class(f"{drive}README"):
        assert lock_class(tmp_path / "README").i_am_locking()


def test_path_longer_than_260(file_lock_class, tmp_path):
    raw = "\\\\?\\" + str(tmp_path)
    directory = os.path.join(raw, "d" * 120, "e" * 120)
    os.makedirs(directory)
    lock = file_lock_class(os.path.join(directory, "README"))
    assert len(lock.lock_file) > 260
    with lock:
        assert len(os.listdir(directory)) == (1 if file_lock_class.__name__[0] == "M" else 2)
        assert file_lock_class(os.path.join(directory, "README")[4:]).i_am_locking()
    assert os.listdir(directory) == []


@pytest.mark.parametrize("name", ["nul", "con", "what?", "a:b", "a*"])
def test_name_that_no_file_can_have(file_lock_class, tmp_path, monkeypatch, name):
    """Refused, or a lock like any other: which one, the version of Windows says."""
    monkeypatch.chdir(tmp_path)
    lock = file_lock_class(name)
    try:
        lock.acquire(timeout=0)
    except LockFailed:
        assert not lock.i_am_locking()
    else:
        assert file_lock_class(name).i_am_locking()
        lock.release()
    assert names(tmp_path) == []


def test_directory_that_is_not_there(lock_class, tmp_path):
    lock = lock_class(tmp_path / "nowhere" / "README")
    with pytest.raises(LockFailed, match="No such file"):
        lock.acquire(timeout=0)
    assert not lock.is_locked()
