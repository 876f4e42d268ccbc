"""Sequences of operations that have failed, as test_model.py has found them."""

import contextlib
import os
import sqlite3

import pytest

from lockfile import SQLiteFileLock
from support import Child, names
from support.databases import remove_lock_file


@pytest.fixture
def two_paths(tmp_path):
    """To the same file, as its directory has another name."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    return tmp_path / "real" / "README", tmp_path / "link" / "README"


@pytest.mark.parametrize("threaded", [True, False])
def test_release_by_a_path_whose_claim_was_lost_is_of_the_one_by_another(
    lock_class, two_paths, threaded
):
    path, linked = two_paths
    lost = lock_class(path, threaded)
    lost.acquire()
    remove_lock_file(lost)
    lock_class(linked, threaded).acquire()
    lock_class(path, threaded).release()
    assert not lost.is_locked()
    assert names(path.parent) == []


def test_unique_name_by_another_path_is_the_real_one(lock_class, two_paths):
    """It has a suffix, as the same owner has another lock in that directory."""
    path, linked = two_paths
    with lock_class(path.with_name("other")), lock_class(linked) as owner:
        real, told = owner.unique_name, lock_class(path).unique_name
        assert os.path.basename(told) == os.path.basename(real)
        if lock_class is not SQLiteFileLock:
            assert os.path.samefile(told, real)


def test_descriptor_through_a_linked_directory(lock_class, two_paths):
    """fileno() of an object whose directory has another name is the same, and leaves none open."""
    with Child(
        """
        lock, linked = (getattr(lockfile, sys.argv[1])(path) for path in sys.argv[2:])
        with lock:
            linked.is_locked()  # a database is kept open under each of its names
            before = os.listdir("/proc/self/fd")
            say(linked.fileno() == lock.fileno())
            say(os.listdir("/proc/self/fd") == before)
        """,
        lock_class.__name__,
        *two_paths,
    ) as child:
        assert child.hear() is True
        assert child.hear() is True
        child.finish()


LOCK_FILES = """
    import fcntl, random, tempfile

    files = [tempfile.TemporaryFile(dir=sys.argv[1]) for _ in range(150)]
    say("ready")
    while os.getppid() == int(sys.argv[2]):
        fcntl.lockf(random.choice(files), random.choice([fcntl.LOCK_EX, fcntl.LOCK_UN]))
    """


def test_connection_of_the_program_while_other_programs_lock_files(tmp_path):
    """Looked for among the locks of all processes, while they change, our own may not be seen."""
    real = tmp_path / "real"
    real.mkdir()
    locks = []
    for number in range(12):  # more names than connections are kept for
        (tmp_path / f"link{number}").symlink_to("real")
        locks.append(SQLiteFileLock(tmp_path / f"link{number}" / "README"))
    busy = (LOCK_FILES, tmp_path, str(os.getpid()))
    with (
        Child(*busy) as one,
        Child(*busy) as other,
        locks[0],
        contextlib.closing(sqlite3.connect(real / ".lockfile.sqlite3")) as own,
    ):
        assert (one.hear(), other.hear()) == ("ready", "ready")
        own.execute("SELECT * FROM sqlite_master").fetchall()
        for _ in range(50):
            assert all(lock.is_locked() for lock in locks)
