"""lock_file=: a path that is locked by a lock file elsewhere."""

import copy
import os
import pathlib
import pickle

import pytest

from lockfile import (
    AlreadyLocked,
    LinkFileLock,
    LockBase,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    SQLiteFileLock,
)
from support import Child, holder, in_thread, names
from support.lock_classes import kind_of
from support.protocol import DEAD, plant_unique


@pytest.fixture
def elsewhere(tmp_path):
    """The directory that lock files are to lie in."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    return directory


@pytest.fixture
def lock_file(elsewhere):
    return str(elsewhere / "README.of-somebody")


def test_lock_file_is_what_it_is_called(lock_class, path, lock_file, elsewhere, tmp_path):
    lock = lock_class(path, lock_file=lock_file)
    assert lock.path == path
    assert lock.lock_file == lock_file
    assert names(tmp_path) == ["elsewhere"]
    assert os.listdir(elsewhere) == []
    with lock:
        assert lock.i_am_locking()
        assert os.path.lexists(lock_file) == (not kind_of(lock_class).is_row)
        assert names(tmp_path) == ["elsewhere"]
    assert not lock.is_locked()
    assert names(elsewhere) == []


def test_what_is_beside_the_lock_file_lies_in_its_directory(lock_class, path, lock_file, elsewhere):
    inside = kind_of(lock_class).is_directory
    with lock_class(path, lock_file=lock_file) as lock:
        beside = os.path.dirname(lock.unique_name)
        assert beside == (lock_file if inside else str(elsewhere))
        assert os.path.exists(lock.unique_name) == (not kind_of(lock_class).is_row)


def test_path_needs_no_directory(lock_class, tmp_path, lock_file):
    """It is not looked at, be it there or not."""
    with lock_class(tmp_path / "missing" / "README", lock_file=lock_file) as lock:
        assert lock.is_locked()


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path])
def test_kinds_of_paths(lock_class, path, lock_file, kind):
    lock = lock_class(path, lock_file=kind(lock_file))
    assert lock.lock_file == lock_file
    assert type(lock.lock_file) is str
    with lock:
        assert lock_class(path, lock_file=lock_file).i_am_locking()


def test_none_is_the_usual_one(lock_class, path):
    assert lock_class(path, lock_file=None).lock_file == path + ".lock"


@pytest.mark.parametrize("given", ["x", "./x", "d/../x", "..//x", "x.lock"])
def test_it_is_made_absolute_as_path_is(lock_class, tmp_path, monkeypatch, given):
    directory = tmp_path / "directory"
    directory.mkdir()
    monkeypatch.chdir(directory)
    lock = lock_class("README", lock_file=given)
    assert lock.lock_file == os.path.abspath(given)
    monkeypatch.chdir("/")
    with lock:
        assert names(directory) == [] or os.path.dirname(lock.lock_file) == str(directory)
    assert names(directory) == []


def test_name_that_is_no_text(lock_class, path, elsewhere):
    lock_file = os.fsencode(elsewhere) + b"/\xff"
    with lock_class(path, lock_file=lock_file) as lock:
        assert lock.lock_file == os.fsdecode(lock_file)


def test_only_as_a_keyword(lock_class, path, lock_file):
    for wanted in (lock_class, LockBase):
        with pytest.raises(TypeError):
            wanted(path, True, None, lock_file)


# Whom it excludes


def test_one_lock_file_is_one_lock_whatever_the_paths(lock_class, tmp_path, lock_file):
    lock = lock_class(tmp_path / "one", lock_file=lock_file)
    other = lock_class(tmp_path / "other", lock_file=lock_file)
    with lock:
        assert other.i_am_locking()
        with pytest.raises(AlreadyLocked) as caught:
            in_thread(other.acquire, 0)
        assert str(caught.value).startswith(f"{other.path} is already locked")
        assert caught.value.path == str(other.path)
        with other:
            pass
        assert lock.i_am_locking()
    assert not other.is_locked()


def test_usual_lock_file_named_outright_is_the_same_lock(lock_class, path, tmp_path):
    with lock_class(path) as lock:
        other = lock_class(tmp_path / "other", lock_file=path + ".lock")
        assert other.i_am_locking()
        assert not in_thread(other.try_acquire)
        assert lock.owner() == other.owner()


def test_other_process_is_kept_out(lock_class, path, lock_file):
    lock = lock_class(path, lock_file=lock_file)
    code = """
        lock = getattr(lockfile, sys.argv[1])("anything", lock_file=sys.argv[2])
        with lock:
            say("in")
            hear()
        say("out")
        """
    with Child(code, lock_class.__name__, lock_file) as child:
        assert child.hear() == "in"
        assert lock.owner().pid == child.pid
        with pytest.raises(LockTimeout):
            lock.acquire(0.01)
        child.say("go on")
        assert child.hear() == "out"
        with lock:
            assert lock.i_am_locking()
        child.finish()


def test_one_path_with_two_lock_files_is_two_locks(lock_class, path, lock_file):
    with lock_class(path), lock_class(path, lock_file=lock_file) as lock:
        in_thread(lock_class(path, lock_file=lock_file + "2").acquire, 0)
        lock_class(path, lock_file=lock_file + "2").break_lock()
        assert lock.i_am_locking()


@pytest.mark.parametrize("classes", [(LinkFileLock, MkdirFileLock), (MkdirFileLock, LinkFileLock)])
def test_both_kinds_of_lock_files_exclude_each_other(path, lock_file, classes):
    one, other = (lock_class(path, lock_file=lock_file) for lock_class in classes)
    with one:
        assert in_thread(other.try_acquire) is False
    assert in_thread(other.try_acquire) is True
    one.break_lock()


def test_dead_owner_is_recovered(lock_class, path, lock_file, elsewhere):
    code = """
        lock = getattr(lockfile, sys.argv[1])("anything", lock_file=sys.argv[2])
        lock.acquire()
        say("in")
        hear()
        """
    with Child(code, lock_class.__name__, lock_file) as child:
        child.hear()
        child.kill()
    lock = lock_class(path, lock_file=lock_file)
    assert not lock.is_locked()
    with lock:
        assert lock.i_am_locking()
    assert names(elsewhere) == []


def test_break_lock_removes_it(lock_class, path, lock_file, elsewhere):
    lock = lock_class(path, lock_file=lock_file)
    lock.acquire()
    lock_class("anything", lock_file=lock_file).break_lock()
    assert names(elsewhere) == []
    with pytest.raises(NotLocked):
        lock.release()


def test_read_only_directory_is_locked_from_elsewhere(
    lock_class, public_directory, tmp_path, other_user
):
    """What it is for: nothing can be made beside the path."""
    tree = public_directory / "tree"
    tree.mkdir(mode=0o555)
    (tree / "README").touch()
    code = """
        path, lock_file = sys.argv[2:]
        lock_class = getattr(lockfile, sys.argv[1])
        try:
            lock_class(path).acquire(0)
        except lockfile.LockFailed as error:
            say(type(error.__cause__).__name__)
        with lock_class(path, lock_file=lock_file) as lock:
            say(lock.is_locked())
        """
    arguments = (lock_class.__name__, tree / "README", public_directory / "README.lock")
    with Child(code, *arguments, user=other_user) as child:
        assert child.hear() == "PermissionError"
        assert child.hear() is True
        child.finish()
    assert names(public_directory) == ["tree"]


# Rows


def test_row_is_called_by_the_lock_file_in_the_database_beside_it(path, lock_file, elsewhere):
    lock = SQLiteFileLock(path, lock_file=lock_file)
    assert lock.database == str(elsewhere / ".lockfile.sqlite3")
    with lock:
        other = SQLiteFileLock(elsewhere / "x", database=lock.database, lock_file=lock_file)
        assert other.i_am_locking()
    assert names(elsewhere) == []


def test_row_in_a_database_elsewhere(path, lock_file, tmp_path):
    database = tmp_path / ".lockfile.sqlite3"
    lock = SQLiteFileLock(path, lock_file=lock_file, database=database)
    assert lock.database == str(database)
    with lock:
        assert in_thread(SQLiteFileLock("x", lock_file=lock_file, database=database).is_locked)
        assert not SQLiteFileLock(path, database=database).is_locked()


def test_row_may_be_called_by_the_path_itself(path):
    """No such file is made, or removed."""
    with SQLiteFileLock(path, lock_file=path) as lock:
        assert lock.is_locked()
        assert not SQLiteFileLock(path).is_locked()


# Bad ones, which touch nothing


@pytest.mark.parametrize("wrong", [3, 3.5, True, [], bytearray(b"x")], ids=repr)
def test_wrong_types(lock_class, path, tmp_path, wrong):
    for wanted in (lock_class, LockBase):
        with pytest.raises(TypeError, match="lock_file must be a str, bytes or os"):
            wanted(path, lock_file=wrong)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *("", b"", "a\0b", b"a\0b", "\ud800"),
        *("x/", b"x/", "x//", "/", "//", "x/.", ".", "..", "x/..", "x/../"),
    ],
    ids=ascii,
)
def test_wrong_values(lock_class, path, tmp_path, wrong):
    for wanted in (lock_class, LockBase):
        with pytest.raises(ValueError) as caught:
            wanted(path, lock_file=wrong)
        if wrong != "\ud800":
            assert "lock_file must" in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("spell", [str, os.fsencode, pathlib.Path, lambda path: path + "/x/.."])
def test_path_itself_is_no_lock_file(file_lock_class, path, spell):
    """Releasing or breaking the lock would remove what it protects."""
    given = spell(path)
    if given == path + "/x/..":
        lock_file, given = path, given
    else:
        lock_file = given
    with pytest.raises(ValueError, match="lock_file must be another file than path"):
        file_lock_class(given, lock_file=lock_file)
    LockBase(given, lock_file=lock_file)  # whose scheme may well use it


def test_path_itself_by_another_name_is_no_lock_file(file_lock_class, tmp_path):
    """Nor is a directory that it is in: a lock file is removed with all that looks like its own."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    path, linked = str(tmp_path / "real" / "README"), str(tmp_path / "link" / "README")
    pairs = [(path, f"/{path}"), (f"/{path}", path), (path, linked), (linked, path)]
    for given, lock_file in [*pairs, (path, tmp_path / "real")]:
        with pytest.raises(ValueError, match="lock_file must be another file than path"):
            file_lock_class(given, lock_file=lock_file)
    file_lock_class(path, lock_file=f"{path}.lock")
    file_lock_class(path, lock_file=tmp_path / "real" / "READ")


