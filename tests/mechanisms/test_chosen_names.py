"""A unique name that a program has chosen names the unique file of its links."""

import errno
import itertools
import os
import stat

import pytest

import lockfile
from lockfile import AlreadyLocked, LinkFileLock, LockFailed, LockTimeout, NotLocked
from support import PATIENCE, Child, OtherThread, in_thread, names
from support.protocol import SteppedChild

CHOOSING = """
    lock = lockfile.LinkFileLock(sys.argv[1])
    lock.unique_name = sys.argv[1] + "-mine"
"""


@pytest.fixture
def lock(path):
    lock = LinkFileLock(path)
    lock.unique_name = path + "-mine"
    return lock


def test_the_unique_file_bears_it(lock, path, tmp_path):
    with lock:
        assert names(tmp_path) == ["README-mine", "README.lock"]
        assert os.path.samefile(lock.unique_name, lock.lock_file)
        assert LinkFileLock(path).unique_name == lock.unique_name == path + "-mine"
        assert lock.i_am_locking()
        assert LinkFileLock(path).i_am_locking()
        assert os.path.samestat(os.fstat(lock.fileno()), os.stat(lock.unique_name))
    assert names(tmp_path) == []


def test_it_counts_from_when_it_was_assigned_until_it_is_deleted(lock, tmp_path):
    for _ in range(2):
        with lock:
            assert "README-mine" in names(tmp_path)
    del lock.unique_name
    with lock:
        assert os.path.basename(lock.unique_name) in names(tmp_path)
        assert "README-mine" not in names(tmp_path)


def test_it_is_readable_by_all_and_writable_by_its_user(lock):
    mask = os.umask(0o077)
    try:
        with lock:
            mode = os.stat(lock.unique_name).st_mode
    finally:
        os.umask(mask)
    assert stat.S_IMODE(mode) & 0o666 == 0o644


def test_another_owner_is_kept_out(lock, path):
    with lock:
        for other in (lock, LinkFileLock(path)):
            with pytest.raises(AlreadyLocked):
                in_thread(other.acquire, 0)
            with pytest.raises(LockTimeout):
                in_thread(other.acquire, 0.01)


def test_two_processes_that_choose_the_same_name_take_turns(lock, path, tmp_path):
    with Child(
        CHOOSING
        + """
    lock.acquire()
    say("locked")
    hear()
    lock.release()
    say("released")
    """,
        path,
    ) as child:
        child.hear()
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        with OtherThread() as thread:
            waiting = thread.start(lock.acquire)
            child.say("release")
            assert child.hear() == "released"
            assert waiting.result(PATIENCE) is lock
            thread.run(lock.release)
    assert names(tmp_path) == []


@pytest.mark.parametrize("chooses", [False, True])
def test_a_dead_owner_is_recovered_and_nothing_is_left(lock, path, tmp_path, chooses):
    with Child(CHOOSING + "    lock.acquire(); say('locked'); hear()", path) as child:
        child.hear()
        assert names(tmp_path) == ["README-mine", "README.lock"]
        child.kill()
    heir = lock if chooses else LinkFileLock(path)
    assert not heir.is_locked()
    assert heir.owner().alive is False
    heir.acquire(timeout=0)
    assert heir.i_am_locking()
    heir.release()
    assert names(tmp_path) == []


STEPS = ("open", "flock", "link", "unlink", "mode", "close", "say")


def test_killed_at_any_step_leaves_what_its_next_owner_removes(lock, path, tmp_path):
    """At most the empty file of that name, which whoever chooses it again takes over."""
    code = CHOOSING + "    be_stopped()\n    lock.acquire()\n    lock.release()\n    say(0)\n"
    for count in itertools.count(1):
        with SteppedChild(code, path, kinds=STEPS) as child:
            for _ in range(count):
                call = child.next_call()
        assert set(names(tmp_path)) <= {"README-mine", "README.lock"}
        lock.acquire(timeout=PATIENCE)
        assert names(tmp_path) == ["README-mine", "README.lock"], f"killed before {call}"
        lock.release()
        assert names(tmp_path) == [], f"killed before {call}"
        if call.kind == "say":
            assert count > 5  # or it was not stopped at all
            return


