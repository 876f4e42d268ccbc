"""How a coroutine waits for a lock: in steps, each when the loop says that it is time.

Of the tasks of a loop that wait for one lock, the first in line goes on with its steps; the others
only wait for their turn, so that thousands of them cost no more than one. Those who wait for
different locks share one watch, so that thousands of them take one descriptor.
"""

import asyncio
import os
import random
from collections import OrderedDict, deque

from lockfile._lockfile import LockBase, Steps, Watch

# Which lock it is, and whether those in line would share it.
Key = tuple[tuple[str, str], bool]

# Timers of loops do not reach further; who waits for longer looks again by then.
LONGEST = 24 * 60 * 60.0

# Who looks again in case an event was lost, after so many seconds, need not do so just then.
SELDOM = 0.5

# So many steps, of those that take system calls, are made in one turn of the loop.
STEPS_IN_A_TURN = 16


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done() and not future.get_loop().is_closed():
        future.set_result(None)


async def _sleep(future: asyncio.Future[None], seconds: float) -> None:
    """Until the future is done, or for so long."""
    timer = future.get_loop().call_later(min(seconds, LONGEST), _wake, future)
    try:
        await future
    finally:
        timer.cancel()


class Waits:
    """All who wait in one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.users = 0
        self.lines: dict[Key, Line] = {}
        self.watching: dict[int, set[Turn]] = {}
        self.steps_in_this_turn = 0
        self.breathing: deque[asyncio.Future[None]] = deque()
        self.watch: Watch | None = None
        self.descriptor = -1
        try:
            watch = Watch()
            self.descriptor = watch.fileno()
            loop.add_reader(self.descriptor, self.read)
            self.watch = watch
        except (OSError, NotImplementedError):
            pass  # each looks again and again

    def end(self) -> None:
        if self.watch is not None and self.is_ours(self.watch):
            self.loop.remove_reader(self.descriptor)

    def is_ours(self, watch: Watch) -> bool:
        """The program may have closed it, and its number may be another file's now."""
        if watch.fileno() == self.descriptor:
            return True
        try:
            os.fstat(self.descriptor)
        except OSError:
            return True  # nobody's
        return False

    async def breathe(self) -> None:
        """Before a step: lets the loop's others run, where many want to make one at once."""
        if self.steps_in_this_turn >= STEPS_IN_A_TURN:
            future = self.loop.create_future()
            self.breathing.append(future)
            await _sleep(future, SELDOM)
            if future in self.breathing:  # no turn has begun, since a signal's handler has raised
                self.breathing.remove(future)
                self.loop.call_soon(self.begin_turn)
        else:
            self.count_step()

    def count_step(self) -> None:
        if self.steps_in_this_turn == 0:
            self.loop.call_soon(self.begin_turn)
        self.steps_in_this_turn += 1

    def begin_turn(self) -> None:
        """Whatever a signal's handler raises in it, nobody is forgotten."""
        self.steps_in_this_turn = 0
        if self.breathing:
            self.loop.call_soon(self.begin_turn)
        while self.breathing and self.steps_in_this_turn < STEPS_IN_A_TURN:
            if not self.breathing[0].done():
                self.breathing[0].set_result(None)
                self.steps_in_this_turn += 1
            self.breathing.popleft()

    def read(self) -> None:
        """Tell those whom it concerns what has happened."""
        assert self.watch is not None
        for watched, closed, gone in self.watch.read():
            if watched < 0:  # events were lost
                for turns in list(self.watching.values()):
                    for turn in turns:
                        turn.wake()
            for turn in self.watching.get(watched, ()):
                turn.steps._tell(watched, closed, gone)
                turn.wake()


class Turn:
    """One that waits in line."""

    def __init__(self, waits: Waits, steps: Steps) -> None:
        self.waits = waits
        self.steps = steps
        self.owns = False
        self.woken = False
        self.future: asyncio.Future[None] = waits.loop.create_future()

    def wake(self) -> None:
        self.woken = True
        _wake(self.future)

    async def sleep(self, seconds: float) -> None:
        self.future = self.waits.loop.create_future()
        await _sleep(self.future, seconds)

    async def watch(self, seconds: float) -> None:
        """Until what it watches has changed, or for so long, or somewhat longer."""
        if seconds > SELDOM:
            seconds = min(seconds * random.uniform(1, 1.5), self.steps.remaining())
        watched = self.steps._watched
        watching = self.waits.watching.setdefault(watched, set())
        watching.add(self)
        try:
            await self.sleep(seconds)
        finally:
            watching.discard(self)
            if not watching:
                self.waits.watching.pop(watched, None)

    async def stand(self) -> None:
        """Until it is woken, or its time is up. Whom it waits for, it is told meanwhile."""
        self.woken = False
        told = True
        while told and not self.woken:
            await self.sleep(self.steps.remaining())
            told = self.steps._notice()


