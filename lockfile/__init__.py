"""Advisory file locks: granted by the file system, vouched for by the kernel.

>>> from lockfile import FileLock
>>> with FileLock("README"):  # doctest: +SKIP
...     ...  # nobody else is in here
"""

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
    Owner,
    UnlockError,
)

FileLock = LinkFileLock
LockFile = FileLock

__all__ = [
    "AlreadyLocked",
    "Error",
    "FileLock",
    "LinkFileLock",
    "LockBase",
    "LockError",
    "LockFailed",
    "LockFile",
    "LockTimeout",
    "NotLocked",
    "NotMyLock",
    "Owner",
    "UnlockError",
]
