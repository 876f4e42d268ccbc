"""What the tests of locks in a database share."""

import contextlib
import os
import shutil
import sqlite3

import pytest

from lockfile import LockFailed, SQLiteFileLock

TABLE = '"lockfile: locks"'


APPLICATION = 1819239275


def connected(database):
    """A connection of the test's own, closed at the end of the block."""
    return contextlib.closing(sqlite3.connect(database, isolation_level=None))


def execute(database, statement, values=()):
    """Tell the database something, or ask it."""
    with connected(database) as connection:
        return connection.execute(statement, values).fetchall()


def remove_lock_file(lock):
    """Behind its owner's back; or its row."""
    if isinstance(lock, SQLiteFileLock):
        name = os.fsencode(os.path.basename(lock.lock_file))
        execute(lock.database, f"DELETE FROM {TABLE} WHERE lock = ?", (name,))
    elif os.path.isdir(lock.lock_file):
        shutil.rmtree(lock.lock_file)
    else:
        os.unlink(lock.lock_file)


def rows(database):
    return execute(database, f"SELECT * FROM {TABLE}")


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
