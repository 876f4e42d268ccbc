"""python -m lockfile, on Windows."""

import json
import os
import subprocess
import sys

import pytest

import lockfile
from support import IMPORT_PATH, PATIENCE, holder, names, wait_until
from support.lock_classes import CLASS_NAMES

COMMAND = [sys.executable, "-m", "lockfile"]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(IMPORT_PATH)}
CONTROL_C_EXIT = 0xC000013A
OWN_CONSOLE = 0x08000000

# Presses Ctrl-C on the console that it is on.
PRESS = "ctypes.windll.kernel32.GenerateConsoleCtrlEvent(0, 0)"


def run(*arguments, **keywords):
    """Run it to its end: its status, and what it has written."""
    keywords = {"stdin": subprocess.DEVNULL, "env": ENVIRONMENT, "timeout": PATIENCE} | keywords
    return subprocess.run(
        [*COMMAND, *map(os.fspath, arguments)], capture_output=True, text=True, **keywords
    )


class Started:
    """It, while it runs; `with` kills it."""

    def __init__(self, *arguments):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [*COMMAND, *map(os.fspath, arguments)]
        self.process = subprocess.Popen(command, env=ENVIRONMENT, text=True, **pipes)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait(PATIENCE)
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            file.close()

    def hear(self):
        return self.process.stdout.readline().rstrip("\n")

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def status(self):
        return self.process.wait(PATIENCE)


def python(code):
    """A command that says its process number, and then runs this."""
    return ["--", sys.executable, "-c", f"import os, sys\nprint(os.getpid(), flush=True)\n{code}"]


TALKING = python("sys.stdin.readline(); sys.exit(7)")


WORKING = sorted({*CLASS_NAMES} - {"SymlinkLockFile"})


@pytest.fixture(params=WORKING)
def any_class(request):
    return getattr(lockfile, request.param)


def options(lock_class, path):
    return "--class", CLASS_NAMES[lock_class.__name__], path


def test_lock_is_held_while_the_command_runs(any_class, path):
    with Started("run", *options(any_class, path), *TALKING) as started:
        started.hear()
        with pytest.raises(lockfile.AlreadyLocked):
            any_class(path).acquire(timeout=0)
        done = run("run", "-n", "-E", "9", *options(any_class, path), *TALKING)
        assert (done.returncode, done.stdout) == (9, "")
        assert "is already locked" in done.stderr
        started.say("end")
        assert started.status() == 7
    any_class(path).acquire(timeout=0)
    any_class(path).release()
    assert names(os.path.dirname(path)) == []


@pytest.mark.leaves_files
def test_command_ends_with_whoever_runs_it(path):
    """No other process can have the lock here: so the command does not go on without it."""
    with Started("run", path, *python("sys.stdin.readline()")) as started:
        child = int(started.hear())
        started.process.kill()
        lockfile.FileLock(path).acquire(timeout=PATIENCE)
        wait_until(lambda: not lives(child), "the command's end")
    lockfile.FileLock(path).release()


def lives(process):
    """Has it not ended?"""
    import ctypes

    kernel = ctypes.windll.kernel32
    may_synchronize, timeout = 0x00100000, 0x102
    handle = kernel.OpenProcess(may_synchronize, False, process)
    if not handle:
        return False
    waited = kernel.WaitForSingleObject(handle, 0)
    kernel.CloseHandle(handle)
    return waited == timeout


def test_what_the_command_leaves_running_goes_on(path):
    code = """
import subprocess
sleep = [sys.executable, "-c", "import time; time.sleep(100)"]
nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
print(subprocess.Popen(sleep, **nowhere).pid)
"""
    done = run("run", path, *python(code))
    assert done.returncode == 0, done.stderr
    left = int(done.stdout.split()[-1])
    assert lives(left)
    assert not lockfile.FileLock(path).is_locked()
    os.kill(left, 9)


