"""SQLiteFileLock: databases that are no good, busy, taken away, or not to be trusted."""

import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from lockfile import (
    AlreadyLocked,
    LockFailed,
    LockTimeout,
    NotLocked,
    SQLiteFileLock,
    UnlockError,
)
from support import Child, OtherThread, holder, in_thread
from support.databases import APPLICATION, TABLE, connected, fails, rows, writing
from support.protocol import SteppedChild
from support.waiters import settle


@pytest.fixture
def lock(path):
    return SQLiteFileLock(path)


# Databases that are no good


def test_file_that_is_no_database(lock):
    Path(lock.database).write_text("not a database" * 100)
    fails(lock, "or is no database", FileExistsError)
    with pytest.raises(UnlockError, match="or is no database"):
        lock.is_locked()
    Path(lock.database).unlink()
    with lock:
        pass


def test_table_of_another_schema(lock):
    with connected(lock.database) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"CREATE TABLE {TABLE} (a)")
    fails(lock, "no column named lock")


def test_directory_and_special_file_in_the_databases_place(lock, tmp_path):
    os.mkdir(lock.database)
    fails(lock, os.strerror(errno.EISDIR), IsADirectoryError)
    os.rmdir(lock.database)
    os.mkfifo(lock.database)
    fails(lock, os.strerror(errno.ENODEV), OSError)
    os.unlink(lock.database)


def test_database_in_a_missing_directory(path, tmp_path):
    lock = SQLiteFileLock(path, database=tmp_path / "missing" / "own.lockfile.sqlite3")
    fails(lock, os.strerror(errno.ENOENT), FileNotFoundError)
    assert not lock.is_locked()


def test_read_only_database(public_directory, other_user):
    lock = SQLiteFileLock(public_directory / "README")
    with lock:
        pass
    for file in public_directory.glob(".lockfile*"):
        file.chmod(0o644)
    public_directory.chmod(0o755)
    code = """
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    for _ in range(2):
        say([lock.is_locked(), lock.i_am_locking(), lock.owner().alive])
    try:
        lock.acquire(timeout=0)
    except lockfile.LockFailed as error:
        say(str(error))
    """
    with lock, Child(code, lock.path, user=other_user) as child:
        for _ in range(2):
            assert child.hear() == [True, False, True]
        assert "ermission denied" in child.hear()
        child.finish()


def test_full_file_system(tmp_path):
    directory = tmp_path / "full"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small file system can be mounted here")
    try:
        lock = SQLiteFileLock(directory / "README")
        filler = directory / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        fails(lock, "full|disk|unable to open")
        filler.unlink()
        lock.acquire()
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        lock.release()
        assert not lock.is_locked()
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_no_descriptors_left(path):
    code = """
    import resource
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    taken = []
    try:
        while True:
            taken.append(os.open("/", os.O_RDONLY))
    except OSError:
        pass
    while taken:
        try:
            lock.acquire(timeout=0)
            break
        except lockfile.LockFailed as error:
            say(str(error))
            os.close(taken.pop())
    try:
        while True:
            taken.append(os.open("/", os.O_RDONLY))
    except OSError:
        pass
    lock.release()
    say(None)
    """
    with Child(code, path) as child:
        answers = list(iter(child.hear, None))
        assert answers
        assert all(answer.startswith("failed to create ") for answer in answers)
        child.finish()


def test_kernel_locks_of_bytes_refused_on_a_local_file_system(path):
    """Nothing is owned without a beacon."""
    code = """
    import support
    support.REFUSABLE.setdefault("fcntl", (72,) if os.uname().machine == "x86_64" else (25,))
    support.refuse("fcntl", 95)
    try:
        lockfile.SQLiteFileLock(sys.argv[1]).acquire(timeout=0)
    except lockfile.LockFailed as error:
        say(str(error))
    """
    with Child(code, path) as child:
        assert os.strerror(errno.EOPNOTSUPP) in child.hear()
        child.finish()


# A database that is busy


@contextlib.contextmanager
def writing_elsewhere(database):
    """The same, by another program."""
    code = """
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("locked")
    hear()
    connection.execute("ROLLBACK")
    """
    with Child(code, database) as child:
        assert child.hear() == "locked"
        yield
        child.finish()


