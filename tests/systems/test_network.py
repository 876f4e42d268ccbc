"""Machines that share a network file system: manners of it that have broken locks before.

The machines are processes with a library in front of the C library (support/preloaded/network.c):
another boot identity and kernel locks of their own for each, and an NFS client's answers.
"""

import ast
import errno
import os
import re

import pytest

from lockfile import LinkFileLock, LockFailed, MkdirFileLock, SQLiteFileLock, SymlinkLockFile
from support import PATIENCE, in_thread, wait_until
from support.killed_anywhere import KILLED_ANYWHERE
from support.lock_classes import BEACONS_ARE_SHARED, kind_of
from support.network import Network

# A short run each time; set this for a long one.
SECONDS = float(os.environ.get("LOCKFILE_STRESS_SECONDS", "1"))

FOR_EVER = 3_600_000  # milliseconds

# How machines may see locks and each other's changes.
MANNERS = {
    "locks of the server": {"flock": "server"},
    "locks of each machine, late and repeated answers": {
        "flock": "machine",
        "lag": FOR_EVER,
        "repeated": 20,
    },
}

every_manner = pytest.mark.parametrize("manners", MANNERS.values(), ids=MANNERS.keys())

ONLY_THERE = "only the machine that its owner ran on can tell whether it is alive"

TRY = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    alive = lock.owner() and lock.owner().alive
    try:
        lock.acquire(timeout=float(sys.argv[3]))
        lock.release()
        say([None, alive])
    except lockfile.LockError as error:
        say([f"{type(error).__name__}: {error}", alive])
    """

STAY = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], **eval("".join(sys.argv[3:]) or "{}"))
    while told := hear():
        try:
            answer = eval(told)
            say(None if answer is lock else answer)
        except lockfile.Error as error:
            say(f"{type(error).__name__}: {error}")
    """


@pytest.fixture
def network(preloadable, tmp_path):
    """A directory that machines share; nothing of ours is left in it."""
    network = Network(preloadable("network.c"), tmp_path)
    yield network
    assert network.names() == []


def tried(machine, lock_class, path, timeout=0.05):
    """What comes of an acquire on that machine: [None or an error, owner().alive before it]."""
    with machine.child(TRY, lock_class.__name__, path, str(timeout)) as child:
        return child.hear()


def user(machine, lock_class, path, **keywords):
    """A process there which evaluates what it is told about its `lock`."""
    return machine.child(STAY, lock_class.__name__, path, repr(keywords))


def told(child, expression):
    child.say(expression)
    return child.hear()


def swept_by(machine, lock_class, path):
    """Have that machine break a dead owner's lock, and so remove what its own dead have left."""
    machine.holder(lock_class, path).kill()
    assert tried(machine, lock_class, path, PATIENCE)[0] is None


# Exclusion


@every_manner
@pytest.mark.parametrize("lock_class", [LinkFileLock, SQLiteFileLock])
def test_machines_exclude_each_other_though_processes_are_killed(
    network, lock_class, manners, tmp_path
):
    marks = tmp_path / "marks"
    marks.mkdir()
    machines = [network.machine(number, **manners) for number in (1, 2)]
    arguments = [lock_class.__name__, network.root, marks, str(SECONDS), "1"]
    children = [machine.child(KILLED_ANYWHERE, *arguments) for machine in machines]
    reports = [child._lines.get(timeout=SECONDS + 3 * PATIENCE) for child in children]
    for child in children:
        child.finish()
    assert not (marks / "overlaps").exists(), (marks / "overlaps").read_text()
    assert all(reports)
    for machine in machines:
        swept_by(machine, lock_class, network.path)


# Readers

ACQUIRE = "lock.acquire(timeout=0)"


