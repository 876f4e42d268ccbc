"""The command on a terminal: what it shows, asks, and hears from there."""

import os
import re
import signal
import sys
from pathlib import Path

import lockfile
from lockfile._cli.line import shortened
from support import names, wait_until
from support.command import TALKING, Started, Terminal

ERASE = "\r\x1b[K"


def test_who_waits_is_told_for_whom_by_a_line_that_updates(path):
    lock = lockfile.FileLock(path, threaded=False).acquire()
    with Terminal("run", path, "--", "echo", "has run", columns=300) as terminal:
        shown = terminal.see(
            f"{ERASE}Waiting for {path} since 0 s: held by process {os.getpid()} ("
        )
        terminal.see(ERASE, count=3)  # drawn anew, twice
        assert "\n" not in shown
        lock.release()
        shown = terminal.see("has run")
        assert shown.endswith((f"{ERASE}has run", f"{ERASE}has run\r\n"))
        assert terminal.status() == 0


def test_line_fits_the_terminal(path):
    with (
        lockfile.FileLock(path, threaded=False),
        Terminal("wait", path, columns=30) as terminal,
    ):
        terminal.see(ERASE, count=2)
        line = terminal.shown.split(ERASE)[1]
        assert len(line) == 29
        assert line.endswith("…")


def test_line_is_counted_in_columns():
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
    assert shortened("\u9580\u9580", 4) == "\u9580\u9580"
    assert shortened("\u9580\u9580", 3) == "\u9580…"
    assert shortened("e\u0301e\u0301", 2) == "e\u0301e\u0301"
    assert shortened("abcd", 1) == "…"


IN_THE_BACKGROUND = """
import os
from lockfile._cli.line import Line
os.setpgid(0, 0)
with Line("README") as line:
    line.tell(None)
os.write(1, b"told")
"""


def test_nothing_is_shown_by_a_job_in_the_background(path):
    """Somebody may just be typing there."""
    for before, lines in (IN_THE_BACKGROUND, 0), (IN_THE_BACKGROUND.replace("os.setpg", "id#"), 1):
        with Terminal("run", path, "--", sys.executable, "-c", before) as terminal:
            assert terminal.status() == 0
            assert terminal.shown.endswith("told")
            assert terminal.shown.count("Waiting for") == lines