NAMED_LIKE_ITS_OWNER = """
    lock_class, path, elsewhere = getattr(lockfile, sys.argv[1]), sys.argv[2], sys.argv[3]
    name = os.path.join(elsewhere, os.path.basename(lock_class(path).unique_name))
    lock = lock_class(path, lock_file=name)
    lock.acquire()
    say(name)
    hear()
    """


def test_lock_file_that_is_called_like_its_owner_is_recovered(file_lock_class, path, elsewhere):
    """It is not the unique file as well: nobody could tell whose it is."""
    with Child(NAMED_LIKE_ITS_OWNER, file_lock_class.__name__, path, elsewhere) as child:
        lock = file_lock_class(path, lock_file=child.hear())
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        child.process.kill()
        child.process.wait()
        with lock:
            assert lock.i_am_locking()
    assert names(elsewhere) == []


def test_pickle_that_says_otherwise_is_refused(file_lock_class, path):
    remake, arguments, _ = file_lock_class(path).__reduce__()
    *before, lock_file, store, on_wait = arguments
    for wrong in (path, "/", "x/", os.path.join(os.path.dirname(path), "..")):
        with pytest.raises(ValueError):
            remake(*before, wrong, store, on_wait)
    assert remake(*before, lock_file, store, on_wait).path == path


