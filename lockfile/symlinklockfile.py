"""Where the classic package has SymlinkLockFile."""

from lockfile._lockfile import (
    AlreadyLocked,
    Error,
    LockBase,
    LockError,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    SymlinkLockFile,
    UnlockError,
)

__all__ = [
    "AlreadyLocked",
    "Error",
    "LockBase",
    "LockError",
    "LockFailed",
    "LockTimeout",
    "NotLocked",
    "NotMyLock",
    "SymlinkLockFile",
    "UnlockError",
]
