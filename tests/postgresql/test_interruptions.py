"""Whatever comes at whatever wait of a call: nobody owns what nobody knows of, nobody waits on."""

import asyncio
import signal

import pytest

from lockfile.postgresql import PostgreSQLLock, waits
from support import Child, OtherThread, postgresql, wait_until

# More waits than a call has.
MOMENTS = 14


class Stop(BaseException):
    pass


@pytest.fixture
def stopping(monkeypatch):
    """The calling thread's wait of that number ends in an exception."""
    sleep = waits._sleep

    def at(moment, error=Stop):
        left = [moment]

        def stopped(wait):
            left[0] -= 1
            if left[0] == -1:
                raise error
            sleep(wait)

        monkeypatch.setattr(waits, "_sleep", stopped)

    return at


def check_that_it_is_free(server):
    wait_until(lambda: server.held() == 0, "the lock to be free")
    assert server.waiting() == 0
    assert PostgreSQLLock("README").acquire(timeout=0)
    PostgreSQLLock("README").release()


@pytest.mark.parametrize("kept", [True, False], ids=["kept connection", "new connection"])
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_acquire_of_a_free_lock(server, stopping, moment, kept):
    lock = PostgreSQLLock("README")
    if kept:
        with lock:
            pass
    stopping(moment)
    try:
        lock.acquire()
    except Stop:
        assert not lock.i_am_locking()
    stopping(-1)
    if lock.i_am_locking():
        lock.release()
    check_that_it_is_free(server)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_acquire_of_a_held_lock(server, stopping, moment):
    lock = PostgreSQLLock("README", timeout=0.05)
    with OtherThread() as thread:
        thread.run(lock.acquire)
        stopping(moment)
        with pytest.raises((Stop, TimeoutError)):
            lock.acquire()
        stopping(-1)
        assert server.waiting() == 0
        thread.run(lock.release)
    check_that_it_is_free(server)


@pytest.mark.parametrize("moment", range(4))
def test_release(server, stopping, moment):
    lock = PostgreSQLLock("README")
    lock.acquire()
    stopping(moment)
    try:
        lock.release()
    except Stop:
        assert not lock.i_am_locking()
    stopping(-1)
    check_that_it_is_free(server)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_with_block(server, stopping, moment):
    lock = PostgreSQLLock("README")
    stopping(moment)
    try:
        with lock:
            assert lock.i_am_locking()
    except Stop:
        pass
    stopping(-1)
    check_that_it_is_free(server)


@pytest.mark.parametrize("moment", range(12))
def test_token(server, stopping, moment):
    server.sql("DROP TABLE IF EXISTS public.lockfile_tokens")
    lock = PostgreSQLLock("README")
    lock.acquire()
    stopping(moment)
    try:
        _ = lock.token
    except Stop:
        stopping(-1)
        assert lock.i_am_locking()
        assert lock.token > 0
    stopping(-1)
    lock.release()
    check_that_it_is_free(server)


@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
@pytest.mark.parametrize("again", [None, 1, 2], ids=["once", "twice", "twice, later"])
@pytest.mark.parametrize("moment", range(0, MOMENTS, 2))
def test_cancelled_task(server, monkeypatch, moment, held, again):
    wait_in_loop, left = waits._wait_in_loop, {moment}

    async def counted(loop, wait):
        nonlocal count
        count += 1
        if count - 1 in left:
            asyncio.current_task().cancel()
        await wait_in_loop(loop, wait)

    async def main():
        try:
            async with PostgreSQLLock("README", timeout=0.05):
                await asyncio.sleep(0)
        except (asyncio.CancelledError, TimeoutError):
            pass

    count = 0
    if again is not None:
        left.add(moment + again)
    with OtherThread() as thread:
        if held:
            thread.run(PostgreSQLLock("README").acquire)
        with monkeypatch.context() as patch:
            patch.setattr(waits, "_wait_in_loop", counted)
            asyncio.run(main())
        if held:
            wait_until(lambda: server.waiting() == 0, "the cancelled wait to be over")
            thread.run(PostgreSQLLock("README").release)
    check_that_it_is_free(server)


WAIT = """
    lock = lockfile.PostgreSQLLock(sys.argv[1])
    say("waits")
    try:
        lock.acquire()
    except KeyboardInterrupt:
        say("interrupted")
    hear()
    """


def test_interrupted_wait_leaves_the_queue(server, path):
    with PostgreSQLLock(path), Child(WAIT, path) as child:
        assert child.hear() == "waits"
        postgresql.wait_for_waiters(server, 1)
        child.process.send_signal(signal.SIGINT)
        assert child.hear() == "interrupted"
        assert server.waiting() == 0
        child.say("end")
        child.finish()


def test_waiter_that_is_killed_leaves_the_queue(server, path):
    with PostgreSQLLock(path):
        with Child(WAIT, path) as child:
            postgresql.wait_for_waiters(server, 1)
            child.kill()
        postgresql.wait_for_waiters(server, 0)


def test_owner_whose_other_thread_gets_the_lock_does_not_wait_on(server, path):
    """Both are the process; one waits in the server's queue for what the other has got sooner."""
    lock = PostgreSQLLock(path, threaded=False)
    with OtherThread() as one, OtherThread() as other, OtherThread() as holder:
        holder.run(PostgreSQLLock(path).acquire)
        waiting = [thread.start(lock.acquire) for thread in (one, other)]
        postgresql.wait_for_waiters(server, 2)
        holder.run(PostgreSQLLock(path).release)
        for each in waiting:
            each.result(60)
        assert server.held() == 1
        assert server.waiting() == 0
        lock.release()
