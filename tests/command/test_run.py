"""run: a command, while a lock is held; what the command is given, and what it ends with."""

import os
import signal
import subprocess
import sys
from resource import RLIMIT_NOFILE, setrlimit

import pytest

import lockfile
from support import Child, names, wait_until
from support.command import CLASS_NAMES, COMMAND, ENVIRONMENT, TALKING, Started, run
from support.lock_classes import BEACONS_ARE_SHARED


def options(lock_class):
    return ["--class", CLASS_NAMES[lock_class.__name__]]


def test_lock_is_held_while_the_command_runs_and_not_longer(any_class, path):
    lock = any_class(path)
    with Started("run", *options(any_class), path, "--", *TALKING) as started:
        assert started.hear() == "begun"
        assert lock.is_locked()
        assert lock.owner().pid == started.pid
        started.say("end")
        assert started.status() == 7
        assert started.complaint() == ""
    assert not lock.is_locked()
    assert names(os.path.dirname(path)) == []


def test_status_is_that_of_the_command(path):
    for status in 0, 1, 75, 255:
        assert run("run", path, "--", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_signal_that_has_ended_the_command_is_told(path, number):
    done = run("run", path, "--", "sh", "-c", f"kill -{number} $$")
    assert done.returncode == 128 + number
    assert names(os.path.dirname(path)) == []


def test_command_that_is_not_there_is_not_run(path):
    done = run("run", path, "--", "there is no such command")
    assert done.returncode == 127
    assert done.stderr == "lockfile-py: there is no such command: No such file or directory\n"
    assert names(os.path.dirname(path)) == []


def test_empty_command_is_not_there(path):
    done = run("run", path, "--", "")
    assert (done.returncode, done.stderr) == (127, "lockfile-py: : No such file or directory\n")
    assert names(os.path.dirname(path)) == []


@pytest.mark.parametrize("name", ["LinkFileLock", "SQLiteFileLock"])
def test_command_that_nobody_could_attend_to_is_not_run(path, name, tmp_path):
    """For want of descriptors, wherever they run out."""
    kind = CLASS_NAMES[name]
    mark = tmp_path / "has run"
    statuses = set()
    for limit in range(4, 16):
        limited = {"preexec_fn": lambda most=limit: setrlimit(RLIMIT_NOFILE, (most, most))}
        done = run("run", "--class", kind, path, "--", "touch", mark, **limited)
        statuses.add(done.returncode)
        assert (done.returncode == 0) == mark.exists(), (limit, done)
        mark.unlink(missing_ok=True)
        assert not getattr(lockfile, name)(path).is_locked()
    assert 0 in statuses
    assert statuses & {73, 126}


def test_command_is_not_run_where_no_thread_can_be_had(path):
    code = """
    import lockfile._cli, threading
    def fail(self):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = fail
    raise SystemExit(lockfile._cli.main(["run", sys.argv[1], "--", "echo", "has run"]))
    """
    with Child(code, path, stderr=subprocess.PIPE) as child:
        assert child.process.wait() == 73
        assert child.process.stderr.read().startswith(b"lockfile-py: the lock could not be watched")
        child.process.stderr.close()
        assert child._lines.get() == b""
    assert names(os.path.dirname(path)) == []


def test_command_that_cannot_be_run(path, tmp_path):
    tmp_path.joinpath("command").write_text("exit 3\n")
    done = run("run", path, "--", tmp_path / "command")
    assert done.returncode == 126
    assert done.stderr.endswith("command: Permission denied\n")
    assert not lockfile.FileLock(path).is_locked()


def test_script_that_does_not_say_what_it_is_for_is_run_by_the_shell(path, tmp_path):
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"; exit 3\n')
    script.chmod(0o755)
    found = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = run("run", path, "--", "script", "one", env=ENVIRONMENT | found)
    assert (done.returncode, done.stdout) == (3, f"{script} one\n")


def test_what_is_behind_the_dashes_is_the_commands(path):
    done = run("run", "-n", path, "--class", "link", "--", "echo", "-n", "--", "-w")
    assert (done.returncode, done.stdout) == (0, "-- -w")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "PATH"],
        ["run", "PATH", "true"],
        ["run", "PATH", "true", "--", "true"],
        ["run", "PATH", "--"],
        ["run", "", "--", "true"],
        ["run", "-w", "soon", "PATH", "--", "true"],
        ["run", "-w", "-1", "PATH", "--", "true"],
        ["run", "-w", "nan", "PATH", "--", "true"],
        ["run", "-w", "1", "-n", "PATH", "--", "true"],
        ["run", "-E", "256", "PATH", "--", "true"],
        ["run", "--class", "pid", "--lock-file", "x", "PATH", "--", "true"],
        ["run", "--database", "x", "PATH", "--", "true"],
        ["run", "--on", "warn", "PATH", "--", "true"],
        [],
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("lockfile-py")
    assert done.stderr.count("\n") == 1
    assert names(tmp_path) == []


@pytest.mark.skipif(not BEACONS_ARE_SHARED, reason="no beacon can be shared on this system")
def test_shared_lock_is_shared_with_who_shares_it(path):
    with lockfile.FileLock(path, shared=True):
        done = run("run", "--shared", "--no-wait", path, "--", "echo", "done")
        assert (done.returncode, done.stdout) == (0, "done\n")
        assert run("run", "--no-wait", path, "--", "echo", "done").stdout == ""


@pytest.mark.parametrize("name", ["symlink", "pid"])
def test_shared_is_refused_where_the_class_knows_no_shared_locks(path, name):
    done = run("run", "--shared", "--class", name, path, "--", "echo", "done")
    assert (done.returncode, done.stdout) == (2, "")
    assert "one owner at a time" in done.stderr


