"""What tests share. Here: other threads, other processes, and system calls that fail.

children          processes that a test starts
libraries         libraries in front of the C library
lock_classes      the table of lock classes
protocol          names on disk, planted locks, a process that is stopped before its system calls
lock_directories  the same for lock directories
databases         locks in a database
waiters           processes that wait
network           machines that share a network file system
actors            owners that do what a test tells them
families          forked children
uses              what programs do with a lock
command           the command lockfile-py, as a child process and on a terminal
killed_anywhere   a program that is killed at random
leftovers         what a test may have left
preloaded/        such libraries, in C
"""

import importlib
import os
import sys
import threading
import time

import lockfile

# Longer than anything takes on a busy machine: who waits longer than this hangs.
PATIENCE = 100

# Is this Python built without a GIL?
FREE_THREADED = "free-threading build" in sys.version

# Python's own allocations are the C library's then, where they can be.
PLAIN_ALLOCATIONS = {} if FREE_THREADED else {"PYTHONMALLOC": "malloc"}

# Is it the build for any POSIX system that is tested (setup.py)?
PORTABLE = os.environ.get("LOCKFILE_PLATFORM") == "portable"

# Root is not stopped by modes; whoever is not root already is an ordinary user.
IS_WINDOWS = sys.platform == "win32"
USER = None if IS_WINDOWS else os.geteuid()
ORDINARY_USER = 65534 if USER == 0 else USER

# By whose numbers system calls are known.
MACHINE = None if IS_WINDOWS else os.uname().machine

# What only who starts children needs: each child imports this file, and no more.
ELSEWHERE = {
    **dict.fromkeys(("Child", "child_of", "holder", "IMPORT_PATH", "TESTS"), "children"),
    **dict.fromkeys(("PRELOADED", "also_preloaded", "compiled"), "libraries"),
}


def __getattr__(name):
    if name not in ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{ELSEWHERE[name]}"), name)


def wait_until(condition, what="the condition"):
    """Return when `condition()` holds; fail when it does not within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.001)


def time_to_see_an_end(lock_class):
    """Seconds. A kernel knows of the end of a process at once; a server hears of it."""
    return PATIENCE if lock_class.__name__ == "PostgreSQLLock" else 0


def is_databases(name):
    """Does a file belong to the database of SQLiteFileLock, which stays where it is?"""
    return ".lockfile.sqlite3" in name


def names(directory):
    """The sorted names in a directory, but for those of the database."""
    return sorted(name for name in os.listdir(directory) if not is_databases(name))


class OtherThread:
    """A thread that lives as long as the `with` block and runs what it is given."""

    def __init__(self, name=None):
        from queue import SimpleQueue

        self._calls = SimpleQueue()
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
        from concurrent.futures import Future

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


# For use inside a child.


def say(value):
    print(ascii(value), flush=True)


def hear():
    """The next value from the parent, `None` when it says no more."""
    line = sys.stdin.readline()
    return eval(line) if line else None  # to import what parses it takes a third of a child's start


def clock():
    """What the fixture of that name has preloaded."""
    import ctypes

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
    import locale  # noqa: F401
    import sqlite3  # noqa: F401

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
        "write": (18,),  # at a place in a file
    },
    "aarch64": {
        "link": (37,),
        "unlink": (35,),
        "flock": (32,),
        "inotify": (26,),
        "rename": (276,),
        "marks": (25,),
        "write": (68,),
    },
}.get(MACHINE, {})
# Of fcntl, those for locks of open files.
COMMANDS = {"marks": (36, 37, 38)}


def refuse(name, error):
    """From now on the system call fails with `error` in the calling thread and its children."""
    import ctypes
    import struct

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
