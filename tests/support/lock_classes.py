"""The lock classes, and what tests must know of each: a new class is a new row of KINDS."""

import sys
from dataclasses import dataclass

import lockfile
import support


@dataclass(frozen=True)
class Kind:
    lock_class: type
    lock_file: str  # what that is: a "file", "directory", "symlink", "PID file", or "row"
    descriptors: int  # what stays open while a lock is owned
    needs_hard_links: bool = False
    excludes_classic: bool = False  # the same lock as the class of that name in lockfile 0.12
    can_share: bool = False  # with many readers
    has_many_steps: bool = False  # a method makes hundreds of system calls and allocations

    @property
    def name(self):
        return self.lock_class.__name__

    @property
    def is_pid_file(self):
        """The path itself, which the whole process owns, and nobody gets twice."""
        return self.lock_file == "PID file"

    def lock_file_of(self, path):
        return path if self.is_pid_file else path + ".lock"

    @property
    def is_row(self):
        return self.lock_file == "row"

    @property
    def is_directory(self):
        """Then the unique file is in it, and not beside it."""
        return self.lock_file == "directory"


KINDS = (
    Kind(
        lockfile.LinkFileLock,
        "file",
        2,
        needs_hard_links=True,
        excludes_classic=True,
        can_share=True,
    ),
    Kind(lockfile.MkdirFileLock, "directory", 3, excludes_classic=True, can_share=True),
    Kind(lockfile.SymlinkLockFile, "symlink", 2),
    Kind(lockfile.PIDLockFile, "PID file", 2, needs_hard_links=True),
    Kind(lockfile.SQLiteFileLock, "row", 0, can_share=True, has_many_steps=True),
)

# Those that do all that a lock does here; tests/mechanisms/test_pid_file*.py are about the others.
LOCK_CLASSES = [kind.lock_class for kind in KINDS if not kind.is_pid_file]
# Those whose lock files are what a path names.
FILE_LOCK_CLASSES = [kind.lock_class for kind in KINDS if not kind.is_row and not kind.is_pid_file]
# Those that many readers may share, if the system lets them share a beacon. Rows need none of that.
SHARED_CLASSES = [kind.lock_class for kind in KINDS if kind.can_share]
SHARED_FILE_CLASSES = [kind.lock_class for kind in KINDS if kind.can_share and not kind.is_row]
BEACONS_ARE_SHARED = not (support.PORTABLE or sys.platform == "darwin")
DIRECTORIES_ARE_SHARED = BEACONS_ARE_SHARED and not support.IS_WINDOWS


def can_be_shared(lock_class):
    """On this system."""
    kind = kind_of(lock_class)
    here = DIRECTORIES_ARE_SHARED if kind.is_directory else BEACONS_ARE_SHARED
    return kind.can_share and (kind.is_row or here)


NAMES = tuple(kind.name for kind in KINDS)


def kind_of(which):
    """The row of a lock class, or of its name."""
    [kind] = [kind for kind in KINDS if which in (kind.lock_class, kind.name)]
    return kind


# What the command calls them.
CLASS_NAMES = {
    "LinkFileLock": "link",
    "MkdirFileLock": "mkdir",
    "SymlinkLockFile": "symlink",
    "PIDLockFile": "pid",
    "SQLiteFileLock": "sqlite",
}
