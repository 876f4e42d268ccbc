"""A lock is killed, or fails, at every system call.

    python tests/campaigns/faults.py                      everything (`make faults`)
    python tests/campaigns/faults.py kill LinkFileLock    one campaign, one class
    python tests/campaigns/faults.py --every 7            only each 7th point, as the tests do

For each class and each operation (acquire when free, held, or stale; with; release; break_lock; a
look; owner(); a look or a release by a child that has inherited) a forked process does it, stopped
by the kernel before each of its system calls. In the case number N the N-th of them kills it, or
fails with an error that such a call may have. Then:

- killed: whoever wants the lock owns it within a second, whoever had it still has it, and once a
  stale lock was recovered in the directory, nothing is left there (but the database);
- failed: it succeeded, or raised what is documented, with the reason; the object agrees with what
  the message says, is usable afterwards, and no descriptor and no file is lost.

The cases of one operation end when it comes to its end before its N-th call.
"""

import argparse
import contextlib
import ctypes
import errno
import fcntl
import json
import operator
import os
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lockfile
import support
from support import protocol
from support.lock_classes import NAMES, can_be_shared, kind_of

KINDS = [kind for kind in protocol.CALLS if kind not in ("hear", "say", "close")]

# The errors that each may have. (Those of close() come after it has closed; asking an open file
# for its signal has none; and SQLite's own locks are SQLite's matter.)
LOCK_COMMANDS = (36, 37)  # F_OFD_GETLK, F_OFD_SETLK
FILE_SYSTEM = ("EIO", "EACCES", "ENOMEM", "ESTALE")
WRITING = (*FILE_SYSTEM, "ENOSPC", "EDQUOT", "EROFS", "EPERM")
ERRORS = {
    "open": (*WRITING, "EMFILE", "ENFILE", "EINTR"),
    "flock": ("EIO", "ENOLCK", "EOPNOTSUPP", "EINTR", "ENOMEM"),
    "fcntl": ("EIO", "ENOLCK", "ENOMEM"),
    "link": (*WRITING, "EOPNOTSUPP", "EMLINK", "EXDEV"),
    "symlink": (*WRITING, "EOPNOTSUPP"),
    "unlink": WRITING,
    "stat": FILE_SYSTEM,
    "mkdir": WRITING,
    "rename": (*WRITING, "EINVAL"),
    "statfs": ("EIO", "ENOSYS", "ESTALE"),
    "list": ("EIO", "ESTALE"),
    "watch": ("ENOSPC", "EMFILE", "ENOMEM", "EACCES"),
    "sleep": ("EINTR",),
    "mode": ("EPERM", "EIO", "EROFS"),
    "write": ("EIO", "ENOSPC", "EDQUOT", "EINTR"),
    "read": ("EIO", "EINTR"),
    "truncate": ("EIO", "ENOSPC"),
    "sync": ("EIO",),
    "touch": ("EPERM", "EIO", "EROFS"),
    "node": WRITING,
    "link text": ("EIO", "EACCES"),
}


class Defect(Exception):
    """A case that did not end as it must."""


def demand(condition, what):
    if not condition:
        raise Defect(what)


# What is done. Each gets the lock object; `held` and `stale` say what was there before.


class Operation:
    attacked = looks = False  # hostile.py has such

    def __init__(
        self,
        method,
        *arguments,
        before=None,
        held=False,
        stale=False,
        inherited=False,
        reads=False,
        beside_reader=False,
    ):
        self.method = method
        self.run = operator.methodcaller(method, *arguments)
        self.before, self.stale = before, stale
        self.reads = reads  # it shares the lock
        self.beside_reader = beside_reader  # so does another, before and meanwhile
        self.held = held or beside_reader
        self.inherited = inherited  # it owns what its parent, which is dead, has let it inherit
        joins = reads and beside_reader
        self.owns = method in ("acquire", "__enter__") and (joins or not self.held)
        self.is_kept_out = method == "acquire" and not self.owns

    @property
    def shares(self):
        return self.reads or self.beside_reader or self.method == "downgrade"