def test_initialising_again_in_vain_changes_nothing(lock_class, path, lock_file):
    lock = lock_class(path, lock_file=lock_file)
    with pytest.raises(ValueError):
        lock.__init__(path, lock_file="x/")
    assert lock.lock_file == lock_file
    lock.__init__(path)
    assert lock.lock_file == path + ".lock"


# Copies, subclasses


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda lock: pickle.loads(pickle.dumps(lock))]
)
def test_copies_keep_it(lock_class, path, tmp_path, monkeypatch, duplicate):
    monkeypatch.chdir(tmp_path)
    lock = lock_class(path, lock_file="x")
    monkeypatch.chdir("/")
    again = duplicate(lock)
    assert (again.path, again.lock_file) == (path, str(tmp_path / "x"))
    with lock:
        assert again.i_am_locking()


def test_lockbase_takes_it(path, lock_file):
    lock = LockBase(path, lock_file=lock_file)
    assert (lock.path, lock.lock_file) == (path, lock_file)
    assert os.path.dirname(lock.unique_name) == os.path.dirname(lock_file)


def test_subclass_passes_it_on(lock_class, path, lock_file):
    class Elsewhere(lock_class):
        def __init__(self, path):
            super().__init__(path, lock_file=lock_file)

    with Elsewhere(path):
        assert lock_class("anything", lock_file=lock_file).i_am_locking()


