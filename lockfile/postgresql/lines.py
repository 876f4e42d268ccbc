"""Of the tasks of a loop that wait for one lock, the first in line waits in the server's queue. The
others wait for their turn, without a connection."""

import asyncio
import time
from collections import deque
from weakref import WeakKeyDictionary

from lockfile.postgresql.attempt import Attempt
from lockfile.postgresql.notices import Raised
from lockfile.postgresql.sources import Source
from lockfile.postgresql.waits import run_in_loop, seconds_until, wake

Line = deque[asyncio.Future[None]]
_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Source, int], Line]] = (
    WeakKeyDictionary()
)


async def in_line(attempt: Attempt) -> None:
    if attempt.owns():
        return
    if attempt.timeout is not None and attempt.timeout <= 0:
        await run_in_loop(attempt.steps())
        return
    loop = asyncio.get_running_loop()
    lines = _lines.setdefault(loop, {})
    place = attempt.source, attempt.key
    line = lines.setdefault(place, deque())
    turn = loop.create_future()
    line.append(turn)
    attempt.has_line = True
    try:
        if line[0] is not turn:
            attempt.stood_in_line = True
            await _turn(turn, attempt)
        await run_in_loop(attempt.steps())
    finally:
        line.remove(turn)
        if line:
            wake(line[0])
        else:
            del lines[place]


async def _turn(turn: asyncio.Future[None], attempt: Attempt) -> None:
    """Until it is its turn, or its time is up. Whom it waits for, it is told meanwhile."""
    while not turn.done() and time.monotonic() < attempt.until:
        until = min(attempt.until, attempt.notices.at)
        await asyncio.wait([turn], timeout=seconds_until(until))
        if not turn.done():
            await _be_told(attempt)


async def _be_told(attempt: Attempt) -> None:
    try:
        await run_in_loop(attempt.noticing())
    except Raised as raised:
        raise raised.error from None
