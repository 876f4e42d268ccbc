"""Advisory file locks: granted by the file system, vouched for by the kernel.

>>> from lockfile import FileLock
>>> with FileLock("README"):  # doctest: +SKIP
...     ...  # nobody else is in here
"""

import sys

# Not imported by the first who needs it: a signal's handler that raises in an import, or a fork
# beside it, may leave the module locked for ever.
from lockfile import _command  # noqa: F401
from lockfile import linklockfile as linklockfile
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
    PIDLockFile,
    SQLiteFileLock,
    Steps,
    SymlinkLockFile,
    UnlockError,
)

if sys.platform == "win32":
    FileLock = MkdirFileLock
else:
    FileLock = LinkFileLock
LockFile = FileLock

TYPE_CHECKING = False  # to a type checker it is true; typing is long to import
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any, TypeVar

    _Function = TypeVar("_Function", bound=Callable[..., Any])

__version__ = "1.0.0"


def locked(
    path: "str | bytes | os.PathLike[str] | os.PathLike[bytes]", timeout: float | None = None
) -> "Callable[[_Function], _Function]":
    """Decorate a function, or a coroutine function: each call of it locks the path.

    It is called with FileLock(path, timeout=timeout) owned. That is made anew for each call, so
    path is what it means at that time. A lock object decorates as well, and does so with the
    lock that it is.
    """

    def decorator(function: "_Function") -> "_Function":
        from lockfile._decorating import decorate

        return decorate(function, lambda: FileLock(path, timeout=timeout))

    return decorator


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
    "PIDLockFile",
    "SQLiteFileLock",
    "Steps",
    "SymlinkLockFile",
    "UnlockError",
    "all_of",
    "locked",
]
