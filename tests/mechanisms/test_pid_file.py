"""PIDLockFile: a lock file that says which process owns it, and is read and written by others."""

import contextlib
import os
import stat
import threading

import pytest

from lockfile import (
    AlreadyLocked,
    LinkFileLock,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    PIDLockFile,
    UnlockError,
)
from support import PATIENCE, Child, OtherThread, holder, names, wait_until
from support.protocol import HOST, SteppedChild, beacon, has_settled, plant_as

UNUSED = 3999999  # a process number beyond all that this kernel gives
OWN = """
    lock = lockfile.PIDLockFile(sys.argv[1])
    lock.acquire()
    say("owns")
    hear()
    """


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "daemon.pid")


@pytest.fixture
def lock(path):
    return PIDLockFile(path)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def read(path):
    with open(path) as file:
        return file.read()


# What it is


def test_path_itself_is_the_lock_file(lock, path):
    assert lock.lock_file == lock.path == path
    with lock:
        assert read(path) == f"{os.getpid()}\n"
        assert names(os.path.dirname(path)) == [path.rpartition("/")[2], f"{HOST}--{os.getpid()}"]
    assert names(os.path.dirname(path)) == []


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777])
def test_mode(lock, path, mask):
    before = os.umask(mask)
    try:
        lock.acquire()
    finally:
        os.umask(before)
    status = os.lstat(path)
    assert stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o644
    lock.release()


def test_relative_path_is_fixed_when_the_object_is_made(tmp_path):
    with contextlib.chdir(tmp_path):
        lock = PIDLockFile("daemon.pid")
    assert lock.path == "daemon.pid"
    with lock:
        assert (tmp_path / "daemon.pid").exists()


def test_arguments(path):
    for arguments in [(path,), (path, True), (path, False, 3), (path, 0, None)]:
        lock = PIDLockFile(*arguments)
        assert lock.threaded is False
        assert lock.timeout == (arguments[2] if len(arguments) > 2 else None)
    with pytest.raises(TypeError):
        PIDLockFile(path, lock_file=path + "2")
    with pytest.raises(ValueError):
        PIDLockFile("/")


# Who owns


def test_acquire_without_a_timeout_does_not_wait(lock, path):
    with Child(OWN, path) as other:
        assert other.hear() == "owns"
        for arguments in [(), (None,), (0,), (-1,)]:
            with pytest.raises(AlreadyLocked, match=str(other.pid)):
                lock.acquire(*arguments)
        with pytest.raises(AlreadyLocked), lock:
            pass
        assert not lock.try_acquire(None)
        assert lock.is_locked() and not lock.i_am_locking()
        with pytest.raises(NotMyLock):
            lock.release()
        other.say("release")
        other.finish()


def test_acquire_with_a_timeout_waits(lock, path):
    with Child(OWN, path) as other:
        assert other.hear() == "owns"
        with pytest.raises(LockTimeout):
            lock.acquire(0.01)
        with pytest.raises(LockTimeout):
            PIDLockFile(path, timeout=0.01).acquire()
        other.finish()


@pytest.mark.parametrize("way", ["release", "kill", "remove", "break_lock"])
def test_waiter_is_told(lock, path, way, no_second_look):
    """By an event: it would sleep for ever otherwise."""
    wait = "lockfile.PIDLockFile(sys.argv[1]).acquire(PATIENCE); say('owns')"
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context(Child(OWN, path))
        assert owner.hear() == "owns"
        waiter = stack.enter_context(Child(wait, path))
        wait_until(lambda: has_settled(waiter.pid), "the waiter to sleep")
        if way == "release":
            owner.finish()
        elif way == "kill":
            owner.kill()
        elif way == "remove":
            os.remove(path)
        else:
            lock.break_lock()
        assert waiter.hear() == "owns"
        waiter.finish()
        if way != "kill":
            owner.finish()


def test_what_the_process_owns_is_held(lock, path):
    """To every thread of it, and to every object: nobody gets it twice."""
    lock.acquire()
    with OtherThread() as thread:
        for again in (lock, PIDLockFile(path)):
            for run in (lambda function, *arguments: function(*arguments), thread.run):
                assert run(again.i_am_locking)
                with pytest.raises(AlreadyLocked, match=str(os.getpid())):
                    run(again.acquire)
                with pytest.raises(LockTimeout):
                    run(again.acquire, 0.01)
                assert not run(again.try_acquire)
        thread.run(PIDLockFile(path).release)
    assert not lock.is_locked()


