"""A lock class of one's own on LockBase: rows of a table that the program has anyway.

LockBase brings the attributes (path, lock_file, unique_name, threaded, timeout), the with
statement and its nesting; this brings the scheme. It knows nothing of its owner's death:
who is killed leaves a row, until somebody calls break_lock().
"""

import math
import sqlite3
import time

from lockfile import AlreadyLocked, LockBase, LockFailed, LockTimeout, NotLocked, NotMyLock


class TableLock(LockBase):
    """Excludes by a row of the table `locks` in a database of the program's own."""

    poll = 0.01  # seconds from one look to the next

    def __init__(self, path, threaded=True, timeout=None, *, database):
        super().__init__(path, threaded, timeout)
        self.connection = sqlite3.connect(
            database, timeout=5, isolation_level=None, check_same_thread=False
        )
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS locks (name TEXT PRIMARY KEY, owner TEXT NOT NULL)"
        )

    def acquire(self, timeout=None, *, on_wait=None, shared=None):
        if self.i_am_locking():
            return self
        timeout = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while not self._claim():
            if timeout is not None and timeout <= 0:
                raise AlreadyLocked(f"{self.path} is already locked")
            left = deadline - time.monotonic()
            if left <= 0:
                raise LockTimeout(f"Timeout waiting to acquire lock for {self.path}")
            time.sleep(min(self.poll, left))
        return self

    def release(self):
        if not self._delete("AND owner = ?", self.unique_name):
            if self.is_locked():
                raise NotMyLock(f"{self.path} is locked, but not by me")
            raise NotLocked(f"{self.path} is not locked")

    def is_locked(self):
        return self._owner() is not None

    def i_am_locking(self):
        return self._owner() == self.unique_name

    def break_lock(self):
        self._delete()

    def _claim(self):
        """One statement, so that nobody comes between a look and the claim."""
        try:
            cursor = self.connection.execute(
                "INSERT INTO locks VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
                (self.lock_file, self.unique_name),
            )
        except sqlite3.Error as error:
            raise LockFailed(f"failed to create {self.lock_file}: {error}") from error
        return cursor.rowcount == 1

    def _delete(self, condition="", *parameters):
        cursor = self.connection.execute(
            f"DELETE FROM locks WHERE name = ? {condition}", (self.lock_file, *parameters)
        )
        return cursor.rowcount == 1

    def _owner(self):
        row = self.connection.execute(
            "SELECT owner FROM locks WHERE name = ?", (self.lock_file,)
        ).fetchone()
        return row and row[0]
