"""Who owns a lock that is inherited, and what each of those who have it leaves to the others."""

import errno
import os
import threading

import pytest

from lockfile import AlreadyLocked, FileLock, LinkFileLock, PIDLockFile
from support import PATIENCE, Child, OtherThread, in_thread, names, refuse
from support.families import forked_child, in_child
from support.lock_classes import KINDS, kind_of
from support.protocol import SteppedChild, parsed, plant_as

SHARING = [kind.lock_class for kind in KINDS if not kind.is_row]
OF_THREADS = [each for each in SHARING if not kind_of(each).is_pid_file]


@pytest.fixture(params=SHARING, ids=lambda lock_class: lock_class.__name__)
def lock(request, path):
    """A lock that this process owns, and children are to have."""
    lock = request.param(path)
    lock.acquire()
    lock.set_inheritable(True)
    yield lock
    lock.break_lock()
    assert not lock.is_locked()


@pytest.fixture(params=OF_THREADS, ids=lambda lock_class: lock_class.__name__)
def lock_class(request):
    return request.param


# Who owns it


def test_what_an_object_owned_is_that_objects_in_a_child_too(lock_class, path):
    lock = lock_class(path, owner="object")
    lock.acquire()
    lock.set_inheritable(True)
    for other in ({}, {"threaded": False}, {"owner": "object"}):
        assert in_child(lambda other=other: lock_class(path, **other).i_am_locking()) is False
        assert in_child(lambda other=other: lock_class(path, **other).try_acquire()) is False
    assert in_child(lock.i_am_locking)
    lock.release()


def test_objects_that_come_and_go_in_a_child_take_nothing(lock_class, path):
    with OtherThread() as thread:  # whose end leaves the child alone with it
        lock = lock_class(path)
        bystander = lock_class(path, owner="object")
        thread.run(lock.acquire)
        thread.run(lock.set_inheritable, True)

        def look_about():
            nonlocal bystander
            is_locked = lock_class(path, owner="object").is_locked()
            bystander = None
            return [is_locked, lock.i_am_locking(), lock_class(path, owner="object").try_acquire()]

        assert in_child(look_about) == [True, True, False]
        assert thread.run(lock.i_am_locking)
        thread.run(lock.release)


def test_thread_of_a_child_owns_nothing(lock_class, path):
    """But the one that the child begins with."""
    lock = lock_class(path)
    lock.acquire()
    lock.set_inheritable(True)
    looks = in_child(lambda: [in_thread(lock.i_am_locking), lock.i_am_locking()])
    assert looks == [False, True]
    lock.release()


def test_child_of_another_thread_owns_by_every_path(lock_class, tmp_path):
    (tmp_path / "alias").symlink_to(tmp_path)
    with OtherThread() as thread:
        lock = lock_class(tmp_path / "x")
        thread.run(lock.acquire)
        thread.run(lock.set_inheritable, True)
        alias = lock_class(tmp_path / "alias" / "x")
        assert in_child(lambda: [alias.i_am_locking(), alias.try_acquire(), alias.release()]) == [
            True,
            True,
            None,
        ]
        assert not thread.run(lock.is_locked)


# What the names tell


def unique_names(lock):
    kind = kind_of(type(lock))
    lock_file = kind.lock_file_of(lock.path)
    directory = lock_file if kind.is_directory else os.path.dirname(lock_file)
    return [name for name in names(directory) if name != os.path.basename(lock_file)]


def names_the_caller(lock):
    """By the one name that there is, and by what a PID file holds; but for a symbolic link."""
    kind = kind_of(type(lock))
    [name] = unique_names(lock)
    assert os.path.basename(lock.unique_name) == name
    says = parsed(name)[2] if kind.lock_file != "symlink" else os.getpid()
    assert not kind.is_pid_file or lock.read_pid() == says
    return says == os.getpid()


def test_whoever_calls_is_named(lock):
    """Be it a child, another one of them, or the parent again."""
    for _ in range(3):
        assert in_child(lambda: lock.i_am_locking() and names_the_caller(lock)) is True
        assert lock.i_am_locking()
        assert names_the_caller(lock)
    with forked_child(lock) as one, forked_child(lock) as other:
        for ask in (one, other, one):
            before = unique_names(lock)
            assert ask("i_am_locking")
            [name] = unique_names(lock)
            assert [name] != before or kind_of(type(lock)).lock_file == "symlink"
        assert os.path.exists(lock.unique_name)  # though nothing else was asked since
    assert names_the_caller(lock)


def test_child_that_has_called_and_ended_leaves_the_lock_to_its_parent(lock):
    """Though the names, and a PID file, say that it is the child's."""
    assert in_child(lock.is_locked) is True
    assert lock.is_locked()
    code = "say(getattr(lockfile, sys.argv[1])(sys.argv[2]).try_acquire())"
    with Child(code, type(lock).__name__, lock.path) as other:
        assert other.hear() is False
    assert lock.i_am_locking()


