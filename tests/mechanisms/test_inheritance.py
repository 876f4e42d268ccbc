"""set_inheritable(): child processes keep a lock of their parent's."""

import os
import signal
import subprocess
import sys

import pytest

from lockfile import AlreadyLocked, NotLocked, NotMyLock, SQLiteFileLock, UnlockError
from support import PATIENCE, Child, OtherThread, names, wait_until
from support.families import forked_child
from support.lock_classes import KINDS, kind_of
from support.protocol import HOST, is_proven_dead, parsed, swept_clean

SHARING = [kind.lock_class for kind in KINDS if not kind.is_row]


@pytest.fixture(params=SHARING, ids=lambda lock_class: lock_class.__name__)
def sharing_class(request):
    return request.param


# A program that owns, and is gone when its grandchild says the first word: as a daemon begins.
BECOME_DAEMON = """
    import os
    def become_daemon():
        for _ in range(2):
            parent = os.getpid()
            if os.fork() != 0:
                os._exit(0)
            while os.getppid() == parent:
                pass
    """
OBEY = """
    say(os.getpid())
    while (message := hear()) is not None:
        say(eval(message))
    """
DAEMON = f"""
    {BECOME_DAEMON}
    lock_class, path = getattr(lockfile, sys.argv[1]), sys.argv[2]
    lock = lock_class(path)
    lock.acquire()
    lock.set_inheritable(True)
    become_daemon()
    {OBEY}
    """


class Daemon(Child):
    """Ends when it is told to, since it is no child of ours any more."""

    def __init__(self, lock_class, path, code=DAEMON):
        super().__init__(code, lock_class.__name__, path)
        self.number = self.hear()

    def ask(self, expression):
        self.say(expression)
        return self.hear()

    def __exit__(self, *exception):
        if not is_proven_dead(self.number):
            self.leave()
        super().__exit__(*exception)

    def kill(self):
        """The daemon; what began it is gone already."""
        if not is_proven_dead(self.number):
            os.kill(self.number, signal.SIGKILL)
            wait_until(lambda: is_proven_dead(self.number), "the daemon's death")
        return super().kill()

    def leave(self):
        """Let it come to its end by itself."""
        self.process.stdin.close()
        wait_until(lambda: is_proven_dead(self.number), "the daemon's end")


def assert_held(lock_class, path):
    with pytest.raises(AlreadyLocked):
        lock_class(path, threaded=False).acquire(timeout=0)


def assert_free_and_empty(lock_class, path):
    assert not lock_class(path).is_locked()
    lock_class(path).acquire(timeout=0).release()
    assert names(os.path.dirname(path)) == []


def test_daemon_keeps_the_lock_though_it_calls_nothing(sharing_class, path):
    with Daemon(sharing_class, path):
        assert sharing_class(path).is_locked()
        assert_held(sharing_class, path)


def test_daemon_owns(sharing_class, path):
    with Daemon(sharing_class, path) as daemon:
        assert daemon.ask("lock.i_am_locking()")
        assert_held(sharing_class, path)
        assert daemon.ask("lock.release()") is None
        assert_free_and_empty(sharing_class, path)
        assert not daemon.ask("lock.i_am_locking()")


def test_daemon_that_ends_leaves_nothing(sharing_class, path):
    """Whether it has called a method or not."""
    for calls in (True, False):
        with Daemon(sharing_class, path) as daemon:
            assert not calls or daemon.ask("lock.is_locked()")
            daemon.leave()
            assert names(os.path.dirname(path)) == []


def test_killed_daemon_is_recovered(sharing_class, path):
    for calls in (True, False):
        with Daemon(sharing_class, path) as daemon:
            assert not calls or daemon.ask("lock.i_am_locking()")
            daemon.kill()
        assert_free_and_empty(sharing_class, path)


def test_waiter_gets_it_when_the_daemon_is_killed(sharing_class, path):
    code = "with getattr(lockfile, sys.argv[1])(sys.argv[2], timeout=PATIENCE): say('in')"
    with (
        Daemon(sharing_class, path) as daemon,
        Child(code, sharing_class.__name__, path) as waiter,
    ):
        daemon.kill()
        assert waiter.hear() == "in"
        waiter.finish()


