"""The lock classes, and what tests must know of each: a new class is a new row of KINDS."""

from dataclasses import dataclass

import lockfile


@dataclass(frozen=True)
class Kind:
    lock_class: type
    lock_file: str  # what that is: a "file", a "directory", or a "row" of a database
    descriptors: int  # what stays open while a lock is owned
    needs_hard_links: bool = False
    excludes_classic: bool = False  # the same lock as the class of that name in lockfile 0.12
    has_many_steps: bool = False  # a method makes hundreds of system calls and allocations

    @property
    def name(self):
        return self.lock_class.__name__

    @property
    def is_row(self):
        return self.lock_file == "row"

    @property
    def is_directory(self):
        """Then the unique file is in it, and not beside it."""
        return self.lock_file == "directory"


KINDS = (
    Kind(lockfile.LinkFileLock, "file", 2, needs_hard_links=True, excludes_classic=True),
    Kind(lockfile.MkdirFileLock, "directory", 3, excludes_classic=True),
    Kind(lockfile.SQLiteFileLock, "row", 0, has_many_steps=True),
)

LOCK_CLASSES = [kind.lock_class for kind in KINDS]
# Those whose lock files are what a path names.
FILE_LOCK_CLASSES = [kind.lock_class for kind in KINDS if not kind.is_row]
NAMES = tuple(kind.name for kind in KINDS)


def kind_of(which):
    """The row of a lock class, or of its name."""
    [kind] = [kind for kind in KINDS if which in (kind.lock_class, kind.name)]
    return kind
