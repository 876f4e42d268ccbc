"""Shared locks between processes: who wakes whom, who is let in first, what the killed leave."""

import contextlib
import itertools
import os
import signal

import pytest

from lockfile import (
    AlreadyLocked,
    LinkFileLock,
    MkdirFileLock,
    NotLocked,
    NotMyLock,
    SymlinkLockFile,
)
from support import PATIENCE, Child, names
from support.lock_classes import SHARED_FILE_CLASSES
from support.protocol import (
    SteppedChild,
    begin,
    inotify_descriptors,
    planned_pause,
    swept_clean,
)
from support.waiters import settle

with contextlib.suppress(ImportError):
    import fcntl

READ = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
    lock.acquire()
    say("reads")
    hear()
    lock.release()
    say("left")
    """

WRITE = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    say("waits")
    lock.acquire()
    say("writes")
    hear()
    lock.release()
    say("left")
    """

READ_IN_STEPS = READ.replace("lock.acquire()", "be_stopped(); lock.acquire()")

READ_AFTER_WRITER = READ.replace("lock.acquire()", "say('waits'); lock.acquire()")


# A process that is stopped in the middle of a statement keeps the whole database busy.
only_files = pytest.mark.parametrize("shared_class", SHARED_FILE_CLASSES, indirect=True)


@pytest.fixture
def start(shared_class, path):
    """Start a process, which is killed at the end."""
    with contextlib.ExitStack() as stack:

        def start(code, first):
            child = stack.enter_context(Child(code, shared_class.__name__, path))
            assert child.hear() == first
            return child

        yield start
    assert swept_clean(shared_class, path)


def leave(child):
    child.say("go")
    assert child.hear() == "left"
    child.finish()


# Who wakes whom: without any second look


def test_writer_is_woken_by_the_last_reader(no_second_look, start, path, tmp_path):
    readers = [start(READ, "reads") for _ in range(3)]
    writer = start(WRITE, "waits")
    settle(writer)
    for reader in readers:
        leave(reader)
    assert writer.hear() == "writes"
    leave(writer)
    assert names(tmp_path) == []


@pytest.mark.parametrize("first_leaves", [False, True])
def test_writer_is_woken_by_the_death_of_the_last_reader(
    no_second_look, start, path, tmp_path, first_leaves, shared_class
):
    """Also when that has joined a lock file which another has made, and left."""
    first, second = (start(READ, "reads") for _ in range(2))
    writer = start(WRITE, "waits")
    settle(writer)
    if first_leaves:
        leave(first)
    else:
        first.kill()
    settle(writer)
    second.kill()
    assert writer.hear() == "writes"
    leave(writer)
    assert swept_clean(shared_class, path)


def test_reader_killed_delays_nobody(start, shared_class, path):
    first, second = (start(READ, "reads") for _ in range(2))
    first.kill()
    lock = shared_class(path)
    lock.acquire(timeout=0, shared=True)
    assert {owner.pid for owner in lock.owners()} == {os.getpid(), second.pid}
    lock.release()
    with pytest.raises(AlreadyLocked):
        lock.acquire(timeout=0)
    second.kill()
    lock.acquire(timeout=0)
    lock.release()
    assert swept_clean(shared_class, path)


def test_readers_that_wait_for_a_writer_come_in_together(no_second_look, start, shared_class, path):
    writer = start(WRITE, "waits")
    assert writer.hear() == "writes"
    readers = [start(READ_AFTER_WRITER, "waits") for _ in range(4)]
    for reader in readers:
        settle(reader)
    leave(writer)
    for reader in readers:
        assert reader.hear() == "reads"
    assert len(shared_class(path).owners()) == 4


def test_readers_that_wait_are_woken_by_a_downgrade(no_second_look, start, shared_class, path):
    lock = shared_class(path)
    with lock:
        readers = [start(READ_AFTER_WRITER, "waits") for _ in range(3)]
        for reader in readers:
            settle(reader)
        lock.downgrade()
        for reader in readers:
            assert reader.hear() == "reads"
        for reader in readers:
            leave(reader)


# Who is let in first


PAUSING = """
    import ctypes

    def pause():
        clock().start_clock()
        say("pauses")
        hear()

    pause = ctypes.CFUNCTYPE(None)(pause)
    clock().stop_clock(pause)
    """


def test_reader_that_comes_lets_a_waiting_writer_in(no_second_look, start, shared_class, path):
    """Though the lock is shared; and once it is free, it pauses before it makes the lock again."""
    first = start(READ, "reads")
    writer = start(WRITE, "waits")
    settle(writer)
    code = PAUSING + READ_IN_STEPS
    with SteppedChild(code, shared_class.__name__, path, kinds=("sleep", "say")) as second:
        second.run_to("sleep")
        os.kill(writer.pid, signal.SIGSTOP)  # it would be as fast
        leave(first)
        assert second.run_on() == "pauses"
        os.kill(writer.pid, signal.SIGCONT)
        assert writer.hear() == "writes"
        second.say("go on")
        leave(writer)
        assert second.run_on() == "reads"
        second.say("go")
        assert second.run_on() == "left"
        second.finish()