class Line:
    """Those in a loop who wait for one lock, by their owners, in the order in which they came."""

    def __init__(self) -> None:
        self.turns: OrderedDict[int, list[Turn]] = OrderedDict()

    @property
    def first(self) -> Turn | None:
        for turns in self.turns.values():
            for turn in turns:
                return turn
        return None

    def join(self, turn: Turn) -> None:
        self.turns.setdefault(turn.steps._owner, []).append(turn)

    def leave(self, turn: Turn) -> None:
        """May be called again, where a signal's handler has raised in it."""
        owner = turn.steps._owner
        turns = self.turns.get(owner, [])
        if turn in turns:
            turns.remove(turn)
        if not turns:
            self.turns.pop(owner, None)
        if turn.owns:
            for other in turns:
                other.wake()  # its owner owns
        first = self.first
        if first is not None:
            first.steps._follow(turn.steps)
            first.wake()

    async def wait(self, turn: Turn, seconds: float) -> None:
        """Until it owns the lock."""
        try:
            self.join(turn)
            again: float | None = seconds
            while again is not None:
                if self.first is turn:
                    await turn.watch(again)
                else:
                    await turn.stand()
                await turn.waits.breathe()
                again = turn.steps.step()
            turn.owns = True
        finally:
            self.leave(turn)


# Of each loop in which somebody waits.
waits_in: dict[asyncio.AbstractEventLoop, Waits] = {}


def _waits_of(loop: asyncio.AbstractEventLoop) -> Waits:
    waits = waits_in.get(loop)
    if waits is None:
        for other in list(waits_in):
            if other.is_closed():
                waits_in.pop(other, None)
        waits = waits_in[loop] = Waits(loop)
    return waits


def must_join(steps: Steps) -> bool:
    """Do others of this loop wait for the lock, or has it made many steps just now?"""
    waits = waits_in.get(asyncio.get_running_loop())
    if waits is None:
        return False
    if steps._key in waits.lines or waits.steps_in_this_turn >= STEPS_IN_A_TURN:
        return True
    waits.count_step()
    return False


def _forget(waits: Waits) -> None:
    """Nobody waits in that loop any more."""
    waits_in.pop(waits.loop, None)
    if not waits.loop.is_closed():
        waits.end()


async def _wait_in_line(steps: Steps, key: Key, waits: Waits) -> None:
    if waits.watch is not None:
        steps._share(waits.watch)
    if key not in waits.lines:
        await waits.breathe()
    ahead = waits.lines[key].first if key in waits.lines else None
    seconds = steps.step() if ahead is None else steps._join(ahead.steps)
    if seconds is None:
        return
    line, turn = waits.lines.setdefault(key, Line()), Turn(waits, steps)
    try:
        await line.wait(turn, seconds)
    finally:
        line.leave(turn)
        if not line.turns and waits.lines.get(key) is line:
            del waits.lines[key]


async def _acquire(steps: Steps, key: Key) -> None:
    waits = _waits_of(asyncio.get_running_loop())
    waits.users += 1
    try:
        await _wait_in_line(steps, key, waits)
    finally:
        waits.users -= 1
        if waits.users == 0:
            _forget(waits)


async def _finish(steps: Steps, seconds: float | None) -> None:
    """What waits for moments only."""
    loop = asyncio.get_running_loop()
    while seconds is not None:
        await _sleep(loop.create_future(), seconds)
        seconds = steps.step()


async def wait(steps: Steps, seconds: float | None) -> LockBase | None:
    """What the steps come to. seconds: to wait after a first one; None: it was not made."""
    try:
        key = steps._key
        await (_finish(steps, seconds) if key is None else _acquire(steps, key))
        return steps.value
    except BaseException:
        steps.end()
        raise


async def finish(steps: Steps) -> LockBase | None:
    """A coroutine, for who needs one."""
    return await steps


async def enter(lock: LockBase) -> LockBase:
    """The beginning of an async with block, by an acquire_async() of a subclass's own."""
    if lock._enter_acquired():
        return lock
    grants = lock._grants
    await lock.acquire_async()
    while not lock._begin_block(grants):
        grants = lock._grants
        await lock.acquire_async()  # another thread of the same owner has released it meanwhile
    return lock