@pytest.mark.parametrize(("lost", "status"), [("kill", 76), ("warn", 7)])
def test_lock_that_is_lost_is_told(path, lost, status):
    with Started("run", "--on-lost", lost, path, *TALKING) as started:
        started.hear()
        lockfile.FileLock(path).break_lock()
        assert "the lock was lost while the command ran" in started.process.stderr.readline()
        if lost == "warn":
            started.say("end")
        assert started.status() == status
    assert names(os.path.dirname(path)) == []


def test_ctrl_c_is_the_commands(path):
    """The console sends it to both; the lock is held until the command has ended."""
    code = f"""
import ctypes, signal, time
def tell(number, frame):
    print("heard", flush=True)
    sys.exit(5)
signal.signal(signal.SIGINT, tell)
{PRESS}
time.sleep(100)
"""
    done = run("run", path, *python(code), creationflags=OWN_CONSOLE)
    assert done.returncode == 5, done.stderr
    assert done.stdout.split()[1:] == ["heard"]
    assert names(os.path.dirname(path)) == []


@pytest.mark.leaves_files
@pytest.mark.parametrize("subcommand", ["run", "wait"])
def test_ctrl_c_ends_a_wait(path, subcommand):
    code = f"""
import ctypes, sys, threading, time
sys.path[:0] = {sys.path!r}
from lockfile._cli import main
def press():
    time.sleep(1)
    {PRESS}
threading.Thread(target=press, daemon=True).start()
sys.exit(main({[subcommand, path, *(["--", "x"] if subcommand == "run" else [])]!r}))
"""
    with holder(lockfile.FileLock, path):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, creationflags=OWN_CONSOLE, text=True)
    assert (done.returncode, done.stderr) == (CONTROL_C_EXIT, "")


def test_command_that_is_not_there(path):
    done = run("run", path, "--", "no such program")
    assert done.returncode == 127
    assert names(os.path.dirname(path)) == []


def test_who_tells_of_the_owner(any_class, path):
    with holder(any_class, path) as child:
        done = run("who", "--json", *options(any_class, path))
        (found,) = json.loads(done.stdout)
        assert done.returncode == 0
        assert found["held"]
        assert found["owners"][0]["pid"] == child.pid
        assert found["owners"][0]["alive"] is True
        child.say("end")
        assert child.hear() == "released"
    assert run("who", *options(any_class, path)).returncode == 1


def test_directory_is_listed(tmp_path):
    """Its locks, and nothing that only looks like one."""
    tmp_path.joinpath("Cargo.lock").write_text("not a lock")
    tmp_path.joinpath("empty.lock").touch()
    tmp_path.joinpath("directory.lock").mkdir()
    locks = [getattr(lockfile, name)(tmp_path / f"by {name}") for name in WORKING]
    with lockfile.all_of(*locks):
        found = json.loads(run("who", "--json", tmp_path).stdout)
        assert {os.path.normcase(each["lock_file"]) for each in found} == {
            os.path.normcase(lock.lock_file) for lock in locks
        }
        assert {each["owners"][0]["pid"] for each in found} == {os.getpid()}
    assert json.loads(run("who", "--json", tmp_path).stdout) == []
    for name in "Cargo.lock", "empty.lock":
        tmp_path.joinpath(name).unlink()
    tmp_path.joinpath("directory.lock").rmdir()


def test_wait_ends_with_the_release(any_class, path):
    with holder(any_class, path) as child:
        assert run("wait", "-n", *options(any_class, path)).returncode == 75
        with Started("wait", *options(any_class, path)) as started:
            child.say("end")
            assert child.hear() == "released"
            assert started.status() == 0


@pytest.mark.leaves_files
def test_live_lock_is_broken(any_class, path):
    with holder(any_class, path):
        done = run("break", "--yes", *options(any_class, path))
        assert (done.returncode, done.stdout) == (0, f"{path} is not locked any more\n")
        assert not any_class(path).is_locked()


def test_doctor_tells_what_works(tmp_path):
    done = run("doctor", "--json", tmp_path / "README")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["use"] == "MkdirFileLock"
    works = {name for name, result in found["classes"].items() if result == "works"}
    assert works == set(WORKING)
    assert found["probes"].pop("symbolic link") != "works"
    assert set(found["probes"].values()) == {"works"}
    assert names(tmp_path) == []
