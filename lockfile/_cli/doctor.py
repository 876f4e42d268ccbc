"""doctor: which lock works at a place, and what to expect of it."""

import argparse
import json
import os
import textwrap
from typing import Any

from lockfile import FileLock
from lockfile._cli import statuses
from lockfile._cli.locks import UsageError
from lockfile._cli.output import plain, say, tell
from lockfile._cli.place import examine

FILES = ("LinkFileLock", "MkdirFileLock", "SymlinkLockFile")
WIDTH = 78


def main(options: argparse.Namespace) -> int:
    try:
        lock = FileLock(options.path, lock_file=options.lock_file)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    directory, name = os.path.split(lock.lock_file)
    try:
        found = examine(directory)
    except OSError as error:
        say(f"no lock can be made in {directory}: {error.strerror or error}")
        say("--lock-file (in Python, lock_file=) names a lock file elsewhere")
        return statuses.NO
    found["lock_file"] = lock.lock_file
    found["name_fits"] = len(os.fsencode(name)) <= found["longest_name"]
    found["use"] = choose(found)
    found["expect"] = expectations(found)
    if options.json:
        tell(json.dumps(found, indent=2))
    else:
        _print(found)
    return statuses.DONE if found["use"] is not None else statuses.NO


def choose(found: dict[str, Any]) -> str | None:
    """The class to use; None: no lock works there."""
    works = {name for name, result in found["classes"].items() if result == "works"}
    if not found["name_fits"]:
        works -= {*FILES, "PIDLockFile"}
    order = ["LinkFileLock", "MkdirFileLock", "SymlinkLockFile", "SQLiteFileLock"]
    if order[1] == FileLock.__name__:
        order[:2] = reversed(order[:2])
    if found["probes"]["rename"] != "works":
        # A lock directory is made in place then, and some accidents leave it held.
        order[:3] = "LinkFileLock", "SymlinkLockFile", "MkdirFileLock"
    if found["probes"]["database locks"] != "works":
        order.remove("SQLiteFileLock")
    return next((name for name in order if name in works), None)


def expectations(found: dict[str, Any]) -> list[str]:
    """What is good to know of the place, a sentence or two each."""
    return [*_of_deaths(found), *_of_waiting(found), *_of_others(found), *_of_the_rest(found)]


def _of_deaths(found: dict[str, Any]) -> list[str]:
    works = found["probes"]["flock"] == "works"
    if not works or found["probes"]["byte lock"] == "lies":
        return [
            "Kernel locks exclude nobody here, so nobody can prove an owner dead: its lock is held "
            "until it is broken (lockfile-py break, or break_lock())."
        ]
    if found["reach"] == "kernel":
        return [
            "Only this kernel uses the file system: the lock of an owner that dies is free at "
            "once, and after a restart, too."
        ]
    if found["reach"] == "machine":
        return [
            "A program serves the file system from a device of this machine: the lock of an owner "
            "that dies is free at once, and after a restart, too."
        ]
    return [
        "Others may have mounted the file system, too. They are kept out. But only the machine "
        "that an owner ran on can prove it dead, and only until it restarts or mounts anew; after "
        "that the lock is held until it is broken (lockfile-py break, or break_lock())."
    ]


def _of_waiting(found: dict[str, Any]) -> list[str]:
    if found["reach"] == "anybody":
        return ["Whoever waits looks every 50 ms in the end, since no events tell of others."]
    if "events" not in found["probes"]:  # threads have them, and nobody else
        return ["A thread that waits is told by the kernel; a coroutine looks every 50 ms."]
    if found["probes"]["events"] != "works":
        return [
            f"No events are to be had just now ({found['probes']['events']}): whoever waits looks "
            "every 50 ms in the end."
        ]
    return ["Whoever waits is told by the kernel, and does not poll."]


def _of_others(found: dict[str, Any]) -> list[str]:
    sharing = found["sharing"]
    if sharing is None:
        return ["Whoever may make and remove files in the directory, may do so with locks."]
    who = "everybody" if sharing["others"] else "its group" if sharing["group"] else None
    if who is None:
        return ["Only the directory's owner (and root) may make locks in it, or remove them."]
    if sharing["sticky"]:
        told = [
            f"The directory is sticky: {who} may make locks, and nobody (but root) remove those of "
            "others. So the lock of another user that has died is held until that user, or root, "
            "wants it."
        ]
    else:
        told = [f"The directory may be written by {who}, who may so remove each other's locks."]
    if sharing["links_protected"] is False:
        told.append(
            "Users may link files that they may not write here (fs.protected_hardlinks is 0): see "
            "the limits."
        )
    return told


def _of_the_rest(found: dict[str, Any]) -> list[str]:
    told = []
    if found["probes"]["stamp"] != "works":
        told.append(
            "Files keep no modes here: what owners leave that are killed in the middle of a call, "
            "nobody removes."
        )
    if found["use"] == "MkdirFileLock" and found["probes"]["rename"] != "works":
        told.append(
            "Nothing can be renamed here without replacing what is there: an owner that is killed "
            "between two calls may leave an empty directory, which is held until it is broken."
        )
    if not found["name_fits"]:
        told.append(
            "The lock file's name is longer than the file system takes: --lock-file (in Python, "
            "lock_file=) names another."
        )
    if found["probes"]["database locks"] != "works":
        told.append("SQLiteFileLock is not to be used here: SQLite's own locks do not work.")
    elif found["reach"] == "anybody":
        told.append("SQLite's manual warns of network file systems: so do we, of SQLiteFileLock.")
    return told


# What each probe is called for readers.
NAMES = {
    "link": "hard links",
    "rename": "renames that replace nothing",
    "symbolic link": "symbolic links",
    "directory": "directories",
    "flock": "kernel locks of files (flock)",
    "byte lock": "kernel locks of bytes",
    "mark": "marks (the same, by others)",
    "events": "events",
    "database locks": "locks of databases",
    "stamp": "the stamp of our files",
}


def _print(found: dict[str, Any]) -> None:
    system = found["file_system"]
    tell(plain(f"lock file    {found['lock_file']}"))
    if system is not None:
        where = f"{system['type']} ({system['source']}), mounted at {system['mounted_at']}"
        tell(plain(f"file system  {where}"))
    tell("\nWhat works here:\n")
    for name, called in NAMES.items():
        if name in found["probes"]:
            tell(f"  {called:30} {_shown(found['probes'][name])}")
    for name, result in found["classes"].items():
        tell(f"  {name:30} {_shown(result)}")
    use = found["use"]
    tell(f"\n{_advice(use)}\n")
    for sentence in found["expect"]:
        tell(textwrap.fill(sentence, WIDTH, initial_indent="- ", subsequent_indent="  "))


def _shown(result: str) -> str:
    return "LIES: what must be refused is granted" if result == "lies" else result


def _advice(use: str | None) -> str:
    if use is None:
        return "No lock works here. lock_file= names a lock file elsewhere."
    also = ", which is FileLock" if use == FileLock.__name__ else ""
    return f"Use {use}{also}."
