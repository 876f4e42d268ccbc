"""Shared locks: many readers or one writer, as an owner and its objects see it."""

import asyncio
import copy
import os
import pickle
import threading

import pytest

import lockfile
from lockfile import (
    AlreadyLocked,
    LinkFileLock,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    PIDLockFile,
    SymlinkLockFile,
    UnlockError,
    all_of,
)
from support import PATIENCE, OtherThread, in_thread, is_refused_to_a_child, names
from support.lock_classes import DIRECTORIES_ARE_SHARED, SHARED_FILE_CLASSES, can_be_shared
from support.protocol import swept_clean


@pytest.fixture
def reader(shared_class, path):
    return shared_class(path, shared=True)


@pytest.fixture
def writer(shared_class, path):
    return shared_class(path)


@pytest.fixture
def other():
    with OtherThread() as thread:
        yield thread


def threads_of(owners):
    return sorted(owner.thread for owner in owners)


# Readers and writers


def test_readers_share(reader, other, path):
    with reader:
        other.run(reader.acquire, 0)
        assert other.run(reader.i_am_locking)
        assert reader.i_am_locking()
        other.run(reader.release)
        assert reader.is_locked()
    assert not reader.is_locked()
    assert names(os.path.dirname(path)) == []


def test_readers_keep_a_writer_out(reader, writer, other):
    with reader:
        with pytest.raises(AlreadyLocked):
            other.run(writer.acquire, 0)
        with pytest.raises(LockTimeout):
            other.run(writer.acquire, 0.01)
        assert other.run(writer.is_locked)
        assert not other.run(writer.i_am_locking)


def test_a_writer_keeps_readers_out(reader, writer, other):
    with writer:
        with pytest.raises(AlreadyLocked):
            other.run(reader.acquire, 0)
        assert not other.run(reader.try_acquire, 0.01)


def test_a_writer_that_waits_gets_what_readers_leave(reader, writer, other):
    reader.acquire()
    outcome = other.start(writer.acquire, PATIENCE)
    in_thread(reader.acquire, PATIENCE)  # of a thread that ends: it owns it still
    assert not outcome.done()
    reader.release()
    assert not outcome.done()
    reader.break_lock()
    outcome.result(PATIENCE)
    other.run(writer.release)


@pytest.mark.parametrize("leaves_first", [0, 1])
def test_the_last_reader_to_leave_leaves_nothing(reader, other, path, leaves_first):
    reader.acquire()
    other.run(reader.acquire)
    leave = [reader.release, lambda: other.run(reader.release)]
    leave[leaves_first]()
    assert reader.is_locked()
    leave[1 - leaves_first]()
    assert not reader.is_locked()
    assert names(os.path.dirname(path)) == []


def test_acquire_says_how(shared_class, path, other):
    lock = shared_class(path)
    lock.acquire(shared=True)
    other.run(lock.acquire, 0, shared=True)
    other.run(lock.release)
    lock.release()
    sharing = shared_class(path, shared=True)
    sharing.acquire(shared=False)
    assert not other.run(sharing.try_acquire)
    sharing.release()
    assert lock.try_acquire(shared=True)
    assert other.run(lock.try_acquire, 0, shared=True)
    assert not in_thread(lock.try_acquire, 0)
    other.run(lock.release)
    lock.release()


@pytest.mark.skipif(not DIRECTORIES_ARE_SHARED, reason="not all can be shared on this system")
def test_classes_share_one_lock_file(path, other):
    """Whichever class has made it."""
    link = LinkFileLock(path, shared=True)
    mkdir = lockfile.MkdirFileLock(path, shared=True)
    for first, second in ((link, mkdir), (mkdir, link)):
        first.acquire()
        other.run(second.acquire, 0)
        first.release()
        assert first.is_locked()
        other.run(second.release)
        assert names(os.path.dirname(path)) == []


# One owner


def test_shared_twice_is_shared_once(reader):
    reader.acquire()
    reader.acquire(timeout=0)
    reader.release()
    with pytest.raises(NotLocked):
        reader.release()


def test_who_has_it_alone_shares_it_with_itself(reader, writer, other):
    """And with nobody else: it is as if it were acquired once more."""
    with writer:
        reader.acquire(timeout=0)
        assert not writer.owner().shared
        assert not other.run(reader.try_acquire)
        with reader:
            pass
        assert writer.i_am_locking()


