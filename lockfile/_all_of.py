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
    AlreadyLocked,
    LockBase,
    LockError,
    LockFailed,
    LockTimeout,
    Steps,
    UnlockError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all of this package
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Any, Self

    _Left = Callable[[], float | None]

# What is left of a time that is over, since zero would say not to wait at all.
LEAST = 1e-6


def _seconds(timeout: float | None) -> float | None:
    """A timeout as every lock reads it, with the exceptions that a lock raises."""
    return LockBase("/", timeout=timeout).timeout


# Where a lock is


class _Resolver(dict[str, str]):
    """Directories without symbolic links; most locks of a call are in one."""

    def __missing__(self, directory: str) -> str:
        resolved = self[directory] = os.path.realpath(directory)
        return resolved

    def place_of(self, lock: LockBase) -> tuple[str, str, str]:
        """What the lock is really on: locks with one place are one lock, for one owner.

        The last component of the lock file is not followed, that of a database is.
        """
        lock_file, store = lock._place
        directory, name = os.path.split(lock_file)
        database = os.path.realpath(store) if store else ""
        own = type(lock)
        kind = "" if lock._has_mechanism else f"{own.__module__}.{own.__qualname__}"
        return os.path.join(self[directory], name), database, kind


def _shares(lock: LockBase) -> bool:
    return bool(lock.shared)


def _in_order(locks: tuple[LockBase, ...]) -> list[list[LockBase]]:
    """By place, in the one order; in each, as they were named, but first those that are not to be
    shared. Looked up each time, since symbolic links change."""
    resolver = _Resolver()
    places: dict[tuple[str, str, str], list[LockBase]] = {}
    for lock in locks:
        places.setdefault(resolver.place_of(lock), []).append(lock)
    return [sorted(places[place], key=_shares) for place in sorted(places)]


def _is_base(lock: LockBase, method: str) -> bool:
    """Is it ours, and not a subclass's?"""
    ours = getattr(LockBase, method).__get__(lock)
    return bool(getattr(lock, method) == ours) and lock._has_mechanism


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


def _check_owner(first: LockBase, other: LockBase, owned: bool) -> None:
    """What is named twice must be owned by now, or it waits for itself."""
    if not owned:
        raise LockFailed(
            f"failed to create {other.lock_file}: all_of() was given {first!r} and {other!r}, one "
            "lock for two owners, which would wait for each other"
        ) from OSError(errno.EDEADLK, os.strerror(errno.EDEADLK), other.lock_file)


# What goes wrong


