"""PostgreSQLLock: what users see."""

import asyncio
import hashlib
import threading
import warnings
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from os import PathLike
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from weakref import WeakKeyDictionary

import psycopg
from psycopg.conninfo import conninfo_to_dict

from lockfile import LockBase, Owner, UnlockError
from lockfile.postgresql import errors, holds, statements
from lockfile.postgresql.attempt import Attempt, InVain, telling
from lockfile.postgresql.caller import Caller, find
from lockfile.postgresql.connecting import Connect, Refused
from lockfile.postgresql.errors import path_of
from lockfile.postgresql.holders import Holder, application_name
from lockfile.postgresql.holds import Hold
from lockfile.postgresql.lines import in_line
from lockfile.postgresql.looks import Seen, holders_by, terminating
from lockfile.postgresql.notices import OnWait
from lockfile.postgresql.session import InUse, Lost, Session, one_line
from lockfile.postgresql.sources import Source, all_sources, source_of
from lockfile.postgresql.steps import Steps
from lockfile.postgresql.tokens import counting
from lockfile.postgresql.waits import Steps as Parts
from lockfile.postgresql.waits import run, run_in_loop

_ASKED_IN_VAIN = (Lost, Refused, psycopg.Error)

OnLost = Callable[[Any], object]


def key_of(namespace: str, name: str) -> int:
    """The first 8 bytes of a digest, as the server numbers its locks."""
    text = f"{namespace}\0{name}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)


class _Settings(NamedTuple):
    """What the constructor was given, besides what LockBase keeps."""

    shared: bool
    conninfo: str
    connect: Connect | None
    namespace: str
    on_lost: OnLost | None
    is_owner: bool  # it owns for itself


# What each owner has waited for in vain.
_vain: "WeakKeyDictionary[LockBase, dict[object, Sequence[Seen]]]" = WeakKeyDictionary()


class _Leaving(threading.local):
    """What the end of a with block tells release(), which may be a subclass's."""

    lock: object = None  # which is being left
    hold: Hold | None = None  # what it has

    def reaches(self, lock: object) -> bool:
        """Once: what a signal handler calls is another call."""
        found = self.lock is lock
        if found:
            self.lock = None
        return found


_leaving = _Leaving()


class _Saying:
    """While release() is called at the end of a with block."""

    __slots__ = ("_before", "_now")

    def __init__(self, lock: object, hold: Hold | None) -> None:
        self._now = lock, hold

    def __enter__(self) -> None:
        self._before = _leaving.lock, _leaving.hold
        _leaving.lock, _leaving.hold = self._now

    def __exit__(self, *_: object) -> None:
        _leaving.lock, _leaving.hold = self._before


class _Attempting:
    """Around an attempt: what it has come to, others are told, or it is undone."""

    __slots__ = ("_attempt", "_lock")

    def __init__(self, lock: "PostgreSQLLock", attempt: Attempt) -> None:
        self._lock = lock
        self._attempt = attempt

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._lock._note_attempt(True)
        except BaseException:
            self._attempt.undo()
            raise
        finally:
            if kind is not None:
                self._attempt.undo()
            self._lock._end(self._attempt)


