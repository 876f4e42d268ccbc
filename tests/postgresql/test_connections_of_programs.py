"""connect=: how long it takes, what is forked meanwhile, and which database it has reached."""

import asyncio
import os
import threading

import psycopg
import pytest

from lockfile import LockFailed, all_of
from lockfile.postgresql import PostgreSQLLock
from support import PATIENCE, in_thread
from support.children import Child
from support.postgresql import REST

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks beside threads


def forks():
    """Returns when the child has ended."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


# Nobody waits for connect


@pytest.fixture
def slow(server):
    """connect that takes until go_on is set."""

    class Slow:
        begun, go_on = threading.Event(), threading.Event()

        def connect(self):
            self.begun.set()
            assert self.go_on.wait(PATIENCE)
            return psycopg.connect(server.conninfo)

    return Slow()


def elsewhere(server):
    with PostgreSQLLock("elsewhere", conninfo=server.conninfo_tcp) as lock:
        return lock.i_am_locking()


def in_a_loop(server):
    async def main():
        async with PostgreSQLLock("elsewhere", conninfo=server.conninfo_tcp) as lock:
            return lock.i_am_locking()

    return asyncio.run(main())


@pytest.mark.parametrize(
    "what",
    [elsewhere, in_a_loop, lambda server: forks() is None],
    ids=["a thread", "a loop", "a fork"],
)
def test_nobody_waits_while_a_program_makes_its_connection(server, slow, what):
    lock = PostgreSQLLock("README", connect=slow.connect)
    owning = threading.Thread(
        target=lambda: owned.append(lock.try_acquire() and not lock.release())
    )
    owned = []
    owning.start()
    try:
        assert slow.begun.wait(PATIENCE)
        assert in_thread(what, server)
    finally:
        slow.go_on.set()
        owning.join()
    assert owned == [True]


# Who forks meanwhile


PARENT = """
import asyncio, psycopg

children = []

def fork_once():
    if not children:
        children.append(os.fork())
        if children == [0]:
            hear()
            os._exit(0)
"""

CONNECT = """
def connect():
    made = psycopg.connect("", autocommit=True)
    fork_once()
    return made

with lockfile.PostgreSQLLock(sys.argv[1], connect=connect):
    say("owns")
    hear()
"""

CONNECT_ASYNC = """
async def connect():
    made = await psycopg.AsyncConnection.connect("", autocommit=True)
    fork_once()
    return made

async def main():
    async with lockfile.PostgreSQLLock(sys.argv[1], connect=connect):
        say("owns")
        hear()

asyncio.run(main())
"""

CONNINFO = """
from lockfile.postgresql import connecting

class PGconn(psycopg.pq.PGconn):
    @classmethod
    def connect_start(cls, text):
        made = super().connect_start(text)
        fork_once()
        return made

connecting.pq.PGconn = PGconn
with lockfile.PostgreSQLLock(sys.argv[1]):
    say("owns")
    hear()
