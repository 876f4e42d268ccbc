"""What the classic package promised, and what programs written for it do."""

import os
import signal
import threading
import time

import pytest

import lockfile
from lockfile import (
    AlreadyLocked,
    Error,
    LockBase,
    LockError,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    UnlockError,
)
from support import ORDINARY_USER, PATIENCE, Child, OtherThread, holder, in_thread, names

either_way = pytest.mark.parametrize("threaded", [True, False], ids=["threaded", "unthreaded"])


# The module and its exceptions


def test_acquire_in_a_try_statement_reaches_the_else_branch(lock_class, path):
    lock = lock_class(path)
    try:
        lock.acquire()
    except AlreadyLocked:
        outcome = "somebody else has it"
    except LockFailed:
        outcome = "cannot be locked"
    else:
        outcome = "got lock"
    assert outcome == "got lock"
    assert lock.is_locked()
    lock.release()
    assert not lock.is_locked()


def test_lock_is_held_inside_the_with_block_only(lock_class, path):
    lock = lock_class(path)
    assert not lock.is_locked()
    with lock:
        assert lock.is_locked()
    assert not lock.is_locked()


def test_acquire_inside_with_is_undone_by_its_end(lock_class, path):
    lock = lock_class(path)
    with lock:
        lock.acquire()
    assert not lock.is_locked()


@pytest.mark.parametrize(
    ("error", "parent"),
    [
        (Error, Exception),
        (LockError, Error),
        (LockTimeout, LockError),
        (AlreadyLocked, LockError),
        (LockFailed, LockError),
        (UnlockError, Error),
        (NotLocked, UnlockError),
        (NotMyLock, UnlockError),
    ],
)
def test_exception_is_caught_by_its_parent(error, parent):
    with pytest.raises(parent):
        raise error


@pytest.mark.parametrize("arguments", [{}, {"threaded": False}, {"threaded": True}])
def test_constructing_touches_nothing_on_disk(lock_class, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    LockBase("README", **arguments)
    lock_class("README", **arguments)
    assert names(tmp_path) == []


def test_star_import_brings_the_classic_names():
    namespace = {}
    exec("from lockfile import *", namespace)
    assert namespace["FileLock"] is lockfile.FileLock
    assert namespace["LinkFileLock"] is lockfile.LinkFileLock
    assert namespace["LockBase"] is LockBase
    assert namespace["LockTimeout"] is LockTimeout


# acquire


@either_way
def test_acquire_and_release(lock_class, path, threaded):
    lock = lock_class(path, threaded=threaded)
    lock.acquire()
    assert lock.is_locked()
    assert lock.i_am_locking()
    lock.release()
    assert not lock.is_locked()
    assert not lock.i_am_locking()


@pytest.fixture
def other_thread():
    with OtherThread() as thread:
        yield thread


@pytest.fixture
def held(lock_class, path, other_thread):
    """A lock on `path` that another thread owns during the test."""
    lock = lock_class(path)
    other_thread.run(lock.acquire)
    yield lock
    other_thread.run(lock.release)


@either_way
def test_lock_of_another_thread_is_locked_but_not_by_me(lock_class, path, held, threaded):
    lock = lock_class(path, threaded=threaded)
    assert lock.is_locked()
    assert not lock.i_am_locking()


@either_way
@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, AlreadyLocked), (0, AlreadyLocked), (0.1, LockTimeout)]
)
def test_acquiring_what_another_thread_holds(lock_class, path, held, threaded, timeout, error):
    lock = lock_class(path, threaded=threaded)
    with pytest.raises(LockError) as caught:
        lock.acquire(timeout=timeout)
    assert caught.type is error
    assert not lock.i_am_locking()


def test_timeout_of_the_constructor_is_the_default_of_acquire(lock_class, path, held):
    lock = lock_class(path, timeout=0.2)
    with pytest.raises(LockTimeout):
        lock.acquire()


def test_plain_file_with_the_name_of_the_lock_file_is_respected(file_lock_class, tmp_path):
    foreign = tmp_path / "README.lock"
    foreign.write_text("somebody else made this")
    lock = file_lock_class(tmp_path / "README")
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.4)
    with pytest.raises(AlreadyLocked):
        lock.acquire(timeout=-1)
    assert foreign.read_text() == "somebody else made this"
    foreign.unlink()


def test_directory_without_write_permission(lock_class, public_directory):
    public_directory.chmod(0o555)
    with Child(
        """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        try:
            lock.acquire(timeout=-1)
        except lockfile.LockFailed as error:
            say("LockFailed")
        """,
        lock_class.__name__,
        public_directory / "README",
        user=ORDINARY_USER,
    ) as child:
        assert child.hear() == "LockFailed"
    assert names(public_directory) == []


