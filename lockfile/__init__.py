"""Advisory file locks: granted by the file system, vouched for by the kernel.

>>> from lockfile import FileLock
>>> with FileLock("README"):  # doctest: +SKIP
...     ...  # nobody else is in here
"""

import sys

# Not imported by the first who needs it: a signal's handler that raises in an import, or a fork
# beside it, may leave the module locked for ever.
from lockfile import _command  # noqa: F401
from lockfile._all_of import AllOf, all_of
from lockfile._lockfile import (
    AlreadyLocked,
    Error,
    LinkFileLock,
    LockBase,
    LockError,
    LockFailed,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    NotMyLock,
    Owner,
    SQLiteFileLock,
    Steps,
    UnlockError,
)

if sys.platform == "win32":
    FileLock = MkdirFileLock
else:
    FileLock = LinkFileLock
LockFile = FileLock


def _imports() -> None:
    """Never called: tells whoever packs a program what is imported when it is used."""
    import _sqlite3  # noqa: F401


__all__ = [
    "AllOf",
    "AlreadyLocked",
    "Error",
    "FileLock",
    "LinkFileLock",
    "LockBase",
    "LockError",
    "LockFailed",
    "LockFile",
    "LockTimeout",
    "MkdirFileLock",
    "NotLocked",
    "NotMyLock",
    "Owner",
    "SQLiteFileLock",
    "Steps",
    "UnlockError",
    "all_of",
]
