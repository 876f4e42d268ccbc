"""Who owns: threads, objects, forked children, closed descriptors, and how a process ends."""

import gc
import os
import signal
import textwrap
import threading

import pytest

from lockfile import AlreadyLocked, LinkFileLock, LockTimeout, NotLocked, NotMyLock, UnlockError
from support import PATIENCE, Child, OtherThread, holder, in_thread, names, wait_until
from support.protocol import SteppedChild, inode, is_proven_dead, sleeps_in, swept_clean


@pytest.fixture
def lock(lock_class, path):
    return lock_class(path)


def child_of(lock_class, code, *arguments, **keywords):
    """A child whose code knows `lock_class`, and `path` as its first argument."""
    prelude = f"""
from support.protocol import open_files
sys.stdout.reconfigure(write_through=False)  # one word, one call: its children say something too
lock_class = lockfile.{lock_class.__name__}
path = sys.argv[1]
"""
    return Child(prelude + textwrap.dedent(code), *arguments, **keywords)


# Threads


def test_lock_object_shared_by_threads_excludes_them(lock):
    lock.acquire()
    with OtherThread() as thread:
        assert thread.run(lock.is_locked)
        assert not thread.run(lock.i_am_locking)
        with pytest.raises(AlreadyLocked):
            thread.run(lock.acquire, timeout=0)
        with pytest.raises(LockTimeout):
            thread.run(lock.acquire, timeout=0.05)
        assert lock.i_am_locking()
        lock.release()
        thread.run(lock.acquire, timeout=0)
        assert not lock.i_am_locking()
        thread.run(lock.release)


def test_threads_count_with_one_shared_lock_object(lock):
    count = 0

    def work():
        nonlocal count
        for _ in range(200):
            with lock:
                seen = count
                os.sched_yield()
                count = seen + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert count == 4 * 200


def test_two_objects_in_one_thread_are_one_owner(lock_class, path):
    one, two = lock_class(path), lock_class(path)
    one.acquire()
    assert two.i_am_locking()
    two.acquire(timeout=0)
    assert one.unique_name == two.unique_name
    two.release()
    assert not one.is_locked()
    with pytest.raises(NotLocked):
        one.release()


def test_locking_twice_is_not_counted(lock):
    lock.acquire()
    lock.acquire()
    lock.release()
    assert not lock.is_locked()


def test_process_wide_lock_belongs_to_every_thread(lock_class, path):
    one, two = lock_class(path, threaded=False), lock_class(path, threaded=False)
    with OtherThread() as thread:
        thread.run(one.acquire)
        assert one.i_am_locking()
        assert two.i_am_locking()
        two.acquire(timeout=0)
        two.release()
        assert not thread.run(one.is_locked)


@pytest.mark.parametrize("owns", [True, False])
def test_process_wide_and_threaded_owner_differ(lock_class, path, owns):
    owner, another = lock_class(path, threaded=owns), lock_class(path, threaded=not owns)
    with owner:
        assert another.is_locked()
        assert not another.i_am_locking()
        with pytest.raises(AlreadyLocked):
            another.acquire(timeout=0)
        with pytest.raises(NotMyLock):
            another.release()
    assert not another.is_locked()


def test_threads_that_are_one_owner_do_not_wait_for_each_other(lock_class, path):
    start = threading.Barrier(2)

    def acquire(lock):
        start.wait(PATIENCE)
        lock.acquire(timeout=PATIENCE)

    with OtherThread() as first, OtherThread() as second:
        for _ in range(200):
            locks = [lock_class(path, threaded=False), lock_class(path, threaded=False)]
            outcomes = [
                thread.start(acquire, lock)
                for thread, lock in zip((first, second), locks, strict=True)
            ]
            for outcome in outcomes:
                outcome.result(2 * PATIENCE)
            assert locks[0].i_am_locking()
            locks[0].release()


def test_release_by_another_thread_names_the_owner(lock):
    with OtherThread() as thread:
        thread.run(lock.acquire)
        with pytest.raises(NotMyLock) as caught:
            lock.release()
        assert str(thread.ident) in str(caught.value)
        assert "threaded=False" in str(caught.value)
        assert thread.run(lock.i_am_locking)
        thread.run(lock.release)


def test_thread_that_ended_while_it_owned_still_owns(lock):
    in_thread(lock.acquire)
    assert lock.is_locked()
    assert not lock.i_am_locking()
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.05)
    with pytest.raises(NotMyLock):
        lock.release()
    lock.break_lock()


