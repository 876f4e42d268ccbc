"""Where the classic package has PIDLockFile, and functions for PID files that nobody locks."""

import contextlib
import os

from lockfile._lockfile import (
    AlreadyLocked,
    Error,
    LockBase,
    LockError,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    UnlockError,
)
from lockfile._lockfile import PIDLockFile as _PIDLockFile

TYPE_CHECKING = False  # to a type checker it is true; typing is long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from lockfile._lockfile import Owner

    _Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class PIDLockFile(_PIDLockFile):
    """lockfile.PIDLockFile, some methods of which are functions here.

    The tests of programs put mocks in the place of methods, and look for the lock among their
    arguments: only the mock of a function gets it.
    """

    def __init__(
        self,
        path: "_Path",
        threaded: object = False,
        timeout: float | None = None,
        *,
        on_wait: "Callable[[Owner], object] | None" = None,
        shared: bool = False,
    ) -> None:
        super().__init__(path, threaded, timeout, on_wait=on_wait, shared=shared)

    def acquire(
        self,
        timeout: float | None = None,
        *,
        on_wait: "Callable[[Owner], object] | None" = None,
        shared: bool | None = None,
    ) -> "Self":
        """Write the PID file; without a timeout, do not wait."""
        return super().acquire(timeout, on_wait=on_wait, shared=shared)

    def release(self) -> None:
        """Remove the PID file."""
        super().release()

    def break_lock(self) -> None:
        """Remove the PID file, whoever owns it."""
        super().break_lock()


def read_pid_from_pidfile(pidfile_path: "_Path") -> int | None:
    """Return the number that the file holds; None if there is no file, or no number in it.

    A symbolic link is not followed.
    """
    return PIDLockFile(pidfile_path).read_pid()


def write_pid_to_pidfile(pidfile_path: "_Path") -> None:
    """Write this process's number into a file of that name, which must not exist.

    Raises FileExistsError if it does, be it a symbolic link that leads nowhere. Nobody ever sees
    the file without the number: it is written under another name first.
    """
    path = os.fsencode(os.path.abspath(pidfile_path))
    name = b"%s.%d.%s" % (path, os.getpid(), os.urandom(4).hex().encode())
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(name, flags | getattr(os, "O_BINARY", 0), 0o644)
    try:
        with open(descriptor, "w", newline="\n") as file:
            if hasattr(os, "fchmod"):  # Windows has no such modes
                os.fchmod(descriptor, 0o644)
            file.write(f"{os.getpid()}\n")
        os.link(name, path)
    finally:
        os.unlink(name)


def remove_existing_pidfile(pidfile_path: "_Path") -> None:
    """Remove the file, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(pidfile_path)


__all__ = [
    "AlreadyLocked",
    "Error",
    "LockBase",
    "LockError",
    "LockFailed",
    "LockTimeout",
    "NotLocked",
    "NotMyLock",
    "PIDLockFile",
    "UnlockError",
    "read_pid_from_pidfile",
    "remove_existing_pidfile",
    "write_pid_to_pidfile",
]
