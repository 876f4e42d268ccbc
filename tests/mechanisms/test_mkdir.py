"""What is particular to lock directories."""

import contextlib
import errno
import fcntl
import itertools
import os
import signal
import stat
import textwrap
import threading
from pathlib import Path

import pytest

from lockfile import (
    AlreadyLocked,
    LinkFileLock,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    NotMyLock,
    UnlockError,
)
from support import (
    PATIENCE,
    Child,
    OtherThread,
    holder,
    in_thread,
    names,
    refuse,
    wait_until,
)
from support.protocol import (
    DEAD,
    HOST,
    SteppedChild,
    beacon,
    has_settled,
    inode,
    parsed,
    plant,
    plant_unique,
    sleeps_in,
    stamp,
    swept_clean,
)

CLASSES = [MkdirFileLock, LinkFileLock]

STEPS = ("open", "flock", "mkdir", "rename", "link", "unlink", "stat", "list", "close", "say")
CHANGES = ("open", "mkdir", "rename", "link", "unlink", "say")  # what a kill may fall between


def go(way, error=errno.EINVAL):
    """From now on this thread makes lock directories that way."""
    if way == "in place":
        refuse("rename", error)


class Way(OtherThread):
    """A thread that makes lock directories one way, or the other: what it runs, works that way."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def __enter__(self):
        super().__enter__()
        self.run(go, self.name)
        return self


@pytest.fixture(params=["by renaming", "in place"])
def way(request):
    """Both ways to make a lock directory: the second is for file systems that lack the first."""
    if request.param == "in place":
        request.getfixturevalue("refusals")
    with Way(request.param) as thread:
        yield thread


@pytest.fixture
def in_place(refusals):
    with Way("in place") as thread:
        yield thread


@pytest.fixture(params=CLASSES, ids=lambda one: one.__name__)
def either(request):
    """The class of whoever meets a lock directory."""
    return request.param


@pytest.fixture
def lock(path):
    return MkdirFileLock(path)


def unique_base(lock):
    return os.path.basename(lock.unique_name)


def plant_directory(path, name=DEAD, contents=b""):
    """A lock directory as an owner of that unique name leaves it when it is killed."""
    os.mkdir(f"{path}.lock", 0o755)
    stamp(f"{path}.lock")
    return plant_unique(f"{path}.lock/", name, contents)


def is_intact(lock):
    """Is it ours, with all that belongs to it?"""
    return lock.i_am_locking() and os.path.exists(lock.unique_name)


def acquires(lock):
    """Does it get the lock at once?"""
    try:
        lock.acquire(timeout=0)
    except AlreadyLocked:
        return False
    assert is_intact(lock)
    return True


# On disk


def test_lock_file_is_a_directory_that_holds_the_unique_file(way, lock, tmp_path):
    way.run(lock.acquire)
    unique_name = way.run(lambda: lock.unique_name)
    assert names(tmp_path) == ["README.lock"]
    assert os.path.dirname(unique_name) == lock.lock_file
    assert names(lock.lock_file) == [os.path.basename(unique_name)]
    assert parsed(unique_name) == (HOST, way.ident, os.getpid(), None)
    assert os.path.getsize(unique_name) == 0
    way.run(lock.release)
    assert names(tmp_path) == []


def test_unique_name_is_known_before_the_lock_is_owned(lock):
    before = lock.unique_name
    with lock:
        assert lock.unique_name == before


def test_unique_name_of_a_process_wide_lock_has_no_thread(path):
    with MkdirFileLock(path, threaded=False) as lock:
        assert names(lock.lock_file) == [f"{HOST}--{os.getpid()}"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(way, lock, umask):
    before = os.umask(umask)
    try:
        way.run(lock.acquire)
    finally:
        os.umask(before)
    directory = os.lstat(lock.lock_file)
    unique = os.lstat(way.run(lambda: lock.unique_name))
    assert (stat.S_ISDIR(directory.st_mode), stat.S_IMODE(directory.st_mode)) == (True, 0o1755)
    assert (stat.S_ISREG(unique.st_mode), stat.S_IMODE(unique.st_mode)) == (True, 0o1644)
    way.run(lock.release)


def test_every_lock_of_one_owner_in_one_directory_has_its_own_unique_file(way, tmp_path):
    locks = [MkdirFileLock(tmp_path / f"file{number}") for number in range(5)]
    for lock in locks:
        way.run(lock.acquire)
    assert names(tmp_path) == [f"file{number}.lock" for number in range(5)]
    for lock in locks:
        assert way.run(is_intact, lock)
        assert len(names(lock.lock_file)) == 1
    for lock in locks:
        way.run(lock.release)
        assert not os.path.exists(lock.lock_file)
    assert names(tmp_path) == []


def test_both_classes_in_one_directory_do_not_hinder_each_other(tmp_path):
    with MkdirFileLock(tmp_path / "one") as one, LinkFileLock(tmp_path / "two") as two:
        assert is_intact(one)
        assert is_intact(two)
        assert names(tmp_path) == sorted(["one.lock", "two.lock", unique_base(two)])
    assert names(tmp_path) == []


def test_lock_directory_is_never_seen_without_its_unique_file(path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        be_stopped()
        lock.acquire()
        lock.release()
        say("released")
        """
    seen = 0
    with Stepped(code, path) as child:
        while child.next_call().kind != "say":
            if os.path.exists(path + ".lock"):
                [unique] = names(path + ".lock")
                assert parsed(unique)[2] == child.pid
                with pytest.raises(BlockingIOError), beacon(f"{path}.lock/{unique}"):
                    pass
                seen += 1
        assert child.run_on() == "released"
        child.finish()
    assert seen > 0


