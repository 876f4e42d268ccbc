"""The line on a terminal that says whom one waits for."""

import os
import select
import signal
import sys
import threading
import time
import unicodedata
from types import TracebackType
from typing import Self, TextIO

from lockfile import Owner
from lockfile._cli.locks import describe, duration, held_for
from lockfile._cli.output import PATIENCE, plain, write_past_the_buffer

ERASE = "\r\x1b[K"
USUAL_WIDTH = 80


class Line:
    """Drawn anew each second from when it is first told of an owner, and erased in the end.

    Nothing is written to what is no terminal, nor to one that is another job's, or stopped.
    """

    def __init__(self, path: str, stream: TextIO | None = None) -> None:
        self._path = path
        self._stream = sys.stderr if stream is None else stream
        self._owner: Owner | None = None
        self._begin = time.monotonic()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def tell(self, owner: Owner | None) -> None:
        """Whom one waits for just now."""
        self._owner = owner
        if self._thread is None and self._stream is not None and self._stream.isatty():
            self._thread = threading.Thread(target=self._keep_drawing, daemon=True)
            _start_without_signals(self._thread)

    def _text(self) -> str:
        waited = duration(time.monotonic() - self._begin)
        owner = self._owner
        return (
            f"Waiting for {self._path} since {waited}: held by {describe(owner)}{held_for(owner)}"
        )

    def _keep_drawing(self) -> None:
        """Until the wait is over; then it is erased, as soon as the terminal takes that."""
        try:
            is_drawn = self._draw()
            while not self._ended.wait(1):
                is_drawn = self._draw() or is_drawn
            if is_drawn and _is_our_job(self._stream.fileno()):
                write_past_the_buffer(self._stream, ERASE)
        except (OSError, ValueError):
            pass  # the terminal has gone

    def _draw(self) -> bool:
        if not _takes_from_us(self._stream.fileno()):
            return False
        write_past_the_buffer(self._stream, ERASE + self._fitting(plain(self._text())))
        return True

    def _fitting(self, text: str) -> str:
        """One line: what goes round the corner could not be erased."""
        try:
            width = os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            width = 0
        encoding = self._stream.encoding
        fitting = shortened(text, (width or USUAL_WIDTH) - 1)
        return fitting.encode(encoding, "replace").decode(encoding)  # a "?" for each unknown letter

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)


def _start_without_signals(thread: threading.Thread) -> None:
    """It may outlive the wait: what comes then, is for others."""
    if sys.platform == "win32":
        thread.start()
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _is_our_job(terminal: int) -> bool:
    """We are its job just now: nobody else uses it."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return True  # it is not the one that jobs are of


def _takes_from_us(terminal: int) -> bool:
    if sys.platform == "win32":
        return True
    return _is_our_job(terminal) and select.select([], [terminal], [], 0)[1] != []


def shortened(text: str, room: int) -> str:
    """So that it takes no more columns than that."""
    if sum(map(_columns, text)) <= room:
        return text
    kept, left = "", room - 1  # for the dots
    for each in text:
        left -= _columns(each)
        if left < 0:
            break
        kept += each
    return f"{kept}…"


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