def test_release_leaves_no_name(lock):
    for release in (lambda: in_child(lock.release), lock.release):
        with forked_child(lock) as one, forked_child(lock) as other:
            assert one("i_am_locking")
            assert other("i_am_locking")
            assert release() is None
            assert names(os.path.dirname(lock.path)) == []
            assert not one("i_am_locking")
        lock.acquire()
        lock.set_inheritable(True)


def test_children_that_call_at_once_leave_no_name(lock):
    """Four that are let go at the same moment."""
    for _ in range(20):
        gate, opener = os.pipe()
        children = []
        for _ in range(4):
            children.append(os.fork())
            if children[-1] == 0:
                os.close(opener)
                os.read(gate, 1)
                os._exit(0 if lock.i_am_locking() else 1)
        os.close(gate)
        os.close(opener)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
        assert lock.i_am_locking()
        lock.release()
        assert names(os.path.dirname(lock.path)) == []
        lock.acquire()
        lock.set_inheritable(True)


def test_several_names_of_the_dead_are_removed_with_their_lock(path, tmp_path):
    """As of children that were killed while they named themselves."""
    for lock_class in (LinkFileLock, PIDLockFile):
        lock_file = plant_as(lock_class, path)
        for number in range(3):
            os.link(lock_file, tmp_path / f"host--{4194300 + number}")
        lock = lock_class(path)
        lock.acquire(timeout=0)
        lock.release()
        assert names(tmp_path) == []


def test_pid_file_that_cannot_be_written_gets_no_name(refusals, path, tmp_path):
    lock = PIDLockFile(path)
    lock.acquire()
    lock.set_inheritable(True)

    def call_often():
        refuse("write", errno.ENOSPC)
        owns = [lock.i_am_locking() for _ in range(3)]
        return [owns, len(names(tmp_path)), os.stat(path).st_mode & 0o7777]

    assert in_child(call_often) == [[True] * 3, 2, 0o644]
    assert lock.read_pid() == os.getpid()
    lock.release()


def test_pid_file_holds_a_whole_number_after_longer_and_shorter_ones(path):
    lock = PIDLockFile(path)
    lock.acquire()
    lock.set_inheritable(True)
    for number in ("3", "4194303"):
        parent = f"host--{number}"
        os.link(path, os.path.join(os.path.dirname(path), parent))
        with open(path, "w") as file:
            file.write(f"{number}\n")
        assert lock.i_am_locking()
        with open(path) as file:
            assert int(file.read()) == os.getpid()
        assert len(unique_names(lock)) == 1
    lock.release()


# Lost descriptors


def close_all_below(directory):
    """As a daemon closes all that it has open."""
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith(directory):
                os.close(int(number))
        except FileNotFoundError:
            pass


def test_owner_that_closes_all_keeps_what_a_child_has_named(lock):
    assert in_child(lock.i_am_locking) is True
    close_all_below(os.path.dirname(lock.path))
    assert lock.i_am_locking()
    assert lock.release() is None
    assert names(os.path.dirname(lock.path)) == []


def test_what_came_after_is_not_taken_for_the_lost_one(lock):
    """Though it is lit, and may have the same inode number."""
    close_all_below(os.path.dirname(lock.path))
    code = """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        lock.break_lock()
        say(lock.try_acquire())
        hear()
        """
    with Child(code, type(lock).__name__, lock.path) as other:
        assert other.hear()
        assert not lock.i_am_locking()
        with pytest.raises(AlreadyLocked):
            type(lock)(lock.path).acquire(timeout=0)


def test_child_that_closes_all_owns_while_others_keep_the_beacon(lock):
    def lives_on():
        close_all_below(os.path.dirname(lock.path))
        calls = [lock.i_am_locking(), lock.is_locked(), lock.owner().alive, lock.fileno() >= 0]
        return [*calls, lock.release()]

    assert in_child(lives_on) == [True, True, True, True, None]
    assert not lock.is_locked()
    assert names(os.path.dirname(lock.path)) == []


def test_child_that_closes_all_lights_the_beacon_when_it_is_the_last(lock):
    with forked_child(lock) as ask:

        def lives_on():
            close_all_below(os.path.dirname(lock.path))
            assert lock.i_am_locking()
            return True

        assert in_child(lives_on) is True
        close_all_below(os.path.dirname(lock.path))
        assert lock.i_am_locking()
        assert ask("i_am_locking")
    assert lock.i_am_locking()
    code = "say(getattr(lockfile, sys.argv[1])(sys.argv[2]).try_acquire())"
    with Child(code, type(lock).__name__, lock.path) as other:
        assert other.hear() is False


# What a release leaves


