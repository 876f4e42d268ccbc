"""How a coroutine waits for a lock: in steps, each when the loop says that it is time.

Of the tasks of a loop that wait for one lock, the first in line goes on with its steps; the others
only wait for their turn, so that thousands of them cost no more than one.
"""

import asyncio
from collections import OrderedDict

from lockfile._lockfile import LockBase, Steps

# Timers of loops do not reach further; who waits for longer looks again by then.
LONGEST = 24 * 60 * 60.0

# Timers of loops are no finer. What is shorter passes while the others run.
SHORTEST = 0.001


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done() and not future.get_loop().is_closed():
        future.set_result(None)


async def _sleep(future: asyncio.Future[None], descriptor: int, seconds: float) -> None:
    """Until the future is done, the descriptor is readable, or for so long."""
    loop = future.get_loop()
    timer = loop.call_later(min(seconds, LONGEST), _wake, future)
    if descriptor >= 0:
        loop.add_reader(descriptor, _wake, future)
    try:
        await future
    finally:
        timer.cancel()
        if descriptor >= 0:
            loop.remove_reader(descriptor)


class Turn:
    """One that waits in line."""

    def __init__(self, loop: asyncio.AbstractEventLoop, steps: Steps) -> None:
        self.loop = loop
        self.steps = steps
        self.future: asyncio.Future[None] = loop.create_future()
        self.woken = False

    def wake(self) -> None:
        self.woken = True
        _wake(self.future)

    async def sleep(self, descriptor: int, seconds: float) -> None:
        self.future = self.loop.create_future()
        await _sleep(self.future, descriptor, seconds)

    async def stand(self) -> None:
        """Until it is woken, or its time is up. Whom it waits for, it is told meanwhile."""
        self.woken = False
        told = True
        while told and not self.woken:
            await self.sleep(-1, self.steps.remaining())
            told = self.steps._notice()


class Line:
    """Those in a loop who wait for one lock, by their owners, in the order in which they came."""

    def __init__(self) -> None:
        self.turns: OrderedDict[int, list[Turn]] = OrderedDict()

    @property
    def first(self) -> Turn:
        return next(iter(self.turns.values()))[0]

    async def wait(self, turn: Turn, seconds: float) -> None:
        """Until it owns the lock."""
        owner = turn.steps._owner
        mine = self.turns.setdefault(owner, [])
        mine.append(turn)
        try:
            again: float | None = seconds
            while again is not None:
                if self.first is turn:
                    await turn.sleep(turn.steps.fileno(), again)
                else:
                    await turn.stand()
                again = turn.steps.step()
            for other in mine:
                other.wake()  # its owner owns
        finally:
            mine.remove(turn)
            if not mine:
                del self.turns[owner]
            if self.turns:
                self.first.wake()


# The lines of each loop: by the lock.
Lines = dict[tuple[bytes, bytes], Line]
lines: dict[asyncio.AbstractEventLoop, Lines] = {}


def _lines_of(loop: asyncio.AbstractEventLoop) -> Lines:
    if loop not in lines:
        for closed in [other for other in lines if other.is_closed()]:
            del lines[closed]
    return lines.setdefault(loop, {})


async def _wait_in_line(steps: Steps, key: tuple[bytes, bytes], seconds: float | None) -> None:
    loop = asyncio.get_running_loop()
    all_lines = _lines_of(loop)
    line = all_lines.get(key)
    try:
        if seconds is None:
            seconds = steps.step() if line is None else steps._join(line.first.steps)
        if seconds is not None:
            line = all_lines.setdefault(key, Line())
            await line.wait(Turn(loop, steps), seconds)
    finally:
        if line is not None and not line.turns and all_lines.get(key) is line:
            del all_lines[key]
        if not all_lines:
            lines.pop(loop, None)


async def wait(steps: Steps, seconds: float | None) -> LockBase | None:
    """What the steps come to. seconds: to wait at first; None: they have not begun."""
    try:
        key = steps._key
        if key is not None:
            await _wait_in_line(steps, key, seconds)
        while seconds is not None and key is None:
            await _sleep(asyncio.get_running_loop().create_future(), steps.fileno(), seconds)
            seconds = steps.step()
        return steps.value
    except BaseException:
        steps.end()
        raise


async def finish(steps: Steps) -> LockBase | None:
    """A coroutine, for who needs one."""
    return await steps


async def enter(lock: LockBase) -> LockBase:
    """The beginning of an async with block, by an acquire_async() of a subclass's own."""
    await lock.acquire_async()
    while not lock._begin_block():
        await lock.acquire_async()  # another thread of the same owner has released it meanwhile
    return lock
