"""wait, and break where there is no terminal."""

import os
import subprocess

import pytest

import lockfile
from support import Child, names, wait_until
from support.command import CLASS_NAMES, Started, run

LOCK = "lock = getattr(lockfile, sys.argv[1])(sys.argv[2]).acquire(); say(1); hear()"


def test_free_lock_is_not_waited_for(any_class, path):
    done = run("wait", "--class", CLASS_NAMES[any_class.__name__], path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert names(os.path.dirname(path)) == []


def test_wait_ends_with_the_release_and_acquires_nothing(any_class, path):
    lock = any_class(path)
    lock.acquire()
    with Started("wait", "--class", CLASS_NAMES[any_class.__name__], path) as started:
        wait_until(lambda: started.process.poll() is not None or is_asleep(started.pid))
        assert started.process.poll() is None
        lock.release()
        assert started.status() == 0
    assert names(os.path.dirname(path)) == []


def is_asleep(pid):
    with open(f"/proc/{pid}/wchan") as file:
        return "poll" in file.read()


def test_wait_ends_with_the_owners_death(any_class, path):
    kind = CLASS_NAMES[any_class.__name__]
    with Child(LOCK, any_class.__name__, path) as child:
        child.hear()
        with Started("wait", "--class", kind, path) as started:
            child.kill()
            assert started.status() == 0
    any_class(path).acquire()  # what is left goes with this
    any_class(path).release()


def test_wait_in_vain_says_for_whom(path):
    with lockfile.FileLock(path):
        for arguments in ["-n"], ["-w", "0.01"]:
            done = run("wait", *arguments, path)
            assert done.returncode == 75
            assert f"{path} is still locked by process {os.getpid()} (" in done.stderr


@pytest.mark.parametrize("name", ["LinkFileLock", "MkdirFileLock", "SymlinkLockFile"])
def test_release_is_told_by_an_event(path, name):
    """Nobody looks from time to time here, once the first moments are over."""
    code = """
    import lockfile._cli, lockfile._cli.changes as changes
    changes.LOST_EVENTS = 10**6
    wait = changes.Changes.wait
    def told(self, seconds):
        if seconds > 1000:
            os.write(1, b"1\\n")
        return wait(self, seconds)
    changes.Changes.wait = told
    raise SystemExit(lockfile._cli.main(["wait", sys.argv[1]]))
    """
    lock = getattr(lockfile, name)(path).acquire()
    with Child(code, path) as child:
        child.hear()
        lock.release()
        assert child.process.wait() == 0


def test_wait_in_a_directory_that_is_not_there_is_a_mistake(tmp_path):
    for kind in CLASS_NAMES.values():
        for arguments in ["wait"], ["break", "--yes"]:
            done = run(*arguments, "--class", kind, tmp_path / "absent" / "README")
            assert done.returncode == 73
            assert done.stderr == f"lockfile-py: {tmp_path / 'absent'}: No such file or directory\n"


def test_wait_in_a_file_is_a_mistake(tmp_path):
    tmp_path.joinpath("file").touch()
    for arguments in ["wait"], ["break", "--yes"], ["who"]:
        done = run(*arguments, tmp_path / "file" / "README")
        assert done.returncode == 73
        assert done.stderr.endswith("file: Not a directory\n")


def test_break_needs_a_word_where_nobody_can_be_asked(path):
    with lockfile.FileLock(path) as lock:
        done = run("break", path)
        assert done.returncode == 2
        assert "--yes" in done.stderr
        assert lock.i_am_locking()


def test_break_removes_the_lock(any_class, path):
    kind = CLASS_NAMES[any_class.__name__]
    with Child(LOCK, any_class.__name__, path) as child:
        child.hear()
        done = run("break", "--yes", "--class", kind, path)
        assert (done.returncode, done.stdout) == (0, f"{path} is not locked any more\n")
        assert not any_class(path).is_locked()
        child.say("end")
        child.finish()
    with any_class(path):
        pass


def test_free_lock_is_not_broken(any_class, path):
    kind = CLASS_NAMES[any_class.__name__]
    done = run("break", "-y", "--class", kind, path)
    assert (done.returncode, done.stdout) == (1, f"{path} is not locked\n")
    assert names(os.path.dirname(path)) == []


def test_lock_of_a_dead_owner_is_removed_without_a_question(path):
    with Child(LOCK, "LinkFileLock", path) as child:
        child.hear()
    done = run("break", "-y", path)
    assert (done.returncode, done.stdout) == (1, f"{path} is not locked\n")
    assert names(os.path.dirname(path)) == []


def test_free_lock_is_not_broken_where_none_can_be_made(public_directory, other_user):
    public_directory.chmod(0o755)
    code = "raise SystemExit(lockfile._cli.main(['break', '-y', sys.argv[1]]))"
    before = "import shutil, lockfile._cli.breaking\n"
    path = str(public_directory / "README")
    with Child(code, path, user=other_user, before=before, stderr=subprocess.PIPE) as child:
        assert child.process.wait() == 1
        assert child._lines.get() == f"{path} is not locked\n".encode()
        assert child.process.stderr.read() == b""
        child.process.stderr.close()


def test_foreign_lock_file_is_broken(path):
    with open(f"{path}.lock", "w"):
        pass
    assert run("break", "-y", path).returncode == 0
    assert names(os.path.dirname(path)) == []


def test_lock_that_may_not_be_broken_is_told(public_directory, other_user):
    public_directory.chmod(0o1777)
    path = str(public_directory / "README")
    with lockfile.FileLock(path) as lock:
        code = "raise SystemExit(lockfile._cli.main(['break', '-y', sys.argv[1]]))"
        # Another user may not see Python's own files.
        before = "import shutil, lockfile._cli.breaking\n"
        keywords = {"user": other_user, "before": before, "stderr": subprocess.PIPE}
        with Child(code, path, **keywords) as child:
            child.process.wait()
            told = child.process.stderr.read()
            child.process.stderr.close()
            assert child.process.returncode == 73, told
            assert told.startswith(b"lockfile-py: ")
        assert lock.i_am_locking()
