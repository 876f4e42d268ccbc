"""The locks of this package that are in a directory."""

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from lockfile import LinkFileLock, LockBase, PIDLockFile, SQLiteFileLock
from lockfile._cli import say
from lockfile._lockfile import _names_owner

DATABASE = ".lockfile.sqlite3"
SECONDS = 1.0  # that a database may be busy


def locks_in(directory: str) -> list[LockBase]:
    """In the order of their names, those of a database last."""
    return [*_lock_files(directory), *_rows(os.path.join(directory, DATABASE))]


def _lock_files(directory: str) -> Iterator[LockBase]:
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    inodes = {entry.inode() for entry in entries if _names_owner(entry.name)}
    for entry in entries:
        try:
            lock_class = None if _names_owner(entry.name) else _class_of(entry, inodes)
        except OSError:
            continue  # it is gone
        if lock_class is PIDLockFile:
            yield PIDLockFile(entry.path)
        elif lock_class is not None:
            yield LinkFileLock(protected(entry.path), lock_file=entry.path)


def protected(lock_file: str) -> str:
    """What the lock file most probably protects; of one with a name of its own nobody knows."""
    return lock_file.removesuffix(".lock") if lock_file.endswith(".lock") else f"{lock_file}.*"


def _class_of(entry: os.DirEntry[str], inodes: set[int]) -> type[LockBase] | None:
    """Which class looks at it as it should be looked at; None: it is no lock file of ours."""
    if entry.is_symlink():
        return LinkFileLock if _names_owner(os.readlink(entry.path)) else None
    status = os.lstat(entry.path)  # what the entry itself knows, is not all on Windows
    is_stamped = _is_stamped(status)
    if stat.S_ISDIR(status.st_mode):
        return LinkFileLock if is_stamped and _is_lock_directory(entry.path) else None
    if not stat.S_ISREG(status.st_mode) or status.st_nlink < 2:
        return None
    if status.st_ino in inodes:
        return LinkFileLock if is_stamped else PIDLockFile
    chosen = is_stamped and entry.name.endswith(".lock")  # by its owner: the unique file's name
    return LinkFileLock if chosen else None


def _is_stamped(status: os.stat_result) -> bool:
    if sys.platform == "win32":
        return bool(status.st_file_attributes & stat.FILE_ATTRIBUTE_SYSTEM)
    return bool(status.st_mode & stat.S_ISVTX)


def _is_lock_directory(path: str) -> bool:
    try:
        names = os.listdir(path)
    except PermissionError:
        return False
    return len(names) == 1 and _names_owner(names[0])


def _rows(database: str) -> Iterator[LockBase]:
    for name in _names_of_rows(database):
        lock_file = os.path.join(os.path.dirname(database), os.fsdecode(name))
        yield SQLiteFileLock(protected(lock_file), lock_file=lock_file, database=database)


def _names_of_rows(database: str) -> list[bytes]:
    """Without a change of it."""
    if not os.path.exists(database):
        return []
    address = f"{Path(os.path.abspath(database)).as_uri()}?mode=ro"
    connection = None
    try:
        connection = sqlite3.connect(address, uri=True, timeout=SECONDS)
        rows = connection.execute('SELECT lock FROM "lockfile: locks" ORDER BY lock').fetchall()
        return [name for (name,) in rows if b"//" not in name]  # these are readers of the others
    except sqlite3.Error as error:
        say(f"{database}: {error}")
        return []
    finally:
        if connection is not None:
            connection.close()
