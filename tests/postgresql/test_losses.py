"""Owners, servers and connections that end: nobody is stranded, and the owner learns of it."""

import asyncio
import contextlib
import errno
import os
import queue
import random
import sys
import threading
import time

import psycopg
import pytest

from lockfile import LockFailed, NotLocked
from lockfile.postgresql import PostgreSQLLock, holds, session
from lockfile.postgresql.waits import run
from support import PATIENCE, Child, OtherThread, postgresql, wait_until

# A short run each time; set this for a long one.
SECONDS = float(os.environ.get("LOCKFILE_STRESS_SECONDS", "1"))


def test_waiter_of_a_killed_owner_owns(server, path):
    code = "lockfile.PostgreSQLLock(sys.argv[1]).acquire(); say(1); hear()"
    with Child(code, path) as child, OtherThread() as thread:
        child.hear()
        waiting = thread.start(PostgreSQLLock(path).acquire)
        postgresql.wait_for_waiters(server, 1)
        child.kill()
        waiting.result(PATIENCE)
        thread.run(PostgreSQLLock(path).release)


ENDS = {
    "killed": lambda server: server.kill(),
    "stopped": lambda server: server.stop(),
    "terminated": lambda server: server.sql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name LIKE 'lockfile %%'"
    ),
}


@pytest.fixture(params=ENDS)
def end(request, own_server):
    return lambda: ENDS[request.param](own_server)


def test_owner_learns_of_its_loss_at_once(own_server, end):
    lost = queue.SimpleQueue()
    lock = PostgreSQLLock("README", on_lost=lost.put)
    lock.acquire()
    end()
    assert lost.get(timeout=PATIENCE) is lock
    assert not lock.i_am_locking()
    with pytest.raises(NotLocked, match="README is not locked: the connection that kept it has"):
        lock.release()
    assert lost.empty()


def test_body_exception_goes_on_with_a_note_of_the_loss(own_server, end):
    with pytest.raises(KeyError) as caught:
        with PostgreSQLLock("README"):
            end()
            raise KeyError
    [note] = caught.value.__notes__
    assert note.startswith("lockfile.NotLocked: README is not locked: the connection")


@pytest.mark.parametrize("end", ["killed", "stopped"], indirect=True)
def test_waiter_is_told_that_its_connection_has_ended(own_server, end):
    with OtherThread() as thread, OtherThread() as waiter:
        thread.run(PostgreSQLLock("README").acquire)
        waiting = waiter.start(PostgreSQLLock("README").acquire)
        postgresql.wait_for_waiters(own_server, 1)
        end()
        with pytest.raises(LockFailed):
            waiting.result(PATIENCE)
        with pytest.raises(NotLocked):
            thread.run(PostgreSQLLock("README").release)


def test_task_learns_of_its_loss_by_its_loop(own_server):
    async def main():
        told = asyncio.Event()
        lock = PostgreSQLLock("README", on_lost=lambda _: told.set())
        with pytest.raises(NotLocked):
            async with lock:
                own_server.stop()
                await asyncio.wait_for(told.wait(), PATIENCE)

    asyncio.run(main())


def test_server_that_comes_back_serves_again(own_server):
    lock = PostgreSQLLock("README")
    with lock:
        pass
    own_server.restart()  # the kept connection is of no use any more
    lock.acquire()
    assert own_server.held() == 1
    own_server.kill()
    own_server.start()
    assert not lock.is_locked()
    with lock:
        assert lock.i_am_locking()


def test_released_lock_is_no_loss(server):
    lost = []
    lock = PostgreSQLLock("README", on_lost=lost.append)
    for _ in range(50):
        with lock:
            pass
    PostgreSQLLock.close_free_connections()
    with lock, OtherThread() as thread:
        assert thread.run(PostgreSQLLock("README").try_acquire) is False
    assert lost == []


def test_processes_exclude_each_other_though_connections_are_terminated(server, path, tmp_path):
    """Who is thrown out of the body's protection says so; all others never overlap."""
    code = """
    while True:
        try:
            with lockfile.PostgreSQLLock(sys.argv[1]) as lock:
                token = lock.token
            say(token)
        except (lockfile.NotLocked, lockfile.NotMyLock, lockfile.LockFailed):
            say(None)
    """
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'lockfile %%' ORDER BY random() LIMIT 1"
    )
    tokens = []
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(code, path)) for _ in range(3)]
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            server.sql(terminate)
            tokens += [child.hear() for child in children]
        tokens += [child.hear() for child in children]
    granted = [token for token in tokens if token is not None]
    assert len(granted) == len(set(granted)) > 0


def test_processes_exclude_each_other_though_some_are_killed(server, path, tmp_path):
    """The killed ones leave their mark, so it is theirs by name."""
    marks = tmp_path / "marks"
    marks.mkdir()
    code = """
    while True:
        with lockfile.PostgreSQLLock(sys.argv[1]):
            others = [int(name) for name in os.listdir(sys.argv[2])]
            alive = [pid for pid in others if os.path.exists(f"/proc/{pid}/fd/0")]
            if alive:
                say(["overlap", alive])
            mark = os.path.join(sys.argv[2], str(os.getpid()))
            os.close(os.open(mark, os.O_CREAT))
            os.unlink(mark)
        say("turn")
    """
    told = []
    children = [Child(code, path, marks) for _ in range(4)]
    try:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            told.append(random.choice(children).hear())
            victim = children.pop(0)
            victim.kill()
            children.append(Child(code, path, marks))
        told += [child.hear() for child in children]
    finally:
        for child in children:
            child.kill()
    assert [word for word in told if word != "turn"] == []
    with PostgreSQLLock(path, timeout=PATIENCE):
        pass


