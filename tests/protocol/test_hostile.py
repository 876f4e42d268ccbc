"""Another user in a public directory: at worst a lock stays locked.

Both are ordinary users, since root is stopped by no mode. campaigns/hostile.py tries all that may
be put under every name before every system call; here is its short form, and what it cannot try.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import sqlite3
import textwrap
from pathlib import Path

import pytest

import lockfile
import support
from campaigns import faults, hostile
from campaigns.hostile import ATTACKER, VICTIM, acting_as
from support import Child, lock_directories, names
from support.lock_classes import KINDS
from support.protocol import (
    DEAD,
    HOST,
    SteppedChild,
    beacon,
    has_settled,
    planned_pause,
    plant,
    plant_unique,
    swept_clean,
)


@pytest.fixture
def sticky_path(public_directory, other_user):
    """A path in a directory in which all may write, and where only owners may remove."""
    public_directory.chmod(0o1777)
    return str(public_directory / "README")


@pytest.fixture
def home(monkeypatch):
    """The victim's files, which are what they were at the end."""
    home = hostile.Home()
    monkeypatch.setenv("HOSTILE_HOME", str(home.path))
    yield home
    try:
        home.check()
    finally:
        home.remove()


@pytest.mark.parametrize(
    ("class_name", "every", "least"),
    [(kind.name, *((13, 30) if kind.is_row else (83, 80))) for kind in KINDS],
)
def test_things_in_the_way_at_system_calls(class_name, every, least, other_user):
    """Nothing is followed, truncated, written into, or given another mode."""
    if not support.REFUSABLE:
        pytest.skip("the numbers of this machine's system calls are not known")
    found = hostile.campaign(class_name, every)
    assert found.cases >= least
    assert not found.defects, "\n".join(found.defects)


# What cannot be looked at


def unreadable_file(path):
    hostile.make_file(path + ".lock", 0)


def unreadable_link(path):
    hostile.leave_unbreakable("LinkFileLock", path)
    os.chmod(path + ".lock", 0)


def directory_that_may_not_be_listed(path):
    hostile.leave_unbreakable("MkdirFileLock", path)
    os.chmod(path + ".lock", 0o311)


def directory_that_may_not_be_entered(path):
    hostile.leave_unbreakable("MkdirFileLock", path)
    os.chmod(path + ".lock", 0o744)


def directory_whose_file_may_not_be_read(path):
    hostile.leave_unbreakable("MkdirFileLock", path)
    os.chmod(os.path.join(path + ".lock", DEAD), 0)


