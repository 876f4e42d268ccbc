"""MkdirFileLock where the file system cannot rename without replacing."""

import contextlib
import errno
import os
import shutil
import textwrap
from pathlib import Path

import pytest

from lockfile import (
    LinkFileLock,
    MkdirFileLock,
    UnlockError,
)
from support import (
    PATIENCE,
    Child,
    in_thread,
    names,
)
from support.lock_directories import (
    CLAIM,
    HOLD,
    KNOWING,
    RELEASE,
    Stepped,
    Way,
    acquires,
    end,
    is_intact,
)
from support.protocol import (
    DEAD,
    begin,
    contents,
    inode,
    stamp,
    unique_base,
)


@pytest.fixture
def lock(path):
    return MkdirFileLock(path)


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_lock_directory_is_made_in_place_where_renaming_is_refused(lock, tmp_path, refusals, error):
    def cycle():
        with lock:
            assert is_intact(lock)
            assert names(tmp_path) == ["README.lock"]
            assert names(lock.lock_file) == [unique_base(lock)]
            assert not in_thread(acquires, MkdirFileLock(lock.path))
        assert names(tmp_path) == []

    in_thread(cycle, refused={"rename": error})


def test_owner_in_place_killed_is_recovered(in_place, lock, path, tmp_path):
    child = Child(KNOWING + textwrap.dedent(HOLD), path, "MkdirFileLock", "in place")
    with child:
        child.say("acquire")
        unique_name = child.hear()
        assert not in_place.run(acquires, lock)
    assert names(lock.lock_file) == [os.path.basename(unique_name)]
    assert in_place.run(acquires, lock)
    in_place.run(lock.release)
    assert names(tmp_path) == []


def test_many_threads_in_place_never_own_together(lock, path, tmp_path, refusals):
    """Each counts in plain sight, which only works while nobody else does."""
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count():
        for _ in range(10):
            with MkdirFileLock(path, timeout=PATIENCE):
                counter.write_text(str(int(counter.read_text()) + 1))

    with contextlib.ExitStack() as stack:
        threads = [stack.enter_context(Way("in place")) for _ in range(4)]
        for outcome in [thread.start(count) for thread in threads]:
            outcome.result(PATIENCE)
    assert counter.read_text() == "40"
    assert names(tmp_path) == ["counter"]


def stopped_before_its_beacon(path):
    """A process that has created its unique file in the lock file, and not yet locked it."""
    child = Stepped(CLAIM, path, "MkdirFileLock", "in place")
    begin(child)
    child.run_to("mkdir", "README.lock")
    child.run_to("open", where=lambda call: call.creates)
    child.run_to("flock")
    assert len(names(path + ".lock")) == 1
    return child


@pytest.mark.parametrize("how", ["acquire", "break_lock", "by hand"])
def test_directory_removed_under_a_process_that_has_not_lit_its_beacon(in_place, path, how):
    """It lists a directory that is gone, and finds no other name in it."""
    lock = MkdirFileLock(path)
    with stopped_before_its_beacon(path) as child:
        if how == "break_lock":
            in_place.run(lock.break_lock)
        elif how == "by hand":
            [unique] = names(lock.lock_file)
            os.unlink(os.path.join(lock.lock_file, unique))
            os.rmdir(lock.lock_file)
        assert in_place.run(acquires, lock)
        assert child.run_on() is False
        assert in_place.run(is_intact, lock)
        assert end(child) is False
        assert in_place.run(is_intact, lock)
        in_place.run(lock.release)
        child.finish()
    assert names(os.path.dirname(path)) == []


def test_who_backs_off_removes_nobody_elses_directory(in_place, path, tmp_path):
    with stopped_before_its_beacon(path) as child:
        os.rename(path + ".lock", tmp_path / "moved")
        os.mkdir(path + ".lock")  # a plain lock of another program
        before = inode(path + ".lock")
        assert child.run_on() is False
        assert inode(path + ".lock") == before
        assert end(child) is False
        child.finish()
    assert names(tmp_path) == ["README.lock", "moved"]
    os.rmdir(tmp_path / "moved")
    MkdirFileLock(path).break_lock()


