"""What becomes of a lock when its process forks or starts a program."""

import os
import signal

import pytest

from lockfile import AlreadyLocked, LinkFileLock
from support import child_of, holder, names, time_to_see_an_end, wait_until
from support.protocol import SteppedChild, is_proven_dead, sleeps_in, swept_clean

# Fork


def test_forked_child_owns_nothing(lock_class, path):
    code = """
        lock, again = lock_class(path), lock_class(path)
        process_wide = lock_class(path + "2", threaded=False)
        lock.acquire()
        process_wide.acquire()
        parent = lock.pid
        child = os.fork()
        if child == 0:
            assert lock.pid == os.getpid() != parent
            assert str(os.getpid()) in lock.unique_name
            for each in (lock, again, process_wide):
                assert each.is_locked()
                assert not each.i_am_locking()
                try:
                    each.acquire(timeout=0)
                except lockfile.AlreadyLocked:
                    pass
                else:
                    os._exit(1)
                try:
                    each.release()
                except lockfile.NotMyLock:
                    pass
                else:
                    os._exit(2)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert lock.i_am_locking() and process_wide.i_am_locking()
        lock.release()
        process_wide.release()
        """
    with child_of(lock_class, code, path) as child:
        child.finish()


@pytest.mark.parametrize(
    "end",
    ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), 9)", "del lock; gc.collect(); sys.exit()"],
)
def test_parents_lock_survives_the_end_of_its_child(lock_class, path, end):
    code = f"""
        import gc
        lock = lock_class(path)
        lock.acquire()
        child = os.fork()
        if child == 0:
            {end}
        os.waitpid(child, 0)
        say(lock.i_am_locking())
        hear()
        """
    lock = lock_class(path)
    with child_of(lock_class, code, path) as child:
        assert child.hear() is True
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
    with lock:
        pass


def test_forked_child_that_runs_its_parents_atexit_handler_does_not_release(lock_class, path):
    code = """
        import atexit

        def release():
            try:
                lock.release()
            except lockfile.UnlockError as error:
                say(type(error).__name__)
            else:
                say("released")

        atexit.register(release)
        lock = lock_class(path)
        lock.acquire()
        child = os.fork()
        if child == 0:
            sys.exit()
        os.waitpid(child, 0)
        assert lock.i_am_locking()
        """
    with child_of(lock_class, code, path) as child:
        assert child.hear() in ("NotMyLock", "NotLocked")
        assert child.hear() == "released"
        child.finish()


def test_child_that_lives_on_does_not_keep_its_killed_parents_lock(lock_class, path):
    code = """
        lock = lock_class(path)
        lock.acquire()
        child = os.fork()
        if child == 0:
            say(os.getpid())
            hear()
            os._exit(0)
        hear()
        """
    lock = lock_class(path)
    with child_of(lock_class, code, path) as parent:
        survivor = parent.hear()
        os.kill(parent.pid, signal.SIGKILL)
        os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
        try:
            assert not is_proven_dead(survivor)
            assert not lock.is_locked()
            lock.acquire(timeout=0)
            lock.release()
        finally:
            os.kill(survivor, signal.SIGKILL)


def test_forked_child_has_no_descriptor_of_its_parents_locks(lock_class, path, tmp_path):
    code = """
        locks = [lock_class(f"{path}{number}") for number in range(3)]
        for lock in locks:
            lock.acquire()
        threading.excepthook = lambda arguments: None
        waits = threading.Thread(target=locks[0].acquire, args=(0.05,))
        waits.start()
        waits.join()
        assert any("inotify" in name for name in open_files())
        child = os.fork()
        if child == 0:
            names = open_files()
            left = [name for name in names if name.startswith(path) or "inotify" in name]
            os._exit(len(left))
        assert os.waitpid(child, 0)[1] == 0
        for lock in locks:
            lock.release()
        """
    with child_of(lock_class, code, path) as child:
        child.finish()


def test_forked_child_locks_for_itself(lock_class, path):
    code = """
        lock = lock_class(path)
        lock.acquire()
        child = os.fork()
        if child == 0:
            lock.acquire()
            assert lock.i_am_locking()
            say("child owns")
            lock.release()
            os._exit(0)
        say("parent owns")
        hear()
        lock.release()
        assert os.waitpid(child, 0)[1] == 0
        assert not lock.is_locked()
        """
    with child_of(lock_class, code, path) as child:
        assert child.hear() == "parent owns"
        child.say("release")
        assert child.hear() == "child owns"
        child.finish()