def test_thread_waits_for_another_of_its_process(lock, path):
    lock.acquire()
    with OtherThread() as thread:
        number = thread.run(threading.get_native_id)
        outcome = thread.start(PIDLockFile(path).acquire, PATIENCE)
        wait_until(lambda: has_settled(os.getpid(), number), "the thread to sleep")
        lock.release()
        outcome.result(PATIENCE)
        assert lock.i_am_locking()
        lock.release()


def test_threads_exclude_each_other(path):
    inside, overlaps = [], []

    def work():
        for _ in range(100):
            with PIDLockFile(path, timeout=PATIENCE):
                inside.append(1)
                if len(inside) > 1:
                    overlaps.append(1)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []


def test_child_owns_nothing(lock, path):
    lock.acquire()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert lock.is_locked() and not lock.i_am_locking()
            with pytest.raises(NotMyLock):
                lock.release()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    lock.release()


def test_killed_owner_is_recovered_at_once(lock, path):
    with Child(OWN, path) as owner:
        assert owner.hear() == "owns"
        owner.kill()
    assert lock.read_pid() == owner.pid
    assert not lock.is_locked()
    assert lock.owner().alive is False
    lock.acquire()
    assert lock.read_pid() == os.getpid()
    lock.release()
    assert names(os.path.dirname(path)) == []


def test_own_number_of_a_dead_process_is_not_believed(lock, path):
    """As after the restart of a container, in which all have the same numbers again."""
    name = f"{HOST}--{os.getpid()}"
    write(os.path.join(os.path.dirname(path), name), f"{os.getpid()}\n")
    os.link(os.path.join(os.path.dirname(path), name), path)
    assert not lock.is_locked()
    assert not lock.i_am_locking()
    with pytest.raises(NotLocked):
        lock.release()
    lock.acquire()
    lock.release()
    assert names(os.path.dirname(path)) == []


def test_own_number_of_a_live_process_is_not_believed(lock, path):
    """Of another container, in which it has the same one."""
    name = os.path.join(os.path.dirname(path), f"{HOST}--{os.getpid()}")
    write(name, f"{os.getpid()}\n")
    os.link(name, path)
    with beacon(path):
        assert lock.is_locked()
        assert not lock.i_am_locking()
        with pytest.raises(NotMyLock):
            lock.release()
        with pytest.raises(AlreadyLocked):
            lock.acquire()
    lock.acquire()
    lock.release()


# PID files that something else writes


@pytest.mark.parametrize("text", ["", "4711", f"{UNUSED}\n", "no number\n", "1\n2\n"], ids=ascii)
def test_foreign_pid_file_is_held(lock, path, text):
    """Whether there is such a process or not: that is the caller's to judge."""
    write(path, text)
    assert lock.is_locked() and not lock.i_am_locking()
    with pytest.raises(AlreadyLocked):
        lock.acquire()
    with pytest.raises(LockTimeout):
        lock.acquire(0.01)
    with pytest.raises(NotMyLock):
        lock.release()
    assert read(path) == text
    lock.break_lock()
    assert not os.path.exists(path)


def test_pid_file_that_this_process_has_written_is_its_own(lock, path):
    write(path, f"{os.getpid()}\n")
    assert lock.is_locked() and lock.i_am_locking()
    with pytest.raises(AlreadyLocked):
        lock.acquire()
    lock.release()
    assert not os.path.exists(path)
    with pytest.raises(NotLocked):
        lock.release()


@pytest.mark.parametrize("lives", [True, False], ids=["parent lives", "parent is dead"])
def test_child_that_writes_its_number_over_its_parents(lock, path, lives):
    """As programs do that have acquired before they became daemons."""
    with Child(OWN, path) as parent:
        assert parent.hear() == "owns"
        write(path, f"{os.getpid()}\n")  # as its child would
        if not lives:
            parent.kill()
        assert lock.is_locked() and lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            lock.acquire()
        lock.release()
        assert not os.path.exists(path)
        with lock:
            pass
        parent.kill()
    plant_as(PIDLockFile, path)
    with lock:
        pass
    assert names(os.path.dirname(path)) == []