@every_manner
@pytest.mark.skipif(not BEACONS_ARE_SHARED, reason="no beacon can be shared on this system")
@pytest.mark.parametrize("lock_class", [LinkFileLock, MkdirFileLock])
def test_reader_of_a_file_is_alone(network, lock_class, manners):
    """The kernel's lock that readers have together is one machine's."""
    here, there = (network.machine(number, **manners) for number in (1, 2))
    reader = user(here, lock_class, network.path, shared=True)
    others = [user(machine, lock_class, network.path, shared=True) for machine in (here, there)]
    with reader, others[0], others[1]:
        assert told(reader, ACQUIRE) is None
        for other in others:
            assert told(other, ACQUIRE).startswith("AlreadyLocked")
        assert tried(there, lock_class, network.path, 0)[0].startswith("AlreadyLocked")
        assert told(reader, "lock.release()") is None
        for other in others:
            assert told(other, "lock.try_acquire(0)") is True
            assert told(other, "lock.release()") is None


@every_manner
def test_readers_of_rows_share_though_one_is_killed(network, manners):
    """And a writer gets in once they have left; who was killed is proven dead by its machine."""
    here, there = (network.machine(number, **manners) for number in (1, 2))
    readers = [
        user(machine, SQLiteFileLock, network.path, shared=True) for machine in (here, here, there)
    ]
    with readers[0] as killed, readers[1] as near, readers[2] as far:
        for reader in readers:
            assert told(reader, ACQUIRE) is None
        killed.kill()
        for reader in (near, far):
            for machine in (here, there):
                refused, _ = tried(machine, SQLiteFileLock, network.path, 0)
                assert refused.startswith("AlreadyLocked")
            assert told(reader, "lock.release()") is None
        assert tried(here, SQLiteFileLock, network.path, PATIENCE)[0] is None
        assert tried(there, SQLiteFileLock, network.path, PATIENCE)[0] is None


KILLED_OWNING = """
    import random, signal, traceback
    path, mark, seconds = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    kills = holds = 0

    def hold(report):
        lock = lockfile.MkdirFileLock(path)
        held = 0
        while held == 0 or time.monotonic() < end:
            lock.acquire(timeout=PATIENCE)
            held += 1
            os.mkdir(mark)  # fails beside another owner
            os.rmdir(mark)
            os.write(report, b".")
            if random.random() < 0.02:
                os.kill(os.getpid(), signal.SIGKILL)
            lock.release()

    def start():
        process = os.fork()
        if process == 0:
            try:
                hold(writing)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        return process

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    workers = {start() for _ in range(3)}
    failed = False
    while workers:
        process, status = os.wait()
        workers.remove(process)
        failed = failed or os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0
        if os.WIFSIGNALED(status) and time.monotonic() < end:
            kills += 1
            workers.add(start())
    with lockfile.MkdirFileLock(path, timeout=PATIENCE):  # the last may have been killed
        os.close(writing)
        while held := os.read(reading, 1 << 16):
            holds += len(held)
    say({"failed": failed, "kills": kills, "holds": holds})
    """


@every_manner
def test_lock_directories_exclude_machines_though_owners_are_killed(network, manners, tmp_path):
    """Owners only: killed while it makes one in place, a process strands it, as the limits say."""
    arguments = [network.path, tmp_path / "mark", str(SECONDS)]
    machines = [network.machine(number, **manners) for number in (1, 2)]
    children = [machine.child(KILLED_OWNING, *arguments) for machine in machines]
    for child in children:
        report = ast.literal_eval(child._lines.get(timeout=SECONDS + 3 * PATIENCE).decode())
        assert not report["failed"]
        assert report["holds"] > 0
        child.finish()
    for machine in machines:
        swept_by(machine, MkdirFileLock, network.path)


# Owners elsewhere


@pytest.mark.parametrize("flock", ["machine", "server"])
def test_owner_killed_elsewhere_is_never_taken_for_dead(network, lock_class, flock):
    here, there = network.machine(1, flock), network.machine(2, flock)
    with there.holder(lock_class, network.path) as owner:
        if not kind_of(lock_class).is_row:
            assert re.search(r"-\d+\.[0-9a-f]{16}$", owner.unique_name)
        error, alive = tried(here, lock_class, network.path)
        assert error.startswith("LockTimeout")
        assert alive is (True if flock == "server" or kind_of(lock_class).is_row else None)
    error, alive = tried(here, lock_class, network.path)
    assert error.startswith("LockTimeout") and ONLY_THERE in error
    assert alive is None
    assert tried(there, lock_class, network.path, PATIENCE) == [None, False]
    assert tried(here, lock_class, network.path, 0) == [None, None]


