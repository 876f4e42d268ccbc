"""doctor: which lock works at a place, and what to expect of it."""

import errno
import json
import os
import sqlite3  # noqa: F401  (a child that has become another user may be too late)
import subprocess

import pytest

import lockfile
from lockfile._cli import doctor, place
from support import Child, also_preloaded, in_thread
from support.command import ENVIRONMENT, run
from support.lock_classes import LOCK_CLASSES


def judged(directory, **refused):
    """What is found out, and chosen, where the kernel refuses such calls."""
    found = in_thread(place.examine, str(directory), refused=refused)
    found["name_fits"] = True
    found["use"] = doctor.choose(found)
    return found, " ".join(doctor.expectations({**found}))


def is_local(directory):
    return place.examine(str(directory))["reach"] == "kernel"


def test_place_where_all_works(tmp_path):
    if not is_local(tmp_path):
        pytest.skip("this directory is not on a local file system")
    done = run("doctor", tmp_path / "README")
    assert done.returncode == 0
    assert "\nUse LinkFileLock, which is FileLock.\n" in done.stdout
    assert "Only this kernel uses the file system" in done.stdout
    assert "Whoever waits is told by the kernel" in done.stdout
    assert all(f"{each.__name__:30} works" in done.stdout for each in LOCK_CLASSES)
    assert max(map(len, done.stdout.splitlines()[3:])) <= 80
    assert os.listdir(tmp_path) == []


def test_programs_are_told_the_same(tmp_path):
    found = json.loads(run("doctor", "--json", tmp_path / "README").stdout)
    assert found["lock_file"] == str(tmp_path / "README.lock")
    assert found["use"] == "LinkFileLock"
    assert set(found["probes"].values()) == {"works"}
    assert set(doctor.NAMES) == set(found["probes"])
    assert found["sharing"]["owner"] == os.geteuid()


def test_no_hard_links(tmp_path, refusals):
    found, _ = judged(tmp_path, link=errno.EPERM)
    assert found["probes"]["link"] == os.strerror(errno.EPERM)
    assert found["classes"]["LinkFileLock"] != "works"
    assert found["use"] == "MkdirFileLock"
    assert os.listdir(tmp_path) == []


def test_no_renames_without_replacing(tmp_path, refusals):
    found, _ = judged(tmp_path, rename=errno.EINVAL)
    assert found["probes"]["rename"] == os.strerror(errno.EINVAL)
    assert found["use"] == "LinkFileLock"
    found, _ = judged(tmp_path, rename=errno.EINVAL, link=errno.EPERM)
    assert found["use"] == "SymlinkLockFile"
    assert os.listdir(tmp_path) == []


def test_no_events(tmp_path, refusals):
    code = """
    import errno, lockfile._cli.doctor as doctor, lockfile._cli.place as place
    refuse("inotify", errno.EMFILE)
    found = place.examine(sys.argv[1]) | {"name_fits": True, "use": "LinkFileLock"}
    say([found["reach"], found["probes"]["events"], doctor.expectations(found)])
    """
    with Child(code, tmp_path) as child:
        reach, events, told = child.hear()
    assert events != "works"
    assert reach != "kernel" or "No events are to be had just now" in " ".join(told)


def test_no_kernel_locks(tmp_path, refusals):
    found, told = judged(tmp_path, flock=errno.ENOLCK, marks=errno.ENOLCK)
    assert found["probes"]["flock"] == os.strerror(errno.ENOLCK)
    assert "nobody can prove an owner dead" in told
    assert os.listdir(tmp_path) == []


def test_kernel_locks_that_lie(tmp_path, preloadable):
    """The child that asks for a database is preloaded, too."""
    lies = {"LD_PRELOAD": also_preloaded(preloadable("liar.c"))}
    done = run("doctor", tmp_path / "README", env=ENVIRONMENT | lies)
    assert done.returncode == 0
    assert f"{'kernel locks of files (flock)':30} LIES" in done.stdout
    assert "Kernel locks exclude nobody here" in done.stdout
    assert "lock of an owner that dies is free at once" not in done.stdout
    assert os.listdir(tmp_path) == []


def test_file_system_that_others_may_have_mounted(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "_reach", lambda directory: "anybody")
    found, told = judged(tmp_path)
    assert found["use"] == "LinkFileLock"
    assert "only the machine that an owner ran on can prove it dead" in told
    assert "looks every 50 ms" in told
    assert "SQLite's manual warns" in told


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (0o700, "Only the directory's owner (and root) may make locks"),
        (0o770, "may be written by its group, who may so remove each other's locks"),
        (0o777, "may be written by everybody"),
        (0o1777, "The directory is sticky: everybody may make locks"),
    ],
)
def test_who_may_remove_locks_is_told(tmp_path, mode, told):
    tmp_path.chmod(mode)
    assert told in judged(tmp_path)[1]


def test_name_that_is_too_long(tmp_path):
    done = run("doctor", tmp_path / ("x" * 251))
    assert done.returncode == 0
    assert "Use SQLiteFileLock." in done.stdout
    assert "The lock file's name is longer" in done.stdout


def test_place_that_is_not_there(tmp_path):
    done = run("doctor", tmp_path / "missing" / "README")
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert "--lock-file" in done.stderr


def test_place_where_nothing_may_be_written(tmp_path, other_user):
    before = "import lockfile._cli.place, lockfile._cli.doctor, shutil, random\n"
    code = "raise SystemExit(lockfile._cli.main(['doctor', '/README']))"
    with Child(code, user=other_user, before=before, stderr=subprocess.PIPE) as child:
        assert child.process.wait() == 1
        told = child.process.stderr.read()
        child.process.stderr.close()
    assert told.startswith(b"lockfile-py: no lock can be made in /: Permission denied")


def test_wrong_arguments(tmp_path):
    assert run("doctor", "").returncode == 2
    assert run("doctor", tmp_path / "x", "--lock-file", tmp_path / "x").returncode == 2


def test_interrupt_leaves_nothing(tmp_path):
    """Whenever it comes: here while another process is asked for a database."""
    code = """
    import signal, lockfile._cli, lockfile._cli.place as place
    def interrupted(path):
        os.kill(os.getpid(), signal.SIGINT)
    place._ask_other_process = interrupted
    lockfile._cli.main(["doctor", sys.argv[1]])
    """
    with Child(code, tmp_path / "README") as child:
        assert child.process.wait() == -2
    assert os.listdir(tmp_path) == []


def test_lock_that_lets_two_in_is_not_chosen(tmp_path, monkeypatch):
    class Broken(lockfile.LinkFileLock):
        def acquire(self, timeout=None, *, on_wait=None):
            return self

        def release(self):
            pass

    monkeypatch.setattr(lockfile, "LinkFileLock", Broken)
    found, _ = judged(tmp_path)
    assert found["classes"]["LinkFileLock"] == "lies"
    assert found["use"] == "MkdirFileLock"
