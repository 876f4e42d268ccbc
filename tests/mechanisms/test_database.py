"""A database of locks alone: what the program, SQLite and others do with it meanwhile."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from lockfile import AlreadyLocked, LockFailed, NotLocked, SQLiteFileLock, UnlockError
from support import Child, holder, names
from support.databases import APPLICATION, TABLE, connected, fails, rows, writing
from support.protocol import SteppedChild

FOREIGN = "tables of somebody else.*database= wants the name of a database of locks alone"


@pytest.fixture
def lock(path):
    return SQLiteFileLock(path)


def close_plainly(file):
    """As a backup does: this process has no POSIX lock on the file any more."""
    with open(file, "rb") as opened:
        opened.read()


def verdict(path, **keywords):
    """Whether another process gets the lock: "owned", or the name of the exception."""
    code = """
    try:
        lockfile.SQLiteFileLock(sys.argv[1]).acquire(timeout=0)
        say("owned")
    except lockfile.Error as error:
        say(type(error).__name__)
    """
    with Child(code, path, **keywords) as child:
        answer = child.hear()
        child.finish()
    return answer


# Whose database it is


def snapshot(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir() if file.is_file()}


@pytest.mark.parametrize("mode", ["delete", "persist", "wal"])
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
def test_database_with_tables_of_somebody_else_is_refused_and_left_alone(tmp_path, mode, is_open):
    database = tmp_path / "program.lockfile.sqlite3"
    lock = SQLiteFileLock(tmp_path / "README", database=database)
    with connected(database) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE data (a)")
        connection.execute("INSERT INTO data VALUES (1)")
        if not is_open:
            connection.close()
        before = snapshot(tmp_path)
        for _ in range(2):
            fails(lock, FOREIGN, FileExistsError)
            for method in (lock.is_locked, lock.i_am_locking, lock.owner, lock.break_lock):
                with pytest.raises(UnlockError, match=FOREIGN):
                    method()
        assert snapshot(tmp_path) == before


def test_looking_at_the_programs_database_does_not_lose_its_locks(tmp_path):
    database = tmp_path / "program.lockfile.sqlite3"
    with connected(database) as connection:
        connection.execute("CREATE TABLE data (a)")
    with writing(database):
        fails(SQLiteFileLock(tmp_path / "README", database=database), FOREIGN, FileExistsError)
        code = """
        connection = sqlite3.connect(sys.argv[1], timeout=0)
        try:
            connection.execute("INSERT INTO data VALUES (1)")
        except sqlite3.OperationalError as error:
            say(str(error))
        """
        with Child(code, database) as child:
            assert child.hear() == "database is locked"
            child.finish()


def test_table_added_to_ours_makes_it_somebody_elses(lock):
    with lock:
        pass
    with connected(lock.database) as connection:
        connection.execute("CREATE TABLE data (a)")
    assert verdict(lock.path) == "LockFailed"


def test_empty_file_becomes_ours(lock):
    Path(lock.database).touch()
    assert not lock.is_locked()
    assert os.stat(lock.database).st_size == 0
    with lock, connected(lock.database) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        assert tables == [(TABLE.strip('"'),)]


# Who locks first in a directory makes the database.
MAKE = """
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    be_stopped()
    lock.acquire()
    say("owns")
    hear()
    lock.release()
    """


def test_database_that_is_just_being_made_is_nobody_elses(lock):
    """Wherever its maker is stopped, another waits, and then finds it ours."""
    with SteppedChild(MAKE, lock.path, kinds=["node", "write", "say"]) as child:
        child.run_to("node")
        while child.next_call().kind == "write":
            with pytest.raises(AlreadyLocked, match="another process is at work"):
                lock.acquire(timeout=0)
        child.go_on()
        assert child.hear() == "owns"
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        child.say("release")
        child.finish()


def test_maker_killed_at_any_write_hinders_nobody(tmp_path):
    for turn in range(100):
        path = tmp_path / str(turn) / "README"
        path.parent.mkdir()
        with SteppedChild(MAKE, path, kinds=["write", "say"]) as child:
            ended = any(child.next_call().kind == "say" for _ in range(turn + 1))
            child.kill()
        with SQLiteFileLock(path):
            pass
        if ended:
            break
    assert turn > 5


def test_messages_name_the_database(tmp_path):
    lock = SQLiteFileLock(tmp_path / "README", database=tmp_path / "missing" / "x.db")
    error = fails(lock, f"the database .{tmp_path}/missing/x.db", FileNotFoundError)
    assert error.__cause__.filename == str(tmp_path / "missing" / "x.db")


# Plain opens and closes of the database by the program


def test_plain_close_between_statements_loses_nothing(lock, tmp_path):
    """A kept connection lost its locks so; the next that came by removed its log, and what it wrote
    then, nobody saw, until it overwrote what others had written."""
    with lock:
        close_plainly(lock.database)
        assert verdict(tmp_path / "passer-by") == "owned"
        with holder(SQLiteFileLock, tmp_path / "innocent") as innocent:
            shutil.copytree(tmp_path, tmp_path / "copy")
            shutil.rmtree(tmp_path / "copy")
            assert verdict(lock.path) == "AlreadyLocked"
            lock.release()
            assert [name for name, *_ in rows(lock.database)] == [b"innocent.lock"]
            assert verdict(tmp_path / "passer-by") == "owned"
            lock.acquire(timeout=0)
            assert verdict(lock.path) == "AlreadyLocked"
            assert verdict(tmp_path / "innocent") == "AlreadyLocked"
            innocent.say("release")
            assert innocent.hear() == "released"
    assert rows(lock.database) == []


# Another thread closes the database when it is told to, and with it goes what SQLite has locked.
CLOSE_MEANWHILE = """
    def work():
        hear()
        with open(lock.database, "rb"):
            pass
        say("closed")

    lock = lockfile.SQLiteFileLock(sys.argv[1])
    if sys.argv[2] == "release":
        lock.acquire()
    threading.Thread(target=work).start()
    be_stopped()
    getattr(lock, sys.argv[2])()
    say(lock.i_am_locking())
    """


def writes_the_database(child):
    return lambda call: not call.file(child.pid).endswith("-journal")


@pytest.mark.parametrize("method", ["acquire", "release"])
def test_plain_close_in_the_moment_of_a_statement_lets_nobody_in(lock, tmp_path, method):
    with lock:
        pass
    with SteppedChild(CLOSE_MEANWHILE, lock.path, method, kinds=["write", "say"]) as child:
        child.run_to("write", where=writes_the_database(child))
        child.say("close")
        assert child.hear() == "closed"
        with pytest.raises(AlreadyLocked, match="another process is at work"):
            lock.acquire(timeout=0)
        assert child.run_on() is (method == "acquire")
        if method == "acquire":
            with pytest.raises(AlreadyLocked):
                lock.acquire(timeout=0)
            child.kill()
        with lock:
            pass


def test_statement_that_somebody_has_undone_is_no_lock(lock):
    """The database is closed in its moment, and somebody else's SQLite, which goes by SQLite's
    locks alone, takes it for one of a process that is dead."""
    with lock:
        pass
    with SteppedChild(CLOSE_MEANWHILE, lock.path, "acquire", kinds=["write", "say"]) as child:
        child.run_to("write", where=writes_the_database(child))
        child.run_to("write", where=writes_the_database(child))
        child.run_to("write")
        child.say("close")
        assert child.hear() == "closed"
        assert rows(lock.database) == []
        assert child.run_on() is True
        assert len(rows(lock.database)) == 1
        child.kill()
    with lock:
        pass


def test_outsider_that_changes_the_mode_changes_nothing(lock):
    with lock:
        with connected(lock.database) as connection:
            assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        with SQLiteFileLock(lock.path + ".other"):
            assert verdict(lock.path) == "AlreadyLocked"
        assert not os.path.exists(lock.database + "-wal")
    assert rows(lock.database) == []


def test_database_that_was_busy_when_it_was_opened_is_used_as_all_others(lock):
    """A journal that went with each lock would make room for one of somebody else's."""
    with lock:
        pass
    code = """
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    try:
        lock.acquire(timeout=0)
    except lockfile.LockFailed as error:
        say(str(error))
    hear()
    with lock:
        pass
    """
    with connected(lock.database) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with Child(code, lock.path) as child:
            assert "database is locked" in child.hear()
            connection.execute("COMMIT")
            child.say("free")
            child.finish()
    assert os.path.exists(lock.database + "-journal")


