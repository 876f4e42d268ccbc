"""Where the classic package has LinkLockFile."""

from lockfile._lockfile import (
    AlreadyLocked,
    Error,
    LinkFileLock,
    LockBase,
    LockError,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    UnlockError,
)

LinkLockFile = LinkFileLock

__all__ = [
    "AlreadyLocked",
    "Error",
    "LinkLockFile",
    "LockBase",
    "LockError",
    "LockFailed",
    "LockTimeout",
    "NotLocked",
    "NotMyLock",
    "UnlockError",
]