def test_claim_of_a_held_lock_does_not_touch_it(way, lock, path):
    with OtherThread() as owner:
        owner.run(lock.acquire)
        before = os.stat(lock.lock_file)
        assert not way.run(acquires, MkdirFileLock(path))
        after = os.stat(lock.lock_file)
        owner.run(lock.release)
    assert before.st_mtime_ns == after.st_mtime_ns
    assert before.st_ctime_ns == after.st_ctime_ns


# Beside LinkFileLock

PAIRS = pytest.mark.parametrize(
    ("owning", "other"),
    [
        (MkdirFileLock, LinkFileLock),
        (LinkFileLock, MkdirFileLock),
        (MkdirFileLock, MkdirFileLock),
    ],
    ids=lambda one: one.__name__.removesuffix("FileLock"),
)


@PAIRS
def test_threads_exclude_each_other(way, path, owning, other):
    lock, contender = owning(path), other(path)
    way.run(lock.acquire)
    assert contender.is_locked()
    assert not contender.i_am_locking()
    assert not acquires(contender)
    with pytest.raises(LockTimeout):
        contender.acquire(timeout=0.02)
    with pytest.raises(NotMyLock):
        contender.release()
    owner = contender.owner()
    assert (owner.pid, owner.thread, owner.alive) == (os.getpid(), way.ident, True)
    assert way.run(is_intact, lock)
    way.run(lock.release)
    assert acquires(contender)
    contender.release()


HOLD = """
    test_mkdir.go(sys.argv[3])
    lock = getattr(lockfile, sys.argv[2])(sys.argv[1])
    while hear():
        lock.acquire()
        say(lock.unique_name)
        hear()
        lock.release()
        say("released")
    """


@PAIRS
def test_processes_exclude_each_other(way, path, tmp_path, owning, other):
    with Child(
        "import test_mkdir\n" + textwrap.dedent(HOLD), path, owning.__name__, way.name
    ) as child:
        child.say("acquire")
        unique_name = child.hear()
        contender = other(path)
        assert way.run(contender.is_locked)
        assert not way.run(acquires, contender)
        with pytest.raises(LockTimeout):
            way.run(contender.acquire, timeout=0.02)
        owner = way.run(contender.owner)
        assert (owner.hostname, owner.thread, owner.pid) == parsed(unique_name)[:3]
        assert owner.alive is True
        child.say("release")
        assert child.hear() == "released"
        assert way.run(acquires, contender)
        child.say("acquire")
        wait_until(lambda: has_settled(child.pid), "the child to sleep")
        way.run(contender.release)
        child.hear()
        assert not way.run(acquires, contender)
        child.say("release")
        assert child.hear() == "released"
        child.finish()
    assert names(tmp_path) == []


@PAIRS
def test_waiter_wakes_at_the_release(way, path, owning, other):
    with holder(owning, path) as owner:
        lock = other(path)
        acquiring = way.start(lock.acquire)
        wait_for_sleep(way)
        owner.say("release")
        assert owner.hear() == "released"  # not killed in the middle of it
        acquiring.result(PATIENCE)
        assert way.run(is_intact, lock)
        way.run(lock.release)


@PAIRS
def test_waiter_wakes_at_the_death_of_the_owner(way, path, tmp_path, owning, other):
    with holder(owning, path) as owner:
        lock = other(path)
        acquiring = way.start(lock.acquire)
        wait_for_sleep(way)
        owner.kill()
        acquiring.result(PATIENCE)
        assert way.run(is_intact, lock)
        way.run(lock.release)
    assert names(tmp_path) == []


