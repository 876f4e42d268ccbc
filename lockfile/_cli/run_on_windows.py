"""run, on Windows: a command, while a lock is held.

No other process can inherit a lock here. So the command lives no longer than this process: both are
in a job, an object of the system's, which ends what is in it when this process ends. What the
command has left running goes on after its normal end.
"""

import argparse
import ctypes
import shutil
import signal
import struct
import subprocess
from ctypes import wintypes
from typing import Any

from lockfile import (
    AlreadyLocked,
    LockBase,
    LockTimeout,
    NotLocked,
    NotMyLock,
    UnlockError,
)
from lockfile._cli import statuses
from lockfile._cli.line import Line
from lockfile._cli.locks import describe, make, seconds_to_wait
from lockfile._cli.output import say
from lockfile._cli.signals import ENDING, Signalled, raise_what_came

# Seconds between two looks at whether the lock is still ours.
OFTEN = 1.0

# It has more there than elsewhere.
windows_ctypes: Any = ctypes

EXTENDED_LIMITS = 9
KILL_ON_CLOSE = 0x2000
# JOBOBJECT_EXTENDED_LIMIT_INFORMATION: the third number is flags, and the others limit nothing.
LIMITS = "@2qI2NIN2I6Q4N"


class _Job:
    """We are in it, and so is whatever we start."""

    def __init__(self) -> None:
        self._kernel = windows_ctypes.WinDLL("kernel32", use_last_error=True)
        self._kernel.CreateJobObjectW.restype = wintypes.HANDLE
        self._kernel.GetCurrentProcess.restype = wintypes.HANDLE
        self._handle = wintypes.HANDLE(self._kernel.CreateJobObjectW(None, None))
        self._check(self._handle.value)
        self._limit(KILL_ON_CLOSE)
        this_process = wintypes.HANDLE(self._kernel.GetCurrentProcess())
        self._check(self._kernel.AssignProcessToJobObject(self._handle, this_process))

    def let_go(self) -> None:
        """What is left in it, lives on."""
        self._limit(0)

    def _limit(self, flags: int) -> None:
        limits = struct.pack(LIMITS, 0, 0, flags, *[0] * 16)
        set_limits = self._kernel.SetInformationJobObject
        self._check(set_limits(self._handle, EXTENDED_LIMITS, limits, len(limits)))

    def _check(self, done: int | None) -> None:
        if not done:
            raise windows_ctypes.WinError(windows_ctypes.get_last_error())


def main(options: argparse.Namespace) -> int:
    lock = make(options, options.path)
    try:
        with Line(options.path) as line:
            lock.acquire(seconds_to_wait(options), on_wait=line.tell)
        _leave_to_the_command()
        raise_what_came()
    except (AlreadyLocked, LockTimeout) as error:
        say(str(error))
        status: int = options.conflict_status
        return status
    except Signalled:
        _leave_to_the_command()
        if lock.i_am_locking():
            lock.release()
        raise
    return _run_locked(lock, options)


def _leave_to_the_command() -> None:
    """What a console sends, it sends to all that use it: the command is told without us."""
    for each in ENDING:
        signal.signal(each, lambda number, frame: None)


def _run_locked(lock: LockBase, options: argparse.Namespace) -> int:
    program = shutil.which(options.command[0])
    try:
        if program is None:
            raise FileNotFoundError(0, "there is no such program")
        job = _Job()
        child = subprocess.Popen([program, *options.command[1:]])
    except OSError as error:
        lock.release()
        say(f"{options.command[0]}: {error.strerror}")
        absent = isinstance(error, FileNotFoundError)
        return statuses.NOT_FOUND if absent else statuses.NOT_RUN
    status = _attend(lock, options, child)
    job.let_go()
    return status


def _attend(lock: LockBase, options: argparse.Namespace, child: subprocess.Popen[bytes]) -> int:
    """Until the command has ended; its status, as the system's programs give it."""
    lost = False
    while (ended := _ended(child)) is None:
        if not lost and _is_lost(lock):
            lost = True
            _lose(lock, options, child)
    lost = not _release(lock, lost) or lost
    if lost and options.on_lost == "kill":
        return statuses.LOST
    return ended - (1 << 32) if ended >= 1 << 31 else ended  # what exit() takes has a sign


def _ended(child: subprocess.Popen[bytes]) -> int | None:
    try:
        return child.wait(OFTEN)
    except subprocess.TimeoutExpired:
        return None


def _is_lost(lock: LockBase) -> bool:
    try:
        return not lock.i_am_locking()
    except UnlockError:
        return False  # it cannot be seen: in doubt it is held


def _lose(lock: LockBase, options: argparse.Namespace, child: subprocess.Popen[bytes]) -> None:
    kill = options.on_lost == "kill"
    if kill:  # before anything else: others may be in
        child.kill()  # there is no way to ask a process to end
    try:
        owner = lock.owner()
    except UnlockError:
        owner = None
    now = f", and is held by {describe(owner)} now" if owner is not None else ""
    end = "; it is ended" if kill else ""
    say(f"{options.path}: the lock was lost while the command ran{now}{end}")


def _release(lock: LockBase, lost: bool) -> bool:
    """False: others had broken it."""
    try:
        lock.release()
    except (NotLocked, NotMyLock) as error:
        if not lost:
            say(f"the lock was lost while the command ran: {error}")
        return False
    except UnlockError as error:
        say(str(error))
    return True