TELL = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    def told(call):
        try:
            return call()
        except lockfile.Error as error:
            return [type(error).__name__, str(error)]
    say(told(lambda: lock.acquire(timeout=0.02)))
    say(told(lock.is_locked))
    say(told(lambda: lock.owner().alive))
    say(told(lock.break_lock))
    """


@pytest.mark.leaves_files
@pytest.mark.parametrize(
    "make",
    [
        unreadable_file,
        unreadable_link,
        directory_that_may_not_be_listed,
        directory_that_may_not_be_entered,
        directory_whose_file_may_not_be_read,
    ],
)
def test_lock_that_may_not_be_looked_at_is_held_with_the_reason(file_lock_class, sticky_path, make):
    """Nobody can tell whether its owner lives, and only its owner can remove it."""
    with acting_as(ATTACKER):
        make(sticky_path)
    before = tree(sticky_path)
    with Child(TELL, file_lock_class.__name__, sticky_path, user=VICTIM) as child:
        error, message = child.hear()
        assert error == "LockTimeout"
        assert message.endswith("its lock file cannot be looked at: Permission denied")
        assert child.hear() is True
        assert child.hear() is None
        error, message = child.hear()
        assert error == "UnlockError"
        assert "could not be broken" in message
        child.finish()
    assert tree(sticky_path) == before


def tree(path):
    """All that is in its directory, with modes and numbers."""
    return {
        os.path.join(where, name): os.lstat(os.path.join(where, name))[:6]
        for where, directories, files in os.walk(os.path.dirname(path))
        for name in directories + files
    }


# What cannot be removed


def of_link(path):
    hostile.leave_unbreakable("LinkFileLock", path)


def of_mkdir(path):
    hostile.leave_unbreakable("MkdirFileLock", path)


def symbolic_link(path):
    os.symlink(path, path + ".lock")


@pytest.mark.leaves_files
@pytest.mark.parametrize("make", [of_link, of_mkdir, symbolic_link, unreadable_file])
def test_lock_that_cannot_be_removed_makes_nobody_spin(file_lock_class, sticky_path, make):
    """The system calls of half a second: who looks again at once makes thousands."""
    with acting_as(ATTACKER):
        make(sticky_path)
    code = f"""
        from campaigns import faults
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        become({VICTIM})
        be_stopped()
        try:
            lock.acquire(timeout=0.5)
        except lockfile.LockTimeout as error:
            say(str(error))
        """
    with SteppedChild(
        code, file_lock_class.__name__, sticky_path, kinds=(*faults.KINDS, "say")
    ) as child:
        calls = 0
        while child.next_call().kind != "say":
            calls += 1
        assert child.run_on().startswith("Timeout waiting")
        child.finish()
    assert 10 < calls < 500


@pytest.mark.leaves_files
def test_lock_file_that_becomes_a_symbolic_link_under_its_breaker_is_held(sticky_path):
    """Swapped between the look at a stale lock directory and its removal."""
    with acting_as(ATTACKER):
        of_mkdir(sticky_path)
    code = f"""
        lock = lockfile.MkdirFileLock(sys.argv[1])
        become({VICTIM})
        be_stopped()
        try:
            lock.acquire(timeout=0.02)
        except lockfile.LockError as error:
            say([type(error).__name__, str(error)])
        """
    with SteppedChild(code, sticky_path, kinds=("flock", "stat", "say")) as child:
        child.run_to("flock", where=lambda call: call.arguments[1] & fcntl.LOCK_EX)
        child.run_to("stat")
        with acting_as(ATTACKER):
            shutil.rmtree(sticky_path + ".lock")
            symbolic_link(sticky_path)
        error, message = child.run_on()
        child.finish()
    assert error == "LockTimeout"
    assert "symbolic link" in message


# The files of a database

OWN = """
    lock = lockfile.SQLiteFileLock(sys.argv[1], timeout=0.1)
    try:
        lock.acquire()
    except lockfile.LockError as error:
        say(str(error))
    else:
        say("acquired")
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        say("alone")
    hear()
    """
REFUSED = "must be a file of our own user's, with one name"


@pytest.mark.leaves_files
@pytest.mark.parametrize("content", ["secret", "empty"])
@pytest.mark.parametrize("suffix", ["", "-beacons", "-wal", "-shm", "-journal"])
def test_hard_link_to_a_file_of_ours_is_no_file_of_a_database(sticky_path, home, suffix, content):
    """It would be written into, truncated, or given the mode of the database."""
    os.link(home.path / content, f"{os.path.dirname(sticky_path)}/.lockfile.sqlite3{suffix}")
    with Child(OWN, sticky_path, user=VICTIM) as child:
        assert child.hear().endswith(REFUSED)
        child.finish()


@pytest.mark.leaves_files
@pytest.mark.parametrize("target", ["secret", "missing"])
@pytest.mark.parametrize("suffix", ["", "-beacons", "-wal", "-shm", "-journal"])
def test_symbolic_link_is_no_file_of_a_database(sticky_path, home, suffix, target):
    link = f"{os.path.dirname(sticky_path)}/.lockfile.sqlite3{suffix}"
    with acting_as(ATTACKER):
        os.symlink(home.path / target, link)
    with Child(OWN, sticky_path, user=VICTIM) as child:
        message = child.hear()
        child.finish()
    os.unlink(link)
    assert message.endswith((REFUSED, os.strerror(errno.ELOOP), os.strerror(errno.EACCES)))


@pytest.mark.leaves_files
@pytest.mark.parametrize("mode", [0o666, 0])
@pytest.mark.parametrize("suffix", ["", "-beacons", "-wal", "-shm", "-journal"])
def test_file_of_another_user_is_no_file_of_a_database(sticky_path, suffix, mode):
    with acting_as(ATTACKER):
        hostile.make_file(f"{os.path.dirname(sticky_path)}/.lockfile.sqlite3{suffix}", mode)
    with Child(OWN, sticky_path, user=VICTIM) as child:
        assert child.hear().endswith((REFUSED, os.strerror(errno.EACCES)))
        child.finish()


def forge_log(database, directory):
    """A write-ahead log in which the row of the lock is deleted."""
    copy = shutil.copy(database, directory / "copy")
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        assert connection.execute('DELETE FROM "lockfile: locks"').rowcount == 1
        shutil.copy(f"{copy}-wal", f"{database}-wal")


def forge_journal(database, directory):
    """A rollback journal of a transaction in which the lock was claimed."""
    copy = shutil.copy(database, directory / "copy")
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute('DELETE FROM "lockfile: locks"')
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE filler (data)")
        connection.execute("INSERT INTO filler VALUES (zeroblob(100000))")
        shutil.copy(f"{copy}-journal", f"{database}-journal")


@pytest.fixture
def attackers_directory(tmp_path):
    directory = tmp_path / "attackers"
    directory.mkdir()
    os.chown(directory, ATTACKER, ATTACKER)
    for parent in directory.parents:
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)
    return directory


@pytest.mark.leaves_files
@pytest.mark.parametrize(("forge", "suffix"), [(forge_log, "-wal"), (forge_journal, "-journal")])
def test_forged_log_frees_no_lock(sticky_path, attackers_directory, forge, suffix):
    """SQLite would believe it: put there while the owner has its connection closed."""
    database = Path(os.path.dirname(sticky_path), ".lockfile.sqlite3")
    log = Path(f"{database}{suffix}")
    with Child(OWN, sticky_path, user=VICTIM) as owner:
        assert [owner.hear(), owner.hear()] == ["acquired", "alone"]
        log.unlink(missing_ok=True)  # the attacker could not: ours keeps the name
        with acting_as(ATTACKER):
            forge(database, attackers_directory)
            log.chmod(0o666)
        with Child(OWN, sticky_path, user=VICTIM) as other:
            assert other.hear().endswith(REFUSED)
            other.finish()
        log.unlink()
        with Child(OWN, sticky_path, user=VICTIM) as other:
            assert other.hear().endswith("which is alive")
            other.finish()


KILLED = """
    lock = lockfile.SQLiteFileLock(sys.argv[1] + ".other")
    with lock:
        pass
    be_stopped()
    lock.acquire()
    """


@pytest.mark.leaves_files
def test_forged_journal_in_the_place_of_one_that_was_rolled_back_frees_no_lock(
    sticky_path, attackers_directory
):
    """SQLite has just removed that of a process which was killed, and so made room for it."""
    database = Path(os.path.dirname(sticky_path), ".lockfile.sqlite3")
    journal = Path(f"{database}-journal")
    become = f"become({VICTIM})\n"
    with Child(OWN, sticky_path, user=VICTIM) as owner:
        assert [owner.hear(), owner.hear()] == ["acquired", "alone"]
        with SteppedChild(become + textwrap.dedent(KILLED), sticky_path, kinds=["write"]) as killed:
            while killed.next_call().file(killed.pid) != str(database):
                pass
            killed.next_call()
            killed.kill()
        code = become + "be_stopped()\n" + textwrap.dedent(OWN)
        with SteppedChild(code, sticky_path, kinds=("unlink", "node", "open", "say")) as other:
            other.run_to("unlink", journal.name)
            other.next_call()
            with acting_as(ATTACKER):
                forge_journal(database, attackers_directory)
                journal.chmod(0o666)
            assert other.run_on().endswith(REFUSED)
            other.finish()
        journal.unlink()
        with Child(OWN, sticky_path, user=VICTIM) as other:
            assert other.hear().endswith("which is alive")
            other.finish()


# Names taken in advance


def test_all_names_that_can_be_foretold_are_taken(sticky_path):
    """More of them than a claim tries names: it goes on to random ones."""
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        say(os.path.basename(lock.unique_name))
        hear()
        lock.acquire(timeout=0)
        say(os.path.basename(lock.unique_name))
        lock.release()
        """
    with Child(code, sticky_path, user=VICTIM) as child:
        name, directory = child.hear(), Path(sticky_path).parent
        taken = [name, *(f"{name}.{number}" for number in range(1, 200))]
        with acting_as(ATTACKER):
            for each in taken:
                (directory / each).touch()
        child.say("acquire")
        mine = child.hear()
        assert mine.startswith(name + ".")
        assert mine not in taken
        child.finish()
    assert names(directory) == sorted(taken)
    for each in taken:
        (directory / each).unlink()


