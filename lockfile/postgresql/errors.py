"""The exceptions: messages begin as those of the other locks, and then say who holds, and why."""

import errno
import os
from collections.abc import Sequence
from typing import TypeVar

from lockfile import (
    AlreadyLocked,
    Error,
    LockBase,
    LockFailed,
    LockTimeout,
    NotLocked,
    NotMyLock,
    Owner,
    UnlockError,
)
from lockfile.postgresql.caller import Caller
from lockfile.postgresql.holders import Holder, describe
from lockfile.postgresql.holds import Hold

E = TypeVar("E", bound=Error)

# Which part of this process it is, as other locks say it.
_BESIDE = {
    "thread": "; this is this thread itself, outside of its tasks",
    "task": "; this is another task of this thread",
    "greenlet": "; this is another greenlet of this thread",
}
_ELSEWHERE = {
    "thread": "; this is another thread of this process: with threaded=False the process would be "
    "the owner",
    "task": "; this is a task in another thread of this process",
    "greenlet": "; this is a greenlet in another thread of this process",
    "object": "; this is another lock object of this process, which owns by itself",
}


def path_of(lock: LockBase) -> str:
    """As it was given, whatever a subclass calls its path."""
    return os.fsdecode(vars(LockBase)["path"].__get__(lock))


def _with_attributes(error: E, lock: LockBase, owner: Owner | None, timeout: float | None) -> E:
    error.path, error.owner, error.timeout = path_of(lock), owner, timeout
    return error


def tell(holders: Sequence[Holder], beside: Hold | None, caller: Caller) -> str:
    """Who holds, and what might help. beside: an owner of this process that does."""
    if not holders:
        return "held by somebody who has released it by now"
    others = f", and {len(holders) - 1} more" if len(holders) > 1 else ""
    text = describe(holders[0]) + others
    if beside is None:
        return text
    words = _BESIDE if beside.caller.is_beside(caller) else _ELSEWHERE
    return text + words.get(beside.caller.kind, "")


def _first(holders: Sequence[Holder]) -> Owner | None:
    return holders[0].owner() if holders else None


def held(
    lock: LockBase, timeout: float | None, holders: Sequence[Holder], description: str
) -> AlreadyLocked | LockTimeout:
    if timeout is not None and timeout > 0:
        message = f"Timeout waiting to acquire lock for {path_of(lock)}: {description}"
        return _with_attributes(LockTimeout(message), lock, _first(holders), timeout)
    message = f"{path_of(lock)} is already locked: {description}"
    return _with_attributes(AlreadyLocked(message), lock, _first(holders), timeout)


def would_deadlock(
    lock: LockBase, timeout: float | None, holders: Sequence[Holder], description: str, who: str
) -> LockFailed:
    cause = OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))
    error = failed(
        lock,
        timeout,
        f"{description}; a wait would stop {who}, which runs in this thread, too: await the "
        f"lock, by async with or acquire_async(): {cause.strerror}",
        _first(holders),
    )
    error.__cause__ = cause
    return error


def failed(
    lock: LockBase, timeout: float | None, reason: str, owner: Owner | None = None
) -> LockFailed:
    message = f"failed to create the lock of {path_of(lock)}: {reason}"
    return _with_attributes(LockFailed(message), lock, owner, timeout)


def not_locked(lock: LockBase, reason: str | None = None) -> NotLocked:
    why = f": the connection that kept it has ended: {reason}" if reason else ""
    return _with_attributes(NotLocked(f"{path_of(lock)} is not locked{why}"), lock, None, None)


def not_mine(lock: LockBase, holders: Sequence[Holder], description: str) -> NotMyLock:
    message = f"{path_of(lock)} is locked, but not by me: {description}"
    return _with_attributes(NotMyLock(message), lock, _first(holders), None)


def unlock_error(lock: LockBase, message: str) -> UnlockError:
    return _with_attributes(UnlockError(message), lock, None, None)