@pytest.mark.parametrize("lives", [True, False], ids=["owner lives", "owner is dead"])
def test_what_was_written_over_is_held(lock, path, lives):
    with Child(OWN, path) as owner:
        assert owner.hear() == "owns"
        write(path, f"{UNUSED}\n")
        if not lives:
            owner.kill()
        assert lock.is_locked() and not lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            lock.acquire()
        lock.break_lock()
        with lock:
            pass


test_what_was_written_over_is_held = pytest.mark.leaves_files(test_what_was_written_over_is_held)


def remove(path):
    os.remove(path)


def replace(path):
    write(path + ".new", f"{UNUSED}\n")
    os.rename(path + ".new", path)


def write_over(path):
    write(path, f"{UNUSED}\n")


@pytest.mark.parametrize("method", ["i_am_locking", "release", "is_locked", "fileno", "owner"])
@pytest.mark.parametrize("change", [remove, replace, write_over])
def test_owner_that_has_lost_its_pid_file(lock, path, change, method):
    lock.acquire()
    change(path)
    gone = change is remove
    refusal = NotLocked if gone else NotMyLock
    if method in ("release", "fileno"):
        with pytest.raises(refusal):
            getattr(lock, method)()
    elif method == "owner":
        assert lock.owner() is None if gone else lock.owner().alive is None
    else:
        assert getattr(lock, method)() == (not gone and method == "is_locked")
    assert names(os.path.dirname(path)) == ([] if gone else [os.path.basename(path)])
    lock.break_lock()
    with lock:
        assert lock.i_am_locking()


def test_block_does_not_begin_with_what_was_broken_since_it_was_acquired(lock, path):
    """Nobody has looked at it in between: beginning without a look would let two in."""
    lock.acquire()
    os.remove(path)
    with holder(PIDLockFile, path):
        with pytest.raises(AlreadyLocked), lock:
            pass
    with lock:
        assert lock.i_am_locking()


@pytest.mark.parametrize("text", ["{}", " {}\n", "{}\nmore\n", "00{}\n"])
def test_other_ways_to_write_the_same_number(lock, path, text):
    lock.acquire()
    write(path, text.format(os.getpid()))
    assert lock.i_am_locking()
    assert lock.read_pid() == os.getpid()
    lock.release()


def test_program_that_removes_its_pid_file_leaves_nothing_at_its_end(path):
    code = OWN + "import os; os.remove(sys.argv[1])"
    with Child(code, path) as owner:
        assert owner.hear() == "owns"
        owner.finish()
    assert names(os.path.dirname(path)) == []


@pytest.mark.parametrize(
    "text, number",
    [
        ("4711\n", 4711),
        ("4711", 4711),
        ("  0012 \nmore", 12),
        ("-3\n", -3),
        ("+3\n", 3),
        ("", None),
        ("\n4711\n", None),
        ("4711x\n", None),
        ("x", None),
        ("9" * 30, None),
        ("4711\0\n", None),
    ],
)
def test_read_pid(lock, path, text, number):
    write(path, text)
    assert lock.read_pid() == number
    os.remove(path)


def test_read_pid_of_what_is_no_file(lock, path, tmp_path):
    assert lock.read_pid() is None
    os.mkdir(path)
    assert lock.read_pid() is None
    os.rmdir(path)
    write(path + "2", "4711\n")
    os.symlink(path + "2", path)
    assert lock.read_pid() is None


def test_symbolic_link_is_not_followed(lock, path):
    target = path + "2"
    os.symlink(target, path)
    for exists in (False, True):
        if exists:
            write(target, f"{os.getpid()}\n")
        assert lock.is_locked() and not lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            lock.acquire()
        assert os.path.exists(target) == exists
    lock.break_lock()
    assert not os.path.lexists(path)
    assert read(target) == f"{os.getpid()}\n"


def test_directory_is_no_pid_file(lock, path):
    """An empty one neither: to LinkFileLock it would be a lock that may be broken."""
    os.mkdir(path)
    assert lock.is_locked()
    with pytest.raises(AlreadyLocked):
        lock.acquire()
    with pytest.raises(UnlockError):
        lock.break_lock()
    assert os.path.isdir(path)


def test_missing_directory(tmp_path):
    lock = PIDLockFile(tmp_path / "missing" / "daemon.pid")
    with pytest.raises(LockFailed):
        lock.acquire()
    assert not lock.is_locked()
    lock.break_lock()