def _told(
    error: BaseException | None,
) -> tuple[type[BaseException] | None, BaseException | None, TracebackType | None]:
    """What the end of a block is told of it."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


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
        if value is not None:
            self.add(value)
        return True

    def add(self, error: BaseException) -> None:
        if self._first is None or error is self._first:
            self._first = error
            return
        if isinstance(self._first, Exception) and not isinstance(error, Exception):
            self._first, error = error, self._first
        self._first.add_note(f"and then {type(error).__name__}: {error}")

    def raise_first(self, unless: BaseException | None = None) -> None:
        error, self._first = self._first, None
        try:
            if error is not None and error is not unless:
                raise error
        finally:
            del error  # its traceback has this frame


# What one call does with one lock


class _InSteps:
    """Of a class of ours: the steps know exactly what they have done, whenever one is interrupted.

    steps: those of who has called, if another one may be awaiting.
    """

    def __init__(self, lock: LockBase, blocks: bool, steps: Steps | None = None) -> None:
        self._lock = lock
        self._blocks = blocks
        self._steps = steps

    def _make_steps(self, left: float | None) -> Steps:
        if self._steps is not None:
            self._steps._limit(left)
        elif self._blocks:
            self._steps = self._lock._enter_in_steps(left)
        else:
            self._steps = self._lock.acquire_in_steps(left)
        return self._steps

    def take(self, left: _Left) -> None:
        self._make_steps(left())._run()

    async def take_async(self, left: _Left) -> None:
        await self._make_steps(left())

    def begin_late(self) -> bool:
        return True

    async def begin_late_async(self) -> bool:
        return True

    def give_back(self, error: BaseException | None) -> None:
        if self._steps is not None:
            self._steps.end()

    async def give_back_async(self, error: BaseException | None) -> None:
        self.give_back(error)


class _ByMethods:
    """Of a class that brings its own: an interruption may come before it is owned, or just after.

    What the caller owned before is entered last, when nothing can fail any more.
    """

    def __init__(self, lock: LockBase, blocks: bool) -> None:
        self._lock = lock
        self._blocks = blocks
        self._owned_before = False
        self._taken = False
        self._in_flight = False

    def take(self, left: _Left) -> None:
        self._owned_before = _owned_already(self._lock)
        if not self._owned_before:
            self._taken = self._in_flight = True
            grants = self._lock._grants
            self._lock.acquire(left())
            while self._blocks and not self._begin_block(grants):
                grants = self._lock._grants
                self._lock.acquire(left())  # another thread of the same owner has released it
            self._in_flight = False

    async def take_async(self, left: _Left) -> None:
        self._owned_before = _owned_already(self._lock)
        if not self._owned_before:
            self._taken = self._in_flight = True
            grants = self._lock._grants
            await self._lock.acquire_async(left())
            while self._blocks and not await self._begin_block_async(grants):
                grants = self._lock._grants
                await self._lock.acquire_async(left())
            self._in_flight = False

    def _begin_block(self, grants: int | None) -> bool:
        if not self._lock._has_mechanism:
            self._lock.__enter__()  # it is owned already
            return True
        return self._lock._begin_block(grants)

    async def _begin_block_async(self, grants: int | None) -> bool:
        if not self._lock._has_mechanism:
            await self._lock.__aenter__()
            return True
        return self._lock._begin_block(grants)

    def begin_late(self) -> bool:
        """False: it is owned no more."""
        late = self._blocks and self._owned_before
        self._taken = not late or self._begin_block(None)
        return self._taken

    async def begin_late_async(self) -> bool:
        late = self._blocks and self._owned_before
        self._taken = not late or await self._begin_block_async(None)
        return self._taken

    def _is_ours(self, leaves_doubt: bool) -> bool:
        if self._taken and self._in_flight:
            # If any thread is the same owner, another may just have acquired it.
            return leaves_doubt and self._lock.threaded and _owns(self._lock)
        return self._taken and (self._blocks or not self._owned_before)

    def give_back(self, error: BaseException | None) -> None:
        # A lock that was not to be had says so. Others may come from a signal's handler, just
        # when it was granted.
        if self._is_ours(not isinstance(error, LockError)):
            if self._blocks:
                self._lock.__exit__(*_told(error))
            else:
                self._lock.release()

    async def give_back_async(self, error: BaseException | None) -> None:
        # Neither does cancellation, which comes only where acquire_async() waits.
        doubtful = isinstance(error, (Exception, KeyboardInterrupt))
        if self._is_ours(doubtful and not isinstance(error, LockError)):
            if self._blocks:
                await self._lock.__aexit__(*_told(error))
            else:
                self._lock.release()


# What one call does with all of them


class _Attempt:
    """What a call has acquired so far, and until when it waits for the rest."""

    def __init__(self, locks: tuple[LockBase, ...], timeout: float | None, blocks: bool) -> None:
        self._locks = locks
        self._timeout = timeout
        self._blocks = blocks
        self._deadline = time.monotonic() + (timeout or 0)
        self._steps: dict[int, Steps] = {}  # by the lock's id()
        self._taken: list[_InSteps | _ByMethods] = []

    def call(self) -> None:
        """Whoever calls now is the owner, whichever task awaits."""
        for lock in self._locks:
            if _is_base(lock, "acquire_async"):
                self._steps[id(lock)] = lock.acquire_in_steps()

    def _left(self) -> float | None:
        if self._timeout is None or self._timeout <= 0:
            return self._timeout
        return max(self._deadline - time.monotonic(), LEAST)

    def _begin(self, lock: LockBase, in_steps: bool) -> _InSteps | _ByMethods:
        one: _InSteps | _ByMethods = _ByMethods(lock, self._blocks)
        if in_steps:
            one = _InSteps(lock, self._blocks, self._steps.pop(id(lock), None))
        self._taken.append(one)
        return one

    def take(self) -> bool:
        """Acquire them all. False: one that was owned before is owned no more."""
        for first, *others in _in_order(self._locks):
            in_steps = _is_base(first, "acquire") and _is_base(first, "release")
            self._begin(first, in_steps).take(self._left)
            for other in others:
                _check_owner(first, other, other.i_am_locking())
        return all(one.begin_late() for one in self._taken)

    async def take_async(self) -> bool:
        for lock in self._locks:
            if (find_place := getattr(lock, "_find_place", None)) is not None:
                await find_place()  # where that has to be asked for
        for first, *others in _in_order(self._locks):
            in_steps = _is_base(first, "acquire_async")
            await self._begin(first, in_steps).take_async(self._left)
            for other in others:
                _check_owner(first, other, await self._is_same(other))
        for one in self._taken:
            if not await one.begin_late_async():
                return False
        return True

    async def _is_same(self, other: LockBase) -> bool:
        """Does it come with the first that was named?"""
        steps = self._steps.pop(id(other), None)
        if steps is None:
            return other.i_am_locking()
        steps._limit(0)
        try:
            await steps
        except AlreadyLocked:
            return False
        finally:
            steps.end()
        return True

    def give_back(self, error: BaseException | None = None) -> None:
        """Release what was acquired, in the reverse order, and nothing else."""
        self._tell_timeout(error)
        errors = _Errors(error)
        while self._taken:
            try:
                while self._taken:
                    with errors:
                        self._taken[-1].give_back(error)
                    self._taken.pop()
            except BaseException as another:  # a signal's handler, between two of them
                errors.add(another)
        errors.raise_first(unless=error)

    async def give_back_async(self, error: BaseException | None = None) -> None:
        self._tell_timeout(error)
        errors = _Errors(error)
        while self._taken:
            try:
                while self._taken:
                    with errors:
                        await self._taken[-1].give_back_async(error)
                    self._taken.pop()
            except BaseException as another:
                errors.add(another)
        errors.raise_first(unless=error)

    def _tell_timeout(self, error: BaseException | None) -> None:
        """That of the call, not what was left of it for the last lock."""
        if isinstance(error, LockError) and error.timeout is not None and self._timeout is not None:
            error.timeout = self._timeout


# The ends of blocks


class _End:
    """The end of one lock's block, which comes once, though it be asked for again."""

    def __init__(self, lock: LockBase, error: BaseException | None) -> None:
        self._lock = lock
        self._error = error
        self._over = False
        self._steps: Steps | None = None

    def _in_steps(self, *methods: str) -> Steps | None:
        if self._steps is None and all(_is_base(self._lock, method) for method in methods):
            self._steps = self._lock._exit_in_steps(*_told(self._error))
        return self._steps

    def run(self) -> None:
        steps = self._in_steps("__exit__", "__aexit__")
        if steps is not None:
            steps._run()
        elif not self._over:
            self._over = True
            self._lock.__exit__(*_told(self._error))

    async def run_async(self) -> None:
        steps = self._in_steps("__aexit__")
        if not self._over:
            self._over = True
            await (self._lock.__aexit__(*_told(self._error)) if steps is None else steps)


