"""Descriptors that the program closes behind our back, and those that it may spare."""

import os
import signal

import pytest

from lockfile import AlreadyLocked, NotLocked, NotMyLock
from support import OtherThread, child_of, in_thread, names, wait_until
from support.protocol import inode, is_proven_dead, sleeps_in


def test_daemon_locks_the_path_as_it_was_when_the_lock_was_made(lock_class, tmp_path):
    code = """
        os.chdir(path)
        lock = lock_class("README")
        report, write = 100, os.dup2(1, 100)
        if os.fork():
            os._exit(0)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        os.closerange(3, 100)
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        lock.acquire()
        words = ascii([lock.lock_file, lock.i_am_locking(), os.getpid()])
        os.write(report, words.encode() + b"\\n")
        while True:
            time.sleep(1)
        """
    with child_of(lock_class, code, tmp_path) as child:
        lock_file, mine, daemon = child.hear()
        try:
            assert lock_file == str(tmp_path / "README.lock")
            assert mine
            lock = lock_class(tmp_path / "README")
            assert lock.is_locked()
            assert lock.owner().pid == daemon
        finally:
            os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: is_proven_dead(daemon), "the daemon's end")
    with lock:
        pass


@pytest.mark.parametrize("call", ["i_am_locking", "acquire", "is_locked"])
def test_lock_whose_descriptors_were_closed_is_regained_at_the_next_call(lock_class, path, call):
    code = """
        lock = lock_class(path)
        lock.acquire()
        os.closerange(3, 1000)
        say(getattr(lock, sys.argv[2])() is not False)
        hear()
        assert lock.i_am_locking()
        lock.release()
        say("released")
        """
    lock = lock_class(path)
    with child_of(lock_class, code, path, call) as child:
        assert child.hear() is True
        assert lock.is_locked()
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        child.say("release")
        assert child.hear() == "released"
        child.finish()
    assert not lock.is_locked()


def test_release_works_after_all_descriptors_were_closed(lock_class, path, tmp_path):
    code = """
        lock = lock_class(path)
        lock.acquire()
        os.closerange(3, 1000)
        lock.release()
        assert not lock.is_locked()
        """
    with child_of(lock_class, code, path) as child:
        child.finish()
    assert names(tmp_path) == []


def test_lock_lost_while_its_descriptors_were_closed_is_not_mine(lock_class, path):
    code = """
        lock = lock_class(path)
        lock.acquire()
        os.closerange(3, 1000)
        say("closed")
        hear()
        say(lock.i_am_locking())
        try:
            lock.release()
        except lockfile.NotMyLock:
            say("NotMyLock")
        """
    lock = lock_class(path)
    with child_of(lock_class, code, path) as child:
        assert child.hear() == "closed"
        lock.acquire(timeout=0)
        child.say("look")
        assert child.hear() is False
        assert child.hear() == "NotMyLock"
        child.finish()
    assert lock.i_am_locking()
    lock.release()


@pytest.mark.parametrize(
    "kind", ["eventfd", "inotify", "file", "pipe", "other directory", "same directory", "lock file"]
)
def test_numbers_that_became_somebody_elses_are_left_alone(file_lock_class, path, tmp_path, kind):
    """Closed behind our back after a contended acquire, and used for other things."""
    code = """
        import fcntl

        lock, contended = lock_class(path), lock_class(path + "2")
        lock.acquire()
        say("ready")
        contended.acquire()  # after a wait
        highest = max(map(int, os.listdir("/proc/self/fd"))) + 1
        os.closerange(3, highest)

        kinds = {
            "eventfd": lambda: eventfd(0, 0),
            "inotify": lambda: inotify(),
            "file": lambda: os.open(path + ".data", os.O_RDWR | os.O_CREAT),
            "pipe": lambda: os.pipe()[0],
            "other directory": lambda: os.open("/", os.O_RDONLY),
            "same directory": lambda: os.open(os.path.dirname(path), os.O_RDONLY),
            "lock file": lambda: os.open(contended.unique_name, os.O_WRONLY),
        }
        libc = ctypes.CDLL(None)
        eventfd, inotify = libc.eventfd, libc.inotify_init

        make = kinds[sys.argv[2]]
        while make() < highest:
            pass


        def files():
            # Eventfds and inotify have one inode, but not one name.
            names = [os.readlink(f"/proc/self/fd/{number}")[:15] for number in range(3, highest)]
            return names, [os.fstat(number).st_ino for number in range(3, highest)]

        before = files()
        if sys.argv[2] == "file":
            fcntl.flock(3, fcntl.LOCK_EX)

        assert lock.i_am_locking() and contended.i_am_locking()
        lock.release()
        contended.release()
        for _ in range(3):
            contended.acquire()
            try:
                another = lock_class(path + "2")
                threading.excepthook = lambda arguments: None
                thread = threading.Thread(target=another.acquire, args=(0.05,))
                thread.start()
                thread.join()
            finally:
                contended.release()

        assert files() == before, (files(), before)
        if sys.argv[2] == "file":
            other = os.open(path + ".data", os.O_RDWR)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                raise AssertionError("the program's own flock is gone")
        """
    with OtherThread() as thread:
        contended = file_lock_class(path + "2")
        thread.run(contended.acquire)
        with child_of(file_lock_class, code, path, kind) as child:
            assert child.hear() == "ready"
            wait_until(lambda: sleeps_in(child.pid), "the child to wait")
            thread.run(contended.release)
            child.finish()
    assert set(names(tmp_path)) <= {"README.data"}


def test_descriptor_of_an_owned_lock_keeps_it_when_it_is_spared(lock_class, path):
    code = """
        lock = lock_class(path)
        lock.acquire()
        kept = lock.fileno()
        os.closerange(3, kept)
        os.closerange(kept + 1, 1000)
        say("closed")
        hear()
        assert lock.fileno() == kept
        lock.release()
        """
    lock = lock_class(path)
    with child_of(lock_class, code, path) as child:
        assert child.hear() == "closed"
        assert lock.is_locked()
        child.say("release")
        child.finish()
    assert not lock.is_locked()


def test_fileno_is_that_of_the_lock_file_and_only_its_owners(file_lock_class, path):
    lock = file_lock_class(path)
    with pytest.raises(NotLocked):
        lock.fileno()
    with lock:
        status = os.fstat(lock.fileno())
        assert (status.st_dev, status.st_ino) == inode(lock.unique_name)
        assert not os.get_inheritable(lock.fileno())
        assert file_lock_class(path).fileno() == lock.fileno()
        with pytest.raises(NotMyLock):
            in_thread(lock.fileno)
    with pytest.raises(NotLocked):
        lock.fileno()