class PostgreSQLLock(LockBase):
    """PostgreSQLLock(path, threaded=True, timeout=None, *, owner=None, on_wait=None, shared=False,
    conninfo="", connect=None, namespace="", on_lost=None)

    A lock on a PostgreSQL server, for whoever reaches its database, from any machine.

    path: the name of the lock, as it is given: machines differ in their directories.
    threaded, timeout, owner, on_wait: as of all locks.
    shared: with others that are shared, but with none that is not.
    conninfo: how to connect, as libpq has it (PGHOST and the like count, too).
    connect: called instead, to make a connection of psycopg 3, or something to be awaited.
    namespace: locks of different ones are different locks.
    on_lost: called with the lock when the connection that keeps it ends; in a thread of its
    own, or, if a task has acquired it, by its loop.
    """

    __slots__ = ("_key", "_settings", "_source")

    _key: int
    _settings: "_Settings"
    _source: Source

    def __init__(
        self,
        path: str | bytes | PathLike[str] | PathLike[bytes],
        threaded: object = True,
        timeout: float | None = None,
        *,
        owner: Literal["task", "thread", "process", "object"] | None = None,
        on_wait: OnWait | None = None,
        shared: bool = False,
        conninfo: str = "",
        connect: Connect | None = None,
        namespace: str = "",
        on_lost: OnLost | None = None,
    ) -> None:
        self._release_forgotten()
        super().__init__(path, threaded, timeout, owner=owner, on_wait=on_wait)
        if "\0" in namespace:
            raise ValueError("namespace must not contain a NUL byte")
        if connect is not None and (conninfo or not callable(connect)):
            raise TypeError("connect must be a function, and comes instead of conninfo")
        conninfo_to_dict(conninfo)  # says what is wrong with it
        is_owner = owner == "object"
        self._furnish(_Settings(bool(shared), conninfo, connect, namespace, on_lost, is_owner))

    def _furnish(self, settings: "_Settings") -> None:
        self._settings = settings
        self._key = key_of(settings.namespace, path_of(self))
        self._source = source_of(settings.conninfo, settings.connect)

    def __reduce__(self) -> tuple[Any, ...]:
        remake, arguments, state = super().__reduce__()
        return _remake, (remake, arguments, self._settings), state

    # ---- What it was made of ----

    @property
    def shared(self) -> bool:
        """Whether others that are shared may hold it, too."""
        return self._settings.shared

    @property
    def conninfo(self) -> str:
        """How to connect, as given."""
        return self._settings.conninfo

    @property
    def namespace(self) -> str:
        """Whose name it is, as given."""
        return self._settings.namespace

    @classmethod
    def close_free_connections(cls) -> None:
        """Of all locks of this process: those that hold nothing, and were kept for the next."""
        for source in all_sources():
            source.close_free()

    # ---- acquire() ----

    def _attempt(
        self, timeout: float | None, on_wait: OnWait | None, shared: bool | None
    ) -> Attempt:
        """Until it is granted, it is in vain: see LockBase._note_attempt()."""
        self._note_attempt(False)
        shares = self._settings.shared if shared is None else bool(shared)
        seconds = self._settled(timeout)
        attempt = Attempt(
            self, self._source, self._key, shares, find(self), seconds, self._told(on_wait, seconds)
        )
        attempt.on_lost = self._settings.on_lost
        return attempt

    def _told(self, on_wait: OnWait | None, seconds: float | None) -> OnWait | None:
        """Who is told whom this waits for, if it does."""
        if on_wait is None and (seconds is None or seconds > 0):
            on_wait = self.on_wait
        return LockBase("/", on_wait=on_wait).on_wait if on_wait is not None else None

    def _settled(self, timeout: float | None) -> float | None:
        """As LockBase reads it: True says to wait as the attribute does, False not to wait."""
        if timeout is None or timeout is True:
            timeout = self.timeout
        if timeout is None or (type(timeout) is float and timeout == timeout):
            return timeout
        return LockBase("/", timeout=timeout).timeout

    def _end(self, attempt: Attempt) -> None:
        """What a break_lock() after a LockTimeout is about."""
        if attempt.vain is not None:
            _vain.setdefault(self, {})[attempt.caller.token] = attempt.vain
        elif (mine := _vain.get(self)) is not None:
            mine.pop(attempt.caller.token, None)

    def _attempting(self, attempt: Attempt) -> "_Attempting":
        return _Attempting(self, attempt)

    def acquire(
        self,
        timeout: float | None = None,
        *,
        on_wait: OnWait | None = None,
        shared: bool | None = None,
    ) -> Self:
        """Lock, waiting in the server's queue while another owner holds it.

        timeout, on_wait, shared, what it returns, and what it raises, are as of all locks.
        LockFailed: the server cannot be reached, refuses, or is one whose locks would exclude
        nobody.
        """
        attempt = self._attempt(timeout, on_wait, shared)
        with self._attempting(attempt):
            run(attempt.steps())
        return self

    def try_acquire(
        self,
        timeout: float | None = 0,
        *,
        on_wait: OnWait | None = None,
        shared: bool | None = None,
    ) -> bool:
        """acquire(), for who would rather have an answer than AlreadyLocked or LockTimeout."""
        if "acquire" in self.__dict__ or type(self).acquire is not _acquire:
            given = {"on_wait": on_wait, "shared": shared}
            told: Any = {name: value for name, value in given.items() if value is not None}
            return super().try_acquire(timeout, **told)
        attempt = self._attempt(timeout, on_wait, shared)
        attempt.is_curious = False
        try:
            with self._attempting(attempt):
                run(attempt.steps())
        except InVain:
            return False
        return True

    def acquire_async(
        self,
        timeout: float | None = None,
        *,
        on_wait: OnWait | None = None,
        shared: bool | None = None,
    ) -> Coroutine[Any, Any, Self]:
        """Await it: acquire(), letting other tasks run while it waits. The owner is the task that
        calls, whichever awaits."""
        attempt = self._attempt(timeout, on_wait, shared)
        attempt.stops_thread = False
        return self._acquiring(attempt)

    async def _acquiring(self, attempt: Attempt) -> Self:
        attempt.loop = asyncio.get_running_loop()
        with self._attempting(attempt):
            await in_line(attempt)
        return self

    def acquire_in_steps(  # type: ignore[override]  # with what others need of theirs
        self,
        timeout: float | None = None,
        *,
        on_wait: OnWait | None = None,
        shared: bool | None = None,
    ) -> Steps:
        """acquire(), in steps, for loops that are not asyncio's: see docs/loops.rst."""
        attempt = self._attempt(timeout, on_wait, shared)
        attempt.stops_thread = False
        return Steps(attempt, self._attempting(attempt))

    # ---- release() ----

    def _find(self) -> Hold | None:
        return holds.find(self._source, self._key, self._caller_token())

    def _find_by_any_way(self) -> Hold | None:
        """Perhaps it was acquired by another way to the same server, which this one has never
        been at."""
        hold = self._find()
        if hold is None and not self._source.scope and holds.has((self._key, self._caller_token())):
            with suppress(*_ASKED_IN_VAIN):  # who looks for its holder will say so
                run(self._finding_place())
            hold = self._find()
        return hold

    def release(self) -> None:
        """Unlock.

        NotLocked: nobody holds it, or the connection that kept it has ended; the message says why.
        NotMyLock: somebody else holds it.
        """
        is_left = _leaving.reaches(self)
        hold = _leaving.hold if is_left else self._find_by_any_way()
        with holds.Ending() as taken:
            end = holds.leave if is_left else holds.remove
            is_ours = hold is not None and end(hold, taken)
            if is_ours is None:
                return
            if hold is None or not is_ours:
                raise self._not_owned()
            run(self._releasing(hold, taken))

    def _releasing(self, hold: Hold, taken: list[Hold]) -> Parts[None]:
        """What was in the table is only this call's now."""
        session = hold.session
        try:
            rows = yield from session.ask(statements.UNLOCK[hold.shared], hold.key)
        except InUse:  # by who asks for its token: that ends with the lock
            session.close()
            return
        except (Lost, psycopg.Error) as error:
            session.close()
            raise (yield from self._lost(session, one_line(str(error)))) from None
        if rows != [("t",)]:
            session.close()
            raise errors.not_locked(self, "the server knew nothing of it")
        taken.clear()
        hold.source.give_back(session)

    def _lost(self, session: Session, reason: str) -> Parts[UnlockError]:
        """If the server itself has ended the session, somebody else may own by now."""
        caller = find(self)
        if session.was_told:
            try:
                application = application_name(caller.name)
                seen = yield from holders_by(self._source, application, self._key)
            except _ASKED_IN_VAIN:
                seen = []
            if seen:
                told = telling(self._source, self._key, caller, seen)
                return errors.not_mine(self, *told)
        return errors.not_locked(self, reason)

    def _not_owned(self) -> UnlockError:
        caller = find(self)
        seen = self._look(caller)
        if not seen:
            return errors.not_locked(self)
        return errors.not_mine(self, *telling(self._source, self._key, caller, seen))

    # ---- Looks ----

    def _look(self, caller: Caller) -> list[Seen]:
        try:
            application = application_name(caller.name)
            return run(holders_by(self._source, application, self._key))
        except _ASKED_IN_VAIN as error:
            raise errors.unlock_error(
                self,
                f"cannot tell whether {path_of(self)} is locked: {one_line(str(error))}",
            ) from error

    def is_locked(self) -> bool:
        """Whether anybody holds it, shared or not. UnlockError if the server cannot be asked."""
        return self.i_am_locking() or bool(self._look(find(self)))

    def i_am_locking(self) -> bool:
        """Whether the caller holds it, and the connection that keeps it lives: asks nobody."""
        hold = self._find()
        return hold is not None and hold.session.lives()

    def owner(self) -> Owner | None:
        """Who holds it: of several, who has had it for longest."""
        seen = self._look(find(self))
        return seen[0].holder.owner() if seen else None

    def owners(self) -> list[Holder]:  # type: ignore[override]  # which tell more than Owners
        """All who hold it, by how long they have."""
        return [each.holder for each in self._look(find(self))]

    def fileno(self) -> int:
        """The descriptor of the connection that keeps the caller's lock."""
        return self._owned().session.descriptor

    @property
    def token(self) -> int:
        """A number that is greater than those of all earlier grants of this name: for whoever
        checks it where the lock protects. Counted, and committed, when it is asked for first.

        NotLocked or NotMyLock unless the caller holds the lock; UnlockError if it cannot be
        counted.
        """
        hold = self._owned()
        if hold.token is None:
            try:
                hold.token = run(counting(hold, path_of(self)))
            except Lost as error:
                raise errors.not_locked(self, str(error)) from None
            except psycopg.Error as error:
                raise errors.unlock_error(
                    self, f"no token of {path_of(self)} can be had: {one_line(str(error))}"
                ) from error
        return hold.token

    def _owned(self) -> Hold:
        hold = self._find_by_any_way()
        if hold is None:
            raise self._not_owned()
        if not hold.session.lives():
            raise run(self._lost(hold.session, hold.session.reason or ""))
        return hold

    def break_lock(self) -> None:
        """End the connections that hold it, whoever's they are; after a LockTimeout of this
        object, of those that it has waited for all the time. UnlockError: without the right to.
        """
        caller = find(self)
        application = application_name(caller.name)
        condemned = _vain.get(self, {}).pop(caller.token, None)
        grants = None if condemned is None else {each.grant for each in condemned}
        for seen in self._look(caller):
            if grants is not None and seen.grant not in grants:
                continue
            try:
                ended = run(terminating(self._source, application, self._key, seen))
            except _ASKED_IN_VAIN as error:
                raise self._not_broken(error) from error
            if not ended:
                raise self._not_broken("its server process does not end")
        holds.hear_of(self._source, self._key)

    def _not_broken(self, reason: object) -> UnlockError:
        why = one_line(str(reason))
        return errors.unlock_error(self, f"the lock of {path_of(self)} could not be broken: {why}")

    # ---- with ----
    #
    # A block is the owner's who began it, whoever ends it; LockBase knows who that is.

    def _count_in(self, counted: list[Hold]) -> bool:
        return holds.count_in(self._source, self._key, self._caller_token(), counted)

    def __enter__(self) -> Self:
        before, counted = self._find(), list[Hold]()
        try:
            grants = self._grants
            self.acquire()
            while not self._count_in(counted) and self._grants != grants:
                grants = self._grants
                self.acquire()  # another caller of the same owner has released it
            self._begin_block(None)
        except BaseException:
            self._undo(before, counted)
            raise
        return self

    def _undo(self, before: Hold | None, counted: list[Hold]) -> None:
        """Nobody knows that it was acquired, nor that a block has begun."""
        for hold in counted:
            holds.count_out(hold)
        found = self._find()
        if found is not None and found is not before and found.depth <= 0 and holds.remove(found):
            found.session.close()

    def _end_own_block(self) -> Hold | None:
        """What whoever began the block has."""
        token = self._end_block(self._find() is not None)
        return holds.find(self._source, self._key, token)

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        hold = self._end_own_block()
        if hold is not None and not holds.count_out(hold):
            return
        try:
            with _Saying(self, hold):
                self.release()
            self._tell_of_loss(hold)
        except UnlockError as error:
            self._raise_after_body(error, kind, value, traceback)

    async def __aenter__(self) -> Self:
        before, counted = self._find(), list[Hold]()
        try:
            grants = self._grants
            await self.acquire_async()
            while not self._count_in(counted) and self._grants != grants:
                grants = self._grants
                await self.acquire_async()  # another caller of the same owner has released it
            self._begin_block(None)
        except BaseException:
            self._undo(before, counted)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        hold = self._end_own_block()
        if hold is not None and not holds.count_out(hold):
            return
        try:
            await self._leave_in_loop(hold)
            self._tell_of_loss(hold)
        except UnlockError as error:
            self._raise_after_body(error, kind, value, traceback)

    def _tell_of_loss(self, hold: Hold | None) -> None:
        """What the block began with was lost, though it was acquired anew within the block."""
        if hold is not None and hold.depth < 0 and hold.loss is not None:
            raise errors.not_locked(self, hold.loss)

    async def _leave_in_loop(self, hold: Hold | None) -> None:
        """By release(), if that is a subclass's."""
        if hold is None or type(self).release is not _release or "release" in self.__dict__:
            with _Saying(self, hold):
                self.release()
            return
        with holds.Ending() as taken:
            is_ours = holds.leave(hold, taken)
            if is_ours is None:
                return
            if not is_ours:
                raise self._not_owned()
            await run_in_loop(self._releasing(hold, taken))

    # ---- What others ask of it ----

    @property
    def _place(self) -> tuple[str, str]:
        """For all_of(): the same for locks that are one, and the order is everybody's. So it is the
        server that says which database that is; if it does not, acquire() will say why."""
        _ = super()._place  # which says so if it was never made
        with suppress(*_ASKED_IN_VAIN, TypeError):
            run(self._finding_place())
        return self._last_place

    @property
    def _last_place(self) -> tuple[str, str]:
        scope = "-".join(map(str, self._source.scope)) or f"unknown-{id(self._source)}"
        return f"/{self._key & (1 << 64) - 1:016x}", f"/{scope}"

    def _finding_place(self) -> Parts[None]:
        return self._source.finding_scope(application_name(find(self).name))

    async def _find_place(self) -> None:
        """For all_of() in a task: before _place is asked."""
        with suppress(*_ASKED_IN_VAIN):
            await run_in_loop(self._finding_place())

    def __del__(self) -> None:
        self._release_forgotten()

    def _release_forgotten(self) -> None:
        """What it owns for itself, nobody else can release."""
        settings = getattr(self, "_settings", None)  # None: it was never made
        hold = self._find() if settings is not None and settings.is_owner else None
        if hold is None or not holds.remove(hold):
            return
        hold.session.close()
        told = f"the lock of {path_of(self)} was never released by its owner, a lock object that "
        warnings.warn(told + "goes away", ResourceWarning, source=self, stacklevel=2)


def _remake(remake: Callable[..., Any], arguments: tuple[Any, ...], settings: _Settings) -> Any:
    """For copy and pickle."""
    lock = remake(*arguments)
    lock._furnish(settings)
    return lock


_acquire = PostgreSQLLock.acquire
_release = PostgreSQLLock.release