def test_thread_with_slashes_in_its_name_can_lock(lock_class, path):
    lock = lock_class(path)
    with OtherThread(name="/*/*") as thread:
        assert thread.run(threading.current_thread).name == "/*/*"
        thread.run(lock.acquire)
        assert thread.run(lock.i_am_locking)
        thread.run(lock.release)
    assert not lock.is_locked()


def test_acquire_with_a_timeout_takes_a_free_lock(lock_class, path):
    lock = lock_class(path)
    lock.acquire(timeout=2)
    assert lock.i_am_locking()
    lock.release()


# release, i_am_locking, break_lock, with


@either_way
def test_nothing_is_left_after_release(lock_class, path, tmp_path, threaded):
    lock = lock_class(path, threaded=threaded)
    lock.acquire()
    unique_name = lock.unique_name
    lock.release()
    assert not lock.is_locked()
    assert not lock.i_am_locking()
    assert not os.path.exists(lock.lock_file)
    assert not os.path.exists(unique_name)
    assert names(tmp_path) == []


@either_way
def test_second_release_says_that_nothing_is_locked(lock_class, path, threaded):
    lock = lock_class(path, threaded=threaded)
    lock.acquire()
    lock.release()
    with pytest.raises(NotLocked):
        lock.release()


@either_way
def test_releasing_the_lock_of_another_thread_is_refused(lock_class, path, held, threaded):
    with pytest.raises(NotMyLock):
        lock_class(path, threaded=threaded).release()
    assert held.is_locked()


def test_two_locks_in_one_directory(lock_class, tmp_path):
    first = lock_class(tmp_path / "first")
    second = lock_class(tmp_path / "second")
    first.acquire()
    second.acquire()
    first.release()
    assert not first.is_locked()
    assert second.i_am_locking()
    second.release()
    assert not second.is_locked()


def test_thread_does_not_own_the_lock_of_its_process(lock_class, path):
    lock_of_process = lock_class(path, threaded=False)
    lock_of_thread = lock_class(path, threaded=True)
    lock_of_process.acquire()
    assert lock_of_process.i_am_locking()
    assert not lock_of_thread.i_am_locking()
    lock_of_process.release()


def test_breaking_after_a_timeout_and_acquiring_changes_the_owner(lock_class, path):
    lock_of_process = lock_class(path, threaded=False)
    lock_of_thread = lock_class(path, threaded=True)
    lock_of_process.acquire()
    with pytest.raises(LockTimeout):
        lock_of_thread.acquire(0.2)

    lock_of_thread.break_lock()
    assert not lock_of_process.is_locked()
    assert not lock_of_thread.is_locked()

    lock_of_thread.acquire()
    assert not lock_of_process.i_am_locking()
    assert lock_of_thread.i_am_locking()
    lock_of_thread.release()


def test_owner_of_a_broken_lock_has_nothing_to_release(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    lock_class(path).break_lock()
    assert not lock.is_locked()
    with pytest.raises(NotLocked):
        lock.release()


def test_lock_that_another_process_broke_can_be_acquired_again(lock_class, path, tmp_path):
    lock = lock_class(path)
    lock.acquire()
    with Child(
        "getattr(lockfile, sys.argv[1])(sys.argv[2]).break_lock()", lock_class.__name__, path
    ) as child:
        child.finish()
    assert not lock.i_am_locking()
    lock.acquire()
    assert lock.i_am_locking()
    lock.release()
    assert names(tmp_path) == []


def test_breaking_after_an_earlier_timeout_breaks_what_is_there_now(lock_class, path):
    lock = lock_class(path)
    with OtherThread() as thread:
        thread.run(lock.acquire)
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=0.01)
        thread.run(lock.release)
    lock.acquire()
    lock.break_lock()
    assert not lock.is_locked()


def test_with_binds_the_lock(path):
    with lockfile.FileLock(path) as lock:
        assert lock.is_locked()
        assert lock.i_am_locking()
    assert not lock.is_locked()


def acquire_or_break(lock, timeout):
    """The loop that many programs have copied."""
    while not lock.i_am_locking():
        try:
            lock.acquire(timeout=timeout)
        except LockTimeout:
            lock.break_lock()
            lock.acquire()


def test_loop_that_breaks_after_a_timeout_takes_a_free_lock(lock_class, path):
    lock = lock_class(path)
    acquire_or_break(lock, timeout=60)
    assert lock.i_am_locking()
    lock.release()


