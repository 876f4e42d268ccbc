"""Which lock the arguments mean, and how its owner is told of."""

import argparse
import errno
import os
import stat
import time
from typing import Any

import lockfile
from lockfile import LockBase, Owner, SQLiteFileLock
from lockfile._cli.output import plain

CLASSES = {
    "link": "LinkFileLock",
    "mkdir": "MkdirFileLock",
    "symlink": "SymlinkLockFile",
    "pid": "PIDLockFile",
    "sqlite": "SQLiteFileLock",
}

INFINITE = float("inf")


class UsageError(Exception):
    """The arguments do not go together."""


def find_class(name: str | None) -> type[LockBase]:
    """None: the one that FileLock is."""
    found: type[LockBase] = getattr(lockfile, CLASSES[name]) if name else lockfile.FileLock
    return found


def make(options: argparse.Namespace, path: str, **more: Any) -> LockBase:
    """The lock that the options mean."""
    lock_class = find_class(options.lock_class)
    if options.lock_file is not None:
        if options.lock_class == "pid":
            raise UsageError("a PID file is its own lock file: --lock-file goes with other classes")
        more["lock_file"] = options.lock_file
    if options.database is not None:
        if options.lock_class != "sqlite":
            raise UsageError("--database goes with --class sqlite")
        more["database"] = options.database
    if getattr(options, "shared", False):
        more["shared"] = True
    if options.lock_class != "pid":
        more.setdefault("threaded", False)
    try:
        return lock_class(path, **more)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:  # the working directory has gone
        raise OSError(error.errno, error.strerror, path) from error


def look_for_its_directory(lock: LockBase) -> None:
    """A lock in a directory that is not there is free, but more probably a mistake. OSError."""
    file = lock.database if isinstance(lock, SQLiteFileLock) else lock.lock_file
    directory = os.path.dirname(file)
    if not stat.S_ISDIR(os.stat(directory).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)


def seconds_to_wait(options: argparse.Namespace) -> float:
    """Said outright, since a PID file's default is not to wait."""
    if options.no_wait:
        return 0
    return INFINITE if options.wait is None else options.wait


def owners_of(lock: LockBase) -> list[Owner]:
    """All that hold the lock: several, where it is shared."""
    if hasattr(lock, "owners"):
        found: list[Owner] = lock.owners()
        return found
    owner = lock.owner()
    return [] if owner is None else [owner]


def describe(owner: Owner | None) -> str:
    """Who it is, in some words."""
    if owner is None:
        return "nobody"
    if owner.pid is None:
        return "something that is no lock of this package"
    ours = lockfile.FileLock(os.sep).hostname  # there is always such a path; "." may be removed
    host = "" if owner.hostname == ours else f" on {owner.hostname}"
    command = f" ({owner.command})" if owner.command else ""
    return plain(f"process {owner.pid}{host}{command}")


def duration(seconds: float) -> str:
    """As somebody would say it."""
    whole = max(0, int(seconds))
    for size, unit in (86400, "d"), (3600, "h"), (60, "min"):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def held_for(owner: Owner | None) -> str:
    """How long it has held the lock; nothing where nobody can tell."""
    if owner is None or owner.since is None:
        return ""
    return f" for {duration(time.time() - owner.since)}"
