"""Where the classic package has MkdirLockFile."""

from lockfile._lockfile import (
    AlreadyLocked,
    Error,
    LockBase,
    LockError,
    LockFailed,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    NotMyLock,
    UnlockError,
)

MkdirLockFile = MkdirFileLock

__all__ = [
    "AlreadyLocked",
    "Error",
    "LockBase",
    "LockError",
    "LockFailed",
    "LockTimeout",
    "MkdirLockFile",
    "NotLocked",
    "NotMyLock",
    "UnlockError",
]
