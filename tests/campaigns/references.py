"""Whether a call, or a call that fails, leaves a reference: in a Python that counts all of them.

    make references

runs this by a debug build of Python, which has sys.gettotalrefcount(): all that is public
(uses.py), system calls that are refused, and the operations of faults.py while their allocations
fail, one after the other. Each is done again and again, so that what it leaves adds up.
"""

import argparse
import contextlib
import errno
import functools
import gc
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lockfile
import lockfile._command
import support
from campaigns import faults, memory
from support import uses
from support.lock_classes import NAMES, kind_of

GIVEN_UP = (0, 0)


def growth(lock_class, function):
    """How many references and blocks a call leaves."""
    # Python's sqlite3 remembers up to 200 cursors that are gone.
    times = 600 if kind_of(lock_class).is_row else 50
    marks = []
    for count in (times // 10, times):  # the first fills the caches
        for _ in range(count):
            function()
        gc.collect()
        marks.append((sys.gettotalrefcount(), sys.getallocatedblocks()))
    return [round((after - before) / times) for before, after in zip(*marks, strict=True)]


def all_that_is_public(lock_class, directory):
    path = os.path.join(directory, "README")
    for use in uses.ALL:
        yield use.__name__, growth(lock_class, functools.partial(use, lock_class, path))
    with support.OtherThread() as thread:
        lock = lock_class(path)
        thread.run(lock.acquire)
        yield "contend", growth(lock_class, functools.partial(uses.contend, lock_class, path, lock))
        thread.run(lock.release)


def every_method(lock_class, path):
    """Whatever happens: the kernel refuses something, or memory has run out."""
    for method in ("acquire", "is_locked", "owner", "release", "break_lock", "__enter__"):
        with contextlib.suppress(lockfile.Error, MemoryError):
            getattr(lock_class(path, timeout=0.01), method)()


def refused_system_calls(lock_class, directory):
    path = os.path.join(directory, "README")
    for name in support.REFUSABLE:
        for error in (errno.EIO, errno.EACCES, errno.ENOSPC):
            if name in support.COMMANDS and error == errno.EACCES:
                continue  # that says that others have locked it, so it is waited for
            call = functools.partial(every_method, lock_class, path)
            left = support.in_thread(growth, lock_class, call, refused={name: error})
            yield f"{name} fails with {errno.errorcode[error]}", left
            with contextlib.suppress(lockfile.Error):
                lock_class(path).break_lock()


def sharing(is_shared):
    return {"shared": True} if is_shared else {}


def starved(lock_class, operation, path, allocator, number):
    """One operation whose allocation fails; whether it came to so many."""
    lock = lock_class(path, **sharing(operation.reads))
    if operation.before:
        operation.before(lock)
    with contextlib.suppress(lockfile.Error, MemoryError):
        allocator.fail_allocations(number, 1)
        operation.run(lock)
    failed = allocator.stop_failing()
    if operation.owns or operation.before:
        with contextlib.suppress(lockfile.NotLocked, lockfile.NotMyLock):
            lock.release()
    return failed


def in_child(lock_class, call):
    """What a call returns, and leaves. Python's debug build gives up at some faults of its own."""
    receiving, sending = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(sending, json.dumps([call(), growth(lock_class, call)]).encode())
        finally:
            os._exit(0)
    os.close(sending)
    with open(receiving) as answer:
        text = answer.read()
    _, status = os.waitpid(process, 0)
    given_up = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT
    return json.loads(text) if not given_up else (1, GIVEN_UP)


def failing_allocations(lock_class, directory):
    """Without the search for an owner's command: os.scandir(), alone, leaks in this Python, too."""
    lockfile._command.find = lambda *arguments: None
    allocator = memory.load()
    path = os.path.join(directory, "README")
    for name in faults.operations(lock_class.__name__):
        operation = faults.OPERATIONS[name]
        if operation.stale or operation.inherited or name == "wait":
            continue  # none is much else than what is held, and they take long
        holder = lock_class(path, threaded=False, **sharing(operation.beside_reader))
        number = 1
        while True:
            if operation.held and not holder.i_am_locking():
                holder.acquire()
            call = functools.partial(starved, lock_class, operation, path, allocator, number)
            more, left = in_child(lock_class, call)
            if not more:
                break
            yield f"{name}, allocation {number}", left
            number += 13 if kind_of(lock_class).has_many_steps else 1
        if operation.held:
            with contextlib.suppress(lockfile.NotLocked):
                holder.release()


def main():
    if not hasattr(sys, "gettotalrefcount"):
        sys.exit("this Python does not count references: run it by python3-dbg (make references)")
    if memory.LIBRARY not in os.environ:
        return memory.preload()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("classes", nargs="*", default=NAMES, metavar="class")
    failed = 0
    for class_name in parser.parse_args().classes:
        for part in (all_that_is_public, refused_system_calls, failing_allocations):
            start, cases, given_up, leaks = time.monotonic(), 0, 0, []
            with tempfile.TemporaryDirectory() as directory:
                for what, left in part(getattr(lockfile, class_name), directory):
                    cases += 1
                    given_up += left is GIVEN_UP
                    references, blocks = left
                    if references > 0 or blocks > 0:
                        leaks.append(f"{what}: {references} references, {blocks} blocks")
            failed += len(leaks)
            took = time.monotonic() - start
            title = part.__name__.replace("_", " ")
            print(
                f"{class_name:15} {title:22} {cases:5} cases, {len(leaks)} leaks, {took:.0f} s"
                + (f"; Python itself gave up {given_up} times" if given_up else "")
            )
            for leak in leaks:
                print(f"      {leak}")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