def test_waiter_breaks_a_dead_owner_of_its_own_machine(network, lock_class):
    machine = network.machine(1)
    with (
        machine.holder(lock_class, network.path) as owner,
        user(machine, lock_class, network.path) as waiter,
    ):
        waiter.say(f"lock.acquire(timeout={PATIENCE})")
        owner.kill()
        assert waiter.hear() is None
        assert told(waiter, "lock.release()") is None


def test_break_lock_frees_what_a_dead_machine_has_left(network, lock_class):
    here, there = network.machine(1), network.machine(2)
    there.holder(lock_class, network.path).kill()
    with user(here, lock_class, network.path) as child:
        assert told(child, "lock.break_lock()") is None
        assert told(child, "lock.acquire(timeout=0)") is None
        assert told(child, "lock.release()") is None
    swept_by(there, lock_class, network.path)


def test_break_lock_breaks_a_live_owner(network, file_lock_class):
    """Its own file is there under another name, as long as it has that open."""
    here, there = network.machine(1), network.machine(2)
    for owners, breakers in (here, here), (there, here):
        with (
            user(owners, file_lock_class, network.path) as owner,
            user(breakers, file_lock_class, network.path) as breaker,
        ):
            assert told(owner, "lock.acquire()") is None
            assert told(breaker, "lock.break_lock()") is None
            assert told(breaker, "lock.acquire(timeout=0)") is None
            assert told(owner, "lock.release()").startswith("NotMyLock")
            assert told(breaker, "lock.release()") is None
            assert told(owner, "lock.acquire(timeout=0)") is None
            assert told(owner, "lock.break_lock()") is None  # its own
            assert told(owner, "lock.i_am_locking()") is False
            assert told(owner, "lock.acquire(timeout=0)") is None
            assert told(owner, "lock.release()") is None
        swept_by(here, file_lock_class, network.path)


def test_breaker_whose_beacon_another_looks_at_waits(network, file_lock_class):
    """NFS 4 grants a look only on what is open for reading, and a break on what is for writing."""
    machine = network.machine(1, "server")
    owner = machine.holder(file_lock_class, network.path)
    unique = owner.unique_name
    owner.kill()
    with (
        machine.child(STAY, file_lock_class.__name__, unique) as looker,
        user(machine, file_lock_class, network.path) as breaker,
    ):
        assert told(looker, "locked_to_look(opened(sys.argv[2]))")
        assert told(breaker, "lock.acquire(timeout=0.1)").startswith("LockTimeout")
        looker.kill()
        assert told(breaker, f"lock.acquire(timeout={PATIENCE})") is None
        assert told(breaker, "lock.release()") is None


# Handles that are stale

