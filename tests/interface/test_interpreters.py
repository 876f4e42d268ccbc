"""Several interpreters in one process: they share what the process owns."""

import sys

import pytest

from lockfile import SQLiteFileLock
from support import Child, names

INTERPRETERS = """
    try:
        import _interpreters as interpreters
        run = interpreters.exec
    except ImportError:
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            say("there are no subinterpreters")
            sys.exit()
        run = interpreters.run_string

    PRELUDE = f\"\"\"if True:
        import sys
        sys.path[:] = {sys.path!r}
        import lockfile
        lock = lockfile.{sys.argv[1]}({sys.argv[2]!r})
        \"\"\"

    def inside(interpreter, code):
        failure = run(interpreter, PRELUDE + code)
        assert failure is None, failure

    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    one, two = interpreters.create(), interpreters.create()
    say("ready")
    """


@pytest.fixture
def in_interpreters(lock_class, path):
    if lock_class is SQLiteFileLock and sys.version_info[:2] == (3, 12):
        pytest.skip("Python 3.12 crashes at its end after sqlite3 was used in a subinterpreter")

    def run(code):
        with Child(INTERPRETERS + code, lock_class.__name__, path) as child:
            answer = child.hear()
            if answer != "ready":
                pytest.skip(answer)
            child.finish()

    return run


def test_module_works_in_every_interpreter(in_interpreters, tmp_path):
    in_interpreters(
        """
    for interpreter in (one, two):
        inside(interpreter, '''
        with lock:
            assert lock.i_am_locking()
        assert not lock.is_locked()
        try:
            lock.release()
        except lockfile.NotLocked as error:
            assert isinstance(error, lockfile.UnlockError)
        else:
            raise AssertionError
        ''')
    """
    )
    assert names(tmp_path) == []


def test_thread_owns_in_every_interpreter_that_it_runs(in_interpreters, tmp_path):
    in_interpreters(
        """
    lock.acquire()
    for interpreter in (one, two):
        inside(interpreter, '''
        assert lock.i_am_locking()
        lock.acquire(timeout=0)
        ''')
    inside(one, "lock.release()")
    assert not lock.is_locked()
    inside(two, "lock.acquire()")
    assert lock.i_am_locking()
    lock.release()
    """
    )
    assert names(tmp_path) == []


def test_other_threads_interpreter_does_not_own(in_interpreters):
    in_interpreters(
        """
    failures = []

    def work():
        try:
            inside(one, '''
        assert lock.is_locked()
        assert not lock.i_am_locking()
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            pass
        else:
            raise AssertionError
        try:
            lock.acquire(timeout=0.05)
        except lockfile.LockTimeout:
            pass
        else:
            raise AssertionError
        try:
            lock.release()
        except lockfile.NotMyLock:
            pass
        else:
            raise AssertionError
            ''')
        except BaseException as error:
            failures.append(error)

    lock.acquire()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures, failures
    assert lock.i_am_locking()
    lock.release()
    """
    )


def test_end_of_an_interpreter_does_not_touch_what_another_owns(in_interpreters, tmp_path):
    in_interpreters(
        """
    inside(one, "pass")
    lock.acquire()
    inside(two, "assert lock.i_am_locking()")
    interpreters.destroy(one)
    interpreters.destroy(two)
    assert lock.i_am_locking()
    assert lock.is_locked()
    lock.release()
    lock.acquire()
    lock.release()
    """
    )
    assert names(tmp_path) == []


def test_lock_acquired_in_an_interpreter_that_ended_does_not_outlive_the_process(
    in_interpreters, tmp_path
):
    in_interpreters(
        """
    inside(one, "lock.acquire()")
    assert lock.i_am_locking()
    interpreters.destroy(one)
    """
    )
    assert names(tmp_path) == []