def test_loop_that_breaks_after_a_timeout_takes_a_held_lock(lock_class, path):
    lock = lock_class(path)
    with OtherThread() as thread:
        thread.run(lock.acquire)
        acquire_or_break(lock, timeout=0.05)
        assert lock.i_am_locking()
        with pytest.raises(NotMyLock):
            thread.run(lock.release)
    lock.release()


def test_loop_that_breaks_after_a_timeout_removes_a_plain_file(file_lock_class, tmp_path):
    (tmp_path / "README.lock").touch()
    lock = file_lock_class(tmp_path / "README")
    acquire_or_break(lock, timeout=0.05)
    assert lock.i_am_locking()
    lock.release()
    assert names(tmp_path) == []


# From the wild


def test_daemon_that_changed_directory_and_closed_everything_can_lock(lock_class, tmp_path):
    with Child(
        """
        lock = getattr(lockfile, sys.argv[1])("README")
        expected = os.path.abspath("README.lock")
        daemon = os.fork()
        if daemon == 0:
            os.setsid()
            os.chdir("/")
            os.closerange(0, 1024)
            lock.acquire()
            right = lock.i_am_locking() and lock.lock_file == expected
            lock.release()
            os._exit(0 if right and not lock.is_locked() else 1)
        say(os.waitstatus_to_exitcode(os.waitpid(daemon, 0)[1]))
        """,
        lock_class.__name__,
        cwd=tmp_path,
    ) as child:
        assert child.hear() == 0
    assert names(tmp_path) == []


def test_closing_all_descriptors_after_waiting_harms_nobody(file_lock_class, path):
    lock = file_lock_class(path)
    lock.acquire()
    with Child(
        """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2], timeout=0.05)

        def wait_in_vain():
            try:
                lock.acquire()
            except lockfile.LockTimeout:
                return True

        say(wait_in_vain())
        os.closerange(3, 1024)
        counters = [os.eventfd(number) for number in range(1, 30)]
        say(wait_in_vain())
        say([os.eventfd_read(counter) for counter in counters])
        hear()
        lock.acquire(timeout=PATIENCE)
        say(lock.i_am_locking())
        lock.release()
        """,
        file_lock_class.__name__,
        path,
    ) as child:
        assert child.hear()
        assert child.hear()
        assert child.hear() == list(range(1, 30))
        lock.release()
        child.say("your turn")
        assert child.hear()
        child.finish()


def test_object_made_anew_releases(lock_class, path):
    lock_class(path).acquire()
    assert lock_class(path).i_am_locking()
    lock_class(path).release()
    assert not lock_class(path).is_locked()


def test_attributes_assigned_by_programs(lock_class, path):
    lock = lock_class(path)
    lock.timeout = 5
    lock.pid = os.getpid()
    lock.unique_name = lock.unique_name
    with lock:
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_methods_patched_on_the_class(lock_class, path, monkeypatch):
    monkeypatch.setattr(lock_class, "is_locked", lambda self: "patched")
    assert lock_class(path).is_locked() == "patched"
    monkeypatch.undo()
    assert lock_class(path).is_locked() is False


def test_subclass_with_other_arguments(lock_class, tmp_path):
    class SpoolLock(lock_class):
        def __init__(self, directory, *, name="spool"):
            super().__init__(directory / name, timeout=1)

    lock = SpoolLock(tmp_path)
    assert lock.path == tmp_path / "spool"
    with lock:
        assert lock.i_am_locking()


def test_subclass_that_never_calls_the_base(lock_class):
    class Forgetful(lock_class):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match="Forgetful"):
        Forgetful().acquire()


def test_files_that_programs_look_at(path, tmp_path):
    lock = lockfile.LinkFileLock(path)
    assert not os.path.exists(path + ".lock")
    lock.acquire()
    assert os.path.exists(path + ".lock")
    assert os.path.basename(lock.unique_name) in os.listdir(tmp_path)
    lock.release()
    assert not os.path.exists(path + ".lock")
    assert os.path.basename(lock.unique_name) not in os.listdir(tmp_path)


def test_modification_time_is_the_time_of_the_acquisition(file_lock_class, path, tmp_path):
    lock = file_lock_class(path)
    before, after = tmp_path / "before", tmp_path / "after"
    before.touch()
    lock.acquire()
    after.touch()
    acquired = os.stat(lock.lock_file).st_mtime_ns
    lock.release()
    assert before.stat().st_mtime_ns <= acquired <= after.stat().st_mtime_ns


def test_owner_may_write_into_the_lock_file(path, tmp_path):
    lock = lockfile.LinkFileLock(path)
    with lock:
        with open(lock.lock_file, "w") as file:
            file.write("who I am")
        with pytest.raises(LockTimeout):
            in_thread(lockfile.LinkFileLock(path).acquire, timeout=0.05)
        with open(lock.lock_file) as file:
            assert file.read() == "who I am"
        assert lock.i_am_locking()
    assert names(tmp_path) == []


