"""Where the classic package has SQLiteLockFile."""

from lockfile._lockfile import (
    AlreadyLocked,
    Error,
    LockBase,
    LockError,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    SQLiteFileLock,
    UnlockError,
)

SQLiteLockFile = SQLiteFileLock

__all__ = [
    "AlreadyLocked",
    "Error",
    "LockBase",
    "LockError",
    "LockFailed",
    "LockTimeout",
    "NotLocked",
    "NotMyLock",
    "SQLiteLockFile",
    "UnlockError",
]