OPERATIONS = {
    "acquire": Operation("acquire", 1),
    "acquire what is held": Operation("acquire", 0, held=True),
    "wait": Operation("acquire", 0.005, held=True),
    "acquire what is stale": Operation("acquire", 1, stale=True),
    "release": Operation("release", before=operator.methodcaller("acquire")),
    "break_lock": Operation("break_lock", held=True),
    "look": Operation("is_locked", held=True),
    "owner": Operation("owner", held=True),
    "with": Operation("__enter__"),
    "look at what is inherited": Operation("i_am_locking", inherited=True),
    "release what is inherited": Operation("release", inherited=True),
    "read": Operation("acquire", 1, reads=True),
    "read what is held": Operation("acquire", 0, held=True, reads=True),
    "read what is stale": Operation("acquire", 1, stale=True, reads=True),
    "join a reader": Operation("acquire", 1, beside_reader=True, reads=True),
    "acquire what is read": Operation("acquire", 0.005, beside_reader=True),
    "leave": Operation("release", before=operator.methodcaller("acquire"), reads=True),
    "leave a reader": Operation(
        "release", before=operator.methodcaller("acquire"), beside_reader=True, reads=True
    ),
    "downgrade": Operation("downgrade", before=operator.methodcaller("acquire")),
    "break what is read": Operation("break_lock", beside_reader=True),
    "owners": Operation("owners", beside_reader=True),
}


def operations(class_name):
    """The names of what can be done with that class."""
    rows = kind_of(class_name).is_row
    can_share = can_be_shared(kind_of(class_name).lock_class)
    return [
        name
        for name, operation in OPERATIONS.items()
        if not (rows and operation.inherited) and (can_share or not operation.shares)
    ]


