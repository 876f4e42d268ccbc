"""MkdirFileLock: what is left when processes are killed, how it is recovered and swept away."""

import fcntl
import itertools
import os
import signal
import textwrap

import pytest

from lockfile import (
    LinkFileLock,
    MkdirFileLock,
)
from support import (
    PATIENCE,
    names,
)
from support.lock_directories import (
    LEFT,
    Stepped,
    Way,
    filled,
    is_intact,
    leftover,
    plant_directory,
    sweep,
)
from support.protocol import (
    DEAD,
    HOST,
    beacon,
    contents,
    plant,
    plant_unique,
    swept_clean,
    unique_base,
)


@pytest.fixture
def lock(path):
    return MkdirFileLock(path)


CHANGES = ("open", "mkdir", "rename", "link", "unlink", "say")  # what a kill may fall between


# Killed


class SteppedForks(Stepped):
    """A child that runs its code in a new fork each round: one that may be killed."""

    def __init__(self, code, *arguments):
        code = f"""
lock_directories.go(sys.argv[2])
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


def test_owner_killed_at_any_step_of_acquire_and_release(way, file_lock_class, path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        lock.acquire()
        lock.release()
        """
    lock = file_lock_class(path)
    for call in killed_before_every_step(code, path, way):
        recover(way, lock, call)


def test_contender_killed_at_any_step_does_no_harm(way, file_lock_class, path, tmp_path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            pass
        """
    lock = file_lock_class(path)
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


def test_breaker_killed_at_any_step_leaves_the_rest_to_the_next(way, file_lock_class, path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        lock.acquire()
        """
    lock = file_lock_class(path)
    for call in killed_before_every_step(code, path, way, lambda: plant_directory(path)):
        recover(way, lock, call)


def test_break_lock_killed_at_any_step(way, file_lock_class, path, tmp_path):
    code = """
        lock = lockfile.MkdirFileLock(sys.argv[1])
        lock.break_lock()
        """
    with Way(way.name) as owner:
        broken = MkdirFileLock(path)
        lock = file_lock_class(path)

        def prepare():
            owner.run(broken.acquire)

        for call in killed_before_every_step(code, path, way, prepare):
            if owner.run(broken.i_am_locking):
                owner.run(broken.release)
            recover(way, lock, call)


# The sweep


def test_sweep_removes_the_directories_that_dead_owners_left(way, file_lock_class, path, tmp_path):
    leftover(tmp_path, LEFT)
    leftover(tmp_path, LEFT + ".1", LEFT + ".1")
    leftover(tmp_path, f"{HOST}--124", LEFT)
    leftover(tmp_path, f"{HOST}--125.998877", "another.host-7f0000000001-1")
    leftover(tmp_path, "another-7f0000000001-123")
    leftover(tmp_path, "another-7f0000000001-124", "another-7f0000000001-124")
    way.run(sweep, file_lock_class, path)
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
def test_sweep_spares(way, file_lock_class, path, tmp_path, make):
    make(tmp_path)
    before = contents(tmp_path)
    way.run(sweep, file_lock_class, path)
    assert contents(tmp_path) == before


@pytest.mark.leaves_files
@pytest.mark.parametrize("mode", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["looked at", "owned"])
def test_sweep_spares_a_directory_whose_file_somebody_keeps_locked(
    file_lock_class, path, tmp_path, mode
):
    left = leftover(tmp_path, LEFT, LEFT)
    before = contents(tmp_path)
    with beacon(left / LEFT, mode):
        sweep(file_lock_class, path)
    assert contents(tmp_path) == before


@pytest.mark.leaves_files
def test_sweep_spares_the_directories_of_other_users(file_lock_class, path, tmp_path, other_user):
    os.chown(leftover(tmp_path, LEFT), other_user, other_user)
    os.chown(leftover(tmp_path, LEFT + ".1", LEFT) / LEFT, other_user, other_user)
    before = contents(tmp_path)
    sweep(file_lock_class, path)
    assert contents(tmp_path) == before


def test_sweep_spares_the_other_locks_of_a_living_process(way, file_lock_class, path, tmp_path):
    others = [MkdirFileLock(tmp_path / f"file{number}") for number in range(3)]
    for other in others:
        way.run(other.acquire)
    sweep(file_lock_class, path)
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
