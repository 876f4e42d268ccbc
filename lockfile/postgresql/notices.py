"""Whoever waits is told whom for, ever more rarely; and so is a log, once."""

import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import psycopg

from lockfile import LockBase, Owner
from lockfile.postgresql.connecting import Refused
from lockfile.postgresql.errors import path_of
from lockfile.postgresql.looks import holders_by
from lockfile.postgresql.session import Lost
from lockfile.postgresql.sources import Source
from lockfile.postgresql.waits import Steps

OnWait = Callable[[Owner], object]

# How long a wait lasts before the first notice, and so the pause after it, which then doubles.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 60.0

# When the lock is nobody's just then, it is asked again.
_MOMENT = 0.01

_DEBUG = 10


class Raised(Exception):
    """By what was called, which is none of our errors."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def _log_of_waits() -> Callable[..., object] | None:
    """Of a program that wants such lines; nothing is imported for it."""
    try:
        logger = sys.modules["logging"].getLogger("lockfile")
        return logger.debug if logger.isEnabledFor(_DEBUG) else None
    except Exception:
        return None  # it is being imported just now


class Notices:
    """Of one attempt that waits. at: when the next is due."""

    def __init__(self, lock: LockBase, on_wait: OnWait | None, began: float) -> None:
        self._lock = lock
        self._on_wait = on_wait
        self._log = _log_of_waits()
        self._pause = _FIRST_PAUSE
        self.at = math.inf
        self._schedule(began, _FIRST_PAUSE)

    def _schedule(self, since: float, pause: float) -> None:
        is_wanted = self._on_wait is not None or self._log is not None
        self.at = since + pause if is_wanted else math.inf

    def giving(
        self, source: Source, application: str, key: int, telling: AbstractContextManager[None]
    ) -> Steps[None]:
        """If one is due. telling: is entered around it. Raises Raised."""
        if time.monotonic() < self.at:
            return
        try:
            seen = yield from holders_by(source, application, key)
        except (Lost, Refused, psycopg.Error):
            owner = Owner((None, None, None, None))
        else:
            if not seen:
                self._schedule(time.monotonic(), _MOMENT)
                return
            owner = seen[0].holder.owner()
        log, self._log = self._log, None
        self._schedule(time.monotonic(), self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        try:
            with telling:
                self._tell(log, owner)
        except BaseException as error:
            raise Raised(error) from None

    def _tell(self, log: Callable[..., object] | None, owner: Owner) -> None:
        if log is not None:
            log("%s: waiting for %s", path_of(self._lock), owner)
        if self._on_wait is not None:
            self._on_wait(owner)