def test_child_forked_in_a_release_keeps_nothing_open(path):
    """Neither the directory nor the beacon, of which it knows nothing."""
    stop = threading.Event()

    def churn():
        lock = FileLock(path, threaded=False)
        while not stop.is_set():
            lock.acquire()
            lock.set_inheritable(True)
            lock.release()

    def left_open():
        """Once the child finds that what it has inherited is released, as it is soon."""
        lock = FileLock(path, threaded=False)
        while lock.i_am_locking():
            pass
        directory = os.path.dirname(path)
        numbers = os.listdir("/proc/self/fd")
        files = [os.path.realpath(f"/proc/self/fd/{number}") for number in numbers]
        return [file for file in files if file.startswith(directory)]

    with OtherThread() as thread:
        churning = thread.start(churn)
        try:
            assert [left for left in (in_child(left_open) for _ in range(300)) if left] == []
        finally:
            stop.set()
            churning.result(PATIENCE)


# Two that release

BOTH_RELEASE = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], threaded=False)
    lock.acquire()
    lock.set_inheritable(True)
    if os.fork() == 0:
        os.read(int(sys.argv[3]), 1)
        try:
            lock.release()
            lock.acquire()
        except lockfile.Error as error:
            say(type(error).__name__)
        else:
            say("owns")
        os.read(int(sys.argv[3]), 1)
        says = [lock.i_am_locking(), os.path.exists(lock.lock_file)]
        if says[0]:
            lock.release()
        say(says)
        os._exit(0)
    be_stopped()
    try:
        lock.release()
    except (lockfile.NotLocked, lockfile.NotMyLock):
        pass
    say("released")
    hear()
    """


def release_beside_a_release(lock_class, path, step):
    """One is stopped before that call of its release, while the other releases, and acquires anew.
    What was stopped there; what the other says then; and whether it owns in the end."""
    reads, writer = os.pipe()
    os.set_inheritable(reads, True)
    with (
        open(reads, "rb"),
        open(writer, "wb", buffering=0) as go_on,
        SteppedChild(
            BOTH_RELEASE,
            lock_class.__name__,
            path,
            str(reads),
            kinds=["stat", "flock", "unlink", "rename", "say"],
            keeps=[reads],
        ) as child,
    ):
        for _ in range(step):
            call = child.next_call()
        go_on.write(b"1")
        said = child.hear()
        assert child.run_on() == "released"
        go_on.write(b"2")
        in_the_end = child.hear()
        child.finish()
    return call.kind, said, in_the_end


def test_no_release_of_one_removes_what_another_has_acquired_anew(path, file_lock_class):
    kind, steps = None, 0
    seen = set()
    while kind != "say":
        steps += 1
        kind, said, in_the_end = release_beside_a_release(file_lock_class, path, steps)
        assert in_the_end == [said == "owns"] * 2, f"stopped before call {steps}, {kind}"
        assert names(os.path.dirname(path)) == []
        seen.add(said)
    assert seen == {"owns", "UnlockError", "NotLocked"}


FORK_IN_A_TURN = """
    closed_later = os.open("/dev/null", os.O_RDONLY)
    lock_class, path, reads = getattr(lockfile, sys.argv[1]), sys.argv[2], int(sys.argv[3])
    lock = lock_class(path, threaded=False)
    lock.acquire()
    lock.set_inheritable(True)

    def release():
        be_stopped()
        lock.release()
        say("released")

    thread = threading.Thread(target=release)
    thread.start()
    hear()
    child = os.fork()
    if child == 0:
        os.close(closed_later)
        other = lock_class(path + "2", threaded=False)
        other.acquire()
        os.write(2, b".")
        os.read(reads, 1)
        say(lock.i_am_locking())
        os.read(reads, 1)
        os._exit(0)
    os.waitpid(child, 0)
    thread.join()
    """


def test_child_forked_in_a_turn_of_its_parents_ends_nothing_of_its_own(path, file_lock_class):
    """What has the number of the directory that the turn was taken by, is another lock's beacon."""
    reads, writer = os.pipe()
    told, tells = os.pipe()
    os.set_inheritable(reads, True)
    keywords = {"kinds": ["unlink", "rename", "say"], "keeps": [reads], "stderr": tells}
    with (
        open(reads, "rb"),
        open(writer, "wb", buffering=0) as go_on,
        open(told, "rb") as told,
        SteppedChild(
            FORK_IN_A_TURN, file_lock_class.__name__, path, str(reads), **keywords
        ) as child,
    ):
        os.close(tells)
        child.next_call()
        child.say("fork")
        assert told.read(1) == b"."
        assert child.run_on() == "released"
        go_on.write(b"1")
        assert child.hear() is False
        with pytest.raises(AlreadyLocked):
            file_lock_class(path + "2").acquire(timeout=0)
        go_on.write(b"2")
        child.finish()
    with file_lock_class(path + "2"):
        pass


def test_owner_whose_child_calls_owns_though_later_children_are_to_have_nothing(lock):
    with forked_child(lock) as ask:
        lock.set_inheritable(False)
        assert ask("i_am_locking")
    assert lock.i_am_locking()
    lock.release()
    assert names(os.path.dirname(lock.path)) == []
