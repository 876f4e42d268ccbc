"""What tests share. Here: other threads, other processes, and system calls that fail.

lock_classes      the table of lock classes
protocol          names on disk, planted locks, a process that is stopped before its system calls
lock_directories  the same for lock directories
databases         locks in a database
waiters           processes that wait
network           machines that share a network file system
actors            owners that do what a test tells them
uses              what programs do with a lock
killed_anywhere   a program that is killed at random
leftovers         what a test may have left
preloaded/        libraries in front of the C library, in C
"""

import ctypes
import json
import os
import platform
import queue
import shlex
import sqlite3  # noqa: F401  (a child that has become another user may be too late)
import struct
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import lockfile

# Longer than anything takes on a busy machine: who waits longer than this hangs.
PATIENCE = 100

# Is this Python built without a GIL?
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

# Python's own allocations are the C library's then, where they can be.
PLAIN_ALLOCATIONS = {} if FREE_THREADED else {"PYTHONMALLOC": "malloc"}

# Root is not stopped by modes; whoever is not root already is an ordinary user.
ORDINARY_USER = 65534 if os.geteuid() == 0 else os.geteuid()

# Libraries that a test puts in front of the C library, in C.
PRELOADED = Path(__file__).parent / "preloaded"

TESTS = Path(__file__).parent.parent
IMPORT_PATH = [str(TESTS), str(Path(lockfile.__file__).parent.parent)]


def wait_until(condition, what="the condition"):
    """Return when `condition()` holds; fail when it does not within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.001)


def is_databases(name):
    """Does a file belong to the database of SQLiteFileLock, which stays where it is?"""
    return ".lockfile.sqlite3" in name


def names(directory):
    """The sorted names in a directory, but for those of the database."""
    return sorted(name for name in os.listdir(directory) if not is_databases(name))


def compiled(directory, name):
    """A library of PRELOADED, built by the compiler that builds the extension.

    OSError: there is none.
    """
    library = (directory / name).with_suffix(".so")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))
    options = ["-std=c11", "-Wall", "-Wextra", "-O1", "-fPIC", "-shared", "-pthread"]
    command = [*compiler, *options, "-o", str(library), str(PRELOADED / name), "-ldl"]
    subprocess.run(command, check=True)
    return library


def also_preloaded(library):
    """The value of LD_PRELOAD that adds a library to those there are."""
    return f"{os.environ.get('LD_PRELOAD', '')} {library}".strip()


class OtherThread:
    """A thread that lives as long as the `with` block and runs what it is given."""

    def __init__(self, name=None):
        self._calls = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def __enter__(self):
        self._thread.start()
        self.ident = self._thread.ident
        return self

    def __exit__(self, *exception):
        self._calls.put(None)
        self._thread.join(PATIENCE)

    def start(self, function, *arguments, **keywords):
        """Begin a call over there; its `Future` has the outcome."""
        outcome = Future()
        self._calls.put((outcome, function, arguments, keywords))
        return outcome

    def run(self, function, *arguments, **keywords):
        """Call over there, return or raise here."""
        return self.start(function, *arguments, **keywords).result(PATIENCE)

    def _serve(self):
        while (call := self._calls.get()) is not None:
            outcome, function, arguments, keywords = call
            try:
                outcome.set_result(function(*arguments, **keywords))
            except BaseException as error:
                outcome.set_exception(error)
            del call, outcome, function, arguments, keywords


def in_thread(function, *arguments, refused=None, **keywords):
    """Call in a thread of its own that ends with the call; return or raise here.

    `refused` maps names of REFUSABLE to the error number that this thread then gets.
    """
    with OtherThread() as thread:
        for name, error in (refused or {}).items():
            thread.run(refuse, name, error)
        return thread.run(function, *arguments, **keywords)


class Child:
    """A Python process that runs `code`, which may `say(value)` and `hear()`; values are JSON.

    `sys.argv[1:]` are the arguments; `before` is code that runs before. `with` kills it at the end
    if it still runs.
    """

    def __init__(self, code, *arguments, user=None, before="", **keywords):
        prelude = "from support import *\n" + before
        if user is not None:
            prelude += f"become({user})\n"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(IMPORT_PATH)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", prelude + textwrap.dedent(code), *map(os.fsencode, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            **keywords,
        )
        self.pid = self.process.pid
        self._lines = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def say(self, value):
        self.process.stdin.write(json.dumps(value).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self):
        """The next value that the child says; fails when it ends or keeps silent."""
        line = self._lines.get(timeout=PATIENCE)
        assert line, "the child ended without a word"
        return json.loads(line)

    def kill(self):
        """SIGKILL (unless it has ended), and return once it is gone."""
        self.process.kill()
        return self._end()

    def finish(self):
        """Let it run to its end, which must be a success."""
        self.process.stdin.close()
        code = self._end()
        assert code == 0, f"the child ended with {code}"

    def _end(self):
        code = self.process.wait(PATIENCE)
        self.process.stdin.close()
        self._reader.join(PATIENCE)
        self.process.stdout.close()
        return code


def child_of(lock_class, code, *arguments, **keywords):
    """A child whose code knows `lock_class`, and `path` as its first argument."""
    prelude = f"""
