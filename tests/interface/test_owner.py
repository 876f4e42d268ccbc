"""What owner() says beyond the tuple: since when, and what command runs."""

import copy
import os
import pickle
import shlex
import sys
import time

import pytest

from lockfile import AlreadyLocked, SQLiteFileLock, _command
from support import Child, OtherThread, in_thread

HOLD = "with getattr(lockfile, sys.argv[1])(sys.argv[2]): say('owns'); hear()"


@pytest.fixture
def child(lock_class, path):
    with Child(HOLD, lock_class.__name__, path, "it's me") as child:
        assert child.hear() == "owns"
        yield child
        child.finish()


def command_of(process):
    return shlex.join(os.fsdecode(part) for part in process.args)


def test_command_of_another_process(lock, child):
    assert lock.owner().command == command_of(child.process)
    assert lock.owner().command.endswith("""'it'"'"'s me'""")


def test_command_of_this_process(lock):
    with lock:
        command = lock.owner().command
        assert shlex.split(command)[0] == sys.orig_argv[0]
        assert in_thread(lock.owner).command == command


ASK = """
    with getattr(lockfile, sys.argv[1])(sys.argv[2]) as lock:
        before = set(sys.modules)
        lock.owner()
        imported = sorted(set(sys.modules) - before)
    say(imported)  # who hears it may end this
    """


def test_nothing_is_imported_on_the_way(lock_class, path):
    """In an import, a signal's handler that raises may leave the module locked for ever."""
    with Child(ASK, lock_class.__name__, path) as child:
        assert child.hear() == []
        child.finish()


@pytest.mark.parametrize("argument", ["", "plain", "a b", "it's", "-a=/b:c,d", "é", "$x", "'", "~"])
def test_command_is_quoted_as_for_a_shell(argument):
    assert _command._quoted(argument) == shlex.quote(argument)


def test_lock_is_as_old_as_its_lock_file(file_lock_class, path):
    lock = file_lock_class(path)
    before = time.time()
    with OtherThread() as other:
        other.run(lock.acquire)
        # The kernel's clock for files ticks some hundred times a second.
        assert before - 0.1 <= lock.owner().since <= time.time()
        assert lock.owner().since == other.run(lock.owner).since
        other.run(lock.release)


def test_row_does_not_say_since_when(path):
    lock = SQLiteFileLock(path)
    with lock:
        assert lock.owner().since is None


def test_they_are_no_part_of_the_tuple(lock):
    with lock:
        owner = lock.owner()
    assert len(owner) == 4
    for again in (copy.copy(owner), copy.deepcopy(owner), pickle.loads(pickle.dumps(owner))):
        assert again == owner
        assert (again.since, again.command) == (owner.since, owner.command)


def test_exceptions_do_not_look_for_them(lock, child):
    with pytest.raises(AlreadyLocked) as caught:
        lock.acquire(timeout=0)
    assert caught.value.owner.pid == child.pid
    assert (caught.value.owner.since, caught.value.owner.command) == (None, None)


@pytest.mark.leaves_files
def test_lock_file_of_another_program(file_lock_class, path):
    open(f"{path}.lock", "x").close()
    owner = file_lock_class(path).owner()
    assert owner.command is None
    assert owner.since == pytest.approx(os.stat(f"{path}.lock").st_mtime, abs=0.1)


def test_process_is_known_by_what_it_has_open(path):
    """Its number may have become another's, or may be counted in another container."""
    with Child("with open(sys.argv[1], 'w'): say('open'); hear()", path) as child:
        assert child.hear() == "open"
        status = os.stat(path)
        assert _command.find(child.pid, status.st_dev, status.st_ino) == command_of(child.process)
        assert _command.find(child.pid, status.st_dev, status.st_ino + 1) is None
        assert _command.find(os.getppid(), status.st_dev, status.st_ino) is None
        assert _command.find(2**30, status.st_dev, status.st_ino) is None
        child.finish()
    os.unlink(path)


LOOK = """
    import os
    from lockfile import _command
    pid, user, device, inode = map(int, sys.argv[1:])
    os.setresuid(user, user, user)
    say(_command.find(pid, device, inode))
    """


def test_process_of_another_user_is_not_ours_to_look_at(path, other_user):
    with Child("with open(sys.argv[1], 'w'): say('open'); hear()", path) as child:
        assert child.hear() == "open"
        status = os.stat(path)
        with Child(
            LOOK, *map(str, (child.pid, other_user, status.st_dev, status.st_ino))
        ) as looker:
            assert looker.hear() is None
            looker.finish()
        child.finish()
    os.unlink(path)
