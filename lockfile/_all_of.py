"""Several locks at once: all or none.

Everybody takes them in one order, that of the places that the locks are really on. So of those who
name the same ones, whoever owns the first lacks nothing that another of them waits with, and none
waits for ever. What is owned is known by the locks alone, and so is how deep their blocks are
nested: an AllOf knows only which locks they are.
"""

from __future__ import annotations

import errno
import os
import time

from lockfile._lockfile import (
    LinkFileLock,
    LockBase,
    LockError,
    LockFailed,
    MkdirFileLock,
    SQLiteFileLock,
    UnlockError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all of this package
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

MECHANISMS = (LinkFileLock, MkdirFileLock, SQLiteFileLock)

# What is left of a time that is over, since zero would say not to wait at all.
LEAST = 1e-6


def _seconds(timeout: float | None) -> float | None:
    """A timeout as every lock reads it, with the exceptions that a lock raises."""
    return LockBase("/", timeout=timeout).timeout


# Where a lock is


def _has_own_scheme(lock: LockBase) -> bool:
    return not isinstance(lock, MECHANISMS)


class _Resolver(dict[str, str]):
    """Directories without symbolic links; most locks of a call are in one."""

    def __missing__(self, directory: str) -> str:
        resolved = self[directory] = os.path.realpath(directory)
        return resolved

    def place_of(self, lock: LockBase) -> tuple[str, str, str]:
        """What the lock is really on: locks with one place are one lock, for one owner.

        Not what the attributes of a subclass say, which may be anything. The last component of
        the lock file is not followed, that of a database is.
        """
        directory, name = os.path.split(LockBase.lock_file.__get__(lock))
        database = kind = ""
        if isinstance(lock, SQLiteFileLock):
            database = os.path.realpath(SQLiteFileLock.database.__get__(lock))
        elif _has_own_scheme(lock):
            kind = f"{type(lock).__module__}.{type(lock).__qualname__}"
        return os.path.join(self[directory], name), database, kind


def _in_order(locks: tuple[LockBase, ...]) -> list[list[LockBase]]:
    """By place, in the one order; in each, as they were named. Looked up each time, since
    symbolic links change."""
    resolver = _Resolver()
    places: dict[tuple[str, str, str], list[LockBase]] = {}
    for lock in locks:
        places.setdefault(resolver.place_of(lock), []).append(lock)
    return [places[place] for place in sorted(places)]


def _owns(lock: LockBase) -> bool:
    """Does the caller own it? A scheme that cannot tell says no."""
    try:
        return lock.i_am_locking()
    except NotImplementedError:
        return False


def _owned_already(lock: LockBase) -> bool:
    try:
        return _owns(lock)
    except UnlockError:
        return False  # acquire() will say what is wrong


def _check_owner(first: LockBase, other: LockBase) -> None:
    """What is named twice must be owned by now, or it waits for itself."""
    if not other.i_am_locking():
        raise LockFailed(
            f"failed to create {other.lock_file}: all_of() was given {first!r} and {other!r}, one "
            "lock for two owners, which would wait for each other"
        ) from OSError(errno.EDEADLK, os.strerror(errno.EDEADLK), other.lock_file)


# What goes wrong


class _Errors:
    """Goes on whatever the blocks raise: the first exception counts, the others are its notes.

    One that is no Exception (KeyboardInterrupt, CancelledError) is more urgent than one that is.
    """

    def __init__(self, first: BaseException | None = None) -> None:
        self._first = first

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if value is None or value is self._first:
            return True
        if self._first is None:
            self._first = value
        elif isinstance(self._first, Exception) and not isinstance(value, Exception):
            self._first, value = value, self._first
            self._add_note(value)
        else:
            self._add_note(value)
        return True

    def _add_note(self, error: BaseException) -> None:
        assert self._first is not None
        self._first.add_note(f"and then {type(error).__name__}: {error}")

    def raise_first(self, unless: BaseException | None = None) -> None:
        error, self._first = self._first, None
        try:
            if error is not None and error is not unless:
                raise error
        finally:
            del error  # its traceback has this frame


# What one call does


class _Attempt:
    """What a call has acquired so far, and until when it waits for the rest."""

    def __init__(self, locks: tuple[LockBase, ...], timeout: float | None) -> None:
        self._locks = locks
        self._timeout = timeout
        self._deadline = time.monotonic() + (timeout or 0)
        self._owned: list[LockBase] = []  # by the caller, before
        self._taken: list[LockBase] = []
        self._in_flight: LockBase | None = None  # the last one taken, perhaps

    def left(self) -> float | None:
        if self._timeout is None or self._timeout <= 0:
            return self._timeout
        return max(self._deadline - time.monotonic(), LEAST)

    def missing(self) -> Iterator[LockBase]:
        """Those that the caller lacks, one after the other, to be acquired."""
        for first, *others in _in_order(self._locks):
            if _owned_already(first):
                self._owned.append(first)
            else:
                yield from self._take(first)
            for other in others:
                _check_owner(first, other)

    def owned_before(self) -> Iterator[LockBase]:
        """Those that it did not lack, to be entered."""
        for lock in self._owned:
            yield from self._take(lock)

    def _take(self, lock: LockBase) -> Iterator[LockBase]:
        """An interruption may come before the caller has it, or just after."""
        self._in_flight = lock
        self._taken.append(lock)
        yield lock
        self._in_flight = None

    def to_give_back(self, errors: _Errors, in_doubt: bool = False) -> Iterator[LockBase]:
        """The reverse of what was taken, and of nothing else.

        in_doubt: whether the last one may be owned though the call that acquires it has raised.
        """
        in_flight, taken = self._in_flight, self._taken
        self._owned, self._taken, self._in_flight = [], [], None
        for lock in reversed(taken):
            ours = lock is not in_flight
            if not ours and in_doubt and lock.threaded:  # else another thread may just own it
                with errors:
                    ours = _owns(lock)
            if ours:
                yield lock


def _leaves_doubt(error: BaseException) -> bool:
    """A lock that was not to be had says so. Others may come from a signal's handler, just when
    it was granted."""
    return not isinstance(error, LockError)


def _leaves_doubt_async(error: BaseException) -> bool:
    """Neither does cancellation, which comes only where acquire_async() waits."""
    return isinstance(error, (Exception, KeyboardInterrupt)) and _leaves_doubt(error)


def _count_block(lock: LockBase) -> bool:
    """A block more. False: another thread of the same owner has released it meanwhile."""
    if _has_own_scheme(lock):
        lock.__enter__()  # it is owned already
        return True
    return lock._count_block()


async def _count_block_async(lock: LockBase) -> bool:
    if _has_own_scheme(lock):
        await lock.__aenter__()
        return True
    return lock._count_block()


class AllOf:
    """Several locks that are acquired all or none; what all_of() returns.

    It is used like a lock: acquire() and release(), with, and in coroutines async with and
    acquire_async(). It keeps no account of its own: it may be used again, by several threads
    and tasks at once, and inside itself.
    """

    __module__ = "lockfile"

    def __init__(self, locks: tuple[LockBase, ...], timeout: float | None) -> None:
        for lock in locks:
            if not isinstance(lock, LockBase):
                raise TypeError(f"all_of() takes locks, not {type(lock)}")
        self._locks = tuple({id(lock): lock for lock in locks}.values())
        self._timeout = _seconds(timeout)

    @property
    def locks(self) -> tuple[LockBase, ...]:
        """The locks as they were named, each object once."""
        return self._locks

    @property
    def timeout(self) -> float | None:
        """Seconds that acquire() and with wait by default, for all of them together.

        None: each lock as long as it says itself.
        """
        return self._timeout

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(map(repr, self._locks))}>"

    def _begin(self, timeout: float | None) -> _Attempt:
        # True and False say what they say to a lock: as None, and as 0.
        given = None if timeout is True else _seconds(timeout)
        return _Attempt(self._locks, self._timeout if given is None else given)

    def _in_reverse(self) -> list[LockBase]:
        return [first for first, *_ in reversed(_in_order(self._locks))]

    # In threads

    def acquire(self, timeout: float | None = None) -> Self:
        """Lock them all, waiting while another owner holds one of them.

        timeout: seconds to wait for all of them together. None: the attribute timeout, and if
        that is None too, each lock as long as it says itself; float("inf"): for ever. Zero or
        less: do not wait. True and False say what they say to a lock: as None, and as 0.

        Returns this object. Those that the caller owns already stay as they are; nothing is
        counted, one release() unlocks them all.

        Raises what the acquire() of that lock raises which was not to be had, and whose path the
        message says (AlreadyLocked, LockTimeout, LockFailed); LockFailed, too, if two objects
        are one lock for two owners. Then, or when the wait is interrupted, those that this call
        has acquired are released again, and no others; if that fails, the exception's notes
        say so.
        """
        attempt = self._begin(timeout)
        try:
            for lock in attempt.missing():
                lock.acquire(attempt.left())
        except BaseException as error:
            errors = _Errors(error)
            for lock in attempt.to_give_back(errors, _leaves_doubt(error)):
                with errors:
                    lock.release()
            errors.raise_first(unless=error)
            raise
        return self

    def release(self) -> None:
        """Unlock them all, in the reverse order.

        Raises what the first release() raises that fails, when all the others are done; if more
        than one fails, its notes say what the others raised.
        """
        errors = _Errors()
        for lock in self._in_reverse():
            with errors:
                lock.release()
        errors.raise_first()

    def __enter__(self) -> Self:
        """acquire(), with the attribute timeout; a block more of each lock."""
        attempt = self._begin(None)
        while not self._enter(attempt):
            pass
        return self

    def _enter(self, attempt: _Attempt) -> bool:
        """False: one that was owned before is owned no more; nothing is entered then."""
        errors = _Errors()
        try:
            for lock in attempt.missing():
                lock.acquire(attempt.left())
                while not _count_block(lock):
                    lock.acquire(attempt.left())
            for lock in attempt.owned_before():
                if not _count_block(lock):
                    break
            else:
                return True
        except BaseException as error:
            errors = _Errors(error)
            for lock in attempt.to_give_back(errors, _leaves_doubt(error)):
                with errors:
                    lock.__exit__(type(error), error, error.__traceback__)
            errors.raise_first(unless=error)
            raise
        for lock in attempt.to_give_back(errors):
            with errors:
                lock.__exit__(None, None, None)
        errors.raise_first()
        return False

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """release(), but for those of which an outer block of the same owner still runs.

        What the body raised is not replaced by what a release raises, which is its note.
        """
        errors = _Errors(value)
        for lock in self._in_reverse():
            with errors:
                lock.__exit__(kind, value, traceback)
        errors.raise_first(unless=value)

    # In coroutines

    async def acquire_async(self, timeout: float | None = None) -> Self:
        """Await it: acquire(), letting other tasks run while it waits.

        The argument, what it returns and what it raises are those of acquire(). The owner is
        the task that awaits. Cancelled, it leaves nothing behind.
        """
        attempt = self._begin(timeout)
        try:
            for lock in attempt.missing():
                await lock.acquire_async(attempt.left())
        except BaseException as error:
            errors = _Errors(error)
            for lock in attempt.to_give_back(errors, _leaves_doubt_async(error)):
                with errors:
                    lock.release()
            errors.raise_first(unless=error)
            raise
        return self

    async def __aenter__(self) -> Self:
        """acquire_async(), with the attribute timeout; a block more of each lock."""
        attempt = self._begin(None)
        while not await self._enter_async(attempt):
            pass
        return self

    async def _enter_async(self, attempt: _Attempt) -> bool:
        errors = _Errors()
        try:
            for lock in attempt.missing():
                await lock.acquire_async(attempt.left())
                while not await _count_block_async(lock):
                    await lock.acquire_async(attempt.left())
            for lock in attempt.owned_before():
                if not await _count_block_async(lock):
                    break
            else:
                return True
        except BaseException as error:
            errors = _Errors(error)
            for lock in attempt.to_give_back(errors, _leaves_doubt_async(error)):
                with errors:
                    await lock.__aexit__(type(error), error, error.__traceback__)
            errors.raise_first(unless=error)
            raise
        for lock in attempt.to_give_back(errors):
            with errors:
                await lock.__aexit__(None, None, None)
        errors.raise_first()
        return False

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """release(), but for those of which an outer block of the same owner still runs."""
        errors = _Errors(value)
        for lock in self._in_reverse():
            with errors:
                await lock.__aexit__(kind, value, traceback)
        errors.raise_first(unless=value)


def all_of(*locks: LockBase, timeout: float | None = None) -> AllOf:
    """Several locks as one, acquired all or none: with all_of(lock, other): ...

    locks: any number of lock objects of any classes, in any order, to be acquired in one order
    that is the same for everybody, that of their lock files' resolved paths. So callers that
    name the same locks never wait for each other for ever. What is named twice is acquired once.
    timeout: seconds that acquire() and with wait by default, for all of them together. None:
    each lock as long as it says itself.

    Making one touches no file. Raises TypeError for what is no lock, and TypeError and
    ValueError for a timeout as a lock does.
    """
    return AllOf(locks, timeout)