def test_new_thread_with_a_reused_identifier_does_not_own(lock):
    idents = set()

    def acquire():
        idents.add(threading.get_ident())
        lock.acquire(timeout=0)

    def look():
        return threading.get_ident() in idents, lock.i_am_locking()

    in_thread(acquire)
    looks = [in_thread(look) for _ in range(200)]
    assert not any(mine for _, mine in looks)
    lock.break_lock()
    if not any(reused for reused, _ in looks):
        pytest.skip("the system did not reuse the identifier")


def test_new_thread_with_a_reused_identifier_may_lock_something_else(file_lock_class, tmp_path):
    def acquire(name):
        lock = file_lock_class(tmp_path / name)
        lock.acquire(timeout=0)
        return lock, lock.unique_name

    locks, unique_names = zip(
        *[in_thread(acquire, f"file{number}") for number in range(5)], strict=True
    )
    assert len(set(unique_names)) == 5
    for lock in locks:
        assert lock.is_locked()
        lock.break_lock()
    assert names(tmp_path) == []


# Nested `with`


def test_only_the_outermost_with_unlocks(lock):
    with lock:
        with lock:
            with lock:
                pass
            assert lock.i_am_locking()
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_only_the_outermost_with_unlocks_with_two_objects(lock_class, path):
    one, two = lock_class(path), lock_class(path)
    with one:
        with two:
            pass
        assert one.i_am_locking()
        assert two.i_am_locking()
    assert not one.is_locked()


def test_with_inside_acquire_and_release(lock):
    lock.acquire()
    with lock:
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_nested_with_of_process_wide_objects_in_several_threads(lock_class, path):
    outer, inner = lock_class(path, threaded=False), lock_class(path, threaded=False)

    def nested():
        with inner:
            assert inner.i_am_locking()

    with outer:
        in_thread(nested)
        assert outer.i_am_locking()
    assert not outer.is_locked()


def test_nested_with_leaves_by_an_exception(lock):
    with pytest.raises(ZeroDivisionError):
        with lock, lock:
            raise ZeroDivisionError
    assert not lock.is_locked()


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
                lock.acquire(timeout=0)
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
    with child_of(lock_class, code, path) as child:
        with lock:
            assert child.hear() == "waiting"
            wait_until(lambda: sleeps_in(child.pid), "the child to wait")
            os.kill(child.pid, signal.SIGUSR1)
            assert child.hear() == "forked"
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


# Closed descriptors


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
        words = json.dumps([lock.lock_file, lock.i_am_locking(), os.getpid()])
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


# The end


def test_normal_exit_releases_after_the_atexit_handlers(lock_class, path, tmp_path):
    code = """
        import atexit

        def last_words():
            say([lock.i_am_locking(), lock.is_locked()])

        atexit.register(last_words)
        lock = lock_class(path)
        lock.acquire()
        owned_by_a_thread = lock_class(path + "2")
        threading.Thread(target=owned_by_a_thread.acquire).start()
        """
    with child_of(lock_class, code, path) as child:
        assert child.hear() == [True, True]
        child.finish()
    assert names(tmp_path) == []


def test_exit_while_daemon_threads_wait(lock_class, path, tmp_path):
    code = """
        lock = lock_class(path)
        threads = [threading.Thread(target=lock.acquire, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        say([thread.native_id for thread in threads])
        hear()
        """
    with lock_class(path):
        owned = names(tmp_path)
        with child_of(lock_class, code, path) as child:
            for thread in child.hear():
                wait_until(
                    lambda thread=thread: sleeps_in(child.pid, thread), "the threads to wait"
                )
            child.finish()
        assert names(tmp_path) == owned


def test_exit_while_daemon_threads_lock(lock_class, path):
    code = """
        begun = threading.Semaphore(0)

        def work(number):
            lock = lock_class(path + str(number % 2))
            lock.acquire()
            begun.release()
            while True:
                lock.release()
                lock.acquire()

        for number in range(4):
            threading.Thread(target=work, args=(number,), daemon=True).start()
        for number in range(4):
            begun.acquire()
        """
    for _ in range(3):
        with child_of(lock_class, code, path) as child:
            child.finish()
        for name in (path + "0", path + "1"):  # a thread may have got it after the last release
            lock = lock_class(name)
            lock.acquire(timeout=0)
            lock.release()
    assert swept_clean(lock_class, path)


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise ValueError"])
def test_exit_by_an_exception_releases(lock_class, path, tmp_path, end):
    with child_of(lock_class, f"lock_class(path).acquire()\n{end}\n", path, stderr=-3) as child:
        assert child.process.wait(PATIENCE) != 0
    assert names(tmp_path) == []