def test_short_transaction_is_waited_for(made):
    with OtherThread() as thread:
        with writing(made.database):
            waiting = thread.start(made.acquire, 10)
            time.sleep(0.1)
            assert not waiting.done()
        waiting.result(10)
        thread.run(made.release)


def test_long_transaction_is_a_failure_with_the_reason(made):
    with writing_elsewhere(made.database):
        for timeout in (0, 1.5):
            with pytest.raises(LockFailed, match="another program has locked the database"):
                in_thread(made.acquire, timeout)
    with made:
        pass


def test_transaction_outlasts_the_timeout(made):
    with writing_elsewhere(made.database):
        start = time.monotonic()
        with pytest.raises(LockTimeout, match="another program has locked the database"):
            in_thread(made.acquire, 0.1)
        assert time.monotonic() - start >= 0.1


def test_transaction_of_the_program_itself_is_told_apart(made):
    with writing(made.database):
        with pytest.raises(LockFailed, match="this program has locked the database itself"):
            made.acquire(timeout=0)
        with pytest.raises(LockTimeout, match="this program has locked the database itself"):
            made.acquire(timeout=0.01)
    with made:
        pass


def test_looks_do_not_wait_for_who_writes(made):
    with made, writing(made.database):
        assert made.is_locked()
        assert made.i_am_locking()


def test_release_waits_for_a_short_transaction(made):
    with OtherThread() as thread:
        thread.run(made.acquire)
        with writing(made.database):
            releasing = thread.start(made.release)
            time.sleep(0.1)
            assert not releasing.done()
        releasing.result(10)
    assert not made.is_locked()


def test_release_during_a_long_transaction_leaves_a_row_that_proves_nothing(made):
    """It cannot be removed just now; its beacon is dark, so to all others its owner is dead."""
    with OtherThread() as thread:
        thread.run(made.acquire)
        with writing_elsewhere(made.database):
            thread.run(made.release)
            assert not thread.run(made.i_am_locking)
            assert not made.is_locked()
        with made:
            assert made.i_am_locking()
    assert not made.is_locked()


# Another program writes for a moment: rows can be read then, but not removed.
BREAK = """
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    assert lock.is_locked()
    be_stopped()
    lock.break_lock()
    say("broken")
    hear()
    lock.break_lock()
    say("broken")
    """


def somebody(number):
    """The row of another program; no two have one beacon."""
    return (b"README.lock", b"somebody", 0, number)


def test_break_in_the_moment_of_a_transaction_spares_the_lock_that_comes_with_it(made):
    with connected(made.database) as connection:
        insert = f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?)"
        connection.execute(insert, somebody(1))
        connection.execute("BEGIN IMMEDIATE")
        with SteppedChild(BREAK, made.path, kinds=["sleep", "say"]) as child:
            child.run_to("sleep")
            connection.execute(f"DELETE FROM {TABLE}")
            connection.execute(insert, somebody(2))
            connection.execute("COMMIT")
            assert child.run_on() == "broken"
            assert rows(made.database) == [somebody(2)]
            child.say("break")
            assert child.run_on() == "broken"
            assert rows(made.database) == []
            child.finish()


WAIT_IN_VAIN = """
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    assert lock.is_locked()
    clock().stop_clock(None)  # time passes while it sleeps, and only then
    be_stopped()
    try:
        lock.acquire(timeout=0.1)
    except lockfile.LockTimeout:
        say("in vain")
    hear()
    lock.break_lock()
    say(lock.is_locked())
    """


@pytest.mark.parametrize("committed", ["while it waits", "later"])
def test_break_after_a_wait_that_began_in_the_moment_of_a_transaction(clock, made, committed):
    """It is for the lock that was there all the time."""
    with (
        holder(SQLiteFileLock, made.path) as owner,
        connected(made.database) as connection,
        SteppedChild(WAIT_IN_VAIN, made.path, kinds=["sleep", "say"]) as child,
    ):
        connection.execute("BEGIN IMMEDIATE")
        child.run_to("sleep")
        if committed == "while it waits":
            connection.execute("COMMIT")
        assert child.run_on() == "in vain"
        if committed == "later":
            connection.execute("COMMIT")
        child.say("break")
        assert child.run_on() is False
        child.finish()
        owner.kill()


def test_timeout_while_nobody_may_even_read(made):
    with connected(made.database) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        for timeout in (0.02, 0.05, 0.1):
            with pytest.raises(LockTimeout, match="database is locked") as caught:
                made.acquire(timeout)
            assert isinstance(caught.value.__cause__, sqlite3.Error)
        connection.execute("ROLLBACK")
    with made:
        pass


