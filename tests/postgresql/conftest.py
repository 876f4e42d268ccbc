import gc

import pytest

import lockfile
from support.leftovers import descriptors

pytest.importorskip("psycopg", reason='pip install "psycopg[binary]"')

from lockfile.postgresql import PostgreSQLLock, holds
from support import children, postgresql, wait_until


@pytest.fixture(scope="session")
def server():
    """A server that these tests share; what it holds, each of them gives back."""
    if postgresql.program("initdb") is None:
        pytest.skip(f"there is no PostgreSQL here: {postgresql.NEEDED}")
    with postgresql.running_server() as server:
        yield server


@pytest.fixture
def own_server():
    """A server for tests that stop or kill it."""
    if postgresql.program("initdb") is None:
        pytest.skip(f"there is no PostgreSQL here: {postgresql.NEEDED}")
    with postgresql.running_server() as server:
        yield server


def ends_for(server, end):
    """The other classes' tests look at once for what a process has left, of which a server hears a
    moment later."""

    def ends(child):
        code = end(child)
        wait_until(lambda: server.has_seen_the_end_of(child.pid), "the server to see it")
        return code

    return ends


@pytest.fixture(autouse=True)
def environment(request, monkeypatch):
    """Locks that say nothing else are on the tests' server, in children, too."""
    which = "own_server" if "own_server" in request.fixturenames else "server"
    server = request.getfixturevalue(which)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    if "suite" in request.path.parts:
        monkeypatch.setattr(children.Child, "_end", ends_for(server, children.Child._end))
    prelude = "import support.postgresql_in_children\n" + children.PRELUDE
    monkeypatch.setattr(children, "PRELUDE", prelude)
    monkeypatch.setattr(lockfile, "PostgreSQLLock", PostgreSQLLock, raising=False)


@pytest.fixture(params=[PostgreSQLLock], ids=["PostgreSQLLock"])
def lock_class(request):
    return request.param


@pytest.fixture
def make(request):
    """Locks that are on the server of this test, whatever else they are."""
    return PostgreSQLLock


@pytest.fixture(autouse=True)
def nothing_is_left(environment, request):
    """A test leaves no descriptor open, no lock held, and nobody waiting or connected."""
    PostgreSQLLock.close_free_connections()
    holds._watcher.begin()  # which keeps a descriptor from then on
    before = descriptors()
    yield
    PostgreSQLLock.close_free_connections()
    if "own_server" in request.fixturenames:
        return  # which is stopped and started, and so has other pipes
    if not descriptors() <= before:
        gc.collect()
    assert descriptors() <= before, "a descriptor is left"
    assert request.getfixturevalue("server").comes_to_rest(), (
        "somebody holds, waits, or is connected"
    )
