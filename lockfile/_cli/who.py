"""who: who holds locks, since when, and how many wait."""

import argparse
import json
import os
import sys
import time
from typing import Any

from lockfile import Error, LockBase, Owner, PIDLockFile, SQLiteFileLock
from lockfile._cli import statuses
from lockfile._cli.found import locks_in
from lockfile._cli.locks import look_for_its_directory, make, owners_of
from lockfile._cli.output import Complaints, plain, tell
from lockfile._lockfile import _reach, _waiters

HEADER = ("LOCK", "OWNER", "ALIVE", "SINCE", "WAITING", "COMMAND")
UNKNOWN = "-"


def main(options: argparse.Namespace) -> int:
    complaints = Complaints()
    locks = [lock for path in options.paths for lock in _locks(options, path, complaints)]
    found = [told for lock in locks if (told := _try_to_look_at(lock, complaints)) is not None]
    if options.json:
        tell(json.dumps(found, indent=2))
    else:
        _print_table(found)
    if complaints.are_made:
        return statuses.CANNOT
    return statuses.DONE if any(each["held"] for each in found) else statuses.NO


def _locks(options: argparse.Namespace, path: str, complaints: Complaints) -> list[LockBase]:
    """The lock on it; and those in it, if it is a directory."""
    try:
        lock = make(options, path)
    except OSError as error:
        complaints.add(error)
        return []
    if not os.path.isdir(path):
        return [lock]
    return [*_if_locked(lock, complaints), *locks_in(path, complaints)]


def _if_locked(lock: LockBase, complaints: Complaints) -> list[LockBase]:
    if isinstance(lock, PIDLockFile):
        return []  # it would be the directory itself
    try:
        return [lock] if lock.owner() is not None else []
    except Error as error:
        complaints.add(error)
        return []


def _try_to_look_at(lock: LockBase, complaints: Complaints) -> dict[str, Any] | None:
    try:
        look_for_its_directory(lock)
        return look_at(lock)
    except (Error, OSError) as error:
        complaints.add(error)
        return None


def look_at(lock: LockBase) -> dict[str, Any]:
    """All that there is to say, for JSON."""
    owners = owners_of(lock)
    return {
        "path": None if str(lock.path).endswith(".*") else str(lock.path),
        "lock_file": lock.lock_file,
        "database": lock.database if isinstance(lock, SQLiteFileLock) else None,
        "held": lock.is_locked(),
        "owners": [_tell_owner(owner) for owner in owners],
        "waiting": _count_waiters(lock) if owners else 0,
    }


def _tell_owner(owner: Owner) -> dict[str, Any]:
    names = ("hostname", "pid", "thread", "alive", "since", "command", "shared")
    return {name: getattr(owner, name) for name in names if hasattr(owner, name)}


def _count_waiters(lock: LockBase) -> int | None:
    """None: nobody can tell."""
    if isinstance(lock, SQLiteFileLock) or sys.platform == "win32":
        return None
    lock_file = lock.lock_file
    try:
        if _reach(os.path.dirname(lock_file)) == "anybody":
            return None  # there they leave no marks
        return _waiters(os.path.realpath(lock_file) if os.path.islink(lock_file) else lock_file)
    except OSError:
        return None


def _print_table(found: list[dict[str, Any]]) -> None:
    rows = [HEADER, *(row for each in found for row in _rows(each))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        tell("  ".join(cells).rstrip())


def _rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """One for each owner."""
    name = plain(found["path"] or found["lock_file"])
    if not found["owners"]:
        return [(name, "nobody", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)]
    return [(name, *_cells(owner, found["waiting"])) for owner in found["owners"]]


def _cells(owner: dict[str, Any], waiting: int | None) -> tuple[str, ...]:
    who = UNKNOWN
    if owner["pid"] is not None:
        thread = f"/{owner['thread']:x}" if owner["thread"] is not None else ""
        shared = " (shared)" if owner.get("shared") else ""
        who = f"{plain(owner['hostname'])}:{owner['pid']}{thread}{shared}"
    alive = {True: "yes", False: "no", None: UNKNOWN}[owner["alive"]]
    count = UNKNOWN if waiting is None else str(waiting)
    return who, alive, _when(owner["since"]), count, plain(owner["command"] or UNKNOWN)


def _when(since: float | None) -> str:
    if since is None:
        return UNKNOWN
    then, now = time.localtime(since), time.localtime()
    is_today = then[:3] == now[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", then)