@pytest.mark.leaves_files
def test_kernel_of_decimal_digits_is_no_number(sticky_path):
    """Its length tells: the owner of such a name is another machine's, and not proven dead."""
    with acting_as(VICTIM):
        plant(sticky_path, f"{DEAD}.1234567890123456")
    with Child(TELL, "LinkFileLock", sticky_path, user=VICTIM) as child:
        error, message = child.hear()
        assert error == "LockTimeout"
        assert "only the machine that its owner ran on" in message
        assert child.hear() is True


# Courtesy, which is anybody's to ask for

RELEASE_TO_A_WAITER = """
    lock, other = [getattr(lockfile, sys.argv[1])(sys.argv[2] + name) for name in ("", "2")]
    lock.acquire()
    say("owns")
    hear()
    clock().stop_clock(None)
    lock.release()
    (other if sys.argv[3] == "other" else lock).acquire(timeout=float(sys.argv[4]))
    say(clock().start_clock() / 1e9)
    """


def pause(lock_class, path, which, timeout):
    """How long an owner that has released to a waiter, which is stopped, pauses before it claims:
    by a clock that stands still while it does anything else."""
    with Child(RELEASE_TO_A_WAITER, lock_class.__name__, path, which, str(timeout)) as owner:
        assert owner.hear() == "owns"
        code = "say('waits'); getattr(lockfile, sys.argv[1])(sys.argv[2]).acquire()"
        with Child(code, lock_class.__name__, path) as waiter:
            assert waiter.hear() == "waits"
            support.wait_until(lambda: has_settled(waiter.pid), "the waiter to sleep")
            os.kill(waiter.pid, signal.SIGSTOP)
            owner.say("release")
            seconds = owner.hear()
        owner.finish()
    return seconds