def test_messages_that_programs_match(lock_class, path, held, tmp_path):
    with pytest.raises(LockTimeout, match=r"^Timeout waiting to acquire lock for"):
        lock_class(path).acquire(timeout=0.05)
    with pytest.raises(LockFailed, match=r"^failed to create"):
        lock_class(tmp_path / "missing" / "README").acquire()


@pytest.fixture
def on_signal():
    """Install a handler of SIGUSR1 for the test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda function: signal.signal(signal.SIGUSR1, lambda number, frame: function())
    signal.signal(signal.SIGUSR1, before)


def send_signal_soon():
    """Most likely when the main thread has come to its next call, though none depends on it."""
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize("method", ["release", "break_lock"])
def test_signal_handler_unlocks(lock_class, path, on_signal, method):
    lock = lock_class(path)
    on_signal(getattr(lock, method))
    lock.acquire()
    signal.raise_signal(signal.SIGUSR1)
    assert not lock.is_locked()


@pytest.mark.parametrize("method", ["release", "break_lock"])
def test_signal_handler_unlocks_while_another_lock_is_waited_for(
    lock_class, tmp_path, on_signal, other_thread, method
):
    mine = lock_class(tmp_path / "mine")
    wanted = lock_class(tmp_path / "wanted")
    mine.acquire()
    on_signal(getattr(mine, method))
    other_thread.run(wanted.acquire)
    sent = other_thread.start(send_signal_soon)
    with pytest.raises(LockTimeout):
        wanted.acquire(timeout=0.3)
    sent.result(PATIENCE)
    assert not mine.is_locked()
    other_thread.run(wanted.release)


def test_signal_handler_breaks_the_lock_that_is_waited_for(
    lock_class, path, on_signal, other_thread
):
    lock = lock_class(path)
    other_thread.run(lock.acquire)
    on_signal(lock_class(path).break_lock)
    other_thread.start(send_signal_soon)
    lock.acquire(timeout=PATIENCE)
    assert lock.i_am_locking()
    lock.release()


@pytest.mark.parametrize("method", ["release", "break_lock"])
def test_atexit_handler_unlocks(lock_class, path, tmp_path, method):
    with Child(
        """
        import atexit
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])

        @atexit.register
        def unlock():
            getattr(lock, sys.argv[3])()
            say(lock.is_locked())

        lock.acquire()
        """,
        lock_class.__name__,
        path,
        method,
    ) as child:
        assert child.hear() is False
        child.finish()
    assert names(tmp_path) == []


def test_break_lock_as_the_normal_release(lock_class, path, tmp_path):
    lock = lock_class(path)
    for _ in range(3):
        lock.acquire()
        assert lock.i_am_locking()
        lock.break_lock()
        assert not lock.is_locked()
        assert names(tmp_path) == []


@pytest.mark.parametrize("value", [True, 1, "yes", [0], False, 0, "", None, []])
def test_threaded_is_any_truth_value_in_second_place(lock_class, path, value):
    assert lock_class(path, value).threaded is bool(value)
    assert LockBase(path, value).threaded is bool(value)


def test_programs_raise_the_exceptions_themselves():
    with pytest.raises(AlreadyLocked) as caught:
        raise AlreadyLocked("a", "b")
    assert caught.value.args == ("a", "b")


def test_forked_child_runs_the_exit_handler_of_its_parent(lock_class, path):
    with Child(
        """
        import atexit
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        parent = os.getpid()

        @atexit.register
        def unlock():
            try:
                lock.release()
            except lockfile.UnlockError as error:
                outcome = type(error).__name__
            else:
                outcome = "released"
            say(["parent" if os.getpid() == parent else "child", outcome])

        lock.acquire()
        child = os.fork()
        if child == 0:
            sys.exit()
        os.waitpid(child, 0)
        say(lock.i_am_locking())
        """,
        lock_class.__name__,
        path,
    ) as child:
        who, outcome = child.hear()
        assert who == "child"
        assert outcome in ("NotMyLock", "NotLocked")
        assert child.hear() is True
        assert child.hear() == ["parent", "released"]
        child.finish()


def test_lock_excludes_another_process(lock_class, path):
    child = holder(lock_class, path)
    with child:
        with pytest.raises(AlreadyLocked):
            lock_class(path).acquire(timeout=0)
        child.say("release")
        assert child.hear() == "released"
        lock_class(path).acquire(timeout=0)
        lock_class(path).release()
