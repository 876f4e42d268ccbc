"""One connection to the server, on libpq as psycopg wraps it.

It is used by one call at a time, and serves one owner at a time. That it lives proves that its
owner does; so it is closed whenever there is a doubt about what it holds.
"""

import contextlib
import itertools
import math
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple, Self

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from lockfile.postgresql.waits import Steps, Wait

Row = tuple[str | None, ...]

# Whoever does not answer a statement that does not wait within so many seconds is gone.
PATIENCE = 10.0
CANCEL_PATIENCE = 3.0
_CANCEL_PAUSE = 0.02

# Of prepared statements.
_numbers = itertools.count()

# Looked up once: they are asked for each statement.
_OK = pq.ConnStatus.OK
_IDLE = pq.TransactionStatus.IDLE
_TUPLES = pq.ExecStatus.TUPLES_OK
_REFUSAL = pq.ExecStatus.FATAL_ERROR

_DIRECTIONS = (pq.PollingStatus.READING, pq.PollingStatus.WRITING)

# How long a call waits for another one of the same owner, in another thread.
_TURN = 1.0


class Lost(Exception):
    """The connection has ended: why."""


class InUse(Lost):
    """By another call of the same owner; it lives."""


class Rung(Exception):
    """The bell has rung: the statement goes on."""


def one_line(text: str) -> str:
    return " ".join(text.split())


def _text(field: bytes | None) -> str:
    return one_line((field or b"").decode("utf-8", "replace"))