STALE = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])

    def outcome(call, *arguments):
        try:
            call(*arguments)
        except lockfile.Error as error:
            assert "Stale file handle" in str(error), error
            assert error.__cause__.errno == errno.ESTALE
            return error
        finally:
            show(kind, 0)

    import errno
    for kind in "stale_open", "stale_stat", "stale_link", "stale_unlink":
        for times in 1, 2, 3:
            lock.is_locked()
            show(kind, times)
            error = outcome(lock.acquire, PATIENCE)
            assert error is None or type(error) is lockfile.LockFailed
            assert lock.i_am_locking() is (error is None)
            lock.acquire(timeout=PATIENCE)

            show(kind, times)
            outcome(lock.is_locked)
            assert lock.i_am_locking()

            show(kind, times)
            error = outcome(lock.release)
            assert error is None or type(error) is lockfile.UnlockError
            assert lock.i_am_locking() is ("still" in str(error))
            if lock.i_am_locking():
                lock.release()
            if "left behind" in str(error):  # a lock directory that could not be seen
                lock.break_lock()
            assert not lock.is_locked()

            lock.acquire(timeout=PATIENCE)
            show(kind, times)
            outcome(lock.break_lock)
            lock.break_lock()
            assert not lock.is_locked()
        say([kind, shown(kind)])
    """


@pytest.mark.parametrize("flock", ["machine", "server"])
def test_stale_handles_end_in_success_or_in_an_error_that_says_so(network, file_lock_class, flock):
    """On open, stat, link and removal, in every method; the object can be used afterwards."""
    with network.machine(1, flock).child(STALE, file_lock_class.__name__, network.path) as child:
        for _ in range(4):
            kind, times = child.hear()
            assert times > 0 or (kind, file_lock_class) == ("stale_link", MkdirFileLock)
        child.finish()


@pytest.mark.parametrize("kind", ["stale_open", "stale_stat"])
def test_stale_handle_of_a_held_lock_does_not_make_it_free(network, file_lock_class, kind):
    machine = network.machine(1)
    with (
        machine.holder(file_lock_class, network.path) as owner,
        user(machine, file_lock_class, network.path) as child,
    ):
        for times in 1, 2:
            assert told(child, f"show('{kind}', {times})") is None
            held = told(child, "lock.is_locked()")
            assert held is True or "Stale file handle" in held
            assert told(child, f"show('{kind}', {times})") is None
            error = told(child, "lock.acquire(timeout=0)")
            assert error.startswith("AlreadyLocked") or "Stale file handle" in error
            assert told(child, f"show('{kind}', 0)") is None
        assert told(child, f"shown('{kind}')") >= 2
        owner.say("release")
        assert owner.hear() == "released"
    swept_by(machine, file_lock_class, network.path)  # who cannot see what it has made, leaves it


# Files that are removed while they are open


def test_release_waits_for_looks_that_keep_its_file_in_the_directory(network):
    """The removed file is there under another name for as long as it is open anywhere."""
    machine = network.machine(1)
    with (
        user(machine, MkdirFileLock, network.path) as owner,
        machine.child(STAY, "MkdirFileLock", network.path) as looker,
    ):
        assert told(owner, "lock.acquire()") is None
        unique = told(owner, "lock.unique_name")
        assert told(looker, f"opened({unique!r})") > 0
        owner.say("lock.release()")
        wait_until(lambda: not os.path.exists(unique), "the removal")
        looker.kill()
        assert owner.hear() is None
        assert told(owner, "shown('silly_rename')") > 0


def test_release_says_that_it_leaves_a_directory_that_is_in_use_for_long(network):
    machine = network.machine(1, "server")
    with (
        user(machine, MkdirFileLock, network.path) as owner,
        machine.child(STAY, "MkdirFileLock", network.path) as looker,
    ):
        assert told(owner, "lock.acquire()") is None
        unique = told(owner, "lock.unique_name")
        assert told(looker, f"opened({unique!r})") > 0
        error = told(owner, "lock.release()")
        assert error.startswith("UnlockError") and "not locked by me any more" in error
        looker.kill()
        assert told(owner, "lock.is_locked()") is True  # nobody judges an empty directory
        assert told(owner, "lock.break_lock()") is None
        assert told(owner, "lock.is_locked()") is False


def test_nothing_is_left_of_claims_and_releases(network, file_lock_class):
    """Everything that is removed here is open at that time."""
    machine = network.machine(1)
    with user(machine, file_lock_class, network.path) as child:
        for _ in range(3):
            assert told(child, "lock.acquire()") is None
            assert tried(machine, file_lock_class, network.path)[0].startswith("LockTimeout")
            assert told(child, "lock.release()") is None
            assert network.names() == []
        assert told(child, "shown('silly_rename')") > 0


# No kernel locks


def test_owner_without_a_beacon_promises_none_and_is_held_for_ever(network, file_lock_class):
    machine = network.machine(1, errno.ENOLCK)
    with machine.holder(file_lock_class, network.path) as owner:
        assert re.search(r"-\d+\.f{16}(\.\d{1,10})?$", owner.unique_name)  # nobody has this K
        assert tried(machine, file_lock_class, network.path)[0].startswith("LockTimeout")
    for other in (machine, network.machine(2, errno.EOPNOTSUPP), network.machine(1, "machine")):
        text, alive = tried(other, file_lock_class, network.path)
        assert text.startswith("LockTimeout")
        assert alive is None
    with user(machine, file_lock_class, network.path) as child:
        assert told(child, "lock.break_lock()") is None
        assert told(child, "lock.acquire(timeout=0)") is None
        assert told(child, "lock.release()") is None
        assert told(child, "lock.acquire(timeout=0)") is None
        assert told(child, "lock.set_inheritable(True)").startswith("UnlockError")
        assert told(child, "lock.release()") is None
    if kind_of(file_lock_class).lock_file == "file":
        os.unlink(owner.unique_name)  # nobody can prove it abandoned


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_no_kernel_locks_on_a_local_file_system_is_an_error(file_lock_class, path, refusals, error):
    with pytest.raises(LockFailed, match=os.strerror(error)):
        in_thread(file_lock_class(path).acquire, timeout=1, refused={"flock": error})
    assert os.listdir(os.path.dirname(path)) == []


# Answers from memory


def test_claim_is_refused_though_the_lock_file_is_remembered_to_be_absent(network, file_lock_class):
    here, there = network.machine(1, lag=FOR_EVER), network.machine(2)
    with user(here, file_lock_class, network.path) as child:
        assert told(child, "looked_at(lock.lock_file)") is None
        with there.holder(file_lock_class, network.path):
            assert told(child, "lock.is_locked()") is False  # for as long as that is remembered
            assert told(child, "shown('outdated_answer')") > 0
            assert told(child, "lock.acquire(timeout=0)").startswith("AlreadyLocked")
            assert told(child, "lock.is_locked()") is True
        assert tried(there, file_lock_class, network.path, PATIENCE)[0] is None


def test_new_file_with_the_number_of_a_lock_that_is_remembered_owns_nothing(
    network, file_lock_class
):
    """Numbers of removed files are given out again, and files are told apart by them."""
    here, there = network.machine(1, lag=FOR_EVER), network.machine(2)
    with (
        user(here, file_lock_class, network.path) as child,
        user(there, file_lock_class, network.path) as owner,
    ):
        assert told(owner, "lock.acquire()") is None
        assert told(child, "looked_at(lock.lock_file)") is None
        assert told(owner, "lock.release()") is None
        assert told(owner, "lock.acquire()") is None
        assert told(child, "show('reused_inode', 1000)") is None
        assert told(child, "lock.acquire(timeout=0)").startswith("AlreadyLocked")
        assert told(owner, "lock.release()") is None
        assert told(child, "lock.acquire(timeout=0)") is None
        assert told(child, "lock.release()") is None
    assert not network.names()


def test_release_sees_that_its_lock_was_broken_though_it_is_remembered(network, file_lock_class):
    here, there = network.machine(1, lag=FOR_EVER), network.machine(2)
    with (
        user(here, file_lock_class, network.path) as broken,
        user(there, file_lock_class, network.path) as fresh,
    ):
        assert told(broken, "lock.acquire()") is None
        assert told(broken, "looked_at(lock.lock_file)") is None
        assert told(fresh, "lock.break_lock()") is None
        assert told(fresh, "lock.acquire(timeout=0)") is None
        assert told(broken, "lock.release()").startswith("NotMyLock")
        assert told(fresh, "lock.i_am_locking()") is True
        assert told(fresh, "lock.release()") is None


def test_waiter_sees_a_release_elsewhere_though_the_lock_is_remembered(network, file_lock_class):
    here, there = network.machine(1, lag=FOR_EVER), network.machine(2, lag=FOR_EVER)
    with (
        user(there, file_lock_class, network.path) as owner,
        user(here, file_lock_class, network.path) as waiter,
    ):
        assert told(owner, "lock.acquire()") is None
        assert told(waiter, "looked_at(lock.lock_file)") is None
        assert told(waiter, "lock.acquire(timeout=0.1)").startswith("LockTimeout")
        waiter.say(f"lock.acquire(timeout={PATIENCE})")
        assert told(owner, "lock.release()") is None
        assert waiter.hear() is None
        assert told(waiter, "lock.release()") is None


# Answers that are lost, and given again to who asks again


@pytest.fixture(params=[LinkFileLock, SymlinkLockFile], ids=lambda lock_class: lock_class.__name__)
def linking_class(request):
    return request.param


@pytest.mark.parametrize("flock", ["machine", errno.ENOLCK])
def test_link_that_succeeds_and_is_reported_to_have_failed_owns(network, linking_class, flock):
    """At once, and not by breaking it as one whose owner is dead, which needs kernel locks."""
    here, there = network.machine(1, flock), network.machine(2, flock)
    with user(here, linking_class, network.path) as child:
        assert told(child, "show('repeated_link', 1)") is None
        assert told(child, "lock.acquire(timeout=0)") is None
        assert told(child, "shown('repeated_link')") == 1
        assert told(child, "lock.i_am_locking()") is True
        assert tried(there, linking_class, network.path, 0)[0].startswith("AlreadyLocked")
        assert told(child, "lock.release()") is None


def test_link_that_fails_and_is_reported_to_have_failed_does_not_own(network, linking_class):
    """The same answer, this time true."""
    here, there = network.machine(1), network.machine(2)
    with there.holder(linking_class, network.path) as owner:
        assert tried(here, linking_class, network.path, 0)[0].startswith("AlreadyLocked")
        owner.say("release")
        assert owner.hear() == "released"


@pytest.mark.parametrize("times", [1, 1000])
def test_link_that_is_reported_to_have_succeeded_and_has_not_does_not_own(
    network, linking_class, times
):
    with user(network.machine(1), linking_class, network.path) as child:
        assert told(child, f"show('untrue_link', {times})") is None
        error = told(child, "lock.acquire(timeout=0.1)")
        assert (error is None) is (times == 1)
        assert told(child, "shown('untrue_link')") > 0
        assert os.path.exists(network.path + ".lock") is (times == 1)
        assert told(child, "lock.i_am_locking()") is (times == 1)
        assert told(child, "show('untrue_link', 0)") is None
        assert told(child, "lock.acquire(timeout=0)") is None
        assert told(child, "lock.release()") is None


def test_removals_that_succeed_and_are_reported_to_have_failed_release(network, file_lock_class):
    with user(network.machine(1), file_lock_class, network.path) as child:
        for times in 1, 2, 3:
            assert told(child, "lock.acquire(timeout=0)") is None
            assert told(child, f"show('repeated_unlink', {times})") is None
            assert told(child, "lock.release()") is None
            assert told(child, "show('repeated_unlink', 0)") is None
            assert told(child, "lock.is_locked()") is False
            assert network.names() == []
        assert told(child, "shown('repeated_unlink')") > 3


def test_removals_of_a_dead_owner_that_are_reported_to_have_failed_free(network, file_lock_class):
    """At each of the removals that breaker and claimer make."""
    machine = network.machine(1)
    with user(machine, file_lock_class, network.path) as child:
        for times in range(1, 6):
            machine.holder(file_lock_class, network.path).kill()
            assert told(child, f"show('repeated_unlink', {times})") is None
            assert told(child, "lock.acquire(timeout=0)") is None
            assert told(child, "show('repeated_unlink', 0)") is None
            assert told(child, "lock.release()") is None
        assert told(child, "shown('repeated_unlink')") > 5


def test_mkdir_that_succeeds_and_is_reported_to_have_failed_owns_for_nobody(network):
    with user(network.machine(1), MkdirFileLock, network.path) as child:
        assert told(child, "show('repeated_mkdir', 1)") is None
        assert told(child, "lock.acquire(timeout=0)").startswith("AlreadyLocked")
        assert told(child, "shown('repeated_mkdir')") == 1
        assert told(child, "lock.is_locked()") is True
        assert told(child, "lock.break_lock()") is None
        assert told(child, "lock.acquire(timeout=0)") is None
        assert told(child, "lock.release()") is None