def test_courtesy_is_owed_for_the_lock_that_was_released(clock, lock_class, path):
    """And it is over soon, though nobody comes."""
    assert 0 < pause(lock_class, path, "same", 5) <= 0.001


@pytest.mark.parametrize(("which", "timeout"), [("same", 0), ("other", 5)])
def test_no_courtesy_is_owed_for_another_lock_or_by_who_would_not_wait(
    clock, lock_class, path, which, timeout
):
    assert pause(lock_class, path, which, timeout) == 0


def test_no_courtesy_is_owed_to_a_thread_that_has_given_up(lock_class, path):
    code = """
        from support import in_thread
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        lock.acquire()
        for _ in range(2):
            try:
                in_thread(lock.acquire, timeout=0.01)
            except lockfile.LockTimeout:
                say("timeout")
        be_stopped()
        hear()
        lock.release()
        lock.acquire(timeout=5)
        say("owns")
        lock.release()
        """
    with SteppedChild(code, lock_class.__name__, path, kinds=("sleep", "say")) as owner:
        assert owner.hear() == owner.hear() == "timeout"
        owner.say("go on")
        assert owner.next_call().kind == "say"
        assert owner.run_on() == "owns"
        owner.finish()


# Sweeps and lock directories between two looks


def test_sweep_leaves_a_file_that_was_linked_since_its_first_look(path, tmp_path):
    """A claim has lit it, linked it to its lock file, and was killed: all before the grant."""
    plant(path)
    other = plant_unique(path, f"{HOST}-7f0000000001-123")
    code = """
        lock = lockfile.LinkFileLock(sys.argv[1])
        be_stopped()
        with lock:
            pass
        say("done")
        """
    with SteppedChild(code, path, kinds=("flock", "say")) as sweeper:
        sweeper.run_to("flock", where=lambda call: call.file(sweeper.pid) == other)
        os.link(other, tmp_path / "other.lock")
        assert sweeper.run_on() == "done"
        sweeper.finish()
    assert names(tmp_path) == sorted([os.path.basename(other), "other.lock"])
    assert swept_clean(lockfile.LinkFileLock, str(tmp_path / "other"))


