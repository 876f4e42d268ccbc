"""acquire(), for loops that are not asyncio's: none of the steps waits."""

import math
import selectors
import time
from contextlib import AbstractContextManager

from lockfile import LockBase
from lockfile.postgresql.attempt import Attempt
from lockfile.postgresql.waits import Await, Resolve, Wait, refuse_awaiting, seconds_until

# Where a selector has no descriptor.
_PAUSE = 0.01


class Steps:
    """What a wait consists of. step() goes on, and says after how many seconds it is to be called
    again, or earlier, when fileno() is readable; None: the lock is owned, and is the value."""

    def __init__(self, attempt: Attempt, attempting: AbstractContextManager[None]) -> None:
        self._attempt = attempt
        self._attempting = attempting
        self._parts = attempt.steps()
        self._wait: Wait | None = None
        self._has_begun = self._is_running = self._is_ended = self._is_over = False
        self._selector: selectors.BaseSelector | None = None
        self.value: LockBase | None = None

    def step(self) -> float | None:
        if self._is_over:
            raise RuntimeError("these steps are over already")
        if self._is_running:
            raise RuntimeError("on_wait cannot take a step")
        if self._wait is None or self._is_ready():
            self._go_on()
        return None if self._wait is None else self._seconds(self._wait)

    def _is_ready(self) -> bool:
        assert self._wait is not None and self._selector is not None
        return time.monotonic() >= self._wait.until or bool(self._selector.select(0))

    def _seconds(self, wait: Wait) -> float:
        return min(seconds_until(wait.until), math.inf if self.fileno() >= 0 else _PAUSE)

    def _go_on(self) -> None:
        if not self._has_begun:
            self._attempting.__enter__()
            self._has_begun = True
        self._is_running = True
        try:
            self._wait = self._next_wait()
            self._watch()
        except StopIteration:
            self._wait, self.value = None, self._attempt.lock
            self._finish(None)
        except BaseException as error:
            self._finish(error)
            raise
        finally:
            self._is_running = False
        if self._is_ended and not self._is_over:
            self._finish(GeneratorExit())
            raise RuntimeError("these steps are over already")

    def _next_wait(self) -> Wait:
        """Of hosts, libpq finds the addresses."""
        waits_for: Wait | Resolve | Await = self._parts.send(None)
        while isinstance(waits_for, Resolve):
            waits_for = self._parts.send(None)
        if isinstance(waits_for, Await):
            refuse_awaiting(waits_for)
        assert isinstance(waits_for, Wait)
        return waits_for

    def _watch(self) -> None:
        assert self._wait is not None
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fd)
        reads = selectors.EVENT_READ * self._wait.reads
        events = reads | selectors.EVENT_WRITE * self._wait.writable
        self._selector.register(self._wait.readable, events)
        if self._wait.bell >= 0:
            self._selector.register(self._wait.bell, selectors.EVENT_READ)

    def _finish(self, error: BaseException | None) -> None:
        self._is_over = True
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        try:
            self._parts.close()
        finally:
            kind = None if error is None else type(error)
            self._attempting.__exit__(kind, error, None)

    def end(self) -> None:
        """Gives up what was not acquired yet."""
        if self._is_over or not self._has_begun:
            self._is_over = True
            return
        self._is_ended = True
        if not self._is_running:  # on_wait may call
            self._finish(GeneratorExit())

    def fileno(self) -> int:
        """-1: there is only time."""
        fileno = getattr(self._selector, "fileno", None)
        return int(fileno()) if fileno is not None else -1

    def remaining(self) -> float:
        """Seconds until the time to wait is over."""
        return max(self._attempt.until - time.monotonic(), 0.0)