def test_broken_while_owned(lock, path, tmp_path):
    lock.acquire()
    LinkFileLock(path).break_lock()
    with pytest.raises(NotLocked):
        lock.release()
    assert names(tmp_path) == []


def test_who_breaks_a_live_owners_lock_gets_it(lock, path, tmp_path):
    """Though that owner keeps the beacon of the file of that name, and of none any more."""
    with Child(
        CHOOSING + "    lock.acquire(); say(1); hear(); say(lock.i_am_locking())", path
    ) as slow:
        slow.hear()
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=0.01)
        lock.break_lock()
        assert names(tmp_path) == []
        with lock:
            slow.say("go on")
            assert slow.hear() is False
            assert names(tmp_path) == ["README-mine", "README.lock"]


@pytest.mark.parametrize("text", ["12\n", "lock file: README.lock\n", "4711\n\n"])
def test_a_stamped_file_with_contents_is_left_alone(lock, tmp_path, text):
    """The unique file of a link is empty, whatever other locks write into theirs."""
    (tmp_path / "README-mine").write_text(text)
    (tmp_path / "README-mine").chmod(0o1644)
    with pytest.raises(AlreadyLocked):
        lock.acquire(timeout=0)
    assert (tmp_path / "README-mine").read_text() == text
    os.unlink(tmp_path / "README-mine")


def test_a_file_of_that_name_is_left_alone(lock, path, tmp_path):
    (tmp_path / "README-mine").write_text("data")
    with pytest.raises(LockFailed) as caught:
        lock.acquire(timeout=0)
    assert caught.value.__cause__.errno == errno.EEXIST
    assert (tmp_path / "README-mine").read_text() == "data"
    assert names(tmp_path) == ["README-mine"]


def test_an_empty_file_of_that_name_is_left_alone(lock, path, tmp_path):
    (tmp_path / "README-mine").touch()
    with pytest.raises(LockFailed):
        lock.acquire(timeout=0)
    assert names(tmp_path) == ["README-mine"]


def test_a_link_of_that_name_is_not_followed(lock, path, tmp_path):
    (tmp_path / "README-mine").symlink_to(tmp_path / "target")
    with pytest.raises(LockFailed):
        lock.acquire(timeout=0)
    assert names(tmp_path) == ["README-mine"]


def test_locks_that_choose_one_name_for_two_paths_take_turns(lock, path, tmp_path):
    other = LinkFileLock(path + "2")
    other.unique_name = lock.unique_name
    with lock:
        with pytest.raises(AlreadyLocked):
            other.acquire(timeout=0)
        with pytest.raises(LockTimeout):
            other.acquire(timeout=0.05)
    with other:
        assert names(tmp_path) == ["README-mine", "README2.lock"]


@pytest.mark.parametrize("name", ["/tmp/mine", "sub/mine", "README.lock", "", None, 3, "x" * 400])
def test_any_other_value_only_says_what_it_was_told(path, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    lock = LinkFileLock(path)
    real = os.path.basename(lock.unique_name)
    lock.unique_name = name
    with lock:
        assert lock.unique_name == name
        assert names(tmp_path) == sorted([real, "README.lock", "sub"])
    assert names(tmp_path) == ["sub"]


def test_a_lock_file_that_only_looks_like_one_of_a_chosen_name_is_held(path, tmp_path):
    """It needs the stamp, the mark, and another name in its directory."""
    made = tmp_path / "made"
    made.touch()
    lock = LinkFileLock(path)
    os.link(made, lock.lock_file)
    for mode in (0o644, 0o744, 0o1644):
        made.chmod(mode)
        assert lock.is_locked()
    made.chmod(0o1744)
    made.unlink()
    assert lock.is_locked()
    os.unlink(lock.lock_file)


@pytest.mark.parametrize("lock_class", [lockfile.MkdirFileLock, lockfile.SQLiteFileLock])
def test_other_classes_only_say_it(lock_class, path, tmp_path):
    lock = lock_class(path)
    lock.unique_name = path + "-mine"
    with lock:
        assert lock.unique_name == path + "-mine"
        assert "README-mine" not in names(tmp_path)
    assert not lock.is_locked()