class Session:
    """From the making of its socket to its end."""

    __slots__ = (
        "__weakref__",
        "_inode",
        "_mutex",
        "_user",
        "application",
        "backend",
        "connection",
        "descriptor",
        "last_fork",
        "pgconn",
        "prepared",
        "reason",
        "scope",
        "was_told",
    )

    def __init__(self, pgconn: pq.abc.PGconn, connection: object = None) -> None:
        self.pgconn = pgconn
        self.connection = connection  # psycopg's, if the program has made it
        self.scope: Row = ()  # which run of which server, and which database
        self.backend = 0  # the server's process
        self.application = ""  # what the server knows us as
        self.prepared: dict[bytes, bytes] = {}  # names of statements
        self.reason: str | None = None  # why it has ended
        self.was_told = False  # by the server, which lives
        self.descriptor = -1
        self._inode = -1
        self._mutex = threading.Lock()  # of the call that uses it
        self._user: int | None = None  # and its thread
        hear = weakref.WeakMethod(self._hear)  # no circle: who is forgotten is closed at once
        pgconn.notice_handler = lambda notice: _pass_on(hear, notice)
        self.note_descriptor()
        self.last_fork = gate.last_fork  # of those that know nothing of it
        _sessions.add(self)

    def note_descriptor(self) -> bool:
        """While a connection is made, it may come to another socket: whether it has."""
        before = self._inode
        with contextlib.suppress(psycopg.Error, OSError):
            self.descriptor = self.pgconn.socket
            self._inode = os.fstat(self.descriptor).st_ino
        return self._inode != before

    def _has_descriptor(self) -> bool:
        """A program may have closed it behind our back, and opened another under its number."""
        try:
            return self.descriptor >= 0 and os.fstat(self.descriptor).st_ino == self._inode
        except OSError:
            return False

    # ---- Its end ----

    def _hear(self, notice: pq.abc.PGresult) -> None:
        """What the server says unasked."""
        if notice.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) in (b"FATAL", b"PANIC"):
            self.was_told = True
            self.end(_text(notice.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)))

    def end(self, reason: str) -> None:
        """The first reason counts; the others follow from it."""
        if self.reason is None:
            self.reason = reason

    def lives(self) -> bool:
        """As far as the system has heard by now; asks nobody."""
        taken: list[bool] = []
        try:
            if self.reason is None and self._is_taken(taken, 0) and not self._listen():
                self._finish()
        finally:
            if taken and taken[0]:
                self._mutex.release()
        return self.reason is None

    def is_idle(self) -> bool:
        """Whether no statement runs."""
        return self.pgconn.transaction_status == _IDLE

    def _listen(self) -> bool:
        """Whether it lives."""
        if not self._has_descriptor():
            self.end("its descriptor was closed")
        elif is_readable(self.descriptor):
            try:
                self.pgconn.consume_input()
                while not self.pgconn.is_busy() and self.pgconn.get_result() is not None:
                    pass
            except psycopg.Error as error:
                self.end(one_line(str(error)))
            if self.pgconn.status != pq.ConnStatus.OK:
                self.end(self._complaint())
        return self.reason is None

    def _complaint(self) -> str:
        return one_line(self.pgconn.get_error_message()) or "the connection is closed"

    def close(self) -> None:
        """The server ends the session, and so gives up what it holds."""
        self.end("the connection is closed")
        taken: list[bool] = []
        try:
            if self._is_taken(taken, 0):
                self._finish()
            else:
                self._sever()
        finally:
            if taken and taken[0]:
                self._mutex.release()

    def _finish(self) -> None:
        if self._has_descriptor():
            self.pgconn.finish()
        elif self.descriptor >= 0:
            _buried.append(self)
        self.descriptor = -1

    def _sever(self) -> None:
        """A call is in it, which a signal handler may have interrupted: that one sees that the
        connection has ended, and closes."""
        if self._has_descriptor():
            with contextlib.suppress(OSError), gate.lock, copy_of(self.descriptor) as end:
                end.shutdown(socket.SHUT_RDWR)

    def leave_to_parent(self) -> None:
        """In a forked child. libpq would end the session, which is the parent's."""
        if self._has_descriptor():
            os.close(self.descriptor)
        self.descriptor = -1
        self.end("it is the parent's")

    # ---- Statements ----

    def ask(
        self, statement: bytes, *parameters: object, watch: "Watch | None" = None
    ) -> Steps[list[Row]]:
        """Its rows. Raises Lost, or psycopg's error of what the server has refused. watch: it is a
        statement that waits."""
        taken: list[bool] = []
        try:
            self._begin_use(taken)
            if watch is None and statement not in self.prepared:
                yield from self._prepare(statement)
            self._send(statement, parameters)
            return (yield from self._answer(watch or Watch(time.monotonic() + PATIENCE)))
        finally:
            if taken and taken[0]:
                self._user = None
                self._mutex.release()

    def interrupt(self) -> Steps[None]:
        """Ends a statement that an exception has left running."""
        taken: list[bool] = []
        until = time.monotonic() + CANCEL_PATIENCE
        try:
            self._begin_use(taken)
            while not (yield from self._has_cancelled(until)):
                pass
        except psycopg.Error:
            pass  # as it should be; or it was sooner, whatever it did
        finally:
            if taken and taken[0]:
                self._user = None
                self._mutex.release()

    def _has_cancelled(self, until: float) -> Steps[bool]:
        """False: it goes on. The server may not have begun it when it was asked to end it."""
        yield from _cancel(self.pgconn)
        again = time.monotonic() + _CANCEL_PAUSE
        try:
            yield from self._answer(
                Watch(until, -1, lambda: time.monotonic() >= again, lambda: again)
            )
        except Rung:
            return False
        return True

    def _is_taken(self, taken: list[bool], seconds: float) -> bool:
        """Whether the mutex is the caller's. taken: says so, too, whatever a signal handler raises
        then; to be looked at without a call, since handlers come after calls."""
        taken.extend(map(self._mutex.acquire, (seconds > 0,), (seconds or -1,)))
        return taken[0]

    def _begin_use(self, taken: list[bool]) -> None:
        # What a signal handler has interrupted, and a task of this thread, do not go on meanwhile.
        turn = 0 if self._user == threading.get_ident() else _TURN
        if not self._is_taken(taken, turn):
            raise InUse("another call is using the connection")
        self._user = threading.get_ident()
        if not self._has_descriptor():
            self.end("its descriptor was closed")
        if self.reason is not None:
            raise Lost(self.reason)

    def _prepare(self, statement: bytes) -> Steps[None]:
        name = b"lockfile_%d" % next(_numbers)  # one that was interrupted may be there all the same
        try:
            self.pgconn.send_prepare(name, statement)
        except psycopg.Error as error:
            raise self._lost(error) from None
        yield from self._answer(Watch(time.monotonic() + PATIENCE))
        self.prepared[statement] = name

    def _send(self, statement: bytes, parameters: tuple[object, ...]) -> None:
        values = [None if value is None else str(value).encode() for value in parameters]
        try:
            if (name := self.prepared.get(statement)) is not None:
                self.pgconn.send_query_prepared(name, values)
            else:
                self.pgconn.send_query_params(statement, values)
        except psycopg.Error as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> Lost:
        """Who waits for its end sees it, and so does the server."""
        self.end(one_line(str(error)))
        self._sever()
        return Lost(self.reason)

    def _answer(self, watch: "Watch") -> Steps[list[Row]]:
        rows: list[Row] = []
        refusal: psycopg.Error | None = None
        pgconn = self.pgconn
        try:
            while pgconn.flush():
                yield Wait(self.descriptor, watch.until, writable=True)
                self._read(watch)
            while True:
                while pgconn.is_busy():
                    until = min(watch.until, watch.next_notice())
                    yield Wait(self.descriptor, until, bell=watch.bell)
                    self._read(watch)
                    if pgconn.is_busy():
                        yield from watch.giving()
                if (result := pgconn.get_result()) is None:
                    break
                if result.status == _TUPLES:
                    rows += _rows_of(result)
                elif result.status == _REFUSAL:
                    refusal = refusal or error_from_result(result)
                    self._hear(result)
        except psycopg.OperationalError as error:
            raise self._lost(error) from None
        if pgconn.status != _OK:
            self.end(self._complaint())
        if self.reason is not None:
            raise Lost(self.reason)
        if refusal is not None:
            raise refusal
        return rows

    def _read(self, watch: "Watch") -> None:
        self.pgconn.consume_input()
        if self.pgconn.is_busy():
            watch.look()


def _pass_on(
    hear: Callable[[], Callable[[pq.abc.PGresult], None] | None], notice: pq.abc.PGresult
) -> None:
    if (method := hear()) is not None:
        method(notice)