def test_lock_directory_in_place_of_ours_is_not_ours(refusals, path):
    """Ours was broken when all was in it; that one has a single file in it, too."""
    code = """
        lock_directories.go("in place")
        lock = lockfile.MkdirFileLock(sys.argv[1])
        be_stopped()
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            say("held")
        else:
            say("acquired")
        """
    lock = lockfile.MkdirFileLock(path)
    with (
        lock_directories.Way("in place") as in_place,
        lock_directories.Stepped(code, path) as child,
    ):
        child.run_to("mkdir", "README.lock")
        child.run_to("flock")
        child.run_to("open", "README.lock")
        in_place.run(lock.break_lock)
        in_place.run(lock.acquire, timeout=0)
        assert child.run_on() == "held"
        assert in_place.run(lock_directories.is_intact, lock)
        in_place.run(lock.release)
        child.finish()


# Looks of others, and deaths that are told of too early

ACQUIRE = """
    from campaigns import faults
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    be_stopped()
    lock.acquire(timeout=60)
    say(lock.i_am_locking())
    hear()
    lock.release()
    """


def test_beacon_that_still_burns_after_a_death_is_looked_at_again_soon(file_lock_class, path):
    """The kernel tells first; then the pauses are short, and grow."""
    with support.holder(file_lock_class, path) as owner:
        kinds = ("sleep", "say")
        with SteppedChild(ACQUIRE, file_lock_class.__name__, path, kinds=kinds) as waiter:
            while planned_pause(waiter.run_to("sleep")) < 0.5:
                pass
            with open(owner.unique_name, "ab"):  # closed, it makes the same event
                pass
            pauses = [planned_pause(waiter.run_to("sleep"))]
            while pauses[-1] < 0.5:
                pauses.append(planned_pause(waiter.run_to("sleep")))
            owner.say("release")
            assert owner.hear() == "released"
            assert waiter.run_on() is True
            waiter.finish()
    assert len(pauses) > 5
    assert pauses[0] < 0.001
    assert pauses == sorted(pauses)
    assert pauses[-2] < 0.5


def test_breaker_asks_again_at_once_where_only_a_look_was_in_the_way(path):
    """No sleep comes between its refusal and its beacon."""
    plant(path)
    kinds = ("flock", "sleep", "say")
    with SteppedChild(ACQUIRE, "LinkFileLock", path, kinds=kinds) as breaker:

        def takes_beacon(call):
            return call.arguments[1] & fcntl.LOCK_EX and call.file(breaker.pid) == path + ".lock"

        with beacon(path + ".lock", fcntl.LOCK_SH):
            breaker.run_to("flock", where=takes_beacon)
            assert breaker.next_call().kind == "flock"  # the other has refused it
        seen = [breaker.call]
        while not takes_beacon(seen[-1]):
            seen.append(breaker.next_call())
        assert {call.kind for call in seen} == {"flock"}
        assert breaker.run_on() is True
        breaker.finish()