# What the program has done to the sqlite3 module


@pytest.mark.parametrize(
    "code",
    [
        "sqlite3.register_adapter(bytes, lambda value: sqlite3.Binary(value + b'.other'))",
        "sqlite3.register_adapter(int, lambda value: value + 1)",
        "sqlite3.adapters.clear()",
        "sqlite3.connect = None",
        """
connect = sqlite3.connect
def patched(*arguments, **keywords):
    connection = connect(*arguments, **keywords)
    connection.row_factory = sqlite3.Row
    connection.text_factory = bytes
    connection.isolation_level = "IMMEDIATE"
    return connection
sqlite3.connect = patched
""",
    ],
    ids=["bytes", "int", "none", "no connect", "connect"],
)
def test_what_the_program_did_to_sqlite3_is_nothing_to_locks(lock, code):
    program = """
    import sqlite3
    exec(sys.argv[2])
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    lock.acquire()
    assert lock.i_am_locking()
    assert is_refused_to_a_child(lock)
    say(os.path.basename(lock.unique_name))
    hear()
    lock.release()
    """
    with Child(program, lock.path, code) as child:
        owner = child.hear()
        [(name, found, _, _)] = rows(lock.database)
        assert (name, os.fsdecode(found)) == (b"README.lock", owner)
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        child.say("release")
        child.finish()
    assert rows(lock.database) == []