def test_threads_and_tasks_share_one_lock(server, path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        for _ in range(20):
            with PostgreSQLLock(path):
                inside += 1
                most = max(most, inside)
                inside -= 1

    async def tasks():
        nonlocal inside, most

        async def task():
            nonlocal inside, most
            for _ in range(10):
                async with PostgreSQLLock(path):
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0)
                    inside -= 1

        await asyncio.gather(*(task() for _ in range(5)))

    threads = [threading.Thread(target=work) for _ in range(2)]
    threads.append(threading.Thread(target=asyncio.run, args=(tasks(),)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (inside, most) == (0, 1)
    wait_until(lambda: server.held() == 0, "the end")


def terminate(server, lock):
    server.sql("SELECT pg_terminate_backend(%s, 5000)", lock.owners()[0].backend)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_on_lost_that_exits_does_not_end_the_watch(server):
    lost = queue.SimpleQueue()
    one = PostgreSQLLock("one", on_lost=lambda lock: lost.put(lock) or sys.exit())
    other = PostgreSQLLock("other", on_lost=lost.put)
    for lock in (one, other):
        lock.acquire()
        terminate(server, lock)
        assert lost.get(timeout=PATIENCE) is lock
        with pytest.raises(NotLocked):
            lock.release()


def test_on_lost_that_takes_long_delays_no_other(server):
    go_on, told = threading.Event(), queue.SimpleQueue()
    slow = PostgreSQLLock("slow", on_lost=lambda _: told.put(go_on.wait(PATIENCE)))
    quick = PostgreSQLLock("quick", on_lost=told.put)
    slow.acquire()
    quick.acquire()
    try:
        terminate(server, slow)
        terminate(server, quick)
        assert told.get(timeout=PATIENCE) is quick
    finally:
        go_on.set()
    assert told.get(timeout=PATIENCE) is True
    for lock in (slow, quick):
        with pytest.raises(NotLocked):
            lock.release()


def test_watch_begins_with_the_next_lock_if_no_thread_can_be_started(server, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(holds, "_watcher", holds._Watcher())
    lock = PostgreSQLLock("README", on_lost=print)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                lock.acquire()
    assert not lock.i_am_locking()


def test_server_that_does_not_answer_is_left(server, monkeypatch):
    """Though it lives, and would keep the lock for us."""
    lost = queue.SimpleQueue()
    with PostgreSQLLock("another") as lock:
        assert lock.token  # the table is there
    monkeypatch.setattr(session, "PATIENCE", 0.2)
    with psycopg.connect(server.conninfo) as connection:
        connection.execute("LOCK TABLE public.lockfile_tokens")
        lock = PostgreSQLLock("README", on_lost=lost.put)
        lock.acquire()
        with pytest.raises(NotLocked, match="does not answer"):
            _ = lock.token
        assert lost.get(timeout=PATIENCE) is lock
        wait_until(lambda: server.held() == 0, "the server to give the lock up")
    with pytest.raises(NotLocked):
        lock.release()


def test_block_tells_of_a_loss_though_the_lock_is_acquired_anew(server):
    lock = PostgreSQLLock("README")

    async def main():
        async with lock:
            terminate(server, lock)
            await lock.acquire_async()

    with pytest.raises(NotLocked, match="terminating"):
        with lock:
            terminate(server, lock)
            lock.acquire()
    with pytest.raises(NotLocked, match="terminating"):
        asyncio.run(main())
    assert server.held() == 0
    with lock:
        terminate(server, lock)
        with pytest.raises(NotLocked):
            lock.release()
        lock.acquire()  # who was told once is not told again


def test_token_is_committed_when_it_is_returned(server):
    server.sql("ALTER ROLE lockfile SET synchronous_commit = off")
    server.sql("ALTER ROLE lockfile SET client_encoding = latin1")
    try:
        with PostgreSQLLock("caf\N{LATIN SMALL LETTER E WITH ACUTE}") as lock:
            shown = [
                run(lock._find().session.ask(b"SHOW " + name))[0][0]
                for name in (b"synchronous_commit", b"client_encoding")
            ]
            token = lock.token
    finally:
        server.sql("ALTER ROLE lockfile RESET ALL")
    assert shown == ["on", "UTF8"]
    [(counted,)] = server.sql("SELECT token FROM lockfile_tokens WHERE name LIKE 'caf_'")
    assert counted == token


def test_wait_that_would_stop_a_task_that_is_before_it_is_refused(server):
    """The server would grant the lock to the task, which could not go on."""
    done = threading.Event()

    def hold():
        with PostgreSQLLock("README"):
            assert done.wait(PATIENCE)

    async def wait():
        async with PostgreSQLLock("README"):
            pass

    async def main():
        task = asyncio.create_task(wait())
        while server.waiting() == 0:
            await asyncio.sleep(0.01)
        with pytest.raises(LockFailed, match="before it in the queue") as caught:
            PostgreSQLLock("README").acquire(timeout=1)
        assert caught.value.__cause__.errno == errno.EDEADLK
        assert not PostgreSQLLock("README").try_acquire()
        done.set()
        await task

    with OtherThread() as thread:
        holding = thread.start(hold)
        wait_until(lambda: server.held() == 1, "the holder")
        try:
            asyncio.run(main())
        finally:
            done.set()
        holding.result(PATIENCE)
