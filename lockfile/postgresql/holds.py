"""What this process owns: asked before the server, whose counting knows sessions only.

Who waits has a bell, which rings when another thread of the same owner (or a signal handler) has
got the lock: no owner waits for itself.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lockfile import LockBase
from lockfile.postgresql.caller import Caller
from lockfile.postgresql.session import Session, leave_all_to_parent
from lockfile.postgresql.sources import Source, all_sources
from lockfile.postgresql.waits import Bell, wait_for_any

Place = tuple[int, object]  # a key, and what owns

_PAUSE = 0.005


def _nobody() -> None:
    pass


class Hold:
    """One owner's lock, and the connection that proves that it lives."""

    __slots__ = (
        "caller",
        "depth",
        "has_been_left",
        "key",
        "lock",
        "loop",
        "loss",
        "on_lost",
        "right_to_end",
        "session",
        "shared",
        "source",
        "token",
    )

    def __init__(
        self, source: Source, key: int, shared: bool, caller: Caller, session: Session
    ) -> None:
        self.source = source
        self.key = key
        self.shared = shared
        self.caller = caller
        self.session = session
        self.right_to_end = {"": True}  # is whose who takes it out
        self.depth = 0  # of with blocks
        self.has_been_left = False  # by the end of the outermost
        self.loss: str | None = None  # of what its owner had before: why
        self.token: int | None = None
        self.lock: Callable[[], LockBase | None] = (
            _nobody  # who is to be told when it is lost, and how
        )
        self.on_lost: Callable[[LockBase], object] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def place(self) -> Place:
        return self.key, self.caller.token

    def is_of(self, source: Source) -> bool:
        """Is that the same database, perhaps by another way?"""
        return self.source is source or (bool(source.scope) and self.session.scope == source.scope)


# A signal handler of this very thread may come in between, and do what it does at one go.
_guard = threading.RLock()
_holds: dict[Place, tuple[Hold, ...]] = {}
_told: list[Place] = []
_bells: dict[Place, tuple[Bell, ...]] = {}


def find(source: Source, key: int, token: object) -> Hold | None:
    """What that owner has, though it may be lost."""
    for hold in _holds.get((key, token), ()):
        if hold.is_of(source):
            return hold
    return None


def has(place: Place) -> bool:
    """On whatever server."""
    return place in _holds


def everybodys(source: Source, key: int) -> list[Hold]:
    """What owners of this process have."""
    with _guard:
        held = [hold for holds in _holds.values() for hold in holds]
    return [hold for hold in held if hold.key == key and hold.is_of(source)]


def others(source: Source, key: int, token: object) -> list[Hold]:
    return [hold for hold in everybodys(source, key) if hold.caller.token != token]


def hear_of(source: Source, key: int) -> None:
    """Of what was just broken."""
    for hold in everybodys(source, key):
        hold.session.lives()


def enter(hold: Hold) -> Hold:
    """From now on it is owned; what its owner had before, if that lives, is what counts."""
    with _guard:
        former = find(hold.source, hold.key, hold.caller.token)
        if former is not None and former.session.lives():
            return former
        if former is not None:
            remove(former)
            hold.loss = former.session.reason
        _holds[hold.place] = (*_holds.get(hold.place, ()), hold)
        bells = _bells.get(hold.place, ())
    if former is not None:
        former.session.close()
    for bell in bells:
        bell.ring()
    if hold.on_lost is not None:
        _watcher.watch(hold)
    return hold


def remove(hold: Hold, taken: list[Hold] | None = None) -> bool:
    """Whether it was still there: it is the caller's then to end it. taken: it is in there before
    it goes."""
    if taken is not None:
        taken.append(hold)
    is_ours = hold.right_to_end.pop("", False)  # at one go: a signal handler may do it, too
    if taken is not None and not is_ours:
        taken.remove(hold)
    with _guard:
        left = tuple(each for each in _holds.get(hold.place, ()) if each is not hold)
        if left:
            _holds[hold.place] = left
        else:
            _holds.pop(hold.place, None)
    if hold.on_lost is not None:
        _watcher.forget(hold)
    return is_ours


class Ending:
    """What is taken from the table to be released ends, whatever a signal handler raises."""

    __slots__ = ("_taken",)

    def __enter__(self) -> list[Hold]:
        self._taken: list[Hold] = []
        return self._taken

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for hold in self._taken:
                remove(hold)
                hold.session.close()