def test_reader_that_gave_way_sleeps_for_long_while_the_writer_writes(start, shared_class, path):
    """It looks again and again only as long as it may read, and lets the other one come first."""
    first = start(READ, "reads")
    writer = start(WRITE, "waits")
    settle(writer)
    kinds = ("sleep", "say")
    with SteppedChild(READ_IN_STEPS, shared_class.__name__, path, kinds=kinds) as second:
        second.run_to("sleep")
        leave(first)
        assert writer.hear() == "writes"
        for _ in range(30):  # some of them are short, and each longer than the one before
            call = second.next_call()
            assert call.kind == "sleep"
            if (pause := planned_pause(call)) > 0.5:
                break
        assert pause > 0.5
        leave(writer)
        assert second.run_on() == "reads"
        second.say("go")
        assert second.run_on() == "left"
        second.finish()


def test_reader_does_not_wait_for_a_writer_that_is_stopped_for_ever(start, shared_class, path):
    first = start(READ, "reads")
    writer = start(WRITE, "waits")
    settle(writer)
    os.kill(writer.pid, signal.SIGSTOP)
    second = start(READ_AFTER_WRITER, "waits")
    assert second.hear() == "reads"
    os.kill(writer.pid, signal.SIGCONT)
    leave(second)
    leave(first)
    assert writer.hear() == "writes"


def test_reader_that_gives_way_reads_when_its_time_is_up(start, shared_class, path):
    """And does not time out: the lock is there to be shared."""
    start(READ, "reads")
    settle(start(WRITE, "waits"))
    lock = shared_class(path, shared=True)
    lock.acquire(timeout=0.05)
    lock.release()


def test_reader_that_does_not_wait_gives_no_way(start, shared_class, path):
    start(READ, "reads")
    settle(start(WRITE, "waits"))
    lock = shared_class(path, shared=True)
    lock.acquire(timeout=0)
    lock.release()


def test_reader_who_has_waited_for_a_writer_lets_no_other_one_in(start, shared_class, path):
    """So phases alternate: while a reader reads again, those who waited as long come in, too."""
    writer = start(WRITE, "waits")
    assert writer.hear() == "writes"
    readers = [start(READ_AFTER_WRITER, "waits") for _ in range(2)]
    for reader in readers:
        settle(reader)
    another = start(WRITE, "waits")
    settle(another)
    os.kill(another.pid, signal.SIGSTOP)  # it would be as fast
    leave(writer)
    for reader in readers:
        assert reader.hear() == "reads"
    os.kill(another.pid, signal.SIGCONT)
    for reader in readers:
        leave(reader)
    assert another.hear() == "writes"


# What the killed leave

READ_AND_LEAVE = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
    be_stopped()
    lock.acquire(timeout=0)
    lock.release()
    say("done")
    """

DOWNGRADE_AND_LEAVE = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    be_stopped()
    lock.acquire(timeout=0)
    lock.downgrade()
    lock.release()
    say("done")
    """

STEPS = ("open", "flock", "link", "unlink", "rename", "mkdir", "fcntl", "stat", "close", "say")
CHANGES = ("open", "flock", "link", "unlink", "rename", "mkdir", "fcntl", "close", "say")


def stopped_before_every_step(code, lock_class, path, prepare=lambda: None):
    """The process, one step further each round, and what it is about to do."""
    for count in itertools.count(1):
        prepare()
        with SteppedChild(code, lock_class.__name__, path, kinds=CHANGES) as child:
            for _ in range(count):
                call = child.next_call()
            yield child, call
        if call.kind == "say":
            assert count > 10  # or it was not stopped at all
            return


@only_files  # of a row's hundreds of calls the campaign kills at each
@pytest.mark.parametrize("code", [READ_AND_LEAVE, DOWNGRADE_AND_LEAVE])
def test_only_reader_killed_at_any_step(shared_class, path, tmp_path, code):
    lock = shared_class(path)
    for child, call in stopped_before_every_step(code, shared_class, path):
        child.kill()
        lock.acquire(timeout=PATIENCE)
        lock.release()
        assert swept_clean(shared_class, path), f"killed before {call}"


@only_files
def test_reader_killed_at_any_step_beside_another(shared_class, path):
    """The other one goes on, and is the last; a writer gets in neither before nor too late."""
    reader, writer = shared_class(path, shared=True), shared_class(path, threaded=False)
    for child, call in stopped_before_every_step(
        READ_AND_LEAVE, shared_class, path, prepare=reader.acquire
    ):
        child.kill()
        with pytest.raises(AlreadyLocked):
            writer.acquire(timeout=0)
        assert reader.i_am_locking(), f"killed before {call}"
        reader.release()
        assert swept_clean(shared_class, path), f"killed before {call}"


