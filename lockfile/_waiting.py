"""How a coroutine waits for a lock: in steps, each when the loop says that it is time.

Of the tasks of a loop that wait for one lock, the first in line goes on with its steps; the others
only wait for their turn, so that thousands of them cost no more than one.
"""

import asyncio
from collections import deque
from types import TracebackType
from weakref import WeakKeyDictionary

from lockfile._lockfile import LockBase, Steps

# Timers of loops do not reach further; who waits for longer looks again by then.
LONGEST = 24 * 60 * 60.0

Line = deque[asyncio.Future[None]]
_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Line]] = WeakKeyDictionary()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _sleep(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], descriptor: int, seconds: float
) -> None:
    """Until the future is done, the descriptor is readable, or for so long."""
    timer = loop.call_later(min(seconds, LONGEST), _wake, future)
    if descriptor >= 0:
        loop.add_reader(descriptor, _wake, future)
    try:
        await future
    finally:
        timer.cancel()
        if descriptor >= 0:
            loop.remove_reader(descriptor)


async def _wait_in_line(
    loop: asyncio.AbstractEventLoop, line: Line, steps: Steps, seconds: float | None
) -> None:
    """Until it is the first one, and then until the lock is owned; seconds: to wait at first."""
    turn = loop.create_future()
    line.append(turn)
    try:
        if line[0] is not turn:
            await _sleep(loop, turn, -1, steps.remaining())
            seconds = steps.step()
        while seconds is not None:
            await _sleep(loop, loop.create_future(), steps.fileno(), seconds)
            seconds = steps.step()
    finally:
        line.remove(turn)
        if line:
            _wake(line[0])


async def acquire(lock: LockBase, timeout: float | None = None) -> LockBase:
    """acquire(), letting other tasks run while it waits."""
    steps = lock._begin_acquire(timeout)
    try:
        loop = asyncio.get_running_loop()
        lines = _lines.setdefault(loop, {})
        key = f"{lock.lock_file}\0{getattr(lock, 'database', '')}"
        seconds = 0.0 if key in lines else steps.step()
        if seconds is None:
            return lock
        line = lines.setdefault(key, deque())
        try:
            await _wait_in_line(loop, line, steps, seconds)
        finally:
            if not line:
                del lines[key]
        return lock
    finally:
        steps.end()


async def enter(lock: LockBase) -> LockBase:
    """The beginning of an async with block."""
    await acquire(lock)
    while not lock._count_block():
        await acquire(lock)  # another thread of the same owner has released it meanwhile
    return lock


async def leave(
    lock: LockBase,
    kind: type[BaseException] | None,
    value: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    """Its end."""
    lock.__exit__(kind, value, traceback)
