"""token: who is in its way, and what names it is counted for."""

import contextlib
import threading

import psycopg
import pytest

from lockfile import NotLocked, UnlockError
from lockfile.postgresql import PostgreSQLLock
from support import PATIENCE, in_thread, wait_until


@contextlib.contextmanager
def row_of_somebody_elses(server):
    """Whoever counts waits for its end."""
    with PostgreSQLLock("README") as lock:
        assert lock.token
    with psycopg.connect(server.conninfo) as connection:
        connection.execute("UPDATE public.lockfile_tokens SET token = token")
        yield
        connection.rollback()


def counts(server):
    [(number,)] = server.sql(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO public.lockfile_tokens%%'"
    )
    return number


def test_token_that_another_transaction_keeps_costs_no_lock(server):
    """The server says so before it is taken for one that does not answer."""
    lost = []
    lock = PostgreSQLLock("README", on_lost=lost.append)
    with row_of_somebody_elses(server), lock:
        with pytest.raises(UnlockError, match=r"no token of README can be had: .*timeout"):
            _ = lock.token
        assert lock.i_am_locking()
        assert not in_thread(PostgreSQLLock("README").try_acquire)
    with lock:
        assert lock.token
    assert lost == []


def test_release_ends_a_count_of_the_same_owner_and_the_lock_with_it(server):
    lock = PostgreSQLLock("README", threaded=False)
    raised = []

    def count():
        try:
            _ = lock.token
        except NotLocked as error:
            raised.append(error)

    with row_of_somebody_elses(server):
        lock.acquire()
        counting = threading.Thread(target=count)
        counting.start()
        wait_until(lambda: counts(server) == 1, "the count")
        lock.release()
        assert not lock.i_am_locking()
        counting.join(PATIENCE)
        assert len(raised) == 1
        assert PostgreSQLLock("README", threaded=False).try_acquire(PATIENCE)
        PostgreSQLLock("README", threaded=False).release()


def test_name_that_the_database_cannot_write_has_tokens(server):
    server.sql(
        "CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"
    )  # which has no \u65e5
    conninfo = server.conninfo.replace("dbname=postgres", "dbname=narrow")
    try:
        seen = []
        for _ in range(2):
            with PostgreSQLLock("\u65e5", conninfo=conninfo) as lock:
                seen.append(lock.token)
        assert seen == [1, 2]
    finally:
        PostgreSQLLock.close_free_connections()
        server.sql("DROP DATABASE narrow WITH (FORCE)")