def descriptors():
    """What this process has open, but for what is kept for later and what the campaign uses."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(
        name for name in found if "inotify" not in name and not support.is_databases(name)
    )


# The process in which it is done.


def subject(lock, operation, channel, begin, over, more=dict):
    """Do it, between begin() and over(), and report; then show that the object is usable."""
    signal.alarm(support.PATIENCE)
    if operation.before:
        operation.before(lock)
    open_before = descriptors()
    failure = None
    sys._getframe()  # Python 3.11 loses an exception if it cannot make the frame's object for it
    try:
        begin()
        operation.run(lock)
    except Exception as error:
        failure = error
    over()  # from here on nothing goes wrong any more
    report = {"error": None, "text": "", **more()}
    if failure is not None:
        report["error"] = type(failure).__name__
        report["text"] = str(failure)
        report["documented"] = isinstance(failure, lockfile.Error)
    try:
        report["mine"] = lock.i_am_locking()
        if report["mine"]:
            lock.release()
        if not operation.held:
            lock.acquire(timeout=support.PATIENCE)
            lock.release()
    except Exception as error:
        report["afterwards"] = f"{type(error).__name__}: {error}"
    # The listener of stop_before() stays open in here.
    report["lost"] = [
        name for name in descriptors() if name not in [*open_before, "anon_inode:seccomp notify"]
    ]
    channel.send(json.dumps(report).encode())
    os._exit(0)


def become_reaper(wanted):
    """Does who loses its parent become our child?"""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, int(wanted), 0, 0, 0)


class Case:
    """One operation by one forked process; at the N-th system call something happens."""

    also = ()  # what else may be raised

    def __init__(self, class_name, operation, directory):
        self.lock_class = getattr(lockfile, class_name)
        self.operation = operation
        self.path = os.path.join(directory, "README")
        self.fired = None  # the call at which it happened
        self.report = None
        self.status = None  # that it ended with

    def run(self, number, action):
        """action(case, call) at the call number `number`. False: there were not so many."""
        with contextlib.ExitStack() as stack:
            if self.operation.held:
                self.holder = self.locking(self.operation.beside_reader, threaded=False)
                self.holder.acquire(timeout=0)
            if self.operation.stale:
                self.leave_stale()
            self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(self.channel)
            self.begin(self.locking(self.operation.reads), theirs, number)
            theirs.close()
            try:
                self.drive(number, action)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process, signal.SIGKILL)
                self.status = os.waitpid(self.process, 0)[1]
        return self.fired is not None

    def locking(self, shared, **more):
        return self.lock_class(self.path, **more, **({"shared": True} if shared else {}))

    def begin(self, lock, channel, number):
        """Fork the process; or have an owner fork it that dies then, and adopt it."""
        reader, writer = os.pipe()
        if self.operation.inherited:
            become_reaper(True)
            parent = os.fork()
            if parent != 0:
                os.close(writer)
                with open(reader, "rb") as file:
                    self.process = int(file.read())
                os.waitpid(parent, 0)
                become_reaper(False)
                return
            lock.acquire()
            lock.set_inheritable(True)
        self.process = os.fork()
        if self.process == 0:
            try:
                os.close(writer)
                self.do(lock, channel, number)
            finally:
                os._exit(9)
        if self.operation.inherited:
            os.write(writer, str(self.process).encode())
            os._exit(0)
        os.close(reader)
        os.close(writer)

    def do(self, lock, channel, number):
        """In the forked process."""

        def begin():
            protocol.send_listener(os.dup(channel.fileno()), KINDS)

        subject(lock, self.operation, channel, begin, lambda: channel.send(b"over"))

    def leave_stale(self):
        process = os.fork()
        if process == 0:
            self.locking(self.operation.stale and self.operation.reads).acquire()
            os._exit(0)
        os.waitpid(process, 0)

    def drive(self, number, action):
        _, [listener], _, _ = socket.recv_fds(self.channel, 16, 1)
        count, armed = 0, True
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(self.channel, select.POLLIN)
        try:
            while self.report is None:
                # What it says comes before its next call, if both are there.
                happened = sorted(
                    poll.poll(1000 * support.PATIENCE) or [(None, None)],
                    key=lambda each: each[0] != self.channel.fileno(),
                )
                for descriptor, _ in happened:
                    demand(descriptor is not None, f"it hangs after {self.fired}")
                    if descriptor == self.channel.fileno():
                        message = self.channel.recv(65536)
                        if not message:
                            return  # it was killed
                        armed = armed and message != b"over"
                        if message != b"over":
                            self.report = json.loads(message)
                    else:
                        call = self.receive(listener)
                        if call is None:
                            continue
                        count += armed
                        if armed and count == number:
                            self.fired = call
                            if action(self, call, listener):
                                continue
                        self.answer(listener, call, 0)
        finally:
            os.close(listener)

    def receive(self, listener):
        notification = bytearray(80)
        try:
            fcntl.ioctl(listener, protocol.RECEIVE, notification)
        except OSError:
            return None  # it was killed meanwhile
        return protocol.Call(notification)

    def answer(self, listener, call, error):
        flags = 0 if error else protocol.GO_ON
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(
                listener,
                protocol.SEND,
                struct.pack("=QqiI", call.identity, 0, -error, flags),
            )

    # What must hold afterwards.

    def check_that_it_is_free(self):
        """At once: no look after a second is needed for that."""
        fresh = self.lock_class(self.path)
        try:
            fresh.acquire(timeout=0)
        except lockfile.Error as error:
            raise Defect(f"nobody can own any more: {error}") from None
        fresh.release()

    def check_that_nothing_is_left(self):
        directory = os.path.dirname(self.path)
        self.leave_stale()  # whose recovery sweeps the directory
        self.check_that_it_is_free()
        left = support.names(directory)
        demand(left == [], f"left behind: {left}")

    def check_holder(self):
        if self.operation.held and self.operation.method != "break_lock":
            demand(self.holder.i_am_locking(), "the holder has lost its lock")
        if self.operation.held:
            try:
                self.holder.release()
            except lockfile.NotLocked:
                demand(self.operation.method == "break_lock", "the holder has lost its lock")


def kill(case, call, listener):
    os.kill(case.process, signal.SIGKILL)
    return True


def check_killed(case):
    case.check_holder()
    case.check_that_it_is_free()
    case.check_that_nothing_is_left()


def failing(name):
    def fail(case, call, listener):
        if call.kind == "fcntl" and call.arguments[1] not in LOCK_COMMANDS:
            return False
        case.answer(listener, call, getattr(errno, name))
        return True

    return fail


def check_failed(case):
    report, operation = case.report, case.operation
    demand(report is not None, "it came to no end")
    demand("afterwards" not in report, f"not usable afterwards: {report.get('afterwards')}")
    demand(not report["lost"], f"descriptors lost: {report['lost']}")
    error, text = report["error"], report["text"]
    demand(error is None or report["documented"] or error in case.also, f"{error}: {text}")
    if operation.is_kept_out:
        demand(error is not None and not report["mine"], "two own")
    elif operation.owns:
        demand(report["mine"] == (error is None), f"{error}, but owned: {report['mine']}")
        demand(error in (None, "LockFailed", "LockTimeout", *case.also), f"{error}: {text}")
    elif operation.method == "downgrade":
        demand(error in (None, "LockFailed", "UnlockError", *case.also), f"{error}: {text}")
        demand(report["mine"] or error in case.also, f"lost by a downgrade: {error}: {text}")
    elif operation.method == "release":
        demand(error in (None, "UnlockError", *case.also), f"{error}: {text}")
        still = "is still locked by me" in text or "cannot tell" in text
        demand(
            report["mine"] == still or error in case.also,
            f"owned: {report['mine']}, but {error}: {text}",
        )
    else:
        demand(error in (None, "UnlockError", *case.also), f"{error}: {text}")
    case.check_holder()
    case.check_that_it_is_free()
    case.check_that_nothing_is_left()


# The campaigns.


def one_case(class_name, name, number, action, check):
    """False: the operation has not so many calls. Raises Defect."""
    directory = tempfile.mkdtemp(prefix="lockfile-faults-")
    case = Case(class_name, OPERATIONS[name], directory)
    try:
        fired = case.run(number, action)
        check(case) if fired else check_failed(case)
        return case.fired
    except Defect as defect:
        call = case.fired or "no fault"
        raise Defect(f"{class_name}, {name}, call {number} {call}: {defect}") from None
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def campaign(kind, class_name, every=1, only=None):
    """Run one; the number of cases, and the defects."""
    cases, defects = 0, []
    for name in operations(class_name):
        if only and name != only:
            continue
        number = 1
        while True:
            try:
                call = one_case(class_name, name, number, kill, check_killed)
                if kind == "kill":
                    cases += 1
            except Defect as defect:
                if kind == "kill":
                    cases += 1
                    defects.append(str(defect))
                call = True
            if not call:
                break
            if kind == "fail" and call is not True:
                for error in ERRORS.get(call.kind, ()):
                    cases += 1
                    try:
                        one_case(class_name, name, number, failing(error), check_failed)
                    except Defect as defect:
                        defects.append(f"{error}: {defect}")
            number += every
    return cases, defects


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("which", nargs="*", help=f"kill, fail; {', '.join(NAMES)}")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th point")
    arguments = parser.parse_args()
    kinds = [kind for kind in ("kill", "fail") if kind in arguments.which] or ["kill", "fail"]
    classes = [name for name in NAMES if name in arguments.which] or NAMES
    failed = 0
    for kind in kinds:
        for class_name in classes:
            start = time.monotonic()
            cases, defects = campaign(kind, class_name, arguments.every)
            failed += len(defects)
            took = time.monotonic() - start
            print(f"{kind:5} {class_name:15} {cases:6} cases, {len(defects)} defects, {took:.0f} s")
            for defect in defects:
                print(f"      {defect}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    threading.current_thread().name = "campaign"
    sys.exit(main())