def test_names_tell_who_owns(sharing_class, path):
    """From the first call on; but for a symbolic link, which would lead nowhere meanwhile."""
    with Daemon(sharing_class, path) as daemon:
        before = sharing_class(path).owner()
        assert before.pid != daemon.number and before.alive
        assert daemon.ask("lock.i_am_locking()")
        owner = sharing_class(path).owner()
        kind = kind_of(sharing_class)
        if kind.lock_file == "symlink":
            assert owner == before
            return
        assert (owner.hostname, owner.pid, owner.alive) == (HOST, daemon.number, True)
        unique_name = daemon.ask("lock.unique_name")
        assert parsed(unique_name)[2] == daemon.number
        lock_file = kind.lock_file_of(path)
        assert os.path.samefile(unique_name, lock_file) or kind.is_directory
        assert os.path.exists(unique_name)
        assert len(names(os.path.dirname(path))) == (1 if kind.is_directory else 2)


def test_without_the_call_a_child_owns_nothing(sharing_class, path):
    code = DAEMON.replace("lock.set_inheritable(True)", "")
    with Daemon(sharing_class, path, code) as daemon:
        assert not daemon.ask("lock.i_am_locking()")
        assert_free_and_empty(sharing_class, path)


def test_it_can_be_taken_back(sharing_class, path):
    code = DAEMON.replace("True)", "True); lock.set_inheritable(False)")
    with Daemon(sharing_class, path, code) as daemon:
        assert not daemon.ask("lock.i_am_locking()")
        assert_free_and_empty(sharing_class, path)


def test_other_locks_of_the_parent_stay_its_own(sharing_class, path):
    code = DAEMON.replace("lock =", "(other := lock_class(path + '2')).acquire(); lock =")
    with Daemon(sharing_class, path, code) as daemon:
        assert daemon.ask("[lock.i_am_locking(), other.i_am_locking()]") == [True, False]
        sharing_class(path + "2").acquire(timeout=0).release()


def test_forked_child_and_its_parent(sharing_class, path):
    """Both live: who releases, frees it, and to the other it is broken."""
    lock = sharing_class(path, threaded=False)
    lock.acquire()
    lock.set_inheritable(True)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert lock.i_am_locking()
            lock.release()
            os.write(writer, b"released")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"released"
    assert not lock.i_am_locking()
    with pytest.raises(NotLocked):
        lock.release()
    assert_free_and_empty(sharing_class, path)


def test_parent_that_releases_frees_it(sharing_class, path):
    lock = sharing_class(path, threaded=False)
    lock.acquire()
    lock.set_inheritable(True)
    with forked_child(lock) as ask:
        assert ask("is_locked")
        lock.release()
        sharing_class(path).acquire(timeout=0).release()
        assert not ask("i_am_locking")
        with pytest.raises(AlreadyLocked), sharing_class(path, threaded=False):
            assert not ask("i_am_locking")
            raise AlreadyLocked
    assert_free_and_empty(sharing_class, path)


def test_pid_file_says_who_called_last(path):
    """It can hold one number only; whoever has the lock may release it all the same."""
    from lockfile import PIDLockFile

    lock = PIDLockFile(path)
    lock.acquire()
    lock.set_inheritable(True)
    with forked_child(lock) as ask:
        assert lock.i_am_locking()
        pid = ask("read_pid")
        assert pid == os.getpid()
        assert ask("i_am_locking")
        child = lock.read_pid()
        assert child not in (None, pid)
        assert lock.i_am_locking()
        assert lock.read_pid() == pid
        assert ask("i_am_locking")
        assert ask("read_pid") == child
        lock.release()
        assert not ask("i_am_locking")
    assert_free_and_empty(PIDLockFile, path)


def test_end_of_the_parent_leaves_it_to_the_child(sharing_class, path):
    """A normal end, which releases what is not inheritable; the last one to end frees it."""
    code = DAEMON.replace("    become_daemon()\n", "    if os.fork() != 0: sys.exit()\n")
    with Daemon(sharing_class, path, code) as daemon:
        daemon.process.wait(PATIENCE)
        assert_held(sharing_class, path)
        assert daemon.ask("lock.i_am_locking()")
        daemon.leave()
    assert_free_and_empty(sharing_class, path)


def test_program_that_a_child_becomes_keeps_the_lock(sharing_class, path):
    """One that knows nothing of locks: it has inherited a descriptor."""
    lock = sharing_class(path, threaded=False)
    lock.acquire()
    lock.set_inheritable(True)
    program = [sys.executable, "-c", "import sys; print('runs', flush=True); sys.stdin.read()"]
    process = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[lock.fileno()]
    )
    with process:
        assert process.stdout.readline() == b"runs\n"
        code = "say(getattr(lockfile, sys.argv[1])(sys.argv[2]).is_locked())"
        os.close(lock.fileno())  # as if this process had died
        with Child(code, sharing_class.__name__, path) as other:
            assert other.hear()
        process.stdin.close()
        process.wait(PATIENCE)
    assert lock.i_am_locking()
    lock.release()


