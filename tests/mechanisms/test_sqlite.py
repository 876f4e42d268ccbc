"""SQLiteFileLock: what is different about a lock that is a row in a database."""

import contextlib
import fcntl
import modulefinder
import os
import pickle
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import lockfile
import support
from lockfile import (
    AlreadyLocked,
    LinkFileLock,
    LockTimeout,
    NotLocked,
    SQLiteFileLock,
)
from support import PATIENCE, Child, OtherThread, also_preloaded, holder, in_thread, wait_until
from support.databases import TABLE, connected, rows
from support.protocol import has_settled, wake_ups


@pytest.fixture
def lock(path):
    return SQLiteFileLock(path)


def open_databases(pid="self"):
    """What a process has open of databases."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/{pid}/fd/{number}")
            if ".sqlite3" in target and not target.endswith("-beacons"):
                found.append(target)
    return found


# What is on disk


def test_lock_is_a_row_of_the_usual_database(lock, tmp_path):
    assert lock.database == str(tmp_path / ".lockfile.sqlite3")
    assert os.listdir(tmp_path) == []
    with lock:
        [(name, owner, file, byte)] = rows(lock.database)
        assert name == b"README.lock"
        assert os.fsdecode(owner) == os.path.basename(lock.unique_name)
        assert os.stat(lock.database + "-beacons").st_ino == file
        assert 0 <= byte < 2**62
        assert not os.path.lexists(lock.lock_file)
    assert rows(lock.database) == []


def test_looking_makes_no_database(lock, tmp_path):
    assert not lock.is_locked()
    assert not lock.i_am_locking()
    assert lock.owner() is None
    lock.break_lock()
    with pytest.raises(NotLocked):
        lock.release()
    assert os.listdir(tmp_path) == []


def test_files_beside_the_database(lock, tmp_path):
    """A journal that stays, so that none comes or goes with a lock; no log, no shared memory."""
    beside = ["", "-beacons", "-journal"]
    with lock:
        assert sorted(os.listdir(tmp_path)) == [".lockfile.sqlite3" + suffix for suffix in beside]
    assert sorted(os.listdir(tmp_path)) == [".lockfile.sqlite3" + suffix for suffix in beside]


def test_database_keyword(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for database in ("own.lockfile.sqlite3", b"own.lockfile.sqlite3", Path("own.lockfile.sqlite3")):
        lock = SQLiteFileLock(path, database=database)
        assert lock.database == str(tmp_path / "own.lockfile.sqlite3")
        with lock:
            assert SQLiteFileLock(path, database="own.lockfile.sqlite3").is_locked()
            assert not SQLiteFileLock(path).is_locked(), "it is in another database"
    for wrong, error in ((3, TypeError), ("", ValueError), ("a\0b", ValueError)):
        with pytest.raises(error):
            SQLiteFileLock(path, database=wrong)
    with pytest.raises(TypeError):
        SQLiteFileLock(path, True, None, "own.lockfile.sqlite3")
    with pytest.raises(TypeError):
        LinkFileLock(path, database="own.lockfile.sqlite3")
    with pytest.raises(AttributeError):
        lock.database = "other"


def test_copies_keep_the_database(path, tmp_path):
    lock = SQLiteFileLock(path, False, 3, database=tmp_path / "own.lockfile.sqlite3")
    copy = pickle.loads(pickle.dumps(lock))
    assert (copy.database, copy.threaded, copy.timeout) == (lock.database, False, 3)
    with lock:
        assert copy.i_am_locking()


def test_named_and_usual_database_are_one_if_they_are_one_file(path, tmp_path):
    with SQLiteFileLock(path):
        named = SQLiteFileLock(path, database=tmp_path / ".lockfile.sqlite3")
        assert named.i_am_locking()


def test_links_to_directory_and_database_lead_to_the_same_lock(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    elsewhere = tmp_path / "elsewhere.lockfile.sqlite3"
    (tmp_path / "alias.db").symlink_to("elsewhere.lockfile.sqlite3")
    for one, other in (
        (SQLiteFileLock(tmp_path / "real/README"), SQLiteFileLock(tmp_path / "link/README")),
        (
            SQLiteFileLock(tmp_path / "real/README", database=elsewhere),
            SQLiteFileLock(tmp_path / "link/README", database=tmp_path / "alias.db"),
        ),
    ):
        with one:
            assert other.i_am_locking()
            with pytest.raises(AlreadyLocked):
                in_thread(other.acquire, timeout=0)
        assert not other.is_locked()


def test_same_name_in_two_directories_is_two_locks_in_one_database(tmp_path):
    database = tmp_path / "own.lockfile.sqlite3"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with SQLiteFileLock(tmp_path / "one/README", database=database):
        assert not SQLiteFileLock(tmp_path / "two/README", database=database).is_locked()


@pytest.mark.leaves_files
def test_the_other_classes_do_not_know_of_rows(path):
    with SQLiteFileLock(path), LinkFileLock(path):
        pass


# Many at once


def test_processes_that_make_the_database_at_once_all_succeed(tmp_path):
    code = """
    hear()
    with lockfile.SQLiteFileLock(sys.argv[1], timeout=PATIENCE):
        pass
    say("done")
    """
    for turn in range(5):
        path = tmp_path / str(turn) / "README"
        path.parent.mkdir()
        with contextlib.ExitStack() as stack:
            # Half of them for locks of their own.
            children = [
                stack.enter_context(Child(code, f"{path}{number % 3 and number}"))
                for number in range(6)
            ]
            for child in children:
                child.say("go")
            for child in children:
                assert child.hear() == "done"
                child.finish()
        assert rows(path.parent / ".lockfile.sqlite3") == []


def test_locks_in_one_database_do_not_hinder_each_other(tmp_path):
    """Each is free for its own thread, so that not waiting for it always succeeds."""
    failures = []

    def work(number):
        lock = SQLiteFileLock(tmp_path / f"file{number}")
        try:
            for _ in range(100):
                lock.acquire(timeout=0)
                lock.release()
        except Exception as error:
            failures.append(error)

    with SQLiteFileLock(tmp_path / "held"):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_waiter_for_one_lock_is_not_woken_by_another(tmp_path):
    held, other = SQLiteFileLock(tmp_path / "held"), SQLiteFileLock(tmp_path / "other")
    code = """
    say("waiting")
    lockfile.SQLiteFileLock(sys.argv[1]).acquire()
    say("owns")
    hear()
    """
    with held, Child(code, tmp_path / "held") as child:
        child.hear()
        wait_until(lambda: has_settled(child.pid))
        before = wake_ups(child.pid)
        for _ in range(500):
            with other:
                pass
        assert wake_ups(child.pid) - before < 50, "one each second, and not one each release"
    SQLiteFileLock(tmp_path / "held").break_lock()


def test_threads_share_one_connection(tmp_path):
    lock = SQLiteFileLock(tmp_path / "README", timeout=PATIENCE)

    def work():
        for _ in range(20):
            with lock:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert open_databases().count(lock.database) == 1


def test_connections_kept_are_few(tmp_path):
    for number in range(30):
        directory = tmp_path / str(number)
        directory.mkdir()
        with SQLiteFileLock(directory / "README"):
            pass
    assert len(set(open_databases())) <= 3 * 9


# Forks


def test_forked_child_keeps_nothing_of_the_connection(lock):
    with lock:
        assert lock.database in open_databases()
        process = os.fork()
        if process == 0:
            os._exit(open_databases().count(lock.database))
        assert os.waitpid(process, 0)[1] == 0
        assert lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            in_thread(lock.acquire, timeout=0)


def test_database_is_not_pulled_away_under_a_forked_child(path):
    """SQLite remembers locks for the whole process: a child that believed in its parent's
    owned beside a third process."""
    code = """
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    with lock:
        pass
    child = os.fork()
    if child == 0:
        assert hear() == "parent ended"
        lock.acquire(timeout=0)
        say("child owns")
        hear()
        lock.release()
        say("released")
        os._exit(0)
    say("forked")
    os.kill(os.getpid(), 9) if len(sys.argv) > 2 else os._exit(0)
    """
    for arguments in ([path], [path, "kill"]):
        with Child(code, *arguments) as parent:
            assert parent.hear() == "forked"
            parent.process.wait()
            lock = SQLiteFileLock(path)
            with lock:
                pass
            parent.say("parent ended")
            assert parent.hear() == "child owns"
            with pytest.raises(AlreadyLocked):
                lock.acquire(timeout=0)
            parent.say("release")
            assert parent.hear() == "released"


def test_forks_while_threads_lock(path):
    code = """
    def work(number):
        lock = lockfile.SQLiteFileLock(sys.argv[1] + str(number % 2))
        while not stop:
            with lock:
                pass

    stop = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(40):
        child = os.fork()
        if child == 0:
            with lockfile.SQLiteFileLock(sys.argv[1] + str(turn % 2), timeout=PATIENCE):
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    stop.append(True)
    for thread in threads:
        thread.join()
    say("done")
    """
    with Child(code, path) as child:
        assert child.hear() == "done"
        child.finish()


def test_no_fork_skips_a_connection(tmp_path):
    """A thread that asked for a connection just then moved it past the one that closes all."""
    code = """
    def look(number):
        while not stop:
            locks[number].is_locked()

    locks = []
    for number in range(4):
        os.mkdir(os.path.join(sys.argv[1], str(number)))
        locks.append(lockfile.SQLiteFileLock(os.path.join(sys.argv[1], str(number), "README")))
        with locks[-1]:
            pass
    stop = []
    threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(int(sys.argv[2])):
        child = os.fork()
        if child == 0:
            paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
            os._exit(any(os.path.exists(p) and is_databases(os.readlink(p)) for p in paths))
        say(os.waitpid(child, 0)[1])
    stop.append(True)
    for thread in threads:
        thread.join()
    """
    forks = 100
    with Child(code, tmp_path, str(forks)) as child:
        for _ in range(forks):
            assert child.hear() == 0
        child.finish()


def test_child_of_a_program_with_a_connection_of_its_own(made):
    """Between statements SQLite remembers no lock that a child could believe in."""
    code = """
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    own = sqlite3.connect(lock.database, isolation_level=None)
    own.execute("SELECT * FROM sqlite_master").fetchall()
    with lock:
        assert is_refused_to_a_child(lock)
    child = os.fork()
    if child == 0:
        with lock:
            pass
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    own.close()
    """
    with Child(code, made.path) as child:
        child.finish()


# Death


def test_rows_of_a_killed_process_are_taken_over(tmp_path):
    path = str(tmp_path / "README")
    with holder(SQLiteFileLock, path) as child:
        lock = SQLiteFileLock(path)
        assert lock.owner().pid == child.pid
        child.kill()
        assert lock.owner().alive is False
        assert not lock.is_locked()
        lock.acquire(timeout=0)
        lock.release()


@pytest.mark.parametrize("make", [lambda file: None, Path.touch], ids=["removed", "replaced"])
def test_owner_whose_beacon_cannot_be_seen_is_not_dead(path, lock, make):
    with holder(SQLiteFileLock, path) as child:
        beacons = Path(lock.database + "-beacons")
        beacons.unlink()
        make(beacons)
        assert lock.is_locked()
        with pytest.raises(LockTimeout, match="whether its owner is alive"):
            lock.acquire(timeout=0.01)
        child.kill()
        lock.break_lock()
    with lock:
        pass


def test_owner_keeps_its_lock_when_the_beacons_are_replaced(lock):
    with lock:
        os.unlink(lock.database + "-beacons")
        assert lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            in_thread(SQLiteFileLock(lock.path).acquire, timeout=0)
    assert not lock.is_locked()


def lit_beacon(database):
    """The first byte of the beacon file that is locked; None: there is none."""
    get_lock, read_write, whole = 36, 1, struct.Struct("hhqqi4x")  # F_OFD_GETLK, F_WRLCK
    descriptor = os.open(database + "-beacons", os.O_RDONLY)
    try:
        found = fcntl.fcntl(descriptor, get_lock, whole.pack(read_write, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(descriptor)
    kind, _, start, _, _ = whole.unpack(found)
    return None if kind == fcntl.F_UNLCK else start


def test_beacon_is_lit_for_as_long_as_the_lock_is_owned(lock):
    with lock:
        [(_, _, _, byte)] = rows(lock.database)
        assert lit_beacon(lock.database) == byte
        with pytest.raises(AlreadyLocked):
            in_thread(lock.acquire, timeout=0)
        assert lit_beacon(lock.database) == byte
    assert lit_beacon(lock.database) is None
    in_thread(lock.acquire)
    lock.break_lock()
    assert lit_beacon(lock.database) is None


# Descriptors closed behind our back


@pytest.mark.parametrize("spared", ["none", "the lowest"])
def test_numbers_of_sqlite_that_became_somebody_elses_are_left_alone(path, spared):
    code = """
    lock = lockfile.SQLiteFileLock(sys.argv[1])
    lock.acquire()
    numbers = sorted(int(n) for n in os.listdir("/proc/self/fd") if int(n) > 2)
    if sys.argv[2] == "the lowest":
        del numbers[0]
    os.closerange(numbers[0], numbers[-1] + 1)
    data = sys.argv[1] + ".data"
    while (taken := os.open(data, os.O_RDWR | os.O_CREAT)) < numbers[-1]:
        pass
    for _ in range(2):
        assert lock.i_am_locking()
        lock.release()
        lock.acquire()
    lock.release()
    for number in range(numbers[0], numbers[-1] + 1):
        assert os.fstat(number).st_ino == os.stat(data).st_ino
    assert os.stat(data).st_size == 0
    say("done")
    """
    with Child(code, path, spared) as child:
        assert child.hear() == "done"
        child.finish()
    with SQLiteFileLock(path):
        pass


# Exit


def test_rows_are_gone_after_a_normal_exit(path):
    code = """
    kept = [lockfile.SQLiteFileLock(sys.argv[1] + str(n)) for n in range(3)]
    for lock in kept:
        lock.acquire()
    lockfile.SQLiteFileLock(sys.argv[1]).acquire()
    threading.Thread(target=lockfile.SQLiteFileLock(sys.argv[1] + "thread").acquire).start()
    """
    with Child(code, path) as child:
        child.finish()
    assert rows(SQLiteFileLock(path).database) == []


def test_importing_the_package_does_not_import_sqlite3():
    code = "import lockfile, sys; sys.exit('sqlite3' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(support.IMPORT_PATH)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_who_packs_programs_finds_what_is_imported():
    finder = modulefinder.ModuleFinder()
    finder.run_script(lockfile.__file__)
    assert "_sqlite3" in finder.modules


# A file system that other kernels may use, too


@pytest.fixture
def mounted_directory(tmp_path):
    """A directory on FUSE."""
    source, directory = tmp_path / "source", tmp_path / "mounted"
    source.mkdir()
    directory.mkdir()
    try:
        subprocess.run(["bindfs", str(source), str(directory)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted by bindfs here")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_file_system_that_is_not_known_to_be_local(mounted_directory):
    path = mounted_directory / "README"
    lock = SQLiteFileLock(path, timeout=PATIENCE)
    with lock, connected(lock.database) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        [(_, owner, _, _)] = rows(lock.database)
        assert len(os.fsdecode(owner).rpartition(".")[2]) == 16, "the kernel's digest"
        with pytest.raises(LockTimeout):
            in_thread(lock.acquire, 0.1)
    with holder(SQLiteFileLock, path) as child:
        with OtherThread() as thread:
            waiting = thread.start(lock.acquire)
            child.kill()
            waiting.result(20)
            thread.run(lock.release)
    with connected(lock.database) as connection:  # an owner on another machine
        inode = os.stat(lock.database + "-beacons").st_ino
        foreign = (b"README.lock", b"elsewhere-7f0000001000-7." + b"0123456789abcdef", inode, 8)
        connection.execute(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?)", foreign)
    assert lock.is_locked()
    with pytest.raises(AlreadyLocked, match="only the machine that its owner ran on"):
        lock.acquire(timeout=0)
    lock.break_lock()
    with lock:
        pass


def test_beacon_that_is_granted_to_everybody_proves_nothing(mounted_directory, preloadable):
    library = preloadable("vain.c")
    path = mounted_directory / "README"
    code = """
    os.environ["LD_PRELOAD"] = ""
    try:
        lockfile.SQLiteFileLock(sys.argv[1]).acquire(timeout=0)
        say("owned")
    except lockfile.AlreadyLocked as error:
        say(str(error))
    hear()
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", also_preloaded(library))
        with Child(code, path) as owner:
            assert owner.hear() == "owned"
            [(_, name, file, _)] = rows(mounted_directory / ".lockfile.sqlite3")
            assert file == 0
            assert not re.search(rb"\.[0-9a-f]{16}$", name), "it would promise one"
            with Child(code, path) as other:
                assert "whether its owner is alive" in other.hear()
                other.finish()
            owner.finish()
