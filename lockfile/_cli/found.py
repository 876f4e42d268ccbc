"""The locks of this package that are in a directory."""

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from lockfile import Error, LinkFileLock, LockBase, PIDLockFile, SQLiteFileLock
from lockfile._cli.output import Complaints
from lockfile._lockfile import _names_owner

DATABASE = ".lockfile.sqlite3"
TABLE = "lockfile: locks"
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?"
SECONDS = 1.0  # that a database may be busy


def locks_in(directory: str, complaints: Complaints) -> list[LockBase]:
    """In the order of their names, those of a database last."""
    rows = _rows(os.path.join(directory, DATABASE), complaints)
    return [*_lock_files(directory, complaints), *rows]


def _lock_files(directory: str, complaints: Complaints) -> Iterator[LockBase]:
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        complaints.add(error)
        return
    inodes = {entry.inode() for entry in entries if _names_owner(entry.name)}
    for entry in entries:
        try:
            lock_class = None if _names_owner(entry.name) else _class_of(entry, inodes)
        except FileNotFoundError:
            continue  # it is gone
        except OSError as error:
            complaints.add(error)
            continue
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


def _rows(database: str, complaints: Complaints) -> Iterator[LockBase]:
    try:
        names = _names_of_rows(database) if os.path.lexists(database) else []
    except (Error, ValueError) as error:
        complaints.add(error)
        return
    for name in names:
        lock_file = os.path.join(os.path.dirname(database), os.fsdecode(name))
        try:
            yield SQLiteFileLock(protected(lock_file), lock_file=lock_file, database=database)
        except ValueError as error:
            complaints.add(error)


def _names_of_rows(database: str) -> list[bytes]:
    """Without a change of it."""
    # By a lock first: that refuses what is no database of locks, or may be anybody's trap.
    SQLiteFileLock(database, database=database).is_locked()
    address = f"{Path(os.path.abspath(database)).as_uri()}?mode=ro"
    connection = None
    try:
        connection = sqlite3.connect(address, uri=True, timeout=SECONDS)
        if not connection.execute(TABLES, (TABLE,)).fetchall():
            return []  # nobody has locked anything yet
        rows = connection.execute(f'SELECT lock FROM "{TABLE}" ORDER BY lock').fetchall()
        return [name for (name,) in rows if _names_lock(name)]
    except sqlite3.Error as error:
        raise ValueError(f"{database}: {error}") from error
    finally:
        if connection is not None:
            connection.close()


def _names_lock(name: object) -> bool:
    """What has two slashes in it, is a reader of another; and some names no lock file has."""
    if not isinstance(name, bytes) or b"//" in name or b"\0" in name:
        return False
    return os.path.basename(name) not in (b"", b".", b"..")