@PAIRS
def test_stale_lock_of_the_other_class_is_recovered(way, path, tmp_path, owning, other):
    with holder(owning, path):
        pass
    lock = other(path)
    assert not lock.is_locked()
    assert lock.owner() is None or lock.owner().alive is False
    with pytest.raises(NotLocked):
        lock.release()
    assert way.run(acquires, lock)
    way.run(lock.release)
    assert names(tmp_path) == []


@PAIRS
def test_break_lock_breaks_the_lock_of_the_other_class(way, path, tmp_path, owning, other):
    with OtherThread() as thread:
        lock, breaker = owning(path), other(path)
        thread.run(lock.acquire)
        way.run(breaker.break_lock)
        assert names(tmp_path) == []
        assert not thread.run(lock.i_am_locking)
        assert way.run(acquires, breaker)
        with pytest.raises(NotMyLock):
            thread.run(lock.release)
        assert way.run(is_intact, breaker)
        way.run(breaker.release)


@PAIRS
def test_break_lock_breaks_the_lock_of_another_process(way, path, tmp_path, owning, other):
    breaker = other(path)
    with holder(owning, path) as owner:
        way.run(breaker.break_lock)
        assert not os.path.exists(breaker.lock_file)
        assert way.run(acquires, breaker)
        owner.say("release")
        assert owner._lines.get(timeout=PATIENCE) == b""  # NotMyLock ended it
        assert way.run(is_intact, breaker)
        way.run(breaker.release)
    assert names(tmp_path) == []


def test_one_owner_owns_whatever_the_class(path):
    with MkdirFileLock(path), LinkFileLock(path) as same:
        assert same.i_am_locking()
        assert names(os.path.dirname(path)) == ["README.lock"]
    assert not same.is_locked()


# Foreign directories


def filled(*files):
    """A directory with these empty files in it."""

    def make(lock_file):
        os.mkdir(lock_file)
        for name in files:
            Path(lock_file, name).touch()

    return make


def with_one(make_one):
    """A directory with one thing in it that is called like an owner, but is no file."""

    def make(lock_file):
        os.mkdir(lock_file)
        make_one(os.path.join(lock_file, DEAD))

    return make


def with_data(name):
    def make(lock_file):
        os.mkdir(lock_file)
        Path(lock_file, name).write_text("precious")

    return make


BREAKABLE = {
    "empty": os.mkdir,
    "a file not of our form": filled("notes"),
    "a hidden file": filled(".notes"),
    "two files": filled("one", "two"),
    "a dead owner and a file": filled(DEAD, "notes"),
    "two dead owners": filled(DEAD, DEAD + ".1"),
    "classic 0.12": filled(f"{HOST}-7f12abcd.1234-5678901234567890123"),
    "classic 0.12, positive": filled(f"{HOST}-7f12abcd.12345678901234567890123"),
    "classic 0.8": filled(f"{HOST}.MainThread-1234"),
    "classic 0.9": filled(f"{HOST}.7f12abcd-1234"),
    "another kernel's owner": filled(DEAD + ".0123456789abcdef"),
    "a name that is too long": filled("x" * 62 + "-" + "7" * 16 + "-" + "1" * 150),
}
UNBREAKABLE = {
    "a user's data": with_data("notes"),
    "data in a second file": lambda lock_file: (
        filled(DEAD)(lock_file),
        Path(lock_file, "notes").write_text("precious"),
    ),
    "a symbolic link": with_one(lambda name: os.symlink("nowhere", name)),
    "a symbolic link to a file": with_one(lambda name: os.symlink(__file__, name)),
    "a pipe": with_one(os.mkfifo),
    "a directory": with_one(os.mkdir),
    "a full directory": lambda lock_file: os.makedirs(f"{lock_file}/{DEAD}/{DEAD}"),
}
FOREIGN = BREAKABLE | UNBREAKABLE


def contents(directory):
    """All that is in there, by its inodes."""
    return {
        os.path.join(where, name): inode(os.path.join(where, name))
        for where, directories, files in os.walk(directory)
        for name in directories + files
    }


@pytest.mark.leaves_files
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_directory_is_held(either, path, tmp_path, make):
    lock = either(path)
    make(lock.lock_file)
    before = contents(tmp_path)
    assert lock.is_locked()
    assert not lock.i_am_locking()
    owner = lock.owner()
    assert owner is None or owner.alive is None
    with pytest.raises(AlreadyLocked):
        lock.acquire(timeout=0)
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.02)
    with pytest.raises(NotMyLock):
        lock.release()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("make", BREAKABLE.values(), ids=BREAKABLE.keys())
def test_break_lock_removes_a_directory_of_empty_files(way, either, path, tmp_path, make):
    lock = either(path)
    make(lock.lock_file)
    way.run(lock.break_lock)
    assert names(tmp_path) == []
    assert way.run(acquires, lock)
    way.run(lock.release)