# Forks that Python knows nothing of

C_FORK = """
    import ctypes

    def c_fork():
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        return child
    """

needs_c_fork = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="Python refuses such a fork by ctypes"
)


@needs_c_fork
def test_child_of_a_fork_that_python_knows_nothing_of_can_lock(lock):
    code = """
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    with lock:
        child = c_fork()
        if child == 0:
            try:
                lock.acquire(timeout=0)
            except lockfile.AlreadyLocked:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    child = c_fork()
    if child == 0:
        with lock:
            pass
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with lock:
        pass
    """
    with Child(C_FORK + code, lock.path) as child:
        child.finish()


@needs_c_fork
def test_child_of_such_a_fork_in_the_middle_of_a_statement_is_told_so(lock):
    """SQLite's memory is then a copy in which it still runs."""
    with lock:
        pass
    code = """
    def work():
        hear()
        child = c_fork()
        if child == 0:
            try:
                lockfile.SQLiteFileLock(sys.argv[1]).acquire(timeout=0)
            except lockfile.LockFailed as error:
                say(str(error))
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        say("forked")

    lock = lockfile.SQLiteFileLock(sys.argv[1])
    threading.Thread(target=work).start()
    be_stopped()
    lock.acquire()
    say("owns")
    lock.release()
    """
    with SteppedChild(C_FORK + code, lock.path, kinds=["write", "say"]) as child:
        child.run_to("write")
        child.say("fork")
        assert "forked in the middle of a statement" in child.hear()
        assert child.hear() == "forked"
        assert child.run_on() == "owns"
        child.finish()


# Several users


