"""With python-daemon: a program becomes a daemon, and keeps its lock, or its PID file."""

import importlib.metadata
import os
import re
import signal
import textwrap
from pathlib import Path

import pytest

import lockfile
from lockfile import AlreadyLocked, PIDLockFile
from support import Child, names, wait_until
from support.lock_classes import KINDS, kind_of
from support.protocol import is_proven_dead

pytest.importorskip("daemon")

CLASSES = [kind.lock_class for kind in KINDS if not kind.is_row]

# Detaches from the test, which hears of it through a FIFO: a daemon closes what it has open.
BEGIN = """
    import os, time
    import daemon
    lock_class, path, fifo = getattr(lockfile, sys.argv[1]), sys.argv[2], sys.argv[3]

    def live():
        with open(fifo, "w") as tell:
            print(os.getpid(), file=tell)
        open(fifo).read()
"""
ACQUIRES_FIRST = (
    BEGIN
    + """
    lock = lock_class(path)
    lock.acquire()
    lock.set_inheritable(True)
    with daemon.DaemonContext(files_preserve=[lock], umask=0o077):
        live()
        lock.release()
    """
)
ACQUIRES_THERE = (
    BEGIN
    + """
    with daemon.DaemonContext(pidfile=lock_class(path)):
        live()
    """
)
NOT_INHERITABLE = ACQUIRES_FIRST.replace("lock.set_inheritable(True)", "pass")


DOCS = Path(__file__).parents[2] / "docs"


def documented(page):
    """The example of a page that makes a daemon, as a program for Daemon."""
    text = (DOCS / page).read_text()
    [block] = [
        found[1]
        for found in re.finditer(r"::\n\n(( +)\S.*\n(?:\2.*\n)*)", text)
        if "daemon.DaemonContext(files_preserve" in found[1]
    ]
    example = textwrap.dedent(block)
    assert len(re.findall(r'"/var/lib/\w+"', example)) == example.count("    ...") == 1
    example = re.sub(r'"/var/lib/\w+"', "path", example).replace("    ...", "    live()")
    example = re.sub(r"(lockfile\.)?FileLock", "lock_class", example)
    return textwrap.dedent(BEGIN) + example


class Daemon:
    """A program that has become one, and lives until it is told to end."""

    def __init__(self, code, lock_class, path):
        self.fifo = path + "-fifo"
        os.mkfifo(self.fifo)
        with Child(code, lock_class.__name__, path, self.fifo) as beginning:
            with open(self.fifo) as told:
                self.pid = int(told.read())
            beginning.process.wait()
            assert self.pid != beginning.pid

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if not is_proven_dead(self.pid):
            self.end()
        os.remove(self.fifo)

    def end(self):
        with open(self.fifo, "w"):
            pass
        wait_until(lambda: is_proven_dead(self.pid), "the daemon's end")

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: is_proven_dead(self.pid), "the daemon's death")


@pytest.fixture(params=CLASSES, ids=lambda lock_class: lock_class.__name__)
def sharing_class(request):
    return request.param


def assert_kept_out(lock_class, path):
    code = "say(getattr(lockfile, sys.argv[1])(sys.argv[2]).try_acquire())"
    with Child(code, lock_class.__name__, path) as other:
        assert other.hear() is False
        other.finish()


def assert_free_and_empty(lock_class, path):
    lock_class(path).acquire(timeout=0).release()
    assert names(os.path.dirname(path)) == []


@pytest.mark.parametrize("way", [ACQUIRES_FIRST, ACQUIRES_THERE], ids=["before", "as a daemon"])
def test_lock_is_held_until_the_daemon_ends(sharing_class, path, way):
    with Daemon(way, sharing_class, path) as daemon:
        assert_kept_out(sharing_class, path)
        kind = kind_of(sharing_class)
        if kind.lock_file != "symlink" or way is ACQUIRES_THERE:
            assert sharing_class(path).owner().pid == daemon.pid
        if kind.is_pid_file:
            assert PIDLockFile(path).read_pid() == daemon.pid
        daemon.end()
    assert_free_and_empty(sharing_class, path)


@pytest.mark.parametrize("page", ["howto/daemon.rst", "migration.rst", "reference.rst"])
def test_example_of_the_documentation_keeps_the_lock(sharing_class, path, page):
    with Daemon(documented(page), sharing_class, path) as daemon:
        assert_kept_out(sharing_class, path)
        daemon.end()
    assert_free_and_empty(sharing_class, path)


@pytest.mark.parametrize("way", [ACQUIRES_FIRST, ACQUIRES_THERE], ids=["before", "as a daemon"])
def test_killed_daemon_is_recovered(sharing_class, path, way):
    with Daemon(way, sharing_class, path) as daemon:
        assert_kept_out(sharing_class, path)
        daemon.kill()
    assert_free_and_empty(sharing_class, path)


def test_lock_that_is_not_inheritable_is_told(sharing_class, path, tmp_path_factory):
    """Not lost without a word: the daemon asks for the descriptor of a lock that it has not."""
    said = tmp_path_factory.mktemp("said") / "errors"
    arguments = (sharing_class.__name__, path, path + "-fifo")
    with said.open("wb") as errors, Child(NOT_INHERITABLE, *arguments, stderr=errors) as beginning:
        beginning.process.wait()

        def complains():
            text = said.read_text()
            return "lockfile.NotLocked: " in text or "lockfile.NotMyLock: " in text

        wait_until(complains, "the daemon's complaint")
    wait_until(lambda: not sharing_class(path).is_locked(), "its parents' deaths")
    assert_free_and_empty(sharing_class, path)


def test_its_own_pid_file_class(tmp_path):
    """daemon.pidfile imports ours."""
    pytest.importorskip("lockfile.pidlockfile")
    from daemon.pidfile import TimeoutPIDLockFile

    assert issubclass(TimeoutPIDLockFile, PIDLockFile)
    path = str(tmp_path / "daemon.pid")
    lock = TimeoutPIDLockFile(path, 0.01)
    with lock, pytest.raises(lockfile.LockTimeout):
        lock.acquire()
    with lock, pytest.raises(AlreadyLocked):
        TimeoutPIDLockFile(path).acquire()
    assert importlib.metadata.version("python-daemon")