def blocked_signals(pid):
    """Of each thread, as bits."""
    return {
        int(task.name): int(re.search(r"SigBlk:\t(\w+)", (task / "status").read_text())[1], 16)
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


def test_line_is_drawn_by_who_takes_no_signals(path):
    """It may outlive the wait, and what comes then is for the command."""
    with (
        lockfile.FileLock(path, threaded=False),
        Terminal("run", path, "--", "true") as terminal,
    ):
        terminal.see("Waiting for")
        wait_until(lambda: blocked_signals(terminal.pid)[terminal.pid] == 0, "the thread's start")
        (drawing,) = (
            blocked
            for thread, blocked in blocked_signals(terminal.pid).items()
            if thread != terminal.pid
        )
        for number in signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD:
            assert drawing & 1 << (number - 1)


def test_terminal_that_is_stopped_does_not_keep_the_command(path, tmp_path):
    """Ctrl-S while the line is drawn; the command runs as soon as the lock is had."""
    mark = tmp_path / "has run"
    lock = lockfile.FileLock(path, threaded=False).acquire()
    with Terminal("run", path, "--", "touch", mark) as terminal:
        terminal.see("Waiting for")
        terminal.type("\x13")
        lock.release()
        wait_until(mark.exists, "the command")
        terminal.type("\x11")
        assert terminal.status() == 0


def test_nothing_is_shown_where_the_wait_is_short_or_nobody_reads(path):
    with Terminal("run", path, "--", "echo", "has run") as terminal:
        assert terminal.status() == 0
        assert terminal.shown == "has run\r\n"
    lock = lockfile.FileLock(path, threaded=False).acquire()
    with Started("run", "-w", "0.3", path, "--", "true") as started:
        assert started.status() == 75
        assert started.complaint().startswith("lockfile-py: Timeout waiting")
    lock.release()


def test_interrupt_ends_the_wait_and_erases_the_line(path):
    with (
        lockfile.FileLock(path, threaded=False),
        Terminal("run", path, "--", "echo", "has run") as terminal,
    ):
        terminal.see("Waiting for")
        terminal.type("\x03")
        assert terminal.status() == -signal.SIGINT
        assert terminal.shown.endswith(f"^C{ERASE}")
    assert names(os.path.dirname(path)) == []


def test_interrupt_reaches_the_command_once(path):
    """From the terminal, and not from us as well. We are stopped until the command has told of it,
    or two might look like one; and we take signals by their number, of which this is the lowest."""
    with Terminal("run", path, "--", *TALKING) as terminal:
        terminal.see("begun")
        os.kill(terminal.pid, signal.SIGSTOP)
        terminal.type("\x03")
        terminal.see("SIGINT")
        os.kill(terminal.pid, signal.SIGUSR1)
        os.kill(terminal.pid, signal.SIGCONT)
        shown = terminal.see("SIGUSR1")
        assert shown.count("SIGINT") == 1
        terminal.type("end\n")
        assert terminal.status() == 7


# It does not read: the terminal would stop it.
IN_A_GROUP_OF_ITS_OWN = """
import os, signal
os.setpgid(0, 0)
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"SIGINT\\n"))
os.write(1, b"begun\\n")
while True:
    signal.pause()
"""


def test_interrupt_is_passed_on_to_a_command_in_a_group_of_its_own(path):
    """The terminal does not reach it there."""
    with Terminal("run", path, "--", sys.executable, "-c", IN_A_GROUP_OF_ITS_OWN) as terminal:
        terminal.see("begun")
        terminal.type("\x03")
        terminal.see("SIGINT")
        assert lockfile.FileLock(path).is_locked()
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.status() == 128 + signal.SIGTERM


def test_stopping_stops_both_and_the_lock_stays(path):
    lock = lockfile.FileLock(path)
    with Terminal("run", path, "--", *TALKING) as terminal:
        terminal.see("begun")
        os.killpg(terminal.pid, signal.SIGSTOP)
        wait_until(lambda: state(terminal.pid) == "T", "the stop")
        assert lock.is_locked()
        os.killpg(terminal.pid, signal.SIGCONT)
        terminal.type("end\n")
        assert terminal.status() == 7
    assert not lock.is_locked()


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0]


def test_hanging_up_ends_the_command_and_the_lock(path):
    lock = lockfile.FileLock(path)
    with Terminal("run", path, "--", "sh", "-c", "echo begun; exec sleep 1000") as terminal:
        terminal.see("begun")
        terminal.close()
        assert terminal.process.wait() == 128 + signal.SIGHUP
    assert not lock.is_locked()
    assert names(os.path.dirname(path)) == []


def test_break_asks_and_does_what_is_answered(any_class, path):
    kind = {"PIDLockFile": "pid", "SQLiteFileLock": "sqlite"}.get(any_class.__name__, "link")
    arguments = ["--class", kind, path]
    lock = any_class(path)
    lock.acquire()
    for answer, status in ("\n", 1), ("n\n", 1), ("yes\n", 0):
        assert lock.i_am_locking()
        with Terminal("break", *arguments, columns=300) as terminal:
            shown = terminal.see("Break it? [y/N] ")
            assert f"{path} is locked by process {os.getpid()} (" in shown
            assert "It lives: two will own the lock" in shown
            terminal.type(answer)
            assert terminal.status() == status
    assert not lock.is_locked()


def test_break_is_not_led_astray_by_the_end_of_its_input(path):
    with lockfile.FileLock(path, threaded=False) as lock:
        with Terminal("break", path, columns=300) as terminal:
            terminal.see("Break it? [y/N] ")
            terminal.type("\x04")
            assert terminal.status() == 1
            assert terminal.shown.endswith("[y/N] \r\nlockfile-py: nothing was broken\r\n")
        assert lock.i_am_locking()


def test_break_breaks_only_what_it_has_shown(path):
    """Meanwhile the lock was released, and acquired by another."""
    shown = lockfile.FileLock(path, owner="object").acquire()
    other = lockfile.FileLock(path, owner="object")
    with Terminal("break", path, columns=300) as terminal:
        terminal.see("Break it? [y/N] ")
        shown.release()
        other.acquire()
        terminal.type("y\n")
        assert terminal.status() == 0
        assert "that lock is gone; it is locked by process" in terminal.shown
    assert other.i_am_locking()
    other.release()