def test_several_users_in_the_directory_of_a_group(public_directory, other_user):
    if other_user == os.geteuid():
        pytest.skip("only root can become another user")
    os.chown(public_directory, 0, 2000)
    public_directory.chmod(0o2770)
    code = """
    import sqlite3
    os.setgroups([2000])
    os.setgid(2000)
    os.setuid(int(sys.argv[2]))
    os.umask(0o002)
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    with lock:
        say(lock.i_am_locking())
    """
    for user in (other_user, other_user - 1, other_user):
        with Child(code, public_directory / "README", str(user)) as child:
            assert child.hear() is True
            child.finish()
    modes = {file.name: file.stat().st_mode & 0o777 for file in public_directory.iterdir()}
    assert set(modes.values()) == {0o664}, modes


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm", "-beacons"])
@pytest.mark.parametrize("kind", ["link", "pipe", "file of another user"])
def test_file_beside_the_database_in_a_sticky_directory(
    public_directory, other_user, tmp_path, suffix, kind
):
    public_directory.chmod(0o1777)
    lock = SQLiteFileLock(public_directory / "README")
    planted = lock.database + suffix
    if kind == "link":
        os.symlink(tmp_path / "victim", planted)
    elif kind == "pipe":
        os.mkfifo(planted)
    else:
        Path(planted).touch()
        os.chown(planted, other_user, -1)
    with pytest.raises(LockFailed):
        lock.acquire(timeout=0)
    assert os.listdir(tmp_path) == []
    os.unlink(planted)
    with lock:
        pass


# Dead owners


def test_who_breaks_a_dead_row_removes_the_other_dead_ones(tmp_path):
    code = """
    for name in ("one", "two", "three"):
        lockfile.SQLiteFileLock(os.path.join(sys.argv[1], name)).acquire()
    say("owns")
    hear()
    """
    with (
        holder(SQLiteFileLock, tmp_path / "held") as living,
        SQLiteFileLock(tmp_path / "own") as own,
    ):
        with Child(code, tmp_path) as child:
            child.hear()
            child.kill()
        assert len(rows(own.database)) == 5
        with SQLiteFileLock(tmp_path / "two"):
            assert {name for name, *_ in rows(own.database)} == {
                b"held.lock",
                b"own.lock",
                b"two.lock",
            }
        assert own.i_am_locking()
        living.say("release")
        assert living.hear() == "released"
    assert rows(own.database) == []


def test_all_dead_rows_of_many_are_removed(tmp_path):
    code = """
    for number in range(200):
        lockfile.SQLiteFileLock(os.path.join(sys.argv[1], str(number))).acquire()
    say("owns")
    hear()
    """
    with Child(code, tmp_path) as child:
        child.hear()
        child.kill()
    lock = SQLiteFileLock(tmp_path / "150")
    assert len(rows(lock.database)) == 200
    with lock:
        assert [name for name, *_ in rows(lock.database)] == [b"150.lock"]


# The end of the program

KEEPERS = {
    "global": "keep = lock",
    "in sys": "sys.keep = lock",
    "a module that leaks": """
import ctypes
ctypes.pythonapi.Py_IncRef(ctypes.py_object(lockfile._lockfile))
""",
    "a daemon thread": """
started = threading.Event()
def sleep(lock):
    started.set()
    time.sleep(1000)
threading.Thread(target=sleep, args=(lock,), daemon=True).start()
started.wait()
""",
    "modules thrown away": """
import gc
del sys.modules["lockfile"], sys.modules["lockfile._lockfile"], lockfile, lock
gc.collect()
""",
    "imported again": """
import gc
del sys.modules["lockfile"], sys.modules["lockfile._lockfile"], lockfile, lock
gc.collect()
import lockfile
assert lockfile.SQLiteFileLock(sys.argv[1]).i_am_locking()
""",
    "sys.exit in a handler": """
import atexit
atexit.register(sys.exit, 0)
""",
}


@pytest.mark.parametrize("keeper", KEEPERS)
def test_row_is_removed_at_exit_wherever_the_lock_is_kept(lock, keeper):
    code = """
    import lockfile
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    lock.acquire()
    """
    with Child(code + "exec(sys.argv[2], globals())", lock.path, KEEPERS[keeper]) as child:
        child.finish()
    assert rows(lock.database) == []