def test_lock_that_cannot_be_made_is_told(tmp_path):
    done = run("run", tmp_path / "missing" / "README", "--", "true")
    assert done.returncode == 73
    assert done.stderr.startswith("lockfile-py: failed to create ")


def test_who_does_not_get_the_lock_does_not_run_the_command(any_class, path):
    arguments = [*options(any_class), path, "--", "echo", "has run"]
    with any_class(path):
        for wait in ["-n"], ["-w", "0.01"], ["--wait=0"]:
            done = run("run", *wait, *arguments)
            assert (done.returncode, done.stdout) == (75, "")
            assert str(os.getpid()) in done.stderr
        assert run("run", "-n", "-E", "9", *arguments).returncode == 9
    assert run("run", "-n", *arguments).stdout == "has run\n"


def test_who_waits_runs_the_command_once_the_lock_is_free(any_class, path):
    lock = any_class(path, owner="process") if any_class is not lockfile.PIDLockFile else None
    lock = lock or any_class(path)
    lock.acquire()
    with Started("run", *options(any_class), path, "--", "echo", "has run") as started:
        lock.release()
        assert started.hear() == "has run"
        assert started.status() == 0


def test_lock_file_and_database_may_be_named(path, tmp_path):
    named = tmp_path / "named"
    with lockfile.FileLock(path, lock_file=named):
        arguments = ["-n", path, "--", "true"]
        assert run("run", "--lock-file", named, *arguments).returncode == 75
        assert run("run", *arguments).returncode == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    database = elsewhere / ".lockfile.sqlite3"
    with lockfile.SQLiteFileLock(path, database=database):
        arguments = ["--class", "sqlite", "-n", path, "--", "true"]
        assert run("run", "--database", database, *arguments).returncode == 75
        assert run("run", *arguments).returncode == 0


# The C library ignores its own two signals in what it spawns, and each program's takes them back.
OF_THE_C_LIBRARY = 1 << 31 | 1 << 32
TELL_STATE = "env; cat /proc/self/status; ls /proc/self/fd"


def state_of_child(*before):
    """What a shell has that nohup begins, in a bare environment, by way of another program."""
    with open("/dev/null") as file:
        output = subprocess.run(
            ["nohup", *before, "sh", "-c", TELL_STATE],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": ENVIRONMENT["PYTHONPATH"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=[file.fileno()],
            text=True,
            check=True,
        ).stdout.splitlines()
    ignored = [int(line.split()[1], 16) for line in output if line.startswith("SigIgn")]
    told = ("Umask", "PATH", "LC_", "LANG", "PYTHON")
    numbers = {int(line) for line in output if line.isdigit()}
    same = [line for line in output if line.startswith(told)]
    return same, [each & ~OF_THE_C_LIBRARY for each in ignored], numbers


def test_command_has_what_our_caller_has_and_the_beacon(path):
    *plain, numbers = state_of_child()
    *locked, locked_numbers = state_of_child(*COMMAND, "run", path, "--")
    assert locked == plain
    (beacon,) = locked_numbers - numbers
    assert beacon >= 64
    assert numbers <= locked_numbers


def test_signals_that_are_blocked_stay_so(path):
    def blocked(*before):
        return subprocess.run(
            [*before, "grep", "^SigBlk", "/proc/self/status"],
            env=ENVIRONMENT,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert blocked(*COMMAND, "run", path, "--") == blocked() != ""


def test_what_stays_in_the_background_does_not_keep_the_lock(any_class, path):
    script = "sleep 1000 & echo $!"
    arguments = [*options(any_class), path, "--", "sh", "-c", script]
    with Started("run", *arguments) as started:
        background = int(started.hear())
        assert started.status() == 0
        assert os.path.exists(f"/proc/{background}/fd/64")
        assert not any_class(path).is_locked()
        with any_class(path):
            pass


def test_command_keeps_the_lock_when_we_are_killed(any_class, path):
    lock = any_class(path)
    with Started("run", *options(any_class), path, "--", *TALKING) as started:
        assert started.hear() == "begun"
        started.process.kill()
        assert started.status() == -signal.SIGKILL
        assert lock.is_locked()
        assert lock.owner().alive
        with pytest.raises(lockfile.AlreadyLocked):
            lock.acquire(timeout=0)
        started.say("end")
        # Its last word is that its output is closed; the kernel may still be at work.
        assert started.hear() == ""
        wait_until(lambda: not lock.is_locked(), "the command's end")
    with lock:
        pass
    assert names(os.path.dirname(path)) == []


def test_lock_stays_with_the_command_if_we_break_down(path):
    """An error of our own, whatever it is, does not end in a release. We wait for the command."""
    broken = """
    import lockfile._cli, lockfile._cli.run as run
    def fail(self):
        raise MemoryError("arranged")
    run._Attendance.status = fail
    lockfile._cli.main(["run", sys.argv[1], "--", *sys.argv[2:]])
    """
    lock = lockfile.FileLock(path)
    talking = [sys.executable, "-c", "import os; os.write(1, b'1\\n'); os.read(0, 1); exit(7)"]
    with Child(broken, path, *talking, stderr=subprocess.PIPE) as child:
        assert child.hear() == 1
        told = [child.process.stderr.readline()]
        while told[-1] and not told[-1].startswith(b"MemoryError"):
            told.append(child.process.stderr.readline())
        assert told[-1] == b"MemoryError: arranged\n"
        assert lock.is_locked()
        child.process.stdin.close()
        assert child.process.wait() == 7
        child.process.stderr.close()
    with lock:
        pass
