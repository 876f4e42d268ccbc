"""What the tests of locks in a database share."""

import contextlib
import sqlite3

import pytest

from lockfile import (
    LockFailed,
)

TABLE = '"lockfile: locks"'


APPLICATION = 1819239275


def connected(database):
    """A connection of the test's own, closed at the end of the block."""
    return contextlib.closing(sqlite3.connect(database, isolation_level=None))


def rows(database):
    with connected(database) as connection:
        return connection.execute(f"SELECT * FROM {TABLE}").fetchall()


def fails(lock, reason, cause=sqlite3.Error):
    with pytest.raises(LockFailed, match=f"failed to create .*{reason}") as caught:
        lock.acquire(timeout=0)
    assert isinstance(caught.value.__cause__, cause)
    return caught.value


@contextlib.contextmanager
def writing(database):
    """Somebody else's transaction that writes, for as long as the block runs."""
    with connected(database) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("ROLLBACK")