def _nothing_to_give() -> Steps[None]:
    yield from ()


class Watch(NamedTuple):
    """What ends the wait for an answer, and what is to be done meanwhile."""

    until: float
    bell: int = -1
    has_rung: Callable[[], bool] = bool
    next_notice: Callable[[], float] = lambda: math.inf
    giving: Callable[[], Steps[None]] = _nothing_to_give

    def look(self) -> None:
        if time.monotonic() >= self.until:
            raise psycopg.OperationalError("the server does not answer")
        if self.has_rung():
            raise Rung


def _rows_of(result: pq.abc.PGresult) -> list[Row]:
    columns = range(result.nfields)
    rows = []
    for number in range(result.ntuples):
        values = [result.get_value(number, column) for column in columns]
        rows.append(tuple([None if value is None else value.decode() for value in values]))
    return rows


def _cancel(pgconn: pq.abc.PGconn) -> Steps[None]:
    """Asks the server to end the statement; it may be over by then."""
    until = time.monotonic() + CANCEL_PATIENCE
    if not psycopg.capabilities.has_cancel_safe():
        pgconn.get_cancel().cancel()
        return
    request = pgconn.cancel_conn()
    try:
        request.start()
        while (status := request.poll()) in _DIRECTIONS:
            if time.monotonic() >= until:
                raise Lost("the server does not answer")
            writes = status == pq.PollingStatus.WRITING
            yield Wait(request.socket, until, writable=writes, reads=not writes)
    finally:
        request.finish()


def copy_of(descriptor: int) -> socket.socket:
    """For what Python does with sockets only."""
    return socket.socket(fileno=os.dup(descriptor))


def is_readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


# ---- Forks ----


class Gate:
    """lock: held while what is noted of sockets changes, which does not take long. Forks wait."""

    def __init__(self) -> None:
        self.last_fork = -math.inf
        self.renew()

    def renew(self) -> None:
        """In a forked child: the lock may be another thread's, which is no more."""
        self.lock = threading.RLock()
        self._taken: list[bool] = []  # by the thread that forks

    def begin_fork(self) -> None:
        """Python forks, whatever this raises: so it comes back with the lock, and raises then."""
        taken: list[bool] = []
        raised = None
        while self._taken is not taken:
            try:
                if not taken:
                    taken.extend(map(self.lock.acquire, (True,)))  # no handler comes in between
                self._taken = taken
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised

    def note_fork(self) -> None:
        """In the parent, and in the child."""
        self.last_fork = time.monotonic()

    def end_fork(self) -> None:
        """In the parent, and in the child."""
        try:
            if self._taken:
                self.lock.release()
        finally:
            self._taken = []


gate = Gate()

_sessions: "weakref.WeakSet[Session]" = weakref.WeakSet()

# How often a connection is made that nobody has a copy of.
_TRIES = 4

# Those that have begun, without a fork since.
_makings: set["Making"] = set()


class Making:
    """Of a connection, whose socket nobody knows of before it is there. That takes as long as it
    takes, and no fork waits for it: so a child may have a copy, and would keep alive whoever had
    its lock by that connection."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def __enter__(self) -> Self:
        _makings.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _makings.discard(self)

    def is_for_us_alone(self, session: "Session") -> bool:
        """What was made is noted by now, so forks from now on know of it. False: it is ended."""
        with gate.lock:
            is_alone = self in _makings
        if self._process != os.getpid():
            bury(session)
            raise Lost("it is the parent's")
        if not is_alone:
            session.close()
        return is_alone


def making_alone(make: Callable[[], Steps["Session"]]) -> Steps["Session"]:
    """A program that forks all the time waits in the end."""
    for tries_left in reversed(range(_TRIES)):
        with gate.lock if tries_left == 0 else contextlib.nullcontext(), Making() as making:
            session = yield from make()
            if making.is_for_us_alone(session):
                return session
    raise Lost("each time that it is made the process forks, and so a child has a copy of it")


def is_in_use(pgconn: pq.abc.PGconn) -> bool:
    """Is it some session's, which lives? Ask with the gate's lock."""
    return any(each.pgconn is pgconn and each.reason is None for each in list(_sessions))


# What libpq must never end: the parent's, and those whose descriptors are somebody else's now.
_buried: list[Session] = []


def bury(session: Session) -> None:
    """In a forked child."""
    session.leave_to_parent()
    _buried.append(session)


def leave_all_to_parent() -> None:
    """In a forked child."""
    gate.end_fork()  # what a signal handler has interrupted may wait for it
    gate.renew()
    gate.note_fork()
    _makings.clear()
    for session in list(_sessions):
        bury(session)
    _sessions.clear()


if hasattr(os, "register_at_fork"):
    # Before the fork, the last one is called first. A handler that raises comes before nothing
    # that is written in C.
    os.register_at_fork(after_in_parent=gate.note_fork)
    os.register_at_fork(before=_makings.clear, after_in_parent=_makings.clear)
    os.register_at_fork(before=gate.begin_fork, after_in_parent=gate.end_fork)