def test_fork_while_other_threads_claim_and_wait(lock_class, path, tmp_path):
    """Children forked at any moment keep nothing alive and can lock themselves."""
    code = """
        stop = False

        def work(number):
            lock = lock_class(path + str(number % 2))
            while not stop:
                with lock:
                    pass

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        children = []
        for number in range(40):
            child = os.fork()
            if child == 0:
                own = lock_class(f"{path}-{os.getpid()}")
                own.acquire(timeout=PATIENCE)
                own.release()
                say("child works")
                hear()
                os._exit(0)
            children.append(child)
        say(children)
        hear()
        """
    locks = [lock_class(path + "0"), lock_class(path + "1")]
    with child_of(lock_class, code, path) as parent:
        heard = [parent.hear() for _ in range(41)]
        assert heard.count("child works") == 40
        [children] = [value for value in heard if value != "child works"]
        os.kill(parent.pid, signal.SIGKILL)
        os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
        try:
            assert not any(is_proven_dead(child) for child in children)
            for lock in locks:
                lock.acquire(timeout=time_to_see_an_end(lock_class))
            for lock in locks:
                lock.release()
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
    with holder(lock_class, path):
        pass
    with lock_class(path):
        pass
    assert names(tmp_path) == []


def test_signal_handler_forks_while_the_program_waits(lock_class, path, tmp_path):
    """Both wait on, each for itself."""
    code = """
        import signal

        def fork(*arguments):
            if os.fork() == 0:
                say("forked")

        signal.signal(signal.SIGUSR1, fork)
        lock = lock_class(path)
        say("waiting")
        lock.acquire(timeout=PATIENCE)
        say([os.getpid(), lock.i_am_locking(), lock.owner().pid])
        lock.release()
        """
    lock = lock_class(path)
    lock.acquire()
    with child_of(lock_class, code, path) as child:
        assert child.hear() == "waiting"
        wait_until(lambda: sleeps_in(child.pid), "the child to wait")
        os.kill(child.pid, signal.SIGUSR1)
        assert child.hear() == "forked"
        lock.release()
        owners = {}
        for _ in range(2):
            process, mine, owner = child.hear()
            assert mine
            owners[process] = owner
        assert child.pid in owners
        assert all(process == owner for process, owner in owners.items())
        assert len(owners) == 2
        child.finish()
    assert names(tmp_path) == []


def test_fork_does_not_copy_a_beacon_in_the_making(path, tmp_path):
    """A fork waits while another thread is between creating its unique file and its entry."""
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        go = threading.Event()

        def acquire():
            go.wait()
            be_stopped()
            lock.acquire()

        def forks():
            go.set()
            hear()
            say(["forking", threading.get_native_id()])
            child = os.fork()
            if child == 0:
                directory = os.path.dirname(sys.argv[1])
                say([name for name in protocol.open_files() if name.startswith(directory)])
                os._exit(0)
            os.waitpid(child, 0)
            hear()

        threading.Thread(target=acquire, daemon=True).start()
        forks()
        """
    with SteppedChild(code, path, kinds=["stat", "flock"]) as child:
        while not names(tmp_path):
            child.next_call()
        child.say("fork")
        word, thread = child.hear()
        assert word == "forking"
        wait_until(lambda: sleeps_in(child.pid, thread) or child_was_forked(child.pid), "the fork")
        child.go_on()
        assert child.hear() == []
    assert swept_clean(LinkFileLock, path)


def child_was_forked(pid):
    """Has the process a child?"""
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{other}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                    return True
        except (FileNotFoundError, ProcessLookupError):
            pass
    return False


# Exec


def test_exec_ends_the_ownership(lock_class, path):
    code = """
        lock = lock_class(path)
        lock.acquire()
        say("owned")
        hear()
        os.execv("/bin/sh", ["sh", "-c", "echo 1; read answer"])
        """
    lock = lock_class(path)
    with child_of(lock_class, code, path) as child:
        assert child.hear() == "owned"
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        child.say("exec")
        assert child.hear() == 1
        assert not is_proven_dead(child.pid)
        assert not lock.is_locked()
        with lock:
            pass
        child.say("end")


def test_program_that_is_started_does_not_keep_the_lock(lock_class, path):
    code = """
        import subprocess
        lock = lock_class(path)
        lock.acquire()
        program = subprocess.Popen(["/bin/sh", "-c", "echo $$; read answer"], close_fds=False)
        hear()
        """
    lock = lock_class(path)
    with child_of(lock_class, code, path) as child:
        program = child.hear()
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        try:
            assert not is_proven_dead(program)
            lock.acquire(timeout=0)
            lock.release()
        finally:
            os.kill(program, signal.SIGKILL)