@pytest.mark.parametrize("mode", [0o600, 0o4711])
def test_other_names_of_a_foreign_pid_file_are_left_alone(lock, path, mode):
    write(path, "4711\n")
    os.chmod(path, mode)
    os.link(path, path + "-too")
    lock.break_lock()
    assert not os.path.exists(path)
    assert stat.S_IMODE(os.stat(path + "-too").st_mode) == mode


# On the way


def test_reader_finds_a_whole_number_or_nothing(path):
    code = """
        lock = lockfile.PIDLockFile(sys.argv[1])
        be_stopped()
        hear()
        say("begin")
        lock.acquire()
        say("owns")
        lock.release()
        """
    kinds = ["open", "flock", "write", "mode", "link", "stat", "say"]
    with SteppedChild(code, path, kinds=kinds) as child:
        child.say("go")
        child.run_to("say")
        seen = set()
        while (call := child.next_call()).kind != "say":
            seen.add(call.kind)
            assert not os.path.exists(path)
        assert {"write", "mode", "link"} <= seen
        assert read(path) == f"{child.pid}\n"
        child.go_on()
        child.finish()


def test_sweep_leaves_files_of_users(lock, path):
    """Called like ours, but with other contents, another mode or host, or without the stamp."""
    directory = os.path.dirname(path)
    kept = {
        f"{HOST}-20241101-1": "1\n",
        f"{HOST}--77": "77",
        f"{HOST}--78": "",
        f"{HOST}--79": "79\n80\n",
        f"{HOST}--4711": "4711\n",
        "worker--4711": "4711\n",
    }
    for name, text in kept.items():
        write(os.path.join(directory, name), text)
    os.chmod(os.path.join(directory, f"{HOST}--4711"), 0o600)
    write(os.path.join(directory, f"{HOST}--{UNUSED}"), f"{UNUSED}\n")
    plant_as(PIDLockFile, path)
    with lock:
        pass
    assert names(directory) == sorted(kept)
    for name in kept:
        os.remove(os.path.join(directory, name))


def test_beside_a_link_lock_on_one_file(path):
    link = LinkFileLock("x", lock_file=path, threaded=False)
    lock = PIDLockFile(path)
    with link, pytest.raises(AlreadyLocked):
        lock.acquire()
    code = "say(lockfile.LinkFileLock('x', lock_file=sys.argv[1]).try_acquire())"
    with lock, Child(code, path) as other:
        assert other.hear() is False


# Subclasses


def test_subclass_that_reads_in_its_own_way_is_asked(path):
    class Odd(PIDLockFile):
        answer = None

        def read_pid(self):
            return self.answer

    lock = Odd(path)
    assert not lock.i_am_locking()
    lock.acquire()
    assert not lock.i_am_locking()
    lock.answer = os.getpid()
    assert lock.i_am_locking()
    lock.release()
    assert not lock.i_am_locking()


def test_subclass_as_python_daemon_has_one(path):
    class WithTimeout(PIDLockFile):
        def __init__(self, path, acquire_timeout=None, *args, **kwargs):
            self.acquire_timeout = acquire_timeout
            super().__init__(path, *args, **kwargs)

        def acquire(self, timeout=None, *args, **kwargs):
            if timeout is None:
                timeout = self.acquire_timeout
            super().acquire(timeout, *args, **kwargs)

        def break_lock(self):
            self.broken = True
            super().break_lock()

    lock = WithTimeout(path, 0.01)
    with lock, pytest.raises(LockTimeout):
        lock.acquire()
    with lock:
        lock.break_lock()
        assert lock.broken and not os.path.exists(path)
        lock.acquire()


def test_copies(path):
    import copy
    import pickle

    lock = PIDLockFile(path, timeout=3)
    for again in (copy.copy(lock), copy.deepcopy(lock), pickle.loads(pickle.dumps(lock))):
        assert (again.path, again.lock_file, again.timeout) == (path, path, 3)
        assert not again.threaded


def test_who_waits_for_its_own_process_is_told_so(path):
    told = []
    with PIDLockFile(path):
        with pytest.raises(LockTimeout):
            PIDLockFile(path).acquire(timeout=0.15, on_wait=told.append)
    assert [owner.pid for owner in told] == [os.getpid()]