def test_interrupt_inside_the_call_stays_one(path):
    code = """
    def interrupt(event, arguments):
        if event == "sqlite3.connect" and armed:
            armed.clear()
            raise KeyboardInterrupt

    armed = [True]
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    sys.addaudithook(interrupt)
    try:
        lock.acquire(timeout=1)
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
    with lock:
        say("owns")
    """
    with Child(code, path) as child:
        assert child.hear() == "KeyboardInterrupt"
        assert child.hear() == "owns"
        child.finish()


# A handler goes on with another greenlet, as those of gevent may, and the two change places in the
# middle of their calls.
GREENLETS = """
    import greenlet, signal

    def wait(lock):
        try:
            with lock:
                say("owned")
        except lockfile.LockFailed as error:
            say(str(error))

    locks = [lockfile.SQLiteFileLock(path) for path in sys.argv[1:]]
    first, second = greenlet.greenlet(wait), greenlet.greenlet(wait)
    switches = [lambda: second.switch(locks[1]), first.switch]

    def handler(*arguments):
        say("switches")
        switches.pop(0)()

    signal.signal(signal.SIGUSR1, handler)
    say("waits")
    first.switch(locks[0])
    hear()
    second.switch()
    """


@pytest.mark.leaves_files
@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="greenlets move what is on the stack"
)
def test_failure_is_told_as_that_of_the_greenlet_that_it_is_in(tmp_path):
    pytest.importorskip("greenlet")
    paths = [tmp_path / "first" / "README", tmp_path / "second" / "README"]
    for path in paths:
        path.parent.mkdir()
    with (
        holder(SQLiteFileLock, paths[0]) as owner,
        holder(SQLiteFileLock, paths[1]),
        Child(GREENLETS, *paths) as child,
    ):
        assert child.hear() == "waits"
        for _ in range(2):
            settle(child)
            os.kill(child.pid, signal.SIGUSR1)
            assert child.hear() == "switches"
        owner.say("release")
        assert child.hear() == "owned"
        with connected(paths[1].parent / ".lockfile.sqlite3") as connection:
            connection.execute(f"ALTER TABLE {TABLE} RENAME COLUMN lock TO other")
        child.say("go on")
        assert "no such column: lock" in child.hear()
        child.finish()


# A database that goes away


def test_directory_removed_and_made_again_under_a_kept_connection(tmp_path):
    directory = tmp_path / "directory"
    directory.mkdir()
    lock = SQLiteFileLock(directory / "README")
    with pytest.raises(NotLocked), lock:
        shutil.rmtree(directory)
        directory.mkdir()
        assert not lock.is_locked()
        assert not lock.i_am_locking()
    with lock, pytest.raises(AlreadyLocked):
        in_thread(SQLiteFileLock(directory / "README").acquire, timeout=0)


def test_database_removed_while_owned(lock, tmp_path):
    lock.acquire()
    for file in tmp_path.glob(".lockfile.sqlite3*"):
        file.unlink()
    with pytest.raises(NotLocked):
        lock.release()
    with lock:
        assert lock.is_locked()


# Whom we trust


@pytest.fixture
def sticky_directory(public_directory):
    public_directory.chmod(0o1777)
    return public_directory


def test_link_in_a_sticky_directory_is_refused(sticky_directory, tmp_path):
    lock = SQLiteFileLock(sticky_directory / "README")
    os.symlink(tmp_path / "victim.db", lock.database)
    fails(lock, "a file of our own user's", PermissionError)
    assert os.listdir(tmp_path) == []


def test_database_of_another_user_in_a_sticky_directory_is_refused(sticky_directory, other_user):
    if other_user == os.geteuid():
        pytest.skip("only root can become another user")
    lock = SQLiteFileLock(sticky_directory / "README")
    with connected(lock.database):
        pass
    Path(lock.database).touch()
    os.chown(lock.database, other_user, -1)
    fails(lock, "a file of our own user's", PermissionError)


def test_link_in_the_beacons_place_is_not_followed(lock, tmp_path):
    victim = tmp_path / "victim"
    os.symlink(victim, lock.database + "-beacons")
    fails(lock, os.strerror(errno.ELOOP), OSError)
    assert not victim.exists()