def leave(hold: Hold, taken: list[Hold]) -> bool | None:
    """At the end of a block that was the outermost one then: whether it is the caller's to end.
    None: another thread of its owner is in a block since, or has ended it after one."""
    with _guard:
        if hold.depth > 0 or hold.has_been_left:
            return None
        is_ours = remove(hold, taken)
        hold.has_been_left |= is_ours
        return is_ours or (None if hold.has_been_left else False)  # by a signal handler's block


def count_in(source: Source, key: int, token: object, counted: list[Hold]) -> bool:
    """One with block more, which is noted in counted; false: it is not owned."""
    with _guard:
        hold = find(source, key, token)
        if hold is not None:
            hold.depth += 1
            counted.append(hold)
        return hold is not None


def count_out(hold: Hold) -> bool:
    """One with block less: whether it was the outermost."""
    with _guard:
        hold.depth -= 1
        return hold.depth <= 0


@contextmanager
def telling(place: Place) -> Iterator[None]:
    """While on_wait is called: its owner stands in the server's queue, and cannot be granted
    anything before it returns."""
    with _guard:
        _told.append(place)
    try:
        yield
    finally:
        with _guard:
            _told.remove(place)


def is_being_told(place: Place) -> bool:
    return place in _told


@contextmanager
def bell_for(place: Place) -> Iterator[Bell]:
    bell = Bell()
    with _guard:
        _bells[place] = (*_bells.get(place, ()), bell)
    try:
        yield bell
    finally:
        with _guard:
            left = tuple(each for each in _bells.get(place, ()) if each is not bell)
            if left:
                _bells[place] = left
            else:
                _bells.pop(place, None)
        bell.close()


# ---- Who is told when a lock is lost ----


class _Watcher:
    """A thread that waits for the end of connections, of those locks that have an on_lost."""

    def __init__(self) -> None:
        self._watched: dict[Hold, None] = {}
        self._bell: Bell | None = None

    def watch(self, hold: Hold) -> None:
        with _guard:
            self._watched[hold] = None
            self.begin().ring()

    def begin(self) -> Bell:
        """With the first lock of that kind; then it stays."""
        if self._bell is None:
            bell = Bell()
            thread = threading.Thread(
                target=self._run, args=(bell,), name="lockfile on_lost", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # there are too many
                bell.close()
                raise
            self._bell = bell
        return self._bell

    def forget(self, hold: Hold) -> None:
        with _guard:
            self._watched.pop(hold, None)
            if self._bell is not None:
                self._bell.ring()

    def _run(self, bell: Bell) -> None:
        while True:
            bell.hush()
            with _guard:
                watched = list(self._watched)
            wait_for_any([bell.descriptor, *(hold.session.descriptor for hold in watched)])
            lost = [hold for hold in watched if not hold.session.lives()]
            for hold in lost:
                if self._is_news(hold):
                    _tell(hold)
            if not lost:
                time.sleep(_PAUSE)  # another call may be reading what there is to read

    def _is_news(self, hold: Hold) -> bool:
        with _guard:
            return self._watched.pop(hold, self) is None


def _tell(hold: Hold) -> None:
    """What is called may take as long as it takes: of other losses others are told meanwhile."""
    thread = threading.Thread(target=_call, args=(hold,), name="lockfile lost", daemon=True)
    try:
        if hold.loop is None:
            thread.start()
            return
    except RuntimeError:  # there are too many
        pass
    _call(hold)


def _call(hold: Hold) -> None:
    lock = hold.lock()
    if hold.on_lost is None or lock is None:
        return
    try:
        if hold.loop is None:
            hold.on_lost(lock)
        else:
            hold.loop.call_soon_threadsafe(hold.on_lost, lock)
    except BaseException:  # sys.exit(), too, is no end of the watcher's thread
        threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), None]))


_watcher = _Watcher()


# ---- Forks ----


def _begin_child() -> None:
    """A forked child owns nothing."""
    global _guard, _watcher
    held = list(_holds.values())  # until their descriptors are closed
    _holds.clear()  # first, whatever comes in between
    _guard = threading.RLock()
    _watcher = _Watcher()
    leave_all_to_parent()
    held.clear()
    _told.clear()
    for bells in _bells.values():
        for bell in bells:
            bell.leave()
    _bells.clear()
    for source in all_sources():
        source.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