@pytest.mark.leaves_files
@pytest.mark.parametrize("make", UNBREAKABLE.values(), ids=UNBREAKABLE.keys())
def test_break_lock_spares_a_directory_with_anything_else(way, either, path, tmp_path, make):
    lock = either(path)
    make(lock.lock_file)
    before = contents(tmp_path)
    with pytest.raises(UnlockError) as caught:
        way.run(lock.break_lock)
    assert type(caught.value) is UnlockError
    assert contents(tmp_path) == before
    assert way.run(lock.is_locked)


def wait_for_sleep(thread):
    """Until the thread that has just been given a call sleeps in it."""
    native = thread._thread.native_id
    wait_until(lambda: has_settled(os.getpid(), native), "the waiter to sleep")


@pytest.mark.parametrize("make", [os.mkdir, filled("notes")], ids=["empty", "filled"])
def test_waiter_wakes_when_a_foreign_directory_is_removed(way, either, path, make):
    lock = either(path)
    make(lock.lock_file)
    acquiring = way.start(lock.acquire)
    wait_for_sleep(way)
    for name in names(lock.lock_file):
        os.unlink(os.path.join(lock.lock_file, name))
    os.rmdir(lock.lock_file)
    acquiring.result(PATIENCE)
    assert way.run(is_intact, lock)
    way.run(lock.release)


def test_waiter_wakes_when_a_foreign_directory_is_moved(way, lock, tmp_path):
    os.mkdir(lock.lock_file)
    acquiring = way.start(lock.acquire)
    wait_for_sleep(way)
    os.rename(lock.lock_file, tmp_path / "moved")
    acquiring.result(PATIENCE)
    way.run(lock.release)
    os.rmdir(tmp_path / "moved")


def test_dead_owner_that_wrote_into_its_unique_file_is_dead_all_the_same(lock, path, tmp_path):
    plant_directory(path, contents=b"backup of 3 a.m.")
    assert not lock.is_locked()
    assert acquires(lock)
    lock.release()
    assert names(tmp_path) == []


# Killed


class Stepped(SteppedChild):
    """A child that knows this module, and stops before each step."""

    def __init__(self, code, *arguments, kinds=STEPS):
        super().__init__("import test_mkdir\n" + textwrap.dedent(code), *arguments, kinds=kinds)


class SteppedForks(Stepped):
    """A child that runs its code in a new fork each round: one that may be killed."""

    def __init__(self, code, *arguments):
        code = f"""
test_mkdir.go(sys.argv[2])
def act():
{textwrap.indent(textwrap.dedent(code), "    ")}
while hear():
    fork = os.fork()
    if fork == 0:
        try:
            be_stopped()
            act()
            say("done")
        finally:
            os._exit(0)
    os.waitpid(fork, 0)
    say("ended")
"""
        super().__init__(code, *arguments, kinds=CHANGES)

    def begin(self):
        self.say("begin")

    def kill_fork(self):
        os.kill(self.call.thread, signal.SIGKILL)
        assert self.hear() == "ended"
        os.close(self._listener)
        self._listener = self.call = None

    def _begin(self):
        each_fork_sends_one = self._socket.dup()
        super()._begin()
        self._socket = each_fork_sends_one


def killed_before_every_step(code, path, way, prepare=lambda: None):
    """Run the code again and again, killed one step later each time; yields the step."""
    with SteppedForks(code, path, way.name) as child:
        for count in itertools.count(1):
            prepare()
            child.begin()
            for _ in range(count):
                call = child.next_call()
            child.kill_fork()
            yield call
            if call.kind == "say":
                assert count > 5  # or it was not stopped at all
                return


def recover(way, lock, call):
    """The next one owns, and leaves nothing, nor what the one before it left."""
    if way.name == "in place" and is_stranded(lock):
        assert way.run(lock.is_locked), call
        way.run(lock.break_lock)
    way.run(lock.acquire, timeout=PATIENCE)
    assert way.run(is_intact, lock), call
    way.run(lock.release)
    assert way.run(swept_clean, type(lock), lock.path), f"killed before {call}"


def is_stranded(lock):
    """An empty directory is nobody's to judge: the price of file systems that cannot rename."""
    return os.path.isdir(lock.lock_file) and names(lock.lock_file) == []


