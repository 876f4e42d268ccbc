"""run: signals, before the command runs and while it does."""

import os
import signal
import subprocess
import sys

import pytest

import lockfile
from support import Child, names, wait_until
from support.command import TALKING, Started

PASSED_ON = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN]


def test_signals_are_passed_on_and_the_lock_held_until_the_command_ends(path):
    lock = lockfile.FileLock(path)
    with Started("run", path, "--", *TALKING) as started:
        assert started.hear() == "begun"
        for number in PASSED_ON:
            started.send(number)
            assert started.hear() == signal.Signals(number).name
            assert lock.is_locked()
        started.say("end")
        assert started.status() == 7
    assert not lock.is_locked()


def test_command_that_a_signal_ends_is_told_of_by_its_status(path):
    with Started("run", path, "--", "sh", "-c", "echo begun; exec sleep 1000") as started:
        assert started.hear() == "begun"
        started.send(signal.SIGTERM)
        assert started.status() == 128 + signal.SIGTERM
    assert names(os.path.dirname(path)) == []


def test_signals_that_are_ignored_stay_so(path):
    """As nohup has it: the command ignores them, too."""
    command = ["sh", "-c", "echo begun; exec sleep 1000"]
    with Started("run", path, "--", *command, **ignoring(signal.SIGHUP)) as started:
        assert started.hear() == "begun"
        started.send(signal.SIGHUP)
        started.send(signal.SIGTERM)
        assert started.status() == 128 + signal.SIGTERM


def ignoring(number):
    return {"preexec_fn": lambda: signal.signal(number, signal.SIG_IGN)}


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_who_waits_is_ended_by_the_signal_and_leaves_nothing(any_class, path, number):
    """By the signal itself: a shell that reads a script ends then, too."""
    kind = {"LinkFileLock": "link", "MkdirFileLock": "mkdir", "SymlinkLockFile": "symlink"}
    with any_class(path) as lock:
        arguments = ["--class", kind.get(any_class.__name__) or short(any_class)]
        with Started("run", *arguments, path, "--", "echo", "has run") as started:
            wait_until(lambda: is_waiting(started.pid), "the wait")
            started.send(number)
            assert started.status() == -number
            assert started.hear() == ""
            assert started.complaint() == ""
        assert lock.i_am_locking()


def short(any_class):
    return "pid" if any_class is lockfile.PIDLockFile else "sqlite"


def is_waiting(pid):
    """It catches signals, and is asleep in the wait that does."""
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    return int(status["SigCgt"], 16) & 1 << signal.SIGTERM - 1 and status["State"][0] == "S"


# A signal comes just before the command's signals are taken one by one, or just after.
IN_BETWEEN = """
import os, signal
import lockfile._cli, lockfile._cli.run as run
block = signal.pthread_sigmask
def between(how, signals):
    if how == signal.SIG_BLOCK and signal.SIGCHLD in signals:
        signal.pthread_sigmask = block
        {before}
        mask = block(how, signals)
        {after}
        return mask
    return block(how, signals)
signal.pthread_sigmask = between
raise SystemExit(lockfile._cli.main(["run", sys.argv[1], "--", *sys.argv[2:]]))
"""
KILL = "os.kill(os.getpid(), signal.SIGTERM)"


def test_signal_between_the_lock_and_the_command_ends_both(path):
    with Child(IN_BETWEEN.format(before=KILL, after="pass"), path, "echo", "has run") as child:
        assert child.process.wait() == -signal.SIGTERM
        assert child._lines.get() == b""
    assert names(os.path.dirname(path)) == []


def test_signal_just_before_the_command_is_passed_on_to_it(path):
    with Child(IN_BETWEEN.format(before="pass", after=KILL), path, "sleep", "1000") as child:
        assert child.process.wait() == 128 + signal.SIGTERM
    assert names(os.path.dirname(path)) == []


def test_signal_of_a_terminal_that_came_before_the_command_is_passed_on_to_it(path):
    """It would look like one that both have got; but the command was not there yet."""
    from_kernel = """
        run.SENT_BY_KERNEL = 0  # what kill() is known by: nothing here can send as the kernel does
        os.kill(os.getpid(), signal.SIGINT)"""
    code = IN_BETWEEN.format(before="pass", after=from_kernel.strip())
    with Child(code, path, "sleep", "1000") as child:
        assert child.process.wait() == 128 + signal.SIGINT


def test_signal_that_is_swallowed_before_the_command_ends_us_all_the_same(path):
    """As in a finalizer, or a callback of the import system's."""
    swallowed = """
    import lockfile._cli, lockfile._cli.run as run, signal
    class Line(run.Line):
        def __exit__(self, *exception):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()
            except BaseException:
                pass
            return super().__exit__(*exception)
    run.Line = Line
    raise SystemExit(lockfile._cli.main(["run", sys.argv[1], "--", "echo", "has run"]))
    """
    with Child(swallowed, path) as child:
        assert child.process.wait() == -signal.SIGTERM
        assert child._lines.get() == b""
    assert names(os.path.dirname(path)) == []


def test_alarm_is_passed_on(path):
    """The kernel sends it, as it sends a terminal's signals, but to us alone."""
    code = """
    import lockfile._cli, lockfile._cli.run as run, signal
    attend = run._Attendance.status
    def status(self):
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        return attend(self)
    run._Attendance.status = status
    raise SystemExit(lockfile._cli.main(["run", sys.argv[1], "--", "sleep", "1000"]))
    """
    with Child(code, path) as child:
        assert child.process.wait() == 128 + signal.SIGALRM
    assert names(os.path.dirname(path)) == []


def test_who_ignores_its_children_learns_how_the_command_ends(path):
    command = [sys.executable, "-c", "raise SystemExit(5)"]
    with Started("run", path, "--", *command, **ignoring(signal.SIGCHLD)) as started:
        assert started.status() == 5


def test_signal_that_may_not_be_sent_is_told(path):
    """As to a command that has become another user: it goes on, and so does its lock."""
    refused = """
    import lockfile._cli.run as run, lockfile._cli
    def refuse(child, number):
        raise PermissionError(1, "Operation not permitted")
    run.os.kill = refuse
    lockfile._cli.main(["run", sys.argv[1], "--", "sh", "-c", "echo 1; read end"])
    """
    with Child(refused, path, stderr=subprocess.PIPE) as child:
        assert child.hear() == 1
        os.kill(child.pid, signal.SIGUSR1)
        told = child.process.stderr.readline()
        assert told == b"lockfile-py: signal 10 could not be passed on: Operation not permitted\n"
        assert lockfile.FileLock(path).is_locked()
        child.process.stdin.close()
        child.process.wait()
        child.process.stderr.close()
    assert not lockfile.FileLock(path).is_locked()