def test_release_in_place_against_a_breaker_that_looked_before_it(in_place, path):
    """Its unique file is gone and its beacon dark: but there is nobody dead to break."""
    with (
        Stepped(RELEASE, path, "MkdirFileLock", "in place") as owner,
        Stepped(CLAIM, path, "MkdirFileLock", "in place") as breaker,
    ):
        begin(owner)
        [unique] = names(path + ".lock")
        begin(breaker)
        breaker.run_to("open", unique)
        breaker.next_call()
        owner.run_to("unlink", "README.lock")
        theirs = breaker.run_on()
        before = contents(path + ".lock")
        assert owner.run_on() is False
        assert contents(path + ".lock") == (before if theirs else {})
        assert end(owner) is False
        assert end(breaker) is theirs
        owner.finish()
        breaker.finish()
    assert names(os.path.dirname(path)) == []


def test_breaker_of_a_directory_that_is_in_use_again(in_place, path):
    """It has removed the dead file; whose directory it was puts another one into it, and owns."""
    with stopped_before_its_beacon(path) as claimer:
        with Stepped(CLAIM, path, "MkdirFileLock", "in place") as breaker:
            begin(breaker)
            breaker.run_to("unlink", "README.lock")
            assert claimer.run_on() is True
            assert breaker.run_on() is False
            assert names(path + ".lock") != []
            assert end(breaker) is False
            breaker.finish()
        assert end(claimer) is True
        claimer.finish()
    assert names(os.path.dirname(path)) == []


def stopped_in_another_owners_directory(path, owner):
    """Between making its lock directory and opening it by its name, that was broken, and another
    one made by `owner`."""
    child = Stepped(CLAIM, path, "MkdirFileLock", "in place")
    begin(child)
    child.run_to("mkdir", "README.lock")
    child.next_call()
    os.rmdir(path + ".lock")
    owner()
    child.run_to("flock")
    assert len(names(path + ".lock")) == 2
    return child


def test_release_in_place_leaves_its_directory_to_who_took_it_for_its_own(in_place, lock, tmp_path):
    def acquire():
        in_place.run(lock.acquire)

    with stopped_in_another_owners_directory(lock.path, acquire) as child:
        in_place.run(lock.release)
        assert child.run_on() is True
        assert not in_place.run(acquires, lock)
        assert end(child) is True
        child.finish()
    assert names(tmp_path) == []


def test_release_in_place_whose_directory_is_a_file_by_now(in_place, path, tmp_path):
    lock = LinkFileLock(path)
    with Stepped(RELEASE, path, "MkdirFileLock", "in place") as owner:
        with stopped_in_another_owners_directory(path, lambda: begin(owner)) as child:
            owner.run_to("unlink", "README.lock")
            assert child.run_on() is True
            assert end(child) is True
            child.finish()
        lock.acquire()
        assert owner.run_on() is False
        assert lock.i_am_locking()
        assert end(owner) is False
        owner.finish()
    lock.release()
    assert names(tmp_path) == []


def leave_two_claims(name):
    for unique in (name, name + ".1"):
        Path(unique).touch()
        stamp(unique)


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(lambda name: Path(name).write_text("precious"), id="a user's file"),
        pytest.param(lambda name: Path(name).touch(), id="a user's empty file"),
        pytest.param(os.mkdir, id="a user's directory"),
        pytest.param(leave_two_claims, id="two dead claims"),
    ],
)
def test_release_in_place_tells_what_is_left_though_its_name_is_a_claims(
    in_place, lock, tmp_path, put
):
    """Nobody would make way for it: one who owns, or dies alone, leaves an empty, stamped file."""
    in_place.run(lock.acquire)
    [unique_name] = names(lock.lock_file)
    put(os.path.join(lock.lock_file, DEAD))
    before = [name for name in names(lock.lock_file) if name != unique_name]
    with pytest.raises(UnlockError, match="not locked by me any more, but something is left"):
        in_place.run(lock.release)
    assert names(lock.lock_file) == before
    shutil.rmtree(lock.lock_file)
    assert names(tmp_path) == []


def test_release_in_place_leaves_the_file_of_a_user_and_says_who_owns(in_place, lock, tmp_path):
    """A directory that cannot be renamed cannot get out of the way with what is in it."""
    in_place.run(lock.acquire)
    Path(lock.lock_file, "notes").write_text("precious")
    with pytest.raises(UnlockError) as caught:
        in_place.run(lock.release)
    assert in_place.run(lock.i_am_locking) is ("still locked by me" in str(caught.value))
    assert Path(lock.lock_file, "notes").read_text() == "precious"
    os.unlink(os.path.join(lock.lock_file, "notes"))
    in_place.run(lock.break_lock)
    assert names(tmp_path) == []
