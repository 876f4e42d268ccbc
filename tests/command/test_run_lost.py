"""run: the lock is lost while the command runs."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

import lockfile
from support import Child, names
from support.command import CLASS_NAMES, STUBBORN, TALKING, Started, run


def begin(any_class, path, *more, command=TALKING):
    kind = ["--class", CLASS_NAMES[any_class.__name__]]
    return Started("run", *kind, *more, path, "--", *command)


def test_command_is_ended_and_the_status_says_so(any_class, path):
    command = ["sh", "-c", "echo begun; exec sleep 1000"]
    with begin(any_class, path, command=command) as started:
        assert started.hear() == "begun"
        any_class(path).break_lock()
        assert started.status() == 76
        told = f"lockfile-py: {path}: the lock was lost while the command ran; it is ended\n"
        assert started.complaint() == told
    assert names(os.path.dirname(path)) == []


@pytest.mark.parametrize("patience", ["1000", "1e10", "inf"])
def test_command_may_end_in_its_own_way(path, patience):
    """It is sent SIGTERM, and nothing more for as long as it may take."""
    with begin(lockfile.FileLock, path, "-k", patience) as started:
        assert started.hear() == "begun"
        lockfile.FileLock(path).break_lock()
        assert started.hear() == "SIGTERM"
        started.say("end")
        assert started.status() == 76


def test_command_that_does_not_end_is_killed(path):
    with begin(lockfile.FileLock, path, "-k", "0.1", command=STUBBORN) as started:
        assert started.hear() == "begun"
        lockfile.FileLock(path).break_lock()
        assert started.status() == 76


def test_command_is_ended_where_the_working_directory_has_gone(tmp_path):
    working, path = tmp_path / "working", tmp_path / "README"
    working.mkdir()
    with Started("run", path, "--", *TALKING, cwd=working) as started:
        assert started.hear() == "begun"
        working.rmdir()
        with Started("run", path, "--", *TALKING) as other:
            lockfile.FileLock(path).break_lock()
            assert started.hear() == "SIGTERM"
            assert other.hear() == "begun"
            started.say("end")
            assert started.status() == 76
            other.say("end")
            assert other.status() == 7
        assert "Traceback" not in started.complaint()


LOST_BEFORE = """
import lockfile._cli, lockfile._cli.run as run
class Line(run.Line):
    def __exit__(self, *exception):
        if sys.argv[2] == "before it is watched":
            lockfile.FileLock(sys.argv[1]).break_lock()
        return super().__exit__(*exception)
run.Line = Line
spawn = run._spawn
def lose_and_spawn(*arguments):
    if sys.argv[2] == "while it is watched":
        lockfile.FileLock(sys.argv[1]).break_lock()
    return spawn(*arguments)
