"""acquire(), step by step.

A connection that may hold what nobody owns is worse than none: whatever comes in between, it is
asked what it holds, or closed.
"""

import asyncio
import math
import os
import time
import weakref
from collections.abc import Callable, Sequence

import psycopg

from lockfile import LockBase
from lockfile.postgresql import errors, holds, statements
from lockfile.postgresql.caller import Caller, find
from lockfile.postgresql.connecting import Refused
from lockfile.postgresql.holders import Holder, application_name
from lockfile.postgresql.holds import Hold
from lockfile.postgresql.looks import Seen, look
from lockfile.postgresql.notices import Notices, OnWait, Raised
from lockfile.postgresql.session import Lost, Rung, Session, Watch, one_line
from lockfile.postgresql.sources import Source
from lockfile.postgresql.waits import Bell, Steps

# The server ends a wait; one that does not answer for so much longer is gone.
_GRACE = 5.0
_LONGEST = 2**31 - 1  # milliseconds

# Who does not want to wait begins anew so often, if its connection is ended.
_LOSSES = 3


# Those that have begun, and have not ended. What one of them is granted, it does not know of before
# its task goes on.
_under_way: list["Attempt"] = []


class InVain(Exception):
    """It is held; who holds it does not matter."""


class Attempt:
    """One call by one owner, and its patience."""

    def __init__(
        self,
        lock: LockBase,
        source: Source,
        key: int,
        shared: bool,
        caller: Caller,
        timeout: float | None,
        on_wait: OnWait | None = None,
    ) -> None:
        self.lock = lock
        self.source = source
        self.key = key
        self.shared = shared
        self.caller = caller
        self.timeout = timeout
        self.application = application_name(caller.name)
        self._on_wait = on_wait
        self._notices: Notices | None = None
        self.stops_thread = not caller.lets_others_run  # while it waits
        self.is_curious = True  # who holds it, is of interest
        self.loop: asyncio.AbstractEventLoop | None = None
        self.on_lost: Callable[[LockBase], object] | None = None
        self.began = time.monotonic()
        self.until = math.inf if timeout is None else self.began + timeout
        self.has_line = False  # of tasks, which may wait behind it
        self.stood_in_line = False  # before it asked the server
        self.known = source.noted  # the server's time was later than this when it began
        self.met: int | None = None  # since when it is waited for, in microseconds of the server's
        self.session: Session | None = None  # while it is this attempt's
        self.process = os.getpid()
        self.losses = 0  # of connections
        self.told: BaseException | None = None  # what it says itself, once it has its answer
        self.made: Hold | None = None  # what it has come to
        self.vain: Sequence[Seen] | None = None  # what it has waited for in vain

    @property
    def notices(self) -> Notices:
        """Made when it waits; the time runs since the call."""
        if self._notices is None:
            self._notices = Notices(self.lock, self._on_wait, self.began)
        return self._notices

    # ---- The owner's own ----

    def owns(self) -> bool:
        hold = holds.find(self.source, self.key, self.caller.token)
        if hold is None or hold is self.made or not hold.session.lives():
            return False
        if hold.shared and not self.shared:
            raise self._failed("the caller holds it shared, and would wait for itself: release it")
        return True

    def undo(self) -> None:
        """What it has come to is not wanted any more."""
        if self.made is not None:
            holds.remove(self.made)
            self.made.session.close()
        if self.session is not None:
            self.session.close()

    def _failed(self, reason: object) -> BaseException:
        return self._telling_of(errors.failed(self.lock, self.timeout, one_line(str(reason))))

    def _telling_of(self, error: BaseException) -> BaseException:
        """Who else raises such an error, a signal handler perhaps, may do so amid a statement."""
        self.told = error
        return error

    # ---- Steps ----

    def steps(self) -> Steps[None]:
        if self.owns():
            return
        _under_way.append(self)
        try:
            yield from self._going()
        finally:
            _under_way.remove(self)

    def _going(self) -> Steps[None]:
        try:
            while not (yield from self._has_gone_here()):
                pass
        except GeneratorExit:
            self._drop()
            raise
        except (Lost, Refused, psycopg.Error) as error:
            self._drop()
            raise self._failed(error) from _cause_of(error)
        except Raised as raised:
            yield from self._interrupt()
            raise raised.error from None
        except BaseException as error:
            if error is self.told and self.session is not None and self.session.is_idle():
                self._give_back()
            yield from self._interrupt()
            raise

    def _go(self) -> Steps[None]:
        granted = yield from self._claim()
        if self.session is not None and not granted:
            granted = yield from self._wait(self.session)
        if self.session is not None:
            yield from self._end(self.session, granted)

    def _has_gone(self) -> Steps[bool]:
        """False: its connection was ended by the server, which lives: somebody has broken what was
        granted just then, or wants its sessions ended."""
        try:
            yield from self._go()
        except Lost:
            self.losses += 1
            is_over = self.losses >= _LOSSES and time.monotonic() >= self.until
            if is_over or self.session is None or not self.session.was_told:
                raise
            self._drop()
            return False
        return True

    def _has_gone_here(self) -> Steps[bool]:
        """False, too: a signal handler has forked, and the connection is the parent's."""
        try:
            return (yield from self._has_gone())
        except (Lost, psycopg.Error):
            if self.process == os.getpid():
                raise
        self.process, self.session = os.getpid(), None
        self.caller = find(self.lock)
        self.application = application_name(self.caller.name)
        return False

    def _end(self, session: Session, granted: bool) -> Steps[None]:
        """From the entry on it is the table's, and this attempt's no more."""
        if granted:
            hold = Hold(self.source, self.key, self.shared, self.caller, session)
            hold.lock, hold.on_lost, hold.loop = self._reference(), self.on_lost, self.loop
            self.made, self.session = hold, None
            if holds.enter(hold) is hold:
                return
            self.made, self.session = None, session  # another thread of the owner was sooner
            yield from self._settle(session)
        self._give_back()

    def _reference(self) -> Callable[[], LockBase | None]:
        """For on_lost. A lock that owns for itself is released when it goes away."""
        lock = self.lock
        return weakref.ref(lock) if self.caller.kind == "object" else lambda: lock

    # ---- The session's end ----

    def _drop(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.close()

    def _give_back(self) -> None:
        """No statement runs, and it holds nothing."""
        session, self.session = self.session, None
        if session is not None:
            self.source.give_back(session)

    def _settle(self, session: Session) -> Steps[None]:
        """Gives up what was granted in the very moment in which the wait has ended."""
        yield from session.ask(statements.UNLOCK[self.shared], self.key)

    def _interrupt(self) -> Steps[None]:
        """Whatever it was asked, it is asked no more, and holds nothing."""
        session, self.session = self.session, None
        if session is None:
            return
        try:
            yield from session.interrupt()
            yield from self._settle(session)
            self.source.give_back(session)
        except (Lost, psycopg.Error):
            session.close()
        except BaseException:
            session.close()
            raise

    # ---- Claiming ----

    def _claim(self) -> Steps[bool]:
        """Whether the lock was granted at once; without a session: its owner had it already."""
        application = self.application
        self.session = self.source.take(application)
        if self.session is not None:
            try:
                return (yield from self._try(self.session, application))
            except Lost:
                self._drop()  # it was gone already, and nobody had told
        self.session = yield from self.source.connecting(application)
        if self.owns():  # by another way to the same server
            self._give_back()
            return False
        return (yield from self._try(self.session, application))

    def _try(self, session: Session, application: str) -> Steps[bool]:
        if session.application == application:
            rows = yield from session.ask(statements.TRY[self.shared], self.key)
        else:
            session.application = ""
            rows = yield from session.ask(statements.TRY_NAMED[self.shared], self.key, application)
            session.application = application
        [(granted, backend)] = rows
        _check_backend(session, backend)
        return granted == "t"

    def _note_time(self, session: Session) -> Steps[None]:
        """Who holds it now, is met; by who stood in line, who held it when it began.

        That was not before the earliest time that the answer allows, nor before what somebody ahead
        was told, unless the server's clock was set back since.
        """
        asked = time.monotonic()
        [(now,)] = yield from session.ask(statements.NOW)
        answered = time.monotonic()
        self.met = self.source.noted = int(now or 0)
        if self.stood_in_line:
            latest = self.met - math.floor((asked - self.began) * 1e6)
            earliest = self.met - math.ceil((answered - self.began) * 1e6)
            self.met = max(earliest, self.known) if self.known <= latest else earliest

    # ---- Waiting ----

    def _wait(self, session: Session) -> Steps[bool]:
        """Whether the lock was granted; false: its owner has got it by another thread."""
        if self.timeout is not None and self.timeout <= 0:
            raise (yield from self._held(session))
        yield from self._look_for_deadlock(session)
        if self.met is None and (self.has_line or self.until < math.inf):
            yield from self._note_time(session)
        with holds.bell_for((self.key, self.caller.token)) as bell:
            while True:
                try:
                    return (yield from self._wait_in_queue(session, bell))
                except psycopg.errors.LockNotAvailable:
                    yield from self._settle(session)
                if time.monotonic() >= self.until:
                    raise (yield from self._held(session))

    def _wait_in_queue(self, session: Session, bell: Bell) -> Steps[bool]:
        def owns_meanwhile() -> bool:
            bell.hush()
            return self.owns()

        if owns_meanwhile():
            return False
        notices = self.notices
        watch = Watch(
            self.until + _GRACE,
            bell.descriptor,
            owns_meanwhile,
            lambda: notices.at,
            self.noticing,
        )
        milliseconds = 0
        if self.until < math.inf:
            left = min((self.until - time.monotonic()) * 1000, _LONGEST)
            milliseconds = max(math.ceil(left), 1)
        try:
            rows = yield from session.ask(
                statements.WAIT[self.shared], self.key, milliseconds, watch=watch
            )
        except Rung:
            yield from session.interrupt()
            yield from self._settle(session)
            return False
        [(_, backend)] = rows
        _check_backend(session, backend)
        return True

    def noticing(self) -> Steps[None]:
        place = self.key, self.caller.token
        return self.notices.giving(self.source, self.application, self.key, holds.telling(place))

    def _look_for_deadlock(self, session: Session) -> Steps[None]:
        """A wait in a task stops its thread, and so whoever in it is to release."""
        if holds.is_being_told((self.key, self.caller.token)) and self.caller.token != 0:
            raise self._failed("on_wait is called by a wait for it, and would wait for itself")
        if not self.stops_thread:
            return
        beside = holds.others(self.source, self.key, self.caller.token)
        if any(hold.caller.is_beside(self.caller) for hold in beside):
            seen = yield from look(session, self.key)
            raise self._would_deadlock(seen, "its owner")
        if any(each.is_beside(self) for each in _under_way[:]):
            seen = yield from look(session, self.key)
            raise self._would_deadlock(seen, "who is before it in the queue")

    def _would_deadlock(self, seen: Sequence[Seen], who: str) -> BaseException:
        told = self._telling(seen)
        return self._telling_of(errors.would_deadlock(self.lock, self.timeout, *told, who))

    def is_beside(self, attempt: "Attempt") -> bool:
        """Does this one, for the same lock, stop while that one's thread does?"""
        source, other = self.source, attempt.source
        return (
            self.caller.token != attempt.caller.token
            and self.key == attempt.key
            and self.process == os.getpid()
            and (source is other or (bool(source.scope) and source.scope == other.scope))
            and self.caller.is_beside(attempt.caller)
        )

    # ---- In vain ----

    def _held(self, session: Session) -> Steps[BaseException]:
        waited = self.timeout is None or self.timeout > 0
        seen: list[Seen] = []
        if self.is_curious or waited:
            seen = yield from look(session, self.key, self.met)
        if waited:
            self.vain = [each for each in seen if each.is_old]
        if not self.is_curious:
            return self._telling_of(InVain())
        return self._telling_of(errors.held(self.lock, self.timeout, *self._telling(seen)))

    def _telling(self, seen: Sequence[Seen]) -> tuple[list[Holder], str]:
        return telling(self.source, self.key, self.caller, seen)


def telling(
    source: Source, key: int, caller: Caller, seen: Sequence[Seen]
) -> tuple[list[Holder], str]:
    """Who holds, and how that is said."""
    backends = {each.holder.backend for each in seen[:1]}
    beside = [
        hold for hold in holds.others(source, key, caller.token) if hold.session.backend in backends
    ]
    holders = [each.holder for each in seen]
    return holders, errors.tell(holders, beside[0] if beside else None, caller)


def _check_backend(session: Session, backend: str | None) -> None:
    if backend != str(session.pgconn.backend_pid):
        raise Refused("there is a pooler between us and the server: connect to the server itself")


def _cause_of(error: Exception) -> Exception:
    """What the program's own code may know of."""
    return ConnectionError(str(error)) if isinstance(error, (Lost, Refused)) else error
