"""What PostgreSQLLock has on the server, whom it refuses, and what it tells."""

import asyncio
import contextlib
import hashlib
import os
import select
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from lockfile import AlreadyLocked, LockFailed, LockTimeout, NotLocked, UnlockError
from lockfile.postgresql import PostgreSQLLock, attempt, looks, session, statements, waits
from support import Child, OtherThread, in_thread, postgresql, wait_until
from support.tasks import settle

KEYS = "SELECT classid, objid, objsubid, mode FROM pg_locks WHERE locktype = 'advisory'"


def numbers_of(namespace, name):
    digest = hashlib.sha256(f"{namespace}\0{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


def test_key_is_the_beginning_of_a_digest(server):
    with PostgreSQLLock("some name", namespace="ours"):
        assert server.sql(KEYS) == [(*numbers_of("ours", "some name"), 1, "ExclusiveLock")]


def test_name_is_the_path_as_it_is_given(server, monkeypatch, tmp_path):
    with PostgreSQLLock("README"):
        monkeypatch.chdir(tmp_path)
        assert PostgreSQLLock("README").i_am_locking()
        assert not PostgreSQLLock("./README").is_locked()
        assert not PostgreSQLLock("README", namespace="other").is_locked()


def test_session_is_idle_and_in_no_transaction(server):
    with PostgreSQLLock("README"):
        [(_, name, state, _)] = server.sessions()
        assert state == "idle"
        assert f"-{os.getpid()}" in name


def test_connection_is_kept_for_the_next(server):
    lock = PostgreSQLLock("README")
    with lock:
        [before] = server.sessions()
    with PostgreSQLLock("another"):
        [after] = server.sessions()
    assert before[0] == after[0]


def test_settings_are_the_sessions_own(server):
    server.sql("ALTER ROLE lockfile SET statement_timeout = '500ms'")
    server.sql("ALTER ROLE lockfile SET lock_timeout = '500ms'")
    try:
        with PostgreSQLLock("README"):
            with OtherThread() as thread:
                waiting = thread.start(PostgreSQLLock("README").acquire)
                with pytest.raises(TimeoutError):
                    waiting.result(0.8)
                PostgreSQLLock("README").release()
                waiting.result(10)
                thread.run(PostgreSQLLock("README").release)
                PostgreSQLLock("README").acquire()
    finally:
        server.sql("ALTER ROLE lockfile RESET ALL")


SETTINGS = {
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "client_connection_check_interval": "1s",
    "tcp_keepalives_idle": "2",
    "tcp_user_timeout": "10000",
}


@pytest.mark.parametrize("way", ["conninfo", "connect"])
def test_whoever_is_cut_off_gives_up_before_the_server_does(server, way):
    """Whatever the role is set to."""
    made = {"conninfo": server.conninfo_tcp}
    if way == "connect":
        made = {"connect": lambda: psycopg.connect(server.conninfo_tcp, autocommit=True)}
    for name in SETTINGS:
        server.sql(f"ALTER ROLE lockfile SET {name} = 100000")
    try:
        with PostgreSQLLock("README", **made) as lock:
            held = lock._find().session
            for name, value in SETTINGS.items():
                [(shown,)] = waits.run(held.ask(b"SELECT current_setting($1)", name))
                assert (name, shown) == (name, value)
            with session.copy_of(lock.fileno()) as end:
                assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        lock._source.close_free()
    finally:
        server.sql("ALTER ROLE lockfile RESET ALL")


def test_two_ways_to_one_server_are_one_owner(server):
    with PostgreSQLLock("README", conninfo=server.conninfo):
        other = PostgreSQLLock("README", conninfo=server.conninfo_tcp)
        assert other.acquire(timeout=0) is other
        assert other.i_am_locking()


def test_connection_of_the_programs_own(server):
    made = []

    def connect():
        made.append(psycopg.connect(server.conninfo_tcp))
        return made[-1]

    lock = PostgreSQLLock("README", connect=connect)
    for _ in range(2):
        with lock:
            assert server.held() == 1
            assert in_thread(PostgreSQLLock("README").try_acquire) is False
    assert len(made) == 1


def test_connection_that_is_made_for_two_is_refused(server):
    """Both would be served by one session, which has the lock."""
    with psycopg.connect(server.conninfo) as one:
        lock = PostgreSQLLock("README", connect=lambda: one)
        with lock:
            with pytest.raises(LockFailed, match="serves another owner"):
                in_thread(lock.acquire, 0)
            assert lock.i_am_locking()
        assert in_thread(lambda: lock.try_acquire() and not lock.release())


@pytest.fixture(params=["service", "PGSERVICE", "PGHOSTADDR"])
def another_place(server, request, monkeypatch, tmp_path):
    """conninfo of the server; PGHOST and PGPORT say something else, and count for less."""
    service = tmp_path / "service"
    service.write_text(f"[ours]\nhost={server.directory}\nport={server.port}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    monkeypatch.setenv("PGHOST", "localhost")
    if request.param == "PGHOSTADDR":
        monkeypatch.setenv("PGHOST", "host.invalid")
        monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
        return ""
    monkeypatch.setenv("PGPORT", "1")
    if request.param == "PGSERVICE":
        monkeypatch.setenv("PGSERVICE", "ours")
        return ""
    return "service=ours"


def test_tasks_and_threads_ask_the_same_server(server, another_place):
    async def main():
        async with PostgreSQLLock("README", conninfo=another_place):
            assert server.held() == 1

    with PostgreSQLLock("README", conninfo=another_place):
        assert server.held() == 1
    PostgreSQLLock.close_free_connections()
    asyncio.run(main())


@pytest.mark.parametrize("connect", [lambda: 3, 3], ids=["nonsense", "no function"])
def test_connect_that_is_of_no_use(connect):
    with pytest.raises(TypeError):
        PostgreSQLLock("README", connect=connect).acquire()


# Who is refused


def test_server_that_is_not_there():
    with pytest.raises(LockFailed, match="failed to create the lock of README") as caught:
        PostgreSQLLock("README", conninfo="host=/nonexistent").acquire()
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    with pytest.raises(UnlockError, match="cannot tell whether README is locked"):
        PostgreSQLLock("README", conninfo="host=/nonexistent").is_locked()


@pytest.mark.parametrize("way", ["conninfo", "connect"])
def test_read_only_server_is_refused(server, way):
    server.sql("ALTER ROLE lockfile SET default_transaction_read_only = on")
    try:
        made = {"connect": lambda: psycopg.connect(server.conninfo)} if way == "connect" else {}
        with pytest.raises(LockFailed, match="read-only"):
            PostgreSQLLock("README", **made).acquire()
    finally:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER ROLE lockfile RESET ALL")


def test_standby_is_refused(own_server):
    """Its advisory locks are its own."""
    own_server.stop()
    (own_server.directory / "data" / "standby.signal").touch()
    own_server.start()
    assert own_server.sql("SELECT pg_is_in_recovery(), pg_try_advisory_lock(1)") == [(True, True)]
    with pytest.raises(LockFailed):
        PostgreSQLLock("README").acquire()
    with pytest.raises(LockFailed, match="standby"):
        PostgreSQLLock("README", connect=lambda: psycopg.connect(own_server.conninfo)).acquire()


def test_wait_that_the_server_has_not_begun_is_cancelled_all_the_same(server, monkeypatch):
    """It forgets a cancellation that comes before the statement: that is sent again."""
    sent = []
    cancel = session._cancel

    def late(pgconn):
        sent.append(True)
        return cancel(pgconn) if len(sent) > 1 else iter(())

    monkeypatch.setattr(session, "_cancel", late)
    lock = PostgreSQLLock("README", threaded=False)
    with OtherThread() as holder, OtherThread() as waiter:
        holder.run(PostgreSQLLock("README").acquire)
        waiting = waiter.start(lock.acquire, on_wait=lambda owner: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            waiting.result(60)
        assert server.waiting() == 0
        holder.run(PostgreSQLLock("README").release)
    assert len(sent) == 2


def test_on_wait_that_wants_the_same_lock_is_refused(server):
    """It stands in the queue already, and would wait for itself."""

    def on_wait(owner):
        lock.acquire()

    lock = PostgreSQLLock("README")
    with OtherThread() as holder:
        holder.run(PostgreSQLLock("README").acquire)
        with pytest.raises(LockFailed, match="wait for itself"):
            lock.acquire(on_wait=on_wait)
        assert server.waiting() == 0
        holder.run(PostgreSQLLock("README").release)


def test_acquiring_in_steps(server):
    with OtherThread() as holder:
        holder.run(PostgreSQLLock("README").acquire)
        lock = PostgreSQLLock("README")
        steps = lock.acquire_in_steps()
        while not server.waiting():
            seconds = steps.step()
            assert seconds is not None
            select.select([steps.fileno()], [], [], min(seconds, 0.01))
        holder.run(PostgreSQLLock("README").release)
        while (seconds := steps.step()) is not None:
            select.select([steps.fileno()], [], [], min(seconds, 1))
        assert steps.value is lock
        assert lock.i_am_locking()
        lock.release()


@pytest.fixture(params=["transaction", "session"])
def pooler(server, request):
    if postgresql.program("pgbouncer") is None:
        pytest.skip(f"there is no pgbouncer here: {postgresql.NEEDED}")
    with postgresql.running_pooler(server, request.param) as pooler:
        yield pooler


@pytest.mark.parametrize("way", ["conninfo", "connect"])
def test_pooler_is_refused(pooler, way):
    made = (
        {"connect": lambda: psycopg.connect(pooler.conninfo)}
        if way == "connect"
        else {"conninfo": pooler.conninfo}
    )
    with pytest.raises(LockFailed, match="pooler"):
        PostgreSQLLock("README", **made).acquire()


def test_pooler_between_transactions_would_let_two_in(server):
    """Which is why it is refused: both are served by one session, which has the lock."""
    if postgresql.program("pgbouncer") is None:
        pytest.skip(f"there is no pgbouncer here: {postgresql.NEEDED}")
    with (
        postgresql.running_pooler(server, "transaction") as pooler,
        psycopg.connect(pooler.conninfo, autocommit=True) as one,
        psycopg.connect(pooler.conninfo, autocommit=True) as other,
    ):
        granted = [
            each.execute("SELECT pg_try_advisory_lock(1)").fetchone() for each in (one, other)
        ]
        assert granted == [(True,), (True,)]


# Who holds


def test_holder_is_told_with_host_process_thread_and_time(server):
    with PostgreSQLLock("README") as lock:
        [holder] = lock.owners()
        assert holder.owner() == lock.owner()
        assert (holder.pid, holder.thread) == (os.getpid(), threading.get_ident())
        assert abs(holder.since - datetime.now(UTC)) < timedelta(minutes=5)
        with pytest.raises(AlreadyLocked, match="which is alive, since 20") as caught:
            in_thread(PostgreSQLLock("README").acquire, 0)
        assert caught.value.owner == lock.owner()


def test_holder_that_is_another_program_is_unknown(server):
    high, low = numbers_of("", "README")
    key = (high << 32 | low) - (1 << 64 if high >> 31 else 0)
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (key,))
        lock = PostgreSQLLock("README")
        assert lock.owner() == (None, None, None, True)
        with pytest.raises(AlreadyLocked, match="held by an unknown owner"):
            lock.acquire(0)
        lock.break_lock()
        assert not lock.is_locked()


def test_long_host_name_is_cut(monkeypatch):
    from lockfile.postgresql.holders import application_name, read_holder

    name = application_name(f"{'h' * 64}-7f00aabbccdd-4194304")
    assert len(name) == 63
    holder = read_holder(name, 1, None, False)
    assert (holder.thread, holder.pid) == (0x7F00AABBCCDD, 4194304)
    assert holder.hostname and set(holder.hostname) == {"h"}


# Breaking


def test_break_without_the_right_to(server):
    server.sql("CREATE ROLE weak LOGIN")
    try:
        with PostgreSQLLock("README"):
            weak = PostgreSQLLock("README", conninfo=server.conninfo + " user=weak")
            with pytest.raises(UnlockError, match="could not be broken"):
                in_thread(weak.break_lock)
            assert PostgreSQLLock("README").i_am_locking()
        PostgreSQLLock.close_free_connections()
    finally:
        server.sql("DROP ROLE weak")


def test_break_ends_exactly_that_lock(server):
    one, other = PostgreSQLLock("one"), PostgreSQLLock("other")
    with other:
        one.acquire()
        in_thread(PostgreSQLLock("one").break_lock)
        assert not one.i_am_locking()
        assert other.i_am_locking()
        with pytest.raises(NotLocked, match="the connection that kept it has ended: terminating"):
            one.release()


def test_many_that_break_what_they_waited_for_spare_each_others_fresh_locks(server):
    """The second of them would otherwise break what the first has got."""
    broken = []

    def contend():
        lock = PostgreSQLLock("README")
        with contextlib.suppress(LockTimeout):
            lock.acquire(timeout=0.2)
        barrier.wait()
        lock.break_lock()
        lock.acquire(timeout=60)
        if not lock.i_am_locking():
            broken.append(lock)
        lock.release()

    held = PostgreSQLLock("README")
    held.acquire()
    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    with pytest.raises(NotLocked):
        held.release()
    assert broken == []


@pytest.mark.parametrize("ends", [True, False])
def test_break_of_who_ends_by_itself_just_then(server, monkeypatch, ends):
    """The server says that there is no such process; and what matters is whether it holds."""
    call = b"pg_catalog.pg_terminate_backend(l.pid, 5000)"
    assert call in statements.TERMINATE
    told = b"NOT " + call if ends else b"false"
    monkeypatch.setattr(statements, "TERMINATE", statements.TERMINATE.replace(call, told))
    with OtherThread() as thread:
        held, lock = PostgreSQLLock("README"), PostgreSQLLock("README")
        thread.run(held.acquire)
        if ends:
            assert lock.break_lock() is None
            assert not lock.is_locked()
            with pytest.raises(NotLocked):
                thread.run(held.release)
        else:
            with pytest.raises(UnlockError, match="does not end"):
                lock.break_lock()
            thread.run(held.release)


def test_holder_that_came_while_another_stood_in_line_is_spared(server, monkeypatch):
    """However long it takes until the server is asked who holds."""
    asked = []

    def look_late(*arguments):
        asked.append(time.sleep(0.2))
        return (yield from looks.look(*arguments))

    monkeypatch.setattr(attempt, "look", look_late)
    first, ahead, behind = (PostgreSQLLock("README") for _ in range(3))

    async def time_out():
        with pytest.raises(LockTimeout):
            await behind.acquire_async(timeout=0.1)
        behind.break_lock()

    async def hold(end):
        async with ahead:
            await end.wait()
            assert ahead.i_am_locking()

    async def main():
        end = asyncio.Event()
        await first.acquire_async()
        holding = asyncio.create_task(hold(end))
        await settle()
        timing_out = asyncio.create_task(time_out())
        await settle()
        first.release()
        await timing_out
        end.set()
        await holding

    asyncio.run(main())
    assert asked


def test_slow_answer_does_not_spare_who_was_met_by_whoever_is_ahead(server, monkeypatch):
    first, ahead, behind = (PostgreSQLLock("README") for _ in range(3))

    async def main():
        waits = asyncio.Event()
        waiting = asyncio.create_task(ahead.acquire_async(on_wait=lambda _: waits.set()))
        await waits.wait()
        monkeypatch.setattr(statements, "NOW", statements.NOW + b" FROM pg_catalog.pg_sleep(0.3)")
        with pytest.raises(LockTimeout):
            await behind.acquire_async(timeout=0.05)
        behind.break_lock()
        (await waiting).release()

    with OtherThread() as thread:
        thread.run(first.acquire)
        asyncio.run(asyncio.wait_for(main(), 60))
        with pytest.raises(NotLocked):
            thread.run(first.release)


def test_break_of_a_holder_whose_statistics_are_hidden(server):
    server.sql("CREATE ROLE quiet LOGIN")
    server.sql("ALTER ROLE quiet SET track_activities = off")
    try:
        quiet = PostgreSQLLock("README", conninfo=server.conninfo + " user=quiet")
        quiet.acquire()
        lock = PostgreSQLLock("README")
        with pytest.raises(LockTimeout):
            in_thread(lambda: contends_and_breaks(lock))
        assert not lock.is_locked()
        with pytest.raises(NotLocked):
            quiet.release()
    finally:
        PostgreSQLLock.close_free_connections()
        server.sql("DROP ROLE quiet")


def contends_and_breaks(lock):
    try:
        lock.acquire(timeout=0.1)
    except LockTimeout:
        lock.break_lock()
        raise


# Shared locks


def test_shared_locks_share_and_exclude_the_others(server):
    with PostgreSQLLock("README", shared=True) as lock:
        assert in_thread(lambda: PostgreSQLLock("README", shared=True).try_acquire())
        assert len(lock.owners()) == 2
        assert [holder.shared for holder in lock.owners()] == [True, True]
        assert in_thread(PostgreSQLLock("README").try_acquire) is False
        PostgreSQLLock("README").break_lock()
        with contextlib.suppress(NotLocked):
            lock.release()
        lock.acquire()
    assert not lock.is_locked()


def test_shared_locks_queue_behind_an_exclusive_one_that_waits(server):
    with OtherThread() as writer, OtherThread() as reader:
        with PostgreSQLLock("README", shared=True):
            writes = writer.start(PostgreSQLLock("README").acquire)
            postgresql.wait_for_waiters(server, 1)
            reads = reader.start(PostgreSQLLock("README", shared=True).acquire)
            postgresql.wait_for_waiters(server, 2)
        writes.result(60)
        assert not reads.done()
        writer.run(PostgreSQLLock("README").release)
        reads.result(60)
        reader.run(PostgreSQLLock("README").release)


def test_each_call_may_say_whether_it_shares(server):
    lock = PostgreSQLLock("README", owner="thread")
    sharing = PostgreSQLLock("README", owner="thread", shared=True)
    for shared, acquire in [
        (True, lambda: lock.acquire(shared=True)),
        (True, lambda: lock.try_acquire(shared=True)),
        (True, lambda: asyncio.run(lock.acquire_async(shared=True))),
        (False, lambda: sharing.acquire(shared=False)),
        (True, lambda: sharing.acquire(shared=None)),
    ]:
        assert acquire()
        assert [holder.shared for holder in lock.owners()] == [shared]
        assert lock.owner().shared is shared
        lock.release()


def test_owner_of_a_shared_lock_does_not_wait_for_itself(server):
    with PostgreSQLLock("README", shared=True):
        with pytest.raises(LockFailed, match="wait for itself"):
            PostgreSQLLock("README").acquire()
    with PostgreSQLLock("README"):
        assert PostgreSQLLock("README", shared=True).try_acquire()


# Tokens


def test_token_grows_with_every_grant(server):
    server.sql("DROP TABLE IF EXISTS public.lockfile_tokens")
    seen = []
    for _ in range(3):
        with PostgreSQLLock("README") as lock:
            assert lock.token == lock.token
            seen.append(lock.token)
    with PostgreSQLLock("another") as lock:
        assert lock.token == 1
    assert seen == [1, 2, 3]
    [(committed,)] = server.sql("SELECT token FROM lockfile_tokens WHERE name = 'README'")
    assert committed == 3


def test_token_is_for_who_holds(server):
    lock = PostgreSQLLock("README")
    with pytest.raises(NotLocked):
        _ = lock.token
    with lock:
        server.sql("SELECT pg_terminate_backend(%s, 5000)", lock.owners()[0].backend)
        with pytest.raises(NotLocked):
            _ = lock.token
        with pytest.raises(NotLocked):
            lock.release()
        lock.acquire()


def test_token_that_cannot_be_counted(server):
    server.sql("DROP TABLE IF EXISTS public.lockfile_tokens")
    server.sql("CREATE ROLE weak LOGIN")
    try:
        with PostgreSQLLock("README", conninfo=server.conninfo + " user=weak") as lock:
            with pytest.raises(UnlockError, match="no token of README"):
                _ = lock.token
            assert lock.i_am_locking()
        PostgreSQLLock.close_free_connections()
    finally:
        server.sql("DROP ROLE weak")


def test_table_of_tokens_is_made_by_several_at_once(server):
    for _ in range(5):
        server.sql("DROP TABLE IF EXISTS public.lockfile_tokens")
        barrier = threading.Barrier(4)
        tokens = []

        def count(number, barrier=barrier, tokens=tokens):
            with PostgreSQLLock(f"lock {number}") as lock:
                barrier.wait()
                tokens.append(lock.token)

        threads = [threading.Thread(target=count, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert tokens == [1, 1, 1, 1]


# Timeouts


def test_what_is_granted_in_the_moment_of_the_timeout_is_given_up(server, monkeypatch):
    """The server may grant a lock and say that time is up, both."""
    server.sql("""CREATE OR REPLACE FUNCTION public.granted_and_refused(key bigint) RETURNS void
        LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_lock(key);
            RAISE EXCEPTION USING ERRCODE = '55P03';
        END $$""")
    monkeypatch.setitem(
        statements.WAIT,
        False,
        b"SELECT public.granted_and_refused($1::bigint), pg_backend_pid()"
        b" FROM set_config('lock_timeout', $2, true)",
    )
    for tries in (statements.TRY, statements.TRY_NAMED):
        granted = b"pg_catalog.pg_try_advisory_lock($1::bigint)"
        assert granted in tries[False]
        monkeypatch.setitem(tries, False, tries[False].replace(granted, b"$1::bigint IS NULL"))
    with pytest.raises(LockTimeout):
        PostgreSQLLock("README").acquire(timeout=0.05)
    assert server.held() == 0


def test_waiters_come_in_by_turns(server):
    """First come, first served."""
    order = []

    def wait(number):
        with PostgreSQLLock("README"):
            order.append(number)

    threads = []
    with PostgreSQLLock("README"):
        for number in range(100):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            postgresql.wait_for_waiters(server, number + 1)
    for thread in threads:
        thread.join(100)
    assert order == list(range(100))


# Forks


FORK = """
    lock = lockfile.PostgreSQLLock(sys.argv[1])
    lock.acquire()
    child = os.fork()
    if child == 0:
        owns = lock.i_am_locking()
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            say([owns, "refused"])
        del lock
        sys.exit(0)  # as a program ends, with all that this closes
    os.waitpid(child, 0)
    say(lock.i_am_locking())
    hear()
    """


def test_forked_child_leaves_its_parents_session_alone(server, path):
    with Child(FORK, path) as child:
        assert child.hear() == [False, "refused"]
        assert child.hear() is True
        assert server.held() == 1
        child.say("end")
        child.finish()


FORKS = """
        if os.fork() == 0:
            hear()
            os._exit(0)
        """
STARTS = """
        import subprocess
        subprocess.Popen(["/bin/sh", "-c", "read answer"], close_fds=False)
        """


@pytest.mark.parametrize("starts", [FORKS, STARTS], ids=["forked", "another program"])
def test_parent_that_is_killed_owns_no_more_though_its_child_lives(server, path, starts):
    code = f"""
        lock = lockfile.PostgreSQLLock(sys.argv[1])
        lock.acquire()
        {starts}
        say("owns")
        hear()
        """
    with Child(code, path) as child:
        assert child.hear() == "owns"
        os.kill(child.pid, 9)
        with PostgreSQLLock(path, timeout=60):
            pass


def test_program_that_becomes_another_one_owns_no_more_though_it_lives(server, path):
    code = """
        lockfile.PostgreSQLLock(sys.argv[1]).acquire()
        say("owns")
        hear()
        os.execv("/bin/sh", ["sh", "-c", "echo 1; read answer"])
        """
    with Child(code, path) as child:
        assert child.hear() == "owns"
        assert PostgreSQLLock(path).is_locked()
        child.say("go on")
        assert child.hear() == 1
        with PostgreSQLLock(path, timeout=60):
            child.say("end")


# Descriptors


def test_number_that_became_somebody_elses_is_left_alone(server, tmp_path):
    lock = PostgreSQLLock("README")
    lock.acquire()
    number = lock.fileno()
    file = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)
    os.dup2(file, number)
    assert not lock.i_am_locking()
    with pytest.raises(NotLocked, match="descriptor"):
        lock.release()
    assert os.fstat(number).st_size == 0
    os.close(number)
    os.close(file)
    wait_until(lambda: server.held() == 0, "the server to see the end of it")