@pytest.mark.parametrize("end", ["os._exit(0)", "os.abort()", "os.kill(os.getpid(), 15)"])
def test_end_without_farewell_leaves_a_lock_that_the_next_recovers(lock_class, path, tmp_path, end):
    with child_of(lock_class, f"lock_class(path).acquire()\n{end}\n", path, stderr=-3) as child:
        child.process.wait(PATIENCE)
    lock = lock_class(path)
    assert lock.owner().alive is False
    assert not lock.is_locked()
    lock.acquire(timeout=0)
    lock.release()
    assert names(tmp_path) == []


def test_exit_does_not_touch_a_lock_that_was_taken_over(lock_class, path, tmp_path):
    code = """
        lock_class(path).acquire()
        say("owned")
        hear()
        """
    lock = lock_class(path)
    with child_of(lock_class, code, path) as child:
        assert child.hear() == "owned"
        lock.break_lock()
        lock.acquire(timeout=0)
        child.finish()
    assert lock.i_am_locking()
    lock.release()
    assert names(tmp_path) == []


def test_lock_object_that_goes_away_releases_nothing(lock_class, path):
    lock_class(path).acquire()
    gc.collect()
    assert lock_class(path).i_am_locking()
    with pytest.raises(AlreadyLocked):
        in_thread(lock_class(path).acquire, timeout=0)
    lock_class(path).release()
    with pytest.raises(UnlockError):
        lock_class(path).release()


# What a subclass may do between with and the lock


def assert_only_the_outermost_unlocks(lock, between=lambda: None):
    with lock:
        with lock:
            between()
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_subclass_that_retries_nests(lock_class, path):
    class Retrying(lock_class):
        def acquire(self, timeout=None):
            while True:
                try:
                    return super().acquire(0.01)
                except LockTimeout:
                    retried.set()

    retried = threading.Event()
    lock = Retrying(path)
    with OtherThread() as thread:
        thread.run(lock_class(path).acquire)
        released = threading.Timer(
            0, lambda: retried.wait() and thread.run(lock_class(path).release)
        )
        released.start()
        assert_only_the_outermost_unlocks(lock)
        released.join()


def test_subclass_that_looks_before_it_acquires_nests(lock_class, path):
    class Guarding(lock_class):
        def acquire(self, timeout=None):
            if not self.i_am_locking():
                super().acquire(timeout)

    assert_only_the_outermost_unlocks(Guarding(path))


def test_acquire_that_fails_after_all_is_no_block(lock_class, path):
    class Failing(lock_class):
        fails = True

        def acquire(self, timeout=None):
            super().acquire(timeout)
            if self.fails:
                raise KeyboardInterrupt

    lock = Failing(path)
    with pytest.raises(KeyboardInterrupt):
        lock.__enter__()
    lock.fails = False
    assert_only_the_outermost_unlocks(lock)


def test_threads_of_one_owner_that_enter_and_leave_are_always_protected(lock_class, path):
    lock = lock_class(path, threaded=False)
    other = LinkFileLock(path)
    unprotected = []

    def enter_and_leave():
        for _ in range(300):
            with lock:
                if not lock.is_locked():
                    unprotected.append(threading.get_ident())

    threads = [threading.Thread(target=enter_and_leave) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert unprotected == []
    assert not other.is_locked()


def test_threads_that_share_a_lock_object_do_not_break_each_others_locks(lock_class, path):
    lock = lock_class(path)
    with OtherThread() as stuck, OtherThread() as first, OtherThread() as second:
        stuck.run(lock_class(path).acquire)
        for waiter in (first, second):
            with pytest.raises(LockTimeout):
                waiter.run(lock.acquire, timeout=0.05)
        first.run(lock.break_lock)
        first.run(lock.acquire)
        second.run(lock.break_lock)
        assert first.run(lock.i_am_locking)
        first.run(lock.release)
        with pytest.raises(NotLocked):
            stuck.run(lock_class(path).release)


@pytest.mark.leaves_files
def test_lock_of_a_replaced_directory_is_not_that_of_the_path(file_lock_class, tmp_path):
    directory, moved = tmp_path / "directory", tmp_path / "moved"
    directory.mkdir()
    lock = file_lock_class(directory / "README")
    lock.acquire()
    directory.rename(moved)
    directory.mkdir()
    with holder(file_lock_class, directory / "README"):
        assert not lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
    assert names(moved)
    lock.release()
    assert names(moved) == []