@only_files
def test_first_reader_that_has_left_is_not_told_of_as_the_owner(shared_class, path):
    """Though the unique file bears its name until the last one removes it, or has died."""
    reader = shared_class(path, shared=True)
    for child, call in stopped_before_every_step(
        READ_AND_LEAVE, shared_class, path, prepare=reader.acquire
    ):
        reader.release()
        owners = [reader.owner()]
        child.kill()
        owners.append(reader.owner())
        told = [owner.pid for owner in owners if owner is not None]
        assert os.getpid() not in told, f"stopped before {call}"
        assert swept_clean(shared_class, path)


JOIN_IN_ROUNDS = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
    be_stopped()
    while hear():
        say("ready")
        hear()
        owned = lock.try_acquire(0)
        say(owned)
        hear()
        try:
            if owned:
                lock.release()
        except lockfile.UnlockError:
            pass
        say("left")
    """


def rounds(lock_class, path, prepare):
    """The same process again and again, stopped one step further each time."""
    with SteppedChild(JOIN_IN_ROUNDS, lock_class.__name__, path, kinds=STEPS) as child:
        for count in itertools.count(1):
            prepare()
            begin(child)
            for _ in range(count):
                call = child.next_call()
            yield child
            child.say("leave")
            assert child.run_on() == "left"
            assert names(os.path.dirname(path)) == [], f"stopped before {call}"
            if call.kind == "say":
                assert count > 10
                return


@only_files
def test_reader_leaves_at_any_step_of_another(shared_class, path):
    """Which joins, or finds the lock free: nothing is left of it."""
    reader = shared_class(path, shared=True)
    for child in rounds(shared_class, path, prepare=reader.acquire):
        reader.release()
        child.run_on()


@only_files
def test_first_reader_whose_file_is_locked_for_a_moment_is_joined_all_the_same(shared_class, path):
    """By another program, or by who means to remove it: the reader takes another name."""
    arguments = [shared_class.__name__, path]
    with SteppedChild(READ_IN_STEPS, *arguments, kinds=STEPS) as first:
        first.run_to("flock")
        [unique_file] = [
            os.path.join(place, file)
            for place, _, files in os.walk(os.path.dirname(path))
            for file in files
        ]
        with open(unique_file) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            first.next_call()
        assert first.run_on() == "reads"
        with shared_class(path, shared=True, timeout=0) as second:
            assert [owner.shared for owner in second.owners()] == [True, True]
        first.say("leave")
        assert first.run_on() == "left"
    assert swept_clean(shared_class, path)


@only_files
@pytest.mark.parametrize("other_class", [LinkFileLock, MkdirFileLock, SymlinkLockFile])
def test_lock_of_another_kind_comes_at_any_step_of_a_reader_that_joins(
    shared_class, path, other_class
):
    reader, other = shared_class(path, shared=True), other_class(path, threaded=False)
    for child in rounds(shared_class, path, prepare=reader.acquire):
        reader.release()
        owned = other.try_acquire()
        assert not (child.run_on() and owned)
        if owned:
            other.release()


def test_writer_finds_nobody_or_a_reader_at_any_step(shared_class, path):
    """Whoever is stopped anywhere: never both."""
    writer = shared_class(path)
    for child in rounds(shared_class, path, prepare=lambda: None):
        owned = writer.try_acquire()
        assert child.run_on() is not owned
        if owned:
            writer.release()


def test_writer_finds_a_reader_at_any_step_of_one_that_joins(shared_class, path):
    reader, writer = shared_class(path, shared=True), shared_class(path, threaded=False)
    for child in rounds(shared_class, path, prepare=reader.acquire):
        assert not writer.try_acquire()
        assert child.run_on() is True
        reader.release()
        assert not writer.try_acquire()


JOIN_AND_KEEP = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
    be_stopped()
    say(lock.try_acquire(0))
    hear()
    """

