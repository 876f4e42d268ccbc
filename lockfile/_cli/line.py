"""The line on a terminal that says whom one waits for."""

import os
import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

from lockfile import Owner
from lockfile._cli.locks import describe, duration, held_for

ERASE = "\r\x1b[K"
NARROW = 20


class Line:
    """Drawn anew each second from when it is first told of an owner, and erased in the end.

    Nothing is written to what is no terminal.
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
            self._thread.start()

    def _text(self) -> str:
        waited = duration(time.monotonic() - self._begin)
        owner = self._owner
        return (
            f"Waiting for {self._path} since {waited}: held by {describe(owner)}{held_for(owner)}"
        )

    def _keep_drawing(self) -> None:
        while True:
            self._write(ERASE + self._fitting(self._text()))
            if self._ended.wait(1):
                return

    def _fitting(self, text: str) -> str:
        """One line: what goes round the corner could not be erased."""
        try:
            width = os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            width = 0
        room = (width if width >= NARROW else 80) - 1
        shown = "".join(each if each.isprintable() else "?" for each in text)
        return shown if len(shown) <= room else shown[: room - 1] + "…"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError, UnicodeEncodeError):
            self._ended.set()  # the terminal has gone, or knows no such letters

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
            self._thread.join()
            self._write(ERASE)
