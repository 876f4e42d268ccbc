"""What the command does whose standard streams are closed, full, or not listened to."""

import os
import subprocess

import pytest

import lockfile
from support import Child, names
from support.command import COMMAND, ENVIRONMENT, STUBBORN, Started, run


def closing(*descriptors):
    return {"preexec_fn": lambda: [os.close(each) for each in descriptors]}


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_status_is_the_same_where_streams_are_closed(path, closed):
    for status in 0, 7:
        done = run("run", path, "--", "sh", "-c", f"exit {status}", **closing(*closed))
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
    assert run("who", path, **closing(*closed)).returncode == 1
    assert run("wait", path, **closing(*closed)).returncode == 0
    with lockfile.FileLock(path) as lock:
        assert run("who", "--json", path, **closing(*closed)).returncode == 0
        assert run("wait", "-n", path, **closing(*closed)).returncode == 75
        assert run("break", path, **closing(*closed)).returncode == 2
        assert lock.i_am_locking()
        assert run("break", "--yes", path, **closing(*closed)).returncode == 0
        lock.acquire()


def test_messages_do_not_go_where_the_output_goes(path):
    with lockfile.FileLock(path):
        done = run("run", "-n", path, "--", "true", **closing(2))
    assert (done.returncode, done.stdout) == (75, "")


def test_what_was_closed_is_closed_for_the_command(path):
    done = run("run", path, "--", "test", "-e", "/proc/self/fd/1", **closing(1))
    assert done.returncode == 1
    assert run("run", path, "--", "test", "-e", "/proc/self/fd/1").returncode == 0


@pytest.fixture
def full_pipe():
    """Nobody reads from it: who writes there waits for ever."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


def test_command_of_a_lost_lock_is_ended_though_nobody_reads_why(path, full_pipe):
    with Started("run", "-k", "0.1", path, "--", *STUBBORN, stderr=full_pipe) as started:
        assert started.hear() == "begun"
        lockfile.FileLock(path).break_lock()
        assert started.status() == 76


def test_command_that_is_not_there_is_no_reason_to_stay(path, full_pipe):
    with Started("run", path, "--", "there is no such command", stderr=full_pipe) as started:
        assert started.status() == 127


def test_error_of_our_own_that_nobody_reads_does_not_release_the_lock(path, full_pipe):
    reading, writing = os.pipe()
    os.close(reading)
    code = """
    import lockfile._cli, lockfile._cli.run as run
    def fail(self):
        raise MemoryError("arranged")
    run._Attendance.status = fail
    lockfile._cli.main(["run", sys.argv[1], "--", "sh", "-c", "echo 1; read end; exit 7"])
    """
    for stderr in writing, full_pipe:
        with Child(code, path, stderr=stderr) as child:
            assert child.hear() == 1
            assert lockfile.FileLock(path).is_locked()
            child.process.stdin.close()
            assert child.process.wait() == 7
    os.close(writing)


def run_into(descriptor, *arguments):
    command = [*COMMAND, *map(os.fspath, arguments)]
    files = {"stdin": subprocess.DEVNULL, "stdout": descriptor, "stderr": subprocess.PIPE}
    return subprocess.run(command, text=True, env=ENVIRONMENT, **files)


def test_status_is_the_same_where_nobody_listens(path):
    reading, writing = os.pipe()
    os.close(reading)
    with lockfile.FileLock(path) as lock:
        for arguments in ["who", path], ["who", "--json", path], ["break", "--yes", path], ["-h"]:
            done = run_into(writing, *arguments)
            assert (done.returncode, done.stderr) == (0, "")
        assert not lock.is_locked()
        lock.acquire()
    os.close(writing)


def test_output_that_finds_no_room_is_told(path):
    with lockfile.FileLock(path) as lock, open("/dev/full", "w") as full:
        for arguments in ["who", path], ["who", "--json", path], ["break", "--yes", path]:
            done = run_into(full, *arguments)
            assert done.returncode == 73
            assert done.stderr == "lockfile-py: standard output: No space left on device\n"
        lock.acquire()


def test_names_may_have_any_letters(tmp_path):
    path = os.fsencode(tmp_path / "n") + b"\xff"
    strict = ENVIRONMENT | {"PYTHONIOENCODING": "utf-8:strict"}
    lock = lockfile.FileLock(path, threaded=False).acquire()
    for arguments, status in [
        (["who"], 0),
        (["wait", "-n"], 75),
        (["run", "-n"], 75),
        (["break", "--yes"], 0),
        (["break", "--yes"], 1),
        (["doctor"], 0),
    ]:
        command = ["--", "true"] if arguments[0] == "run" else []
        done = run(*arguments, os.fsdecode(path), *command, env=strict)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
    with pytest.raises(lockfile.NotLocked):
        lock.release()
    assert names(tmp_path) == []


def test_names_in_messages_do_not_steer_the_terminal(tmp_path):
    path = str(tmp_path / "\x1b[31mred\n.txt")
    with lockfile.FileLock(path):
        for arguments in ["wait", "-n", path], ["run", "-n", path, "--", "true"]:
            done = run(*arguments)
            assert done.returncode == 75
            assert "\x1b" not in done.stderr
            assert len(done.stderr.splitlines()) == 1
        done = run("break", "--yes", path)
        assert "\x1b" not in done.stdout
        lockfile.FileLock(path).acquire()


def test_directory_that_was_removed_is_told(tmp_path):
    """The one in which the command begins: a relative path means nothing there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    leaving = {"cwd": gone, "preexec_fn": lambda: os.rmdir(gone)}
    for arguments in ["run", "-n", "README", "--", "true"], ["who", "README"], ["wait", "README"]:
        done = run(*arguments, **leaving)
        assert done.returncode == 73
        assert done.stderr == "lockfile-py: README: No such file or directory\n"
        gone.mkdir()
    path = tmp_path / "README"
    with lockfile.FileLock(path):
        assert run("wait", "-n", path, **leaving).returncode == 75
        gone.mkdir()
        done = run("who", ".", path, **leaving)
        assert done.returncode == 73
        assert done.stdout.splitlines()[1].startswith(str(path))
