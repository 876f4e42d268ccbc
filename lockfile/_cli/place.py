"""What a place can do for locks, tried out. Nothing is left there."""

import os
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from typing import Any

import lockfile
from lockfile import AlreadyLocked, LockBase
from lockfile._lockfile import Watch, _probe, _reach

LIES = -1  # what must be refused was done

# Asks for a database that another process has locked.
OTHER_PROCESS = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute("BEGIN EXCLUSIVE")
except sqlite3.OperationalError as error:
    refused = "locked" in str(error)
    print("refused" if refused else error)
else:
    print("granted")
"""
# Tries a class.
OWN_PROCESS = """
import sys
sys.path[:] = sys.argv[3:]
import lockfile, lockfile._cli.place
print(lockfile._cli.place._try_class(getattr(lockfile, sys.argv[1]), sys.argv[2]))
"""
PATIENCE = 1.0  # seconds, for an event of this kernel


def examine(directory: str) -> dict[str, Any]:
    """All that was found out. OSError: nothing can be done there."""
    os.listdir(directory)  # whoever finds a lock has to find its owner's name
    found: dict[str, Any] = {
        "directory": directory,
        "file_system": _file_system(directory),
        "reach": _reach(directory),
        "sharing": _sharing(directory),
        "longest_name": _longest_name(directory),
    }
    scratch = tempfile.mkdtemp(prefix=".lockfile-doctor-", dir=directory)
    try:
        probed = os.path.join(scratch, "probed")
        os.mkdir(probed)
        found["probes"] = {name: _word(result) for name, result in _probe(probed).items()}
        if sys.platform == "win32":
            del found["probes"]["mark"]  # what it does elsewhere, is done in another way
        if sys.platform != "win32":
            found["probes"]["events"] = _try_events(os.path.join(scratch, "watched"))
        found["probes"]["database locks"] = _try_database(os.path.join(scratch, "database"))
        found["classes"] = {
            name: _try(name, os.path.join(scratch, name))
            for name in (
                *("LinkFileLock", "MkdirFileLock", "SymlinkLockFile"),
                *("PIDLockFile", "SQLiteFileLock"),
            )
        }
    finally:
        shutil.rmtree(scratch)
    return found


def _longest_name(directory: str) -> int:
    return 255 if sys.platform == "win32" else os.pathconf(directory, "PC_NAME_MAX")


def _word(result: int) -> str:
    return "works" if result == 0 else "lies" if result == LIES else os.strerror(result)


def _try_events(path: str) -> str:
    """Is whoever watches a file told of its removal?"""
    assert sys.platform != "win32"
    with open(path, "x"):
        pass
    try:
        watch = Watch()
        watch.add(path)
    except OSError as error:
        return error.strerror or str(error)
    os.unlink(path)
    poll = select.poll()
    poll.register(watch.fileno(), select.POLLIN)
    told = bool(poll.poll(PATIENCE * 1000))
    watch.read()
    return "works" if told else "do not come"


def _try_database(path: str) -> str:
    """Is another process kept out by the locks of SQLite?"""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE filled (row)")
            connection.execute("BEGIN EXCLUSIVE")
            answer = _ask_other_process(path)
    except sqlite3.Error as error:
        return str(error)
    return {"refused": "works", "granted": "lies"}.get(answer, answer or "failed")


def _ask_other_process(path: str) -> str:
    command = [sys.executable, "-I", "-c", OTHER_PROCESS, path]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.stdout.strip()


def _try(name: str, path: str) -> str:
    if sys.platform == "win32" and name == "SQLiteFileLock":
        # Nobody could remove a database that this process has open.
        command = [sys.executable, "-c", OWN_PROCESS, name, path, *sys.path]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return done.stdout.strip() or done.stderr.strip()
    return _try_class(getattr(lockfile, name), path)


def _try_class(lock_class: type[LockBase], path: str) -> str:
    """Does a lock of it keep others out, and is it free for them afterwards?"""
    try:
        # Of a PID file the process is the owner, and what it owns is held.
        ownership = {} if lock_class is lockfile.PIDLockFile else {"owner": "object"}
        one, other = (lock_class(path, **ownership) for _ in range(2))  # type: ignore[arg-type]
        one.acquire(timeout=0)
        try:
            other.acquire(timeout=0)
            return "lies"
        except AlreadyLocked:
            pass
        one.release()
        other.acquire(timeout=0)
        other.release()
    except lockfile.Error as error:
        return str(error)
    return "works"


def _sharing(directory: str) -> dict[str, Any] | None:
    """Who else may remove locks. None: no modes say so."""
    if sys.platform == "win32":
        return None
    status = os.stat(directory)
    return {
        "sticky": bool(status.st_mode & 0o1000),
        "group": bool(status.st_mode & 0o020),
        "others": bool(status.st_mode & 0o002),
        "owner": status.st_uid,
        "links_protected": _links_protected(),
    }


def _links_protected() -> bool | None:
    """None: the system does not tell."""
    try:
        with open("/proc/sys/fs/protected_hardlinks") as file:
            return file.read().strip() != "0"
    except OSError:
        return None


def _file_system(directory: str) -> dict[str, str] | None:
    """What is mounted there, for readers; nothing is decided by it."""
    real = os.path.realpath(directory)
    found: dict[str, str] | None = None
    try:
        with open("/proc/self/mountinfo", errors="surrogateescape") as file:
            for line in file:
                fields, _, rest = line.partition(" - ")
                where = _unescaped(fields.split()[4])
                is_above = real == where or real.startswith(where.rstrip("/") + "/")
                if is_above and (found is None or len(where) >= len(found["mounted_at"])):
                    kind, source = rest.split()[:2]
                    found = {"type": kind, "source": _unescaped(source), "mounted_at": where}
    except (OSError, IndexError, ValueError):
        return None
    return found


def _unescaped(text: str) -> str:
    """Blanks in the names of mounts are written in octal."""
    for escape, meant in ("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"):
        text = text.replace(escape, meant)
    return text