"""


@pytest.mark.parametrize(
    "code", [CONNECT, CONNECT_ASYNC, CONNINFO], ids=["connect", "awaited", "conninfo"]
)
def test_killed_owner_owns_no_more_though_a_child_was_forked_while_it_connected(server, path, code):
    with Child(PARENT + code, path) as child:
        assert child.hear() == "owns"
        os.kill(child.pid, 9)
        assert PostgreSQLLock(path).try_acquire(REST)
        PostgreSQLLock(path).release()


def test_child_that_was_forked_while_its_parent_connected_makes_its_own(server, path):
    code = """
        import psycopg
        made = []

        def connect():
            made.append(psycopg.connect("", autocommit=True))
            if len(made) == 1:
                os.fork()
            return made[-1]

        parent = os.getpid()
        lock = lockfile.PostgreSQLLock(sys.argv[1], connect=connect)
        lock.acquire()
        say([os.getpid() == parent, made[-1].info.backend_pid])
        lock.release()
        if os.getpid() == parent:
            os.wait()
        """
    with Child(code, path) as child:
        told = [child.hear(), child.hear()]
    assert sorted(is_parent for is_parent, _ in told) == [False, True]
    assert len({backend for _, backend in told}) == 2


def test_connection_from_before_a_fork_is_refused(server):
    """The child has a copy, and would keep the lock though its owner is killed."""
    with psycopg.connect(server.conninfo, autocommit=True) as kept:
        forks()
        with pytest.raises(LockFailed, match="before this process forked"):
            PostgreSQLLock("README", connect=lambda: kept).acquire()


def test_connection_is_made_though_its_thread_forks_each_time(server):
    tries = []

    def connect():
        tries.append(psycopg.connect(server.conninfo))
        forks()
        return tries[-1]

    with pytest.raises(LockFailed, match="each time"):
        PostgreSQLLock("README", connect=connect).acquire()
    assert all(each.closed for each in tries)


def test_connection_is_made_though_another_thread_forks_all_the_time(server):
    """In the end the forks wait."""
    stop, last = threading.Event(), threading.Event()
    forked = threading.Semaphore(0)

    def fork_on():
        while not stop.is_set():
            forks()
            forked.release()

    def connect():
        made = psycopg.connect(server.conninfo)
        if not last.is_set():
            while forked.acquire(blocking=False):
                pass
            last_of_three.append(forked.acquire(timeout=PATIENCE))
            if len(last_of_three) == 3:
                last.set()
        return made

    last_of_three = []
    forking = threading.Thread(target=fork_on)
    forking.start()
    try:
        with PostgreSQLLock("README", connect=connect) as lock:
            assert lock.i_am_locking()
    finally:
        stop.set()
        forking.join()
    assert last_of_three == [True] * 3


# Which database that is


@pytest.fixture(scope="session")
def other_database(server):
    """conninfo of another one of the same server."""
    server.sql("CREATE DATABASE other")
    return server.conninfo.replace("dbname=postgres", "dbname=other")


def connecting(conninfo):
    return lambda: psycopg.connect(conninfo, autocommit=True)


def connecting_async(conninfo):
    async def connect():
        return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)

    return connect


def test_locks_of_one_name_in_two_databases_are_two(server, other_database):
    here = PostgreSQLLock("README", connect=connecting(server.conninfo))
    there = PostgreSQLLock("README", connect=connecting(other_database))
    with all_of(here, there):
        assert here.i_am_locking() and there.i_am_locking()
        assert server.held() == 2
    assert server.held() == 0


def test_locks_of_one_name_in_two_databases_are_two_for_tasks(server, other_database):
    here = PostgreSQLLock("README", connect=connecting_async(server.conninfo))
    there = PostgreSQLLock("README", connect=connecting_async(other_database))

    async def main():
        async with all_of(here, there):
            assert here.i_am_locking() and there.i_am_locking()
            assert server.held() == 2

    asyncio.run(main())
    assert server.held() == 0


def test_one_lock_by_two_programs_ways_is_one(server):
    ways = connecting(server.conninfo), connecting(server.conninfo_tcp)
    with all_of(*(PostgreSQLLock("README", connect=way) for way in ways)) as both:
        assert all(lock.i_am_locking() for lock in both.locks)
        assert server.held() == 1


def test_everybody_takes_two_databases_in_one_order(server, other_database):
    """By whatever ways, and in whatever order they are named: so nobody waits for ever."""
    order = []

    class Recording(PostgreSQLLock):
        def acquire(self, timeout=None):
            super().acquire(timeout)
            order[-1].append(self.database)
            return self

    def locks(reverse, here, there):
        made = Recording("README", **here), Recording("README", **there)
        made[0].database, made[1].database = "here", "there"
        return made[::-1] if reverse else made

    # Their texts are in one order each.
    named = {"conninfo": server.conninfo}, {"conninfo": other_database}
    turned = {"conninfo": f"user=lockfile {server.conninfo}"}, {"conninfo": f" {other_database}"}
    made = {"connect": connecting(server.conninfo)}, {"connect": connecting(other_database)}
    for ways in (named, turned, made):
        for reverse in (False, True):
            order.append([])
            with all_of(*locks(reverse, *ways)):
                pass
    order = [list(dict.fromkeys(each)) for each in order]  # blocks acquire again
    assert sorted(order[0]) == ["here", "there"]
    assert order == order[:1] * 6


def test_lock_is_released_by_a_way_that_was_never_used(server):
    lock = PostgreSQLLock("README", conninfo=server.conninfo)
    for use in (lambda other: other.token, lambda other: other.fileno(), PostgreSQLLock.release):
        other = PostgreSQLLock("README", connect=connecting(server.conninfo_tcp))
        lock.acquire()
        use(other)
    assert server.held() == 0