def _finish(ends: list[_End], errors: _Errors) -> None:
    """All of them, whatever the one or the other raises, and signals' handlers in between."""
    while ends:
        try:
            while ends:
                for _ in range(2):  # the first may be interrupted before it has begun
                    with errors:
                        ends[-1].run()
                ends.pop()
        except BaseException as error:
            errors.add(error)


async def _finish_async(ends: list[_End], errors: _Errors) -> None:
    while ends:
        try:
            while ends:
                with errors:
                    await ends[-1].run_async()
                with errors:
                    ends[-1].run()
                ends.pop()
        except BaseException as error:
            errors.add(error)


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

    def _begin(self, timeout: float | None, blocks: bool) -> _Attempt:
        # True and False say what they say to a lock: as None, and as 0.
        given = None if timeout is True else _seconds(timeout)
        return _Attempt(self._locks, self._timeout if given is None else given, blocks)

    def _in_order(self, errors: _Errors) -> list[LockBase]:
        """Those that are acquired. A signal's handler that raises does not keep them."""
        for _ in range(3):
            try:
                return [first for first, *_ in _in_order(self._locks)]
            except BaseException as error:
                errors.add(error)
        errors.raise_first()
        return []

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
        self._take(self._begin(timeout, False))
        return self

    def try_acquire(self, timeout: float | None = 0) -> bool:
        """acquire(), if that can be done in time, and whether it was.

        timeout: as of acquire(), but not to wait by default. Returns True where acquire()
        returns, and False where that would raise AlreadyLocked or LockTimeout.
        """
        try:
            self.acquire(timeout)
        except (AlreadyLocked, LockTimeout):
            return False
        return True

    def _take(self, attempt: _Attempt) -> bool:
        """False: one that was owned before is owned no more; nothing is taken then."""
        try:
            taken = attempt.take()
        except BaseException as error:
            attempt.give_back(error)
            raise
        if not taken:
            attempt.give_back()
        return taken

    def release(self) -> None:
        """Unlock them all, in the reverse order.

        Raises what the first release() raises that fails, when all the others are done; if more
        than one fails, its notes say what the others raised.
        """
        errors = _Errors()
        locks = self._in_order(errors)
        while locks:
            try:
                while locks:
                    with errors:
                        locks[-1].release()
                    locks.pop()
            except BaseException as error:  # a signal's handler, between two of them
                errors.add(error)
        errors.raise_first()

    def __enter__(self) -> Self:
        """acquire(), with the attribute timeout; a block more of each lock."""
        attempt = self._begin(None, True)
        while not self._take(attempt):
            pass
        return self

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
        _finish([_End(lock, value) for lock in self._in_order(errors)], errors)
        errors.raise_first(unless=value)

    # In coroutines

    def acquire_async(self, timeout: float | None = None) -> Coroutine[Any, Any, Self]:
        """Await it: acquire(), letting other tasks run while it waits.

        The argument, what it returns and what it raises are those of acquire(). The owner is
        the task that calls, whichever awaits: asyncio.wait_for() may, too. Cancelled, it leaves
        nothing behind.
        """
        attempt = self._begin(timeout, False)
        attempt.call()
        return self._acquire_async(attempt)

    async def _acquire_async(self, attempt: _Attempt) -> Self:
        await self._take_async(attempt)
        return self

    async def __aenter__(self) -> Self:
        """acquire_async(), with the attribute timeout; a block more of each lock."""
        attempt = self._begin(None, True)
        while not await self._take_async(attempt):
            pass
        return self

    async def _take_async(self, attempt: _Attempt) -> bool:
        try:
            taken = await attempt.take_async()
        except BaseException as error:
            await attempt.give_back_async(error)
            raise
        if not taken:
            await attempt.give_back_async()
        return taken

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """release(), but for those of which an outer block of the same owner still runs."""
        errors = _Errors(value)
        await _finish_async([_End(lock, value) for lock in self._in_order(errors)], errors)
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