def test_exit_does_not_wait_for_each_row_of_a_busy_database(tmp_path):
    """Who comes next finds them stale, anyway."""
    code = """
    for number in range(20):
        lockfile.SQLiteFileLock(os.path.join(sys.argv[1], str(number))).acquire()
    say("owns")
    hear()
    """
    lock = SQLiteFileLock(tmp_path / "1")
    with Child(code, tmp_path) as child:
        child.hear()
        with writing(lock.database):
            child.finish()
    with lock:
        pass
    assert rows(lock.database) == []


def test_modules_thrown_away_leave_nothing_behind(lock):
    code = """
    import gc

    real = os.register_at_fork
    hooks = []
    os.register_at_fork = lambda **keywords: hooks.append(keywords) or real(**keywords)
    counts = []
    for turn in range(6):
        for name in [name for name in sys.modules if name.startswith("lockfile")]:
            del sys.modules[name]
        import lockfile
        with lockfile.SQLiteFileLock(sys.argv[1]):
            pass
        del lockfile
        gc.collect()
        counts.append((len(os.listdir("/proc/self/fd")), len(hooks)))
    assert len(set(counts[1:])) == 1, counts
    """
    with Child(code, lock.path) as child:
        child.finish()


def test_first_locks_of_many_threads_share_one_connection(lock):
    code = """
    def work():
        barrier.wait()
        with lockfile.SQLiteFileLock(sys.argv[1], timeout=20):
            pass

    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert sum(name.endswith(".lockfile.sqlite3") for name in names) == 1
    """
    with Child(code, lock.path) as child:
        child.finish()


def test_database_replaced_while_owned(lock, tmp_path):
    """What another puts in its place is another's."""
    with pytest.raises(NotLocked), lock:
        os.rename(lock.database, tmp_path / "old")
        assert verdict(lock.path) == "owned"
    os.unlink(tmp_path / "old")


def test_beacons_replaced_while_connected(lock, tmp_path):
    """Who comes after has another file to keep others off by, so it is looked at each time."""
    with lock:
        pass
    os.unlink(lock.database + "-beacons")
    with holder(SQLiteFileLock, lock.path) as child:
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        child.say("release")
        assert child.hear() == "released"
    with lock:
        assert verdict(lock.path) == "AlreadyLocked"


def test_file_that_is_no_database_keeps_the_locks_of_the_program(tmp_path):
    """It may be one of another SQLite, which would lose its locks by our close."""
    file = tmp_path / "notes"
    file.write_text("no database\n" * 100)
    code = """
    import fcntl
    file = open(sys.argv[1], "r+")
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock = lockfile.SQLiteFileLock(sys.argv[2], database=sys.argv[1])
    for call in (lock.is_locked, lock.acquire):
        try:
            call()
        except lockfile.Error as error:
            say(str(error))
    hear()
    """
    look = """
    import fcntl
    try:
        fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("refused")
    """
    with Child(code, file, tmp_path / "README") as child:
        assert "or is no database" in child.hear()
        assert "or is no database" in child.hear()
        with Child(look, file) as other:
            assert other.hear() == "refused"
            other.finish()
        child.say("end")
        child.finish()
    assert names(tmp_path) == ["notes"]
    file.unlink()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="collects garbage between steps only")
def test_no_garbage_is_collected_inside_a_statement(lock):
    """A finalizer may wait for a thread that waits for this very statement."""
    code = """
    import fcntl, gc, struct

    def in_statement():
        "Does this process keep the database latched just now?"
        with open(lock.database + "-beacons", "r+b") as beacons:
            asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1 << 62, 1, 0)
            answer = fcntl.fcntl(beacons, 36, asked)  # F_OFD_GETLK
            return struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK

    lock = lockfile.SQLiteFileLock(sys.argv[1])
    with lock:
        pass
    seen = []
    gc.callbacks.append(lambda *_: seen.append(in_statement()))
    gc.set_threshold(1)
    for _ in range(50):
        with lock:
            pass
    gc.set_threshold(700)
    say([len(seen) > 0, any(seen), gc.isenabled()])
    """
    with Child(code, lock.path) as child:
        assert child.hear() == [True, False, True]
        child.finish()