run._spawn = lose_and_spawn
raise SystemExit(lockfile._cli.main(["run", sys.argv[1], "--", *sys.argv[3:]]))
"""


@pytest.mark.parametrize("when", ["before it is watched", "while it is watched"])
def test_lock_that_is_lost_before_the_command_runs(path, when):
    with Child(LOST_BEFORE, path, when, "sleep", "1000", stderr=subprocess.PIPE) as child:
        assert child.process.wait() == 76
        assert b"the lock was lost" in child.process.stderr.read()
        child.process.stderr.close()
    assert names(os.path.dirname(path)) == []


def test_command_that_is_not_there_is_told_though_the_lock_is_lost(path):
    when = "while it is watched"
    with Child(LOST_BEFORE, path, when, "there is none", stderr=subprocess.PIPE) as child:
        assert child.process.wait() == 127
        told = child.process.stderr.read()
        child.process.stderr.close()
    assert told == b"lockfile-py: there is none: No such file or directory\n"


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_directory_that_goes_is_missed_soon(path, how):
    """Not every such change is told of: it is looked at each second."""
    code = """
    import lockfile._cli, lockfile._cli.run as run
    run.SELDOM = 10**6
    command = ["sh", "-c", "echo 1; exec sleep 1000"]
    raise SystemExit(lockfile._cli.main(["run", "--class", "mkdir", sys.argv[1], "--", *command]))
    """
    lock_file = f"{path}.lock"
    with Child(code, path) as child:
        assert child.hear() == 1
        if how == "moved":
            os.rename(lock_file, f"{path}.moved")
        else:
            shutil.rmtree(lock_file)
        assert child.process.wait() == 76
    shutil.rmtree(f"{path}.moved", ignore_errors=True)


def test_command_that_is_stopped_is_ended(path):
    command = ["sh", "-c", "echo begun; kill -STOP $$"]
    with begin(lockfile.FileLock, path, "-k", "1000", command=command) as started:
        assert started.hear() == "begun"
        lockfile.FileLock(path).break_lock()
        assert started.status() == 76


def test_command_is_let_be_if_it_is_only_to_be_told(any_class, path):
    with begin(any_class, path, "--on-lost=warn") as started:
        assert started.hear() == "begun"
        any_class(path).break_lock()
        told = started.process.stderr.readline()
        assert told == f"lockfile-py: {path}: the lock was lost while the command ran\n"
        started.say("end")
        assert started.status() == 7
        assert started.complaint() == ""


def test_who_has_the_lock_now_is_told_and_keeps_it(path):
    with begin(lockfile.FileLock, path, "--on-lost=warn") as started:
        assert started.hear() == "begun"
        other = lockfile.FileLock(path)
        os.rename(other.lock_file, f"{other.lock_file}-taken-away")
        os.unlink(f"{other.lock_file}-taken-away")
        started.process.stderr.readline()
        other.acquire()
        started.say("end")
        assert started.status() == 7
        assert other.i_am_locking()
        other.release()


@pytest.mark.parametrize(("option", "status"), [("kill", 76), ("warn", 3)])
def test_loss_that_is_seen_only_at_the_end_is_told(path, option, status):
    """The command itself removes the lock file, and ends at once."""
    script = f"rm '{path}.lock'; exit 3"
    done = run("run", f"--on-lost={option}", path, "--", "sh", "-c", script)
    assert done.returncode in {status, 76}
    assert done.returncode == status or option == "kill"
    assert done.stderr.count("the lock was lost while the command ran") == 1
    assert names(os.path.dirname(path)) == []


@pytest.mark.parametrize("any_class", ["LinkFileLock", "MkdirFileLock", "SymlinkLockFile"])
def test_loss_is_told_by_an_event(path, any_class):
    """Nobody looks from time to time here."""
    code = """
    import lockfile._cli, lockfile._cli.run as run
    run.SELDOM = 10**6
    raise SystemExit(lockfile._cli.main(["run", *sys.argv[1:]]))
    """
    any_class = getattr(lockfile, any_class)
    kind = CLASS_NAMES[any_class.__name__]
    talk = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(1000)"]
    with Child(code, "--class", kind, path, "--", *talk) as child:
        assert child.hear() == 1
        any_class(path).break_lock()
        assert child.process.wait() == 76


def test_lock_that_cannot_be_seen_counts_as_held(path):
    """As on a server that is away for a while."""
    code = """
    import lockfile._cli, lockfile._cli.run as run
    from lockfile import UnlockError
    looks = []
    class Unseen(run._Vigil):
        def __init__(self, lock):
            class Lock:
                lock_file = lock.lock_file
                def i_am_locking(self):
                    looks.append(1)
                    if len(looks) == 3:
                        os.write(1, b"1\\n")
                    raise UnlockError("arranged")
            super().__init__(Lock())
            self._pause = 0.001
    run._Vigil = Unseen
    raise SystemExit(lockfile._cli.main(["run", sys.argv[1], "--", "sh", "-c", "read end; exit 7"]))
    """
    with Child(code, path) as child:
        assert child.hear() == 1
        assert lockfile.FileLock(path).is_locked()
        child.process.stdin.write(b"end\n")
        child.process.stdin.flush()
        assert child.process.wait() == 7
    assert not lockfile.FileLock(path).is_locked()


def test_command_of_a_lost_lock_is_ended_by_signals_still(path):
    with begin(lockfile.FileLock, path, "--on-lost=warn") as started:
        assert started.hear() == "begun"
        lockfile.FileLock(path).break_lock()
        started.process.stderr.readline()
        started.send(signal.SIGUSR1)
        assert started.hear() == "SIGUSR1"
        started.say("end")
        assert started.status() == 7
