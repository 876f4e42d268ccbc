"""What a call waits for, and the two ways to wait: the thread sleeps, or a task does.

What is done is written once, as generators that yield what they wait for. Whoever drives one
throws into it what came instead: KeyboardInterrupt, or the cancellation of the task.
"""

import asyncio
import contextlib
import math
import os
import select
import socket
import threading
import time
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

# Timers of loops, and poll(), do not reach further; who waits for longer looks again by then.
LONGEST = 24 * 60 * 60.0


class Wait(NamedTuple):
    """Until one of them is ready, or the time; it need not be true, so look again."""

    readable: int
    until: float = math.inf
    writable: bool = False  # or that one can be written to
    reads: bool = True  # false: only that
    bell: int = -1  # another descriptor, to be readable

    def to_read(self) -> list[int]:
        return [self.readable] * self.reads + [self.bell] * (self.bell >= 0)


class Resolve(NamedTuple):
    """The addresses of hosts, for who must not sleep for them; "": of no interest."""

    hosts: tuple[str, ...]


Addresses = list[list[str]] | None  # of each host; None: the caller may sleep


class Await(NamedTuple):
    """Something of the program's; what it comes to."""

    what: Awaitable[Any]


Steps = Generator[Wait | Resolve | Await, Any, T]


def seconds_until(moment: float) -> float:
    return min(max(moment - time.monotonic(), 0.0), LONGEST)


class Bell:
    """Wakes a wait from another thread, or from a signal handler.

    By writev() and readv(), since eventlet patches write() and read(): those wait, for ever, where
    there is nothing to read.
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()  # a number that was closed is somebody else's soon
        if hasattr(os, "eventfd"):
            self.descriptor = self._writable = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self.descriptor, self._writable = os.pipe()
            os.set_blocking(self.descriptor, False)
            os.set_blocking(self._writable, False)

    def ring(self) -> None:
        with self._guard, contextlib.suppress(OSError):  # it rings already, or is gone
            os.writev(self._writable, [(1).to_bytes(8, "little")])

    def hush(self) -> None:
        with self._guard, contextlib.suppress(OSError):
            os.readv(self.descriptor, [bytearray(4096)])

    def close(self) -> None:
        with self._guard:
            numbers = {self.descriptor, self._writable} - {-1}
            self.descriptor = self._writable = -1
            for number in numbers:
                os.close(number)

    def leave(self) -> None:
        """In a forked child: a thread that is no more may have the guard."""
        self._guard = threading.RLock()
        self.close()


# ---- In a thread ----


def wait_for_any(descriptors: list[int]) -> None:
    """Until one of them is readable, or closed."""
    if not hasattr(select, "poll"):
        select.select([number for number in descriptors if number >= 0], [], [])
        return
    poll = select.poll()
    for number in descriptors:
        if number >= 0:
            poll.register(number, select.POLLIN)
    poll.poll()


def _sleep(wait: Wait) -> None:
    """Looked up each time: patched, they let other greenlets run."""
    seconds = seconds_until(wait.until)
    if not hasattr(select, "poll"):
        select.select(wait.to_read(), [wait.readable] * wait.writable, [], seconds)
        return
    poll = select.poll()
    poll.register(wait.readable, select.POLLIN * wait.reads | select.POLLOUT * wait.writable)
    if wait.bell >= 0:
        poll.register(wait.bell, select.POLLIN)
    poll.poll(math.ceil(seconds * 1000))


def refuse_awaiting(what: Await) -> None:
    if isinstance(what.what, Coroutine):
        what.what.close()
    raise TypeError("what connect returns has to be awaited: acquire by async with")


def run(steps: Steps[T]) -> T:
    try:
        waits_for = next(steps)
        while True:
            try:
                if type(waits_for) is Wait:
                    _sleep(waits_for)
                elif isinstance(waits_for, Await):
                    refuse_awaiting(waits_for)
            except BaseException as error:
                waits_for = steps.throw(error)
            else:
                waits_for = steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


# ---- In a task ----


def wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _wait_in_loop(loop: asyncio.AbstractEventLoop, wait: Wait) -> None:
    ready = loop.create_future()
    timer = loop.call_later(seconds_until(wait.until), wake, ready)
    readers = wait.to_read()
    try:
        for number in readers:
            loop.add_reader(number, wake, ready)
        if wait.writable:
            loop.add_writer(wait.readable, wake, ready)
        await ready
    finally:
        timer.cancel()
        for number in readers:
            loop.remove_reader(number)
        if wait.writable:
            loop.remove_writer(wait.readable)


async def _resolve(loop: asyncio.AbstractEventLoop, what: Resolve) -> list[list[str]]:
    found = []
    for host in what.hosts:
        told = []
        with contextlib.suppress(OSError):  # libpq says what is wrong
            told = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
        found.append(list(dict.fromkeys(str(address[4][0]) for address in told)))
    return found


async def _in_loop(loop: asyncio.AbstractEventLoop, waits_for: Wait | Resolve | Await) -> Any:
    if isinstance(waits_for, Wait):
        return await _wait_in_loop(loop, waits_for)
    if isinstance(waits_for, Resolve):
        return await _resolve(loop, waits_for)
    return await waits_for.what


async def run_in_loop(steps: Steps[T]) -> T:
    loop = asyncio.get_running_loop()
    try:
        waits_for = next(steps)
        while True:
            try:
                told = await _in_loop(loop, waits_for)
            except BaseException as error:
                waits_for = steps.throw(error)
            else:
                waits_for = steps.send(told)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
