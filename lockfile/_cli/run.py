"""run: a command, while a lock is held.

The lock is held for as long as the command runs, whatever happens to this process. Signals that
would end it are passed on. If it is killed outright, the command keeps the lock alone: it inherits
a copy of the descriptor on which the owner's kernel lock is, its beacon.
"""

import argparse
import errno
import fcntl
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable

from lockfile import (
    AlreadyLocked,
    Error,
    LockBase,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    NotMyLock,
    UnlockError,
)
from lockfile._cli import statuses
from lockfile._cli.changes import Changes
from lockfile._cli.line import Line
from lockfile._cli.locks import describe, make, seconds_to_wait
from lockfile._cli.output import (
    explain,
    say,
    say_aside,
    say_in_time,
    say_where_it_failed,
    wait_for_words,
)
from lockfile._cli.signals import ENDING, Signalled, passed_on, raise_what_came

# Above the numbers that shell scripts use for themselves: they would close it.
LOWEST_COPY = 64

# Seconds between two looks at whether the lock is still ours: where events tell of it, and where
# they do not.
SELDOM = 10.0
OFTEN = 1.0

# The longest single wait for a signal, in seconds: of all times that can be asked for, the system
# does not take those that are very long.
AN_HOUR = 3600.0

# Of siginfo: the kernel itself has sent it, as it does for a terminal.
SENT_BY_KERNEL = 0x80
BY_TERMINALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def main(options: argparse.Namespace) -> int:
    lock = make(options, options.path)
    try:
        with Line(options.path) as line:
            lock.acquire(seconds_to_wait(options), on_wait=line.tell)
        # From here on they are taken one by one, by those who attend to the command.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, passed_on() | {signal.SIGCHLD})
        raise_what_came()
    except (AlreadyLocked, LockTimeout) as error:
        say(str(error))
        status: int = options.conflict_status
        return status
    except Signalled:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        if lock.i_am_locking():
            lock.release()
        raise
    return _run_locked(lock, options, mask)


def _run_locked(lock: LockBase, options: argparse.Namespace, mask: set[int]) -> int:
    # All that can fail for want of something, is made before there is a command to attend to. The
    # copy comes first: who finds that the lock is lost, closes the beacon.
    try:
        copy = _copy(lock.fileno())
        vigil = _Vigil(lock)
        vigil.start()
    except (NotLocked, NotMyLock) as error:
        say_in_time(f"the lock was lost before the command ran: {error}")
        return statuses.LOST
    except (OSError, RuntimeError) as error:
        _give_up(lock)
        say_in_time(f"the lock could not be watched: {explain(error)}")
        return statuses.CANNOT
    try:
        child = _spawn(options.command, mask)
    except OSError as error:
        vigil.end()
        _give_up(lock)
        say_in_time(f"{options.command[0]}: {error.strerror}")
        absent = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return statuses.NOT_FOUND if absent else statuses.NOT_RUN
    finally:
        os.close(copy)
    attendance = _Attendance(lock, options, vigil, child)
    try:
        return attendance.status()
    except BaseException:
        # The interpreter's normal end would release the lock, and the command still runs.
        status = statuses.CANNOT
        try:
            say_where_it_failed(traceback.format_exc())
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = _as_shells_tell(attendance.wait_for_its_end())
            _give_up(lock)
        finally:
            os._exit(status)


def _give_up(lock: LockBase) -> None:
    """Nothing has run under it, so nothing is lost with it."""
    try:
        lock.release()
    except (NotLocked, NotMyLock):
        pass


def _as_shells_tell(ended: int) -> int:
    """A status as an exit status: signals are negative in the former."""
    return statuses.SIGNALLED - ended if ended < 0 else ended