# Names that look like owners' own files


@pytest.fixture(params=["backup-20240611-11", DEAD, "host--12"])
def owners_form(request, elsewhere):
    """A lock file's user may give it any name."""
    return str(elsewhere / request.param)


def test_lock_file_named_like_an_owners_file_locks(lock_class, path, owners_form, elsewhere):
    lock = lock_class(path, lock_file=owners_form)
    with lock:
        assert in_thread(lock.owner) == lock.owner()
        assert in_thread(lock.try_acquire) is False
        assert lock.owner().pid == os.getpid()
    assert names(elsewhere) == []


@pytest.mark.parametrize("ours", [False, True], ids=["plain", "stamped"])
def test_foreign_lock_file_named_like_an_owners_file_is_never_stale(
    file_lock_class, path, owners_form, elsewhere, ours
):
    """Its own name does not say who made it."""
    if ours:
        plant_unique(owners_form, name=os.path.basename(owners_form))
    else:
        open(owners_form, "x").close()
    lock = file_lock_class(path, lock_file=owners_form)
    assert lock.is_locked()
    assert lock.owner() == (None, None, None, None)
    assert lock.try_acquire(0.01) is False
    assert names(elsewhere) == [os.path.basename(owners_form)]
    lock.break_lock()
    assert names(elsewhere) == []


def test_owner_of_a_lock_file_named_like_an_owners_file_is_told(path, owners_form):
    code = """
        with lockfile.LinkFileLock("anything", lock_file=sys.argv[1]):
            say("in")
            hear()
        """
    with Child(code, owners_form) as child:
        child.hear()
        owner = LinkFileLock(path, lock_file=owners_form).owner()
        assert (owner.pid, owner.alive) == (child.pid, True)
        child.finish()


def test_sweep_leaves_lock_files_named_like_owners_files(file_lock_class, path, owners_form):
    """They are owned, whatever their names; breaking another lock in the directory sweeps it."""
    directory = os.path.dirname(owners_form)
    other = os.path.join(directory, "other")
    with holder(file_lock_class, other) as child:
        child.kill()
    with file_lock_class(path, lock_file=owners_form) as lock:
        with file_lock_class(other):
            pass
        assert lock.i_am_locking()
        assert os.path.lexists(owners_form)
    assert names(directory) == []