def test_exec_keeps_the_lock(sharing_class, path):
    code = """
        import os
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        lock.acquire()
        lock.set_inheritable(True)
        os.execv(sys.executable, [sys.executable, "-c", "print('2', flush=True); input()"])
        """
    with Child(code, sharing_class.__name__, path) as child:
        assert child.hear() == 2
        assert_held(sharing_class, path)
        child.kill()
    assert_free_and_empty(sharing_class, path)


def test_child_leaves_the_block_of_its_parent(sharing_class, path):
    code = f"""{BECOME_DAEMON}
    with getattr(lockfile, sys.argv[1])(sys.argv[2]) as lock:
        lock.set_inheritable(True)
        become_daemon()
        say(os.getpid())
        hear()
    say(lock.is_locked())
    """
    with Daemon(sharing_class, path, code) as daemon:
        assert_held(sharing_class, path)
        assert daemon.ask("leave") is False
    assert_free_and_empty(sharing_class, path)


def test_thread_that_forks_need_not_be_the_owner(sharing_class, path):
    """The one thread of the child is who calls."""
    with OtherThread() as thread:
        lock = sharing_class(path)
        thread.run(lock.acquire)
        thread.run(lock.set_inheritable, True)
        with forked_child(lock) as ask:
            assert ask("i_am_locking")
            assert ask("release") is None
        assert not thread.run(lock.i_am_locking)


def test_only_the_owner_may_let_it_be_inherited(sharing_class, path):
    lock = sharing_class(path)
    with pytest.raises(NotLocked):
        lock.set_inheritable(True)
    with Child(
        "(lock := getattr(lockfile, sys.argv[1])(sys.argv[2])).acquire(); say(1); hear()",
        sharing_class.__name__,
        path,
    ) as other:
        assert other.hear() == 1
        with pytest.raises(NotMyLock):
            lock.set_inheritable(True)
    lock.acquire().release()


def test_row_cannot_be_inherited(path):
    with SQLiteFileLock(path) as lock, pytest.raises(UnlockError, match="alone"):
        lock.set_inheritable(True)


def test_broken_lock_is_not_the_childs(sharing_class, path):
    with Daemon(sharing_class, path) as daemon:
        sharing_class(path).break_lock()
        with sharing_class(path):
            assert not daemon.ask("lock.i_am_locking()")
            assert daemon.ask("lock.is_locked()")
        assert not daemon.ask("lock.is_locked()")
    assert names(os.path.dirname(path)) == []


# Locks that an object owns


@pytest.fixture(params=[each for each in SHARING if not kind_of(each).is_pid_file])
def object_lock(request, path):
    """A lock that an object owns, and children are to have."""
    lock = request.param(path, owner="object")
    lock.acquire()
    lock.set_inheritable(True)
    return lock


def test_copy_that_goes_away_in_a_child_releases_nothing(object_lock):
    """Whether the child has called it, and so owned, or not."""
    for calls in (False, True):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                assert not calls or object_lock.i_am_locking()
                object_lock.__init__("/nowhere", owner="object")  # as if it went away
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert object_lock.i_am_locking()
        assert_held(type(object_lock), object_lock.path)
    object_lock.release()
    assert swept_clean(type(object_lock), object_lock.path)


def test_object_that_goes_away_leaves_the_lock_to_the_child(object_lock):
    lock_class, path = type(object_lock), object_lock.path
    with forked_child(object_lock) as ask:
        assert ask("i_am_locking")
        with pytest.warns(ResourceWarning, match="never released"):
            object_lock.__init__("/nowhere", owner="object")
        assert_held(lock_class, path)
        assert ask("i_am_locking")
        assert ask("release") is None
    assert_free_and_empty(lock_class, path)


def test_object_that_goes_away_last_releases(object_lock):
    lock_class, path = type(object_lock), object_lock.path
    with forked_child(object_lock) as ask:
        assert ask("i_am_locking")
    with pytest.warns(ResourceWarning, match="never released"):
        object_lock.__init__("/nowhere", owner="object")
    assert not lock_class(path).is_locked()
    assert swept_clean(lock_class, path)