def test_owner_killed_at_any_step_of_acquire_and_release(way, either, path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        lock.acquire()
        lock.release()
        """
    lock = either(path)
    for call in killed_before_every_step(code, path, way):
        recover(way, lock, call)


def test_contender_killed_at_any_step_does_no_harm(way, either, path, tmp_path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            pass
        """
    lock = either(path)
    way.run(lock.acquire)
    owned = names(tmp_path)
    for call in killed_before_every_step(code, path, way):
        assert way.run(is_intact, lock), call
        left = set(names(tmp_path)) - set(owned)
        assert len(left) <= 1, f"killed before {call}"
        plant(tmp_path / "other", name=DEAD + ".9")
        with LinkFileLock(tmp_path / "other"):
            pass
        assert names(tmp_path) == owned, f"killed before {call}"
    way.run(lock.release)
    assert names(tmp_path) == []


def test_breaker_killed_at_any_step_leaves_the_rest_to_the_next(way, either, path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        lock.acquire()
        """
    lock = either(path)
    for call in killed_before_every_step(code, path, way, lambda: plant_directory(path)):
        recover(way, lock, call)


def test_break_lock_killed_at_any_step(way, either, path, tmp_path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        lock.break_lock()
        """
    with Way(way.name) as owner:
        broken = MkdirFileLock(path)
        lock = either(path)

        def prepare():
            owner.run(broken.acquire)

        for call in killed_before_every_step(code, path, way, prepare):
            if owner.run(broken.i_am_locking):
                owner.run(broken.release)
            recover(way, lock, call)


# The sweep


def leftover(directory, name, *files):
    left = directory / name
    filled(*files)(left)
    for made in (left, *left.iterdir()):
        stamp(made)
    return left


def sweep(lock_class, path):
    """What every break does first of all for the next."""
    plant(path, name=DEAD + ".9")
    with lock_class(path):
        pass


LEFT = f"{HOST}-7f0000000001-123"


def test_sweep_removes_the_directories_that_dead_owners_left(way, either, path, tmp_path):
    leftover(tmp_path, LEFT)
    leftover(tmp_path, LEFT + ".1", LEFT + ".1")
    leftover(tmp_path, f"{HOST}--124", LEFT)
    leftover(tmp_path, f"{HOST}--125.998877", "another.host-7f0000000001-1")
    leftover(tmp_path, "another-7f0000000001-123")
    leftover(tmp_path, "another-7f0000000001-124", "another-7f0000000001-124")
    way.run(sweep, either, path)
    assert names(tmp_path) == []


SPARED = {
    "an empty directory of a user": lambda directory: filled()(directory / f"{HOST}-20241102-1"),
    "a filled one": lambda directory: filled(LEFT)(directory / LEFT),
    "a file of a user's in one of ours": lambda directory: os.chmod(
        leftover(directory, LEFT, LEFT) / LEFT, 0o644
    ),
    "a directory of a user": lambda directory: leftover(directory, "notes", LEFT),
    "another kernel's": lambda directory: leftover(directory, LEFT + ".0123456789abcdef"),
    "another kernel's file": lambda directory: leftover(
        directory, LEFT, LEFT + ".0123456789abcdef"
    ),
    "a file not of our form": lambda directory: leftover(directory, LEFT, "notes"),
    "two files": lambda directory: leftover(directory, LEFT, LEFT, LEFT + ".1"),
    "data": lambda directory: (leftover(directory, LEFT, LEFT) / LEFT).write_text("precious"),
    "a subdirectory": lambda directory: (leftover(directory, LEFT) / LEFT).mkdir(),
    "a symbolic link inside": lambda directory: (leftover(directory, LEFT) / LEFT).symlink_to("."),
    "a symbolic link": lambda directory: (directory / LEFT).symlink_to(
        leftover(directory, "notes")
    ),
}


@pytest.mark.leaves_files
@pytest.mark.parametrize("make", SPARED.values(), ids=SPARED.keys())
def test_sweep_spares(way, either, path, tmp_path, make):
    make(tmp_path)
    before = contents(tmp_path)
    way.run(sweep, either, path)
    assert contents(tmp_path) == before


@pytest.mark.leaves_files
@pytest.mark.parametrize("mode", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["looked at", "owned"])
def test_sweep_spares_a_directory_whose_file_somebody_keeps_locked(either, path, tmp_path, mode):
    left = leftover(tmp_path, LEFT, LEFT)
    before = contents(tmp_path)
    with beacon(left / LEFT, mode):
        sweep(either, path)
    assert contents(tmp_path) == before


@pytest.mark.leaves_files
def test_sweep_spares_the_directories_of_other_users(either, path, tmp_path, other_user):
    os.chown(leftover(tmp_path, LEFT), other_user, other_user)
    os.chown(leftover(tmp_path, LEFT + ".1", LEFT) / LEFT, other_user, other_user)
    before = contents(tmp_path)
    sweep(either, path)
    assert contents(tmp_path) == before


def test_sweep_spares_the_other_locks_of_a_living_process(way, either, path, tmp_path):
    others = [MkdirFileLock(tmp_path / f"file{number}") for number in range(3)]
    for other in others:
        way.run(other.acquire)
    sweep(either, path)
    for other in others:
        assert way.run(is_intact, other)
        way.run(other.release)


@pytest.mark.parametrize("make", [plant_unique, None], ids=["a file", "a directory"])
@pytest.mark.parametrize("inside", [(), (LEFT,)], ids=["empty", "filled"])
def test_name_that_a_dead_namesake_left_is_reaped(lock, path, tmp_path, make, inside):
    name = unique_base(lock)
    if make is None:
        leftover(tmp_path, name, *inside)
    else:
        make(path, name=name)
    with lock:
        assert names(tmp_path) == ["README.lock"]
        assert names(lock.lock_file) == [name]
    assert names(tmp_path) == []


@pytest.mark.leaves_files
def test_name_taken_by_somebody_elses_directory_gets_a_suffix(way, path, tmp_path):
    lock = MkdirFileLock(path)
    base = os.path.basename(way.run(lambda: lock.unique_name))
    for name in (base, f"{base}.1", f"{base}.2", f"{base}.3", f"{HOST}--{os.getpid()}"):
        (leftover(tmp_path, name) / "notes").write_text("precious")
    before = contents(tmp_path)
    way.run(lock.acquire)
    assert way.run(is_intact, lock)
    way.run(lock.release)
    assert contents(tmp_path) == before


# Where the file system cannot rename without replacing


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
    child = Child("import test_mkdir\n" + textwrap.dedent(HOLD), path, "MkdirFileLock", "in place")
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


# Races: one process is stopped between two steps while another one acts

TURN = """
    test_mkdir.go(sys.argv[3])
    lock = getattr(lockfile, sys.argv[2])(sys.argv[1])
    be_stopped()
    while hear():
        {prepare}
        say("ready")
        hear()
        try:
            lock.{act}
        except lockfile.AlreadyLocked:
            pass
        say(lock.i_am_locking())
        hear()
        mine = lock.i_am_locking()
        if mine:
            lock.release()
        say(mine)
    """

CLAIM = TURN.format(prepare="", act="acquire(timeout=0)")
RELEASE = TURN.format(prepare="lock.acquire()", act="release()")
BREAK = TURN.format(
    prepare="""
        try:
            lock.acquire(timeout=0.02)
        except lockfile.LockTimeout:
            pass""",
    act="break_lock()",
)


def begin(child):
    child.say("prepare")
    assert child.run_on() == "ready"
    child.say("go")


def end(child):
    """Let it release what it has; had it something?"""
    child.say("end")
    return child.run_on()


def stopped_before_every_step(code, path, way, lock_class=MkdirFileLock, prepare=lambda: None):
    """The other process, one step further each round; `prepare()` comes before each."""
    with Stepped(code, path, lock_class.__name__, way.name) as child:
        for count in itertools.count(1):
            prepare()
            begin(child)
            for _ in range(count):
                child.next_call()
            step = repr(child.call)
            at_its_end = child.call.kind == "say"
            yield child
            assert names(os.path.dirname(path)) == [], step
            if at_its_end:
                assert count > 5  # or it was not stopped at all
                break
        child.finish()


def act_against(child, way, lock):
    """We try to acquire while it is stopped: one owns then, and only one."""
    step = repr(child.call)
    ours = way.run(acquires, lock)
    theirs = child.run_on()
    assert [ours, theirs].count(True) == 1, step
    if ours:
        assert way.run(is_intact, lock), step
        way.run(lock.release)
    assert end(child) is theirs, step


RACERS = pytest.mark.parametrize(
    ("stopped", "other"),
    [
        (MkdirFileLock, MkdirFileLock),
        (MkdirFileLock, LinkFileLock),
        (LinkFileLock, MkdirFileLock),
    ],
    ids=lambda one: one.__name__.removesuffix("FileLock"),
)


@RACERS
def test_claim_against_a_claim(way, path, stopped, other):
    lock = other(path)
    for child in stopped_before_every_step(CLAIM, path, way, stopped):
        act_against(child, way, lock)


@RACERS
def test_claim_against_a_release(way, path, stopped, other):
    lock = other(path)
    for child in stopped_before_every_step(RELEASE, path, way, stopped):
        step = repr(child.call)
        ours = way.run(acquires, lock)
        assert child.run_on() is False, step
        if ours:
            assert way.run(is_intact, lock), step
            way.run(lock.release)
        assert end(child) is False, step


@RACERS
def test_claim_and_release_against_a_claim(way, path, stopped, other):
    """What it looked at is gone, and perhaps its number has another directory, when it looks."""
    lock = other(path)
    for child in stopped_before_every_step(
        CLAIM, path, way, stopped, lambda: way.run(lock.acquire)
    ):
        if way.run(lock.i_am_locking):
            way.run(lock.release)
        act_against(child, way, lock)


@RACERS
def test_breaker_against_a_breaker(way, path, stopped, other):
    lock = other(path)
    for child in stopped_before_every_step(
        CLAIM, path, way, stopped, lambda: plant_directory(path)
    ):
        act_against(child, way, lock)


def test_breaker_of_a_link_against_a_breaker(way, path):
    lock = MkdirFileLock(path)
    for child in stopped_before_every_step(CLAIM, path, way, prepare=lambda: plant(path)):
        act_against(child, way, lock)


@RACERS
def test_breaker_against_a_breaker_that_released_again(way, path, stopped, other):
    lock = other(path)
    for child in stopped_before_every_step(
        CLAIM, path, way, stopped, lambda: plant_directory(path)
    ):
        step = repr(child.call)
        if way.run(acquires, lock):
            way.run(lock.release)
        assert child.run_on() is True, step
        assert end(child) is True, step


@RACERS
def test_break_lock_against_a_claim(way, path, stopped, other):
    """Whatever it was about to do, it does not own what comes after the break."""
    lock = other(path)
    for child in stopped_before_every_step(CLAIM, path, way, stopped):
        step = repr(child.call)
        way.run(lock.break_lock)
        assert way.run(acquires, lock), step
        child.run_on()  # what it thought when it was stopped, perhaps
        assert way.run(is_intact, lock), step
        assert end(child) is False, step
        assert way.run(is_intact, lock), step
        way.run(lock.release)


def test_release_does_not_fall_between_check_and_removal_of_break_lock(way, path):
    """Condemned is the lock that was waited for: never the fresh one that comes after it."""
    with Way(way.name) as after:
        old, fresh = MkdirFileLock(path), MkdirFileLock(path)
        threads = [thread.run(threading.get_native_id) for thread in (way, after)]
        for child in stopped_before_every_step(
            BREAK, path, way, prepare=lambda: way.run(old.acquire)
        ):
            step = repr(child.call)
            releasing = way.start(release_if_mine, old)
            acquiring = after.start(fresh.acquire, timeout=PATIENCE)
            wait_until(lambda: all(map(waits, threads)), "the others to act or wait")
            assert child.run_on() is False, step
            releasing.result(PATIENCE)
            acquiring.result(PATIENCE)
            assert after.run(is_intact, fresh), step
            after.run(fresh.release)
            assert end(child) is False, step


def release_if_mine(lock):
    with contextlib.suppress(NotLocked, NotMyLock):
        lock.release()


def waits(thread):
    return all(sleeps_in(os.getpid(), thread) for _ in range(5))


@RACERS
def test_sweep_against_a_claim(way, path, tmp_path, stopped, other):
    """A sweep may take what has no beacon yet; whose it was then starts over."""
    beside = other(tmp_path / "other")
    for child in stopped_before_every_step(CLAIM, path, way, stopped, lambda: plant(beside.path)):
        step = repr(child.call)
        assert way.run(acquires, beside), step
        way.run(beside.release)
        assert child.run_on() is True, step
        assert way.run(other(path).is_locked), step
        assert end(child) is True, step


def test_claim_against_a_sweep(way, path, tmp_path):
    """One that is stopped while it sweeps hinders nobody, and takes nothing that is in use."""
    lock = MkdirFileLock(path)
    beside = str(tmp_path / "other")

    def prepare():
        plant(beside)
        leftover(tmp_path, LEFT, LEFT)

    for child in stopped_before_every_step(CLAIM, beside, way, prepare=prepare):
        step = repr(child.call)
        assert way.run(acquires, lock), step
        assert child.run_on() is True, step
        assert way.run(is_intact, lock), step
        way.run(lock.release)
        assert end(child) is True, step


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


# Renamed, replaced, removed


def test_directory_renamed_while_owned(way, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    lock = MkdirFileLock(before / "README")
    way.run(lock.acquire)
    before.rename(after)
    way.run(lock.release)
    assert names(after) == []


def test_directory_replaced_while_owned(way, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    lock = MkdirFileLock(here / "README")
    way.run(lock.acquire)
    here.rename(there)
    here.mkdir()
    another = MkdirFileLock(here / "README")
    assert acquires(another)
    before = contents(here)
    way.run(release_if_mine, lock)
    assert contents(here) == before
    assert is_intact(another)
    another.release()
    assert names(here) == names(there) == []


def test_lock_directory_that_was_moved_away_is_not_ours_any_more(way, lock, tmp_path):
    way.run(lock.acquire)
    os.rename(lock.lock_file, tmp_path / "moved")
    assert not way.run(lock.i_am_locking)
    assert not way.run(lock.is_locked)
    with pytest.raises(NotLocked):
        way.run(lock.release)
    for name in names(tmp_path / "moved"):
        os.unlink(tmp_path / "moved" / name)
    os.rmdir(tmp_path / "moved")


def test_lock_directory_that_was_replaced_is_left(way, lock, tmp_path):
    way.run(lock.acquire)
    os.rename(lock.lock_file, tmp_path / "moved")
    plant_unique(lock.path)
    os.mkdir(lock.lock_file)
    before = inode(lock.lock_file)
    with pytest.raises(NotMyLock):
        way.run(lock.release)
    assert inode(lock.lock_file) == before
    way.run(lock.break_lock)
    sweep(MkdirFileLock, lock.path)
    for name in names(tmp_path / "moved"):
        os.unlink(tmp_path / "moved" / name)
    os.rmdir(tmp_path / "moved")


def test_removed_unique_file_does_not_lose_the_lock(way, lock, tmp_path):
    way.run(lock.acquire)
    os.unlink(way.run(lambda: lock.unique_name))
    assert way.run(lock.i_am_locking)
    contender = MkdirFileLock(lock.path)
    assert contender.is_locked()
    assert not acquires(contender)
    way.run(lock.release)
    assert names(tmp_path) == []


def test_file_of_a_user_in_the_lock_directory_is_not_lost(lock, path, tmp_path):
    """The lock is free all the same; the file stays, beside it, under the owner's name."""
    lock.acquire()
    Path(lock.lock_file, "notes").write_text("precious")
    assert not in_thread(acquires, MkdirFileLock(path))
    lock.release()
    assert not lock.is_locked()
    [left] = names(tmp_path)
    assert (tmp_path / left / "notes").read_text() == "precious"
    with lock:
        pass
    os.unlink(tmp_path / left / "notes")
    os.rmdir(tmp_path / left)


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


# Other users

OWN_WHERE_NOTHING_CAN_BE_REMOVED = """
    import test_mkdir
    directory = os.path.dirname(sys.argv[1])
    become(int(sys.argv[2]))
    test_mkdir.go(sys.argv[3])
    lock = lockfile.MkdirFileLock(sys.argv[1])
    lock.acquire()
    os.chmod(directory, 0o555)
    try:
        lock.release()
    except lockfile.UnlockError as error:
        say("still locked by me" in str(error))
    say(lock.i_am_locking())
    os.chmod(directory, 0o755)
    lock.break_lock()
    """


def test_release_where_nothing_can_be_removed_says_who_owns(public_directory, way, other_user):
    os.chown(public_directory, other_user, other_user)
    path = public_directory / "README"
    with Child(OWN_WHERE_NOTHING_CAN_BE_REMOVED, path, str(other_user), way.name) as child:
        said = child.hear()
        assert child.hear() is said
        child.finish()
    assert names(public_directory) == []


TRY = """
    import test_mkdir
    lock = lockfile.MkdirFileLock(sys.argv[1])
    become(int(sys.argv[2]))
    try:
        lock.acquire(timeout=0.2)
    except lockfile.LockTimeout as error:
        say(str(error))
    else:
        say("acquired")
        hear()
        lock.release()
        say("released")
    """


def test_stale_lock_that_may_not_be_renamed_is_held_with_the_reason(public_directory, other_user):
    public_directory.chmod(0o1777)
    path = public_directory / "README"
    plant_directory(path)
    before = contents(public_directory)
    with Child(TRY, path, str(other_user)) as child:
        message = child.hear()
        child.finish()
    assert message.startswith(f"Timeout waiting to acquire lock for {path}")
    assert os.strerror(errno.EPERM) in message
    assert contents(public_directory) == before
    with MkdirFileLock(path):  # we may
        pass
    assert names(public_directory) == []


def test_stale_lock_that_may_only_be_renamed_is_broken_all_the_same(public_directory, other_user):
    path = public_directory / "README"
    plant_directory(path)
    with Child(TRY, path, str(other_user)) as child:
        assert child.hear() == "acquired"
        child.say("release")
        assert child.hear() == "released"
        child.finish()
    [left] = names(public_directory)
    assert names(public_directory / left) == [DEAD]
    sweep(MkdirFileLock, path)
    assert names(public_directory) == []


def test_other_users_see_each_others_locks(public_directory, other_user):
    path = public_directory / "README"
    lock = MkdirFileLock(path)
    with holder(MkdirFileLock, path, user=other_user) as owner:
        assert lock.is_locked()
        assert lock.owner().pid == owner.pid
        assert not acquires(lock)
    assert acquires(lock)
    with Child(TRY, path, str(other_user)) as child:
        assert child.hear().startswith("Timeout")
        child.finish()
    lock.release()
    assert names(public_directory) == []