def _spawn(command: list[str], mask: set[int]) -> int:
    """Start it as if by our own parent, but with the copy of the beacon: the same signals,
    environment and descriptors. Gives its process number."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, nobody's status would be told
    if not command[0]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    try:
        return _spawn_program(command[0], command, mask)
    except OSError as error:
        script = shutil.which(command[0])
        if error.errno != errno.ENOEXEC or script is None:
            raise
        # A script that does not say what it is for: a shell would read it, too.
        return _spawn_program("/bin/sh", ["sh", script, *command[1:]], mask)


def _copy(beacon: int) -> int:
    """The same open file under another number, which the command inherits."""
    for lowest in LOWEST_COPY, 0:
        try:
            return fcntl.fcntl(beacon, fcntl.F_DUPFD, lowest)
        except OSError as error:
            if error.errno != errno.EINVAL or lowest == 0:
                raise  # not just that so many are not allowed
    raise AssertionError


def _spawn_program(program: str, command: list[str], mask: set[int]) -> int:
    # These two Python ignores for itself.
    python_ignores = [signal.SIGPIPE, signal.SIGXFSZ]
    environment = _environment()
    return os.posix_spawnp(program, command, environment, setsigmask=mask, setsigdef=python_ignores)


def _environment() -> dict[str, str]:
    """As we were given it: where no locale is set, Python sets one for itself (PEP 538)."""
    environment = dict(os.environ)
    try:
        with open("/proc/self/environ", "rb") as file:
            given = file.read().split(b"\0")
    except OSError:
        return environment
    environment.pop("LC_CTYPE", None)
    for each in given:
        name, is_set, value = each.partition(b"=")
        if name == b"LC_CTYPE" and is_set:
            environment["LC_CTYPE"] = os.fsdecode(value)
    return environment


class _Vigil(threading.Thread):
    """Looks after the lock, and tells the main thread, by SIGCHLD, when it is lost."""

    def __init__(self, lock: LockBase) -> None:
        super().__init__(daemon=True)
        self.lost = False
        self._lock = lock
        self._main = threading.get_ident()
        self._changes = Changes(lock)
        # Of a directory that is moved, or removed as it is open, nothing is told.
        is_told = self._changes.tells and not isinstance(lock, MkdirFileLock)
        self._pause = SELDOM if is_told else OFTEN
        self._end, self._ended = os.pipe()
        self._changes.add(self._end)
        self._ending = False

    def run(self) -> None:
        while not self._ending:
            self._changes.watch()
            if self._is_lost():
                self.lost = True
                signal.pthread_kill(self._main, signal.SIGCHLD)
                return
            self._changes.wait(self._pause)

    def _is_lost(self) -> bool:
        try:
            return not self._lock.i_am_locking()
        except UnlockError:
            return False  # it cannot be seen: in doubt it is held

    def end(self) -> None:
        self._ending = True
        os.write(self._ended, b"!")
        self.join()


class _Attendance:
    """What is done while the command runs, and at its end."""

    def __init__(
        self, lock: LockBase, options: argparse.Namespace, vigil: _Vigil, child: int
    ) -> None:
        self._lock = lock
        self._options = options
        self._vigil = vigil
        self._child = child
        self._ended_with: int | None = None
        self._said: list[threading.Thread | None] = []
        self._kill_at: float | None = None
        self._lost = False
        self._passed_on = passed_on()
        # They came before the command was there, or hardly later: it may not have got them.
        self._early = signal.sigpending() & self._passed_on

    def status(self) -> int:
        """Attend to the command until it has ended, release the lock, and give the status."""
        while (ended := self._ended()) is None:
            if self._vigil.lost and not self._lost:
                self._lose()
            self._attend()
        self._vigil.end()
        self._release()
        wait_for_words(self._said)
        if self._lost and self._options.on_lost == "kill":
            return statuses.LOST
        return _as_shells_tell(ended)

    def _ended(self) -> int | None:
        pid, status = os.waitpid(self._child, os.WNOHANG)
        self._ended_with = os.waitstatus_to_exitcode(status) if pid else None
        return self._ended_with

    def wait_for_its_end(self) -> int:
        """And do nothing else."""
        if self._ended_with is None:
            self._ended_with = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        return self._ended_with

    def _attend(self) -> None:
        """Until something has happened."""
        wanted = self._passed_on | {signal.SIGCHLD}
        if self._kill_at is None:
            received: signal.struct_siginfo | None = signal.sigwaitinfo(wanted)
        else:
            remaining = max(0, self._kill_at - time.monotonic())
            received = signal.sigtimedwait(wanted, min(remaining, AN_HOUR))
        if received is None:
            self._kill_in_time()
        elif received.si_signo != signal.SIGCHLD and not self._has_got(received):
            self._early.discard(received.si_signo)
            self._send(received.si_signo)

    def _kill_in_time(self) -> None:
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            self._send(signal.SIGKILL)

    def _has_got(self, received: signal.struct_siginfo) -> bool:
        """A terminal sends its signals to all processes of a group; but when it hangs up, to the
        leader of the session alone."""
        hung_up = received.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid()
        return not hung_up and (
            received.si_code == SENT_BY_KERNEL
            and received.si_signo in BY_TERMINALS
            and received.si_signo not in self._early
            and os.getpgid(self._child) == os.getpgrp()
        )

    def _say(self, message: Callable[[], str]) -> None:
        self._said.append(say_aside(message))

    def _send(self, number: int) -> None:
        try:
            os.kill(self._child, number)
        except OSError as error:
            why = error.strerror
            self._say(lambda: f"signal {number} could not be passed on: {why}")

    def _lose(self) -> None:
        self._lost = True
        kill = self._options.on_lost == "kill"
        if kill:  # before anything else: others may be in
            self._kill_at = time.monotonic() + self._options.kill_after
            self._send(signal.SIGTERM)
            self._send(signal.SIGCONT)  # or one that is stopped does not see it
        end = "; it is ended" if kill else ""
        lost = f"{self._options.path}: the lock was lost while the command ran"
        self._say(lambda: f"{lost}{self._now()}{end}")

    def _now(self) -> str:
        try:
            owner = self._lock.owner()
        except (Error, OSError):
            return ""
        return f", and is held by {describe(owner)} now" if owner is not None else ""

    def _release(self) -> None:
        try:
            self._lock.release()
        except (NotLocked, NotMyLock) as error:
            if not self._lost:
                self._lost = True
                why = str(error)
                self._say(lambda: f"the lock was lost while the command ran: {why}")
        except UnlockError as error:
            why = str(error)
            self._say(lambda: why)