RECOVER = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    be_stopped()
    say(lock.try_acquire(0.4))  # long enough to take who is stopped in a look for that
    hear()
    """


def about_to_remove(child, dead):
    """Runs until it is about to remove what the dead one owned; False: it does not."""
    while (call := child.next_call()).kind != "say":
        if (call.kind, call.name) == ("unlink", "README.lock") or call.name.endswith(
            f"-{dead.pid}"
        ):
            return True
    return False


@only_files
@pytest.mark.leaves_files
def test_who_joins_the_dead_and_who_recovers_from_them_see_each_other(shared_class, path, tmp_path):
    """The one is stopped anywhere, its reader dies, and the other is stopped at the removal."""
    outcomes = set()
    for count in itertools.count(1):
        directory = tmp_path / str(count)
        directory.mkdir()
        arguments = (shared_class.__name__, str(directory / "README"))
        with (
            SteppedChild(JOIN_AND_KEEP, *arguments, kinds=("flock", "fcntl", "say")) as joining,
            Child(READ, *arguments) as reader,
        ):
            assert reader.hear() == "reads"
            for _ in range(count):
                call = joining.next_call()
            reader.kill()
            with SteppedChild(RECOVER, *arguments, kinds=("unlink", "rename", "say")) as writing:
                removes = about_to_remove(writing, reader)
                joined = joining.run_on()
                wrote = writing.run_on()
        assert not (joined and wrote), f"stopped before {call}"
        outcomes.add((removes, joined, wrote))
        if call.kind == "say":
            break
    assert {(False, True, False), (True, False, True)} <= outcomes


@only_files
def test_lock_of_bytes_of_another_program_is_no_reader(shared_class, path):
    """It locks its lock file whole, as lockf() does, or in any other way."""
    for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):
        with open(path + ".lock", "w+b") as file:
            fcntl.lockf(file, kind)
            with Child(
                """
                lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
                say(lock.try_acquire())
                owner = lock.owner()
                say([owner.shared, owner.pid])
                """,
                shared_class.__name__,
                path,
            ) as child:
                assert child.hear() is False
                assert child.hear() == [False, None]
            os.unlink(path + ".lock")


@only_files
def test_break_at_any_step_of_a_reader_that_joins(shared_class, path):
    """It is broken as well, or makes the lock anew, or finds the writer's; never beside that."""
    reader, writer = shared_class(path, shared=True), shared_class(path, threaded=False)
    for child in rounds(shared_class, path, prepare=reader.acquire):
        writer.break_lock()
        owned = writer.try_acquire()
        child.run_on()
        if owned:
            assert writer.i_am_locking()
            writer.release()
        with contextlib.suppress(NotLocked, NotMyLock):
            reader.release()


# Descriptors


def test_reader_whose_descriptors_were_closed_reads_on(shared_class, path):
    """It joins the others again, or finds its own lock; a writer may have been faster."""
    code = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
    while hear():
        lock.acquire()
        os.closerange(3, 256)
        say("closed")
        hear()
        say(lock.i_am_locking())
        hear()
        if lock.i_am_locking():
            lock.release()
        say("left")
    """
    lock = shared_class(path, shared=True)
    with Child(code, shared_class.__name__, path) as child:
        for beside in (False, True):
            if beside:
                lock.acquire()
            child.say("go")
            assert child.hear() == "closed"
            child.say("look")
            assert child.hear() is True
            assert child.pid in {owner.pid for owner in lock.owners()}
            child.say("leave")
            assert child.hear() == "left"
            if beside:
                lock.release()
        child.say("go")
        assert child.hear() == "closed"
        with shared_class(path):  # it looked dead
            child.say("look")
            assert child.hear() is False
        child.say("leave")
        assert child.hear() == "left"
        child.finish()
    assert swept_clean(shared_class, path)


READ_AND_WAIT = """
    from support.protocol import all_open_but_watches

    lock = getattr(lockfile, sys.argv[1])(sys.argv[2], shared=True)
    for _ in range(2):
        for _ in range(3):
            lock.acquire()
            lock.release()
        try:
            lock.acquire(0.01, shared=False)
        except lockfile.LockTimeout:
            say(all_open_but_watches())
    hear()
    """


def test_readers_leave_no_descriptor(shared_class, path):
    with (
        shared_class(path, shared=True),
        Child(READ_AND_WAIT, shared_class.__name__, path) as child,
    ):
        before = child.hear()
        assert child.hear() == before
        assert inotify_descriptors(child.pid) <= 1
        child.finish()


def test_readers_at_their_process_end_release(shared_class, path, tmp_path):
    code = READ + "\n    lock.acquire()\n"
    with Child(code, shared_class.__name__, path) as child:
        assert child.hear() == "reads"
        leave(child)
    assert names(tmp_path) == []


# Costs


@only_files
def test_a_look_that_does_not_end_delays_the_last_reader_only_for_a_while(shared_class, path):
    """It leaves the lock to who finds it dark, then; nothing but a look is in the way."""
    code = """
    import fcntl
    name = sys.argv[1]
    if os.path.isdir(name):
        [name] = [os.path.join(name, inside) for inside in os.listdir(name)]
    file = os.open(name, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_SH)
    say("looks")
    hear()
    """
    lock = shared_class(path, shared=True)
    lock.acquire()
    with Child(code, path + ".lock") as child:
        assert child.hear() == "looks"
        lock.release()
        assert not lock.is_locked()
        child.finish()
    assert swept_clean(shared_class, path)