@pytest.mark.parametrize("timeout", [0, 0.01, None])
def test_upgrade_is_refused_at_once(reader, writer, timeout):
    with reader:
        with pytest.raises(LockFailed, match="two who waited for each other's release") as refusal:
            writer.acquire(timeout)
        assert refusal.value.owner.thread == threading.get_ident()
        assert reader.i_am_locking()
        with pytest.raises(LockFailed):
            writer.try_acquire()
    assert not reader.is_locked()
    with writer:
        pass


def test_upgrade_by_another_path_is_refused(shared_class, tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    reader = shared_class(real / "README", shared=True)
    with reader:
        with pytest.raises(LockFailed, match="is shared by the caller"):
            shared_class(link / "README").acquire(timeout=0)
        shared_class(link / "README", shared=True).acquire(timeout=0)
    assert not reader.is_locked()


def test_blocks_nest(reader, other):
    with reader:
        with reader:
            other.run(reader.acquire, 0)
            other.run(reader.release)
        assert reader.i_am_locking()
    assert not reader.is_locked()


def test_threads_of_one_owner_share_as_one(shared_class, path, other):
    lock = shared_class(path, threaded=False, shared=True)
    lock.acquire()
    other.run(lock.acquire, 0)
    lock.release()
    assert not other.run(lock.i_am_locking)
    assert not lock.is_locked()


def test_hundreds_of_one_thread_share(shared_class, path):
    """More than can be listed."""
    locks = [shared_class(path, shared=True, owner="object") for _ in range(300)]
    for lock in locks:
        lock.acquire(timeout=0)
    assert len(locks[0].owners()) > 200
    assert not in_thread(shared_class(path).try_acquire)
    for lock in locks:
        assert lock.i_am_locking()
        lock.release()
    assert not locks[0].is_locked()


def test_many_threads_of_one_owner_join_at_once(shared_class, path, other):
    """Each finds the lock of another reader there: they are one owner all the same."""
    outer = shared_class(path, shared=True)
    lock = shared_class(path, threaded=False, shared=True)
    for _ in range(50):
        outer.acquire()
        barrier = threading.Barrier(2, timeout=PATIENCE)

        def join(barrier=barrier):
            barrier.wait()
            lock.acquire(PATIENCE)

        outcome = other.start(join)
        join()
        outcome.result(PATIENCE)
        lock.release()
        outer.release()
        assert not lock.is_locked()


def test_forked_child_is_no_reader_of_its_parents(reader):
    with reader:
        child = os.fork()
        if child == 0:
            try:
                os._exit(3 if reader.i_am_locking() else 4 if not reader.try_acquire() else 7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert reader.i_am_locking()
    assert swept_clean(type(reader), reader.path)  # a row stays until somebody wants the lock


def test_forked_child_of_a_writer_is_kept_out(writer):
    with writer:
        assert is_refused_to_a_child(writer)


# Downgrade


def test_downgrade_lets_readers_in_and_no_writer(reader, writer, other):
    with writer:
        writer.downgrade()
        assert writer.owner().shared
        other.run(reader.acquire, 0)
        other.run(reader.release)
        assert not other.run(writer.try_acquire)
        writer.downgrade()  # which it is already
        with pytest.raises(LockFailed):
            writer.acquire()
    assert not writer.is_locked()


def test_downgrade_wakes_readers_that_wait(reader, writer, other):
    writer.acquire()
    outcome = other.start(reader.acquire, PATIENCE)
    writer.downgrade()
    outcome.result(PATIENCE)
    assert writer.i_am_locking()
    writer.release()
    other.run(reader.release)


def test_downgrade_of_nothing(writer, other):
    with pytest.raises(NotLocked):
        writer.downgrade()
    with writer:
        with pytest.raises(NotMyLock):
            other.run(writer.downgrade)


# What is told


def test_owners_are_all_who_read(reader, writer, other):
    assert reader.owners() == []
    with reader:
        other.run(reader.acquire)
        here, there = threading.get_ident(), other.ident
        assert threads_of(reader.owners()) == sorted([here, there])
        assert threads_of(other.run(writer.owners)) == sorted([here, there])
        for owner in reader.owners():
            assert (owner.pid, owner.alive, owner.shared) == (os.getpid(), True, True)
            assert owner.hostname == reader.hostname
        assert reader.owner().thread == here
        assert in_thread(writer.owner).thread in (here, there)
        other.run(reader.release)
        assert threads_of(reader.owners()) == [here]


def test_owners_of_an_exclusive_lock(writer):
    with writer:
        [owner] = writer.owners()
        assert owner == writer.owner()
        assert owner.shared is False


def test_reader_who_came_later_is_told_after_the_first_has_left(reader, other):
    """The unique name is the first one's."""
    reader.acquire()
    other.run(reader.acquire)
    reader.release()
    assert threads_of(reader.owners()) == [other.ident]
    assert reader.owner().thread == other.ident
    other.run(reader.release)


def test_messages_say_how_many_read(reader, writer, other):
    with reader:
        with pytest.raises(AlreadyLocked, match="held by a reader, thread "):
            other.run(writer.acquire, 0)
        other.run(reader.acquire)
        with pytest.raises(AlreadyLocked, match="held by 2 readers, one of them thread ") as held:
            in_thread(writer.acquire, 0)
        assert held.value.owner.shared
        other.run(reader.release)


def test_release_by_who_does_not_read(reader, writer, other):
    with reader:
        with pytest.raises(NotMyLock, match="held by a reader"):
            other.run(writer.release)


@pytest.mark.parametrize("shared_class", SHARED_FILE_CLASSES, indirect=True)
def test_unique_name_and_descriptor(reader, other):
    with reader:
        assert os.path.samefile(reader.unique_name, reader.lock_file) or os.path.isfile(
            reader.unique_name
        )
        other.run(reader.acquire)
        mine, others = reader.fileno(), other.run(reader.fileno)
        assert mine != others
        assert os.path.sameopenfile(mine, others)
        assert other.run(lambda: reader.unique_name) != reader.unique_name
        other.run(reader.release)


def test_break_lock_breaks_the_whole_group(reader, writer, other, path):
    reader.acquire()
    other.run(reader.acquire)
    in_thread(writer.break_lock)
    assert not writer.is_locked()
    with pytest.raises(NotLocked):
        reader.release()
    with writer:
        with pytest.raises(NotMyLock):
            other.run(reader.release)
    assert names(os.path.dirname(path)) == []


def test_break_lock_after_a_wait_in_vain(reader, writer, other):
    """The lock that was waited for is there still, whoever of its readers have come and gone."""
    reader.acquire()
    with pytest.raises(LockTimeout):
        other.run(writer.acquire, 0.01)
    in_thread(reader.acquire)
    reader.release()
    other.run(writer.break_lock)
    assert not writer.is_locked()


def test_break_lock_after_a_wait_in_vain_for_what_is_owned_by_now(shared_class, path, other):
    """Whoever acquires has waited for nothing in vain, though it was its own already."""
    lock = shared_class(path)
    other.run(shared_class(path).acquire)
    assert not lock.try_acquire(0.01)
    other.run(shared_class(path).release)
    shared_class(path).acquire()
    lock.acquire()
    lock.break_lock()
    assert not lock.is_locked()


def test_copies_share_as_the_original(shared_class, path):
    lock = shared_class(path, shared=True)
    for again in (copy.copy(lock), copy.deepcopy(lock), pickle.loads(pickle.dumps(lock))):
        assert again.shared
    assert not pickle.loads(pickle.dumps(shared_class(path))).shared


def test_repr_and_attributes(shared_class, path):
    lock = shared_class(path, shared=1)
    assert lock.shared is True
    with pytest.raises(AttributeError):
        lock.shared = False


# Where it cannot be


@pytest.mark.parametrize("lock_class", [SymlinkLockFile, PIDLockFile])
def test_classes_that_cannot_be_shared_say_why(lock_class, path):
    with pytest.raises(ValueError, match="one owner at a time"):
        lock_class(path, shared=True)
    lock = lock_class(path)
    for acquire in (lock.acquire, lock.try_acquire):
        with pytest.raises(LockFailed, match="one owner at a time"):
            acquire(shared=True)
    with lock:
        with pytest.raises(LockFailed, match="one owner at a time"):
            lock.downgrade()
        assert lock.i_am_locking()


@pytest.mark.skipif(DIRECTORIES_ARE_SHARED, reason="this system's kernel can share all beacons")
@pytest.mark.parametrize("lock_class", SHARED_FILE_CLASSES)
def test_system_that_cannot_share_a_beacon_says_why(lock_class, path):
    if can_be_shared(lock_class):
        pytest.skip("this system's kernel can share its beacon")
    reason = "on this system a lock (file|directory) cannot be shared"
    lock = lock_class(path, shared=True)
    for acquire in (lock.acquire, lock_class(path).try_acquire):
        with pytest.raises(LockFailed, match=reason):
            acquire(shared=True)
    assert names(os.path.dirname(path)) == []
    with lock_class(path) as alone:
        with pytest.raises(LockFailed, match=reason):
            alone.downgrade()
        assert alone.i_am_locking()
        assert [owner.shared for owner in alone.owners()] == [False]


def test_subclass_sees_to_it_itself(path):
    class Own(lockfile.LockBase):
        def acquire(self, timeout=None, *, shared=None):
            seen.append(self.shared if shared is None else shared)

        def release(self):
            pass

    seen = []
    with Own(path, shared=True):
        pass
    Own(path).try_acquire(shared=True)
    assert seen == [True, True]


# Coroutines, steps, several locks


def test_tasks_share(shared_class, path):
    lock = shared_class(path, shared=True)

    async def read(inside):
        async with lock:
            inside.append(1)
            while len(inside) < 5:
                await asyncio.sleep(0)

    async def main():
        inside = []
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(read(inside) for _ in range(5)))

    asyncio.run(main())
    assert not lock.is_locked()


def test_tasks_that_wait_come_in_together(shared_class, path):
    """And not one after the other, as those who wait to have it alone."""
    lock = shared_class(path)
    inside = []

    async def read():
        await lock.acquire_async(PATIENCE, shared=True)
        inside.append(1)
        while len(inside) < 5:
            await asyncio.sleep(0)
        lock.release()

    async def main():
        async with asyncio.timeout(PATIENCE):
            async with lock:
                tasks = [asyncio.create_task(read()) for _ in range(5)]
                await asyncio.sleep(0.01)
                assert not inside
            await asyncio.gather(*tasks)

    asyncio.run(main())
    assert not lock.is_locked()


def test_task_that_waits_alone_lets_readers_of_its_loop_finish(shared_class, path):
    lock = shared_class(path)
    order = []

    async def write():
        async with lock:
            order.append("written")

    async def main():
        async with asyncio.timeout(PATIENCE):
            await lock.acquire_async(shared=True)
            task = asyncio.create_task(write())
            await asyncio.sleep(0.01)
            order.append("read")
            lock.release()
            await task

    asyncio.run(main())
    assert order == ["read", "written"]


def test_upgrade_in_a_coroutine_is_refused(shared_class, path):
    lock = shared_class(path, shared=True)

    async def main():
        async with lock:
            with pytest.raises(LockFailed):
                await lock.acquire_async(shared=False)

    asyncio.run(main())


def test_steps_share(shared_class, path, other):
    lock = shared_class(path)
    with shared_class(path, shared=True):
        steps = other.run(lock.acquire_in_steps, shared=True)
        assert other.run(steps.step) is None
        assert other.run(lock.i_am_locking)
        other.run(steps.end)
        assert not other.run(lock.i_am_locking)
    assert not lock.is_locked()


def test_all_of_takes_the_exclusive_one_of_a_path(shared_class, tmp_path, other):
    one, two = (shared_class(tmp_path / name, shared=True) for name in ("one", "two"))
    alone = shared_class(tmp_path / "one")
    with all_of(one, two, alone):
        assert not other.run(one.try_acquire)
        assert other.run(two.try_acquire)
        other.run(two.release)
    assert not one.is_locked()
    assert not two.is_locked()


def test_shared_lock_is_not_kept_for_children(shared_class, path, writer):
    """A parent and its children would count as one reader: it says so, and nothing changes."""
    lock = shared_class(path, shared=True)
    with lock:
        with pytest.raises(UnlockError, match="each child acquire it for itself"):
            lock.set_inheritable(True)
        assert lock.i_am_locking()
    assert not writer.is_locked()


@pytest.mark.parametrize("shared_class", SHARED_FILE_CLASSES, indirect=True)
def test_what_children_keep_is_not_downgraded(writer):
    with writer:
        writer.set_inheritable(True)
        with pytest.raises(LockFailed, match="set_inheritable"):
            writer.downgrade()
        writer.set_inheritable(False)  # for those that are forked from here on
        with pytest.raises(LockFailed, match="set_inheritable"):
            writer.downgrade()
        assert not writer.owner().shared
