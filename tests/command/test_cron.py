"""The command as cron runs it: from a shell, in a bare environment, without a terminal."""

import os
import shutil
import subprocess
import sys

import pytest

import lockfile
from support import names, wait_until
from support.command import ENVIRONMENT

SHELLS = [each for each in ("/bin/sh", "/bin/bash", "/bin/zsh", "/bin/ksh") if shutil.which(each)]


@pytest.fixture(params=SHELLS)
def cron(request, tmp_path):
    """Begins a line of a crontab, in a home directory with a blank in its name."""
    home = tmp_path / "the home"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "LOGNAME": "somebody",
        "SHELL": request.param,
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ENVIRONMENT["PYTHONPATH"],
        "LOCKFILE": f"{sys.executable} -m lockfile",
    }

    def begin(line):
        return subprocess.Popen(
            [request.param, "-c", line],
            env=environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(line):
        with begin(line) as process:
            output = process.communicate()[0]
        return process.returncode, output

    run.begin, run.home = begin, home
    # Only zsh does not split what is in a variable.
    run.command = "${=LOCKFILE}" if request.param.endswith("zsh") else "$LOCKFILE"
    return run


def test_second_run_is_left_out_while_the_first_runs(cron):
    line = f'{cron.command} run -n job -- sh -c "echo runs; read end" < gate'
    os.mkfifo(cron.home / "gate")
    with cron.begin(line) as first:
        gate = os.open(cron.home / "gate", os.O_WRONLY)
        assert first.stdout.readline() == "runs\n"
        status, output = cron(f"{cron.command} run -n job -- echo runs")
        assert status == 75
        assert output.startswith("lockfile-py: job is already locked")
        assert cron(f"{cron.command} run -n -E 0 job -- echo runs 2> /dev/null") == (0, "")
        os.close(gate)
        assert first.wait() == 1  # the shell's word for the end of its input
    assert cron(f"{cron.command} run -n job -- echo runs") == (0, "runs\n")
    assert names(cron.home) == ["gate"]


def test_output_and_status_are_the_commands(cron):
    line = f"{cron.command} run job -- sh -c 'echo one; echo two >&2; exit 4' > log 2>&1"
    assert cron(line) == (4, "")
    assert (cron.home / "log").read_text() == "one\ntwo\n"


def test_status_goes_on_in_the_shell(cron):
    line = f"{cron.command} run job -- false || echo failed; {cron.command} wait job && echo free"
    assert cron(line) == (0, "failed\nfree\n")


def test_end_of_the_shell_does_not_end_the_lock(cron):
    """Whoever ends the shell alone, leaves the command to run, with its lock."""
    lock = lockfile.FileLock(cron.home / "job")
    os.mkfifo(cron.home / "gate")
    line = f"{cron.command} run job -- cat < gate; echo $?"
    with cron.begin(line) as shell:
        gate = os.open(cron.home / "gate", os.O_WRONLY)
        wait_until(lock.is_locked, "the lock")
        shell.kill()
        shell.wait()
        assert lock.is_locked()
        os.close(gate)
        wait_until(lambda: not lock.is_locked(), "the end of the command")
    with lock:
        pass


def test_background_of_a_script_is_deaf_to_interrupts(cron):
    """Shells that have no jobs have what runs in the background ignore them; so it stays."""
    line = f"{cron.command} run job -- sh -c 'kill -INT $PPID $$; echo lives' & wait $!"
    assert cron(line) == (0, "lives\n")