from support.protocol import open_files
sys.stdout.reconfigure(write_through=False)  # one word, one call: its children say something too
lock_class = lockfile.{lock_class.__name__}
path = sys.argv[1]
"""
    return Child(prelude + textwrap.dedent(code), *arguments, **keywords)


def holder(lock_class, path, **keywords):
    """A child that owns the lock on `path` and releases it when it hears something."""
    child = Child(
        """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        lock.acquire()
        say(lock.unique_name)
        hear()
        lock.release()
        say("released")
        """,
        lock_class.__name__,
        path,
        **keywords,
    )
    child.unique_name = child.hear()
    return child


# For use inside a child.


def say(value):
    print(json.dumps(value), flush=True)


def hear():
    """The next value from the parent, `None` when it says no more."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def clock():
    """What the fixture of that name has preloaded."""
    library = ctypes.CDLL(os.environ["LOCKFILE_CLOCK"])
    library.start_clock.restype = ctypes.c_long
    return library


def is_refused_to_a_child(lock):
    """Is a forked child kept out of what its parent owns?"""
    child = os.fork()
    if child == 0:
        try:
            lock.acquire(timeout=0)
        except lockfile.AlreadyLocked:
            os._exit(7)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def become(user):
    """Be an ordinary user from now on (imports may stop working: do them before)."""
    if os.geteuid() == user:
        return
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


# System calls that the kernel refuses to one thread, for the rest of its life, by a seccomp filter.

REFUSABLE = {
    "x86_64": {
        "link": (86, 265),
        "unlink": (87, 263),
        "flock": (73,),
        "inotify": (253, 294),
        "rename": (316,),  # the one that replaces nothing
        "marks": (72,),
    },
    "aarch64": {
        "link": (37,),
        "unlink": (35,),
        "flock": (32,),
        "inotify": (26,),
        "rename": (276,),
        "marks": (25,),
    },
}.get(platform.machine(), {})
# Of fcntl, those for locks of open files.
COMMANDS = {"marks": (36, 37, 38)}


def refuse(name, error):
    """From now on the system call fails with `error` in the calling thread and its children."""
    allow, refusal = 0x7FFF0000, 0x00050000 | error
    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 0)]  # the number of the system call
    for number in REFUSABLE[name]:
        if name in COMMANDS:
            program += [(jump_if_equal, 0, 2 * len(COMMANDS[name]) + 2, number), (load, 0, 0, 24)]
            for command in COMMANDS[name]:
                program += [(jump_if_equal, 0, 1, command), (answer, 0, 0, refusal)]
            program += [(answer, 0, 0, allow)]
        else:
            program += [(jump_if_equal, 0, 1, number), (answer, 0, 0, refusal)]
    program += [(answer, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(code))
    process_control = ctypes.CDLL(None, use_errno=True).prctl
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    for arguments in ((no_new_privileges, 1, 0, 0, 0), (set_seccomp, mode_filter, filter_, 0, 0)):
        if process_control(*arguments):
            raise OSError(ctypes.get_errno(), f"cannot refuse {name}")
