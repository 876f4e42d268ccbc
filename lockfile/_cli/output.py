"""What the command says, whatever its standard streams are."""

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from lockfile import Error

# Seconds that are given to what may never end: to write to a terminal that is stopped, a full pipe.
PATIENCE = 1.0

_STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}


def prepare() -> None:
    """A stream that was closed leads nowhere, here and not for a command that is run: otherwise the
    next file, perhaps a lock's, would get its number. And names may have any letters."""
    for name, mode in _STREAMS.items():
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if mode == "r" else "backslashreplace")


def tell(text: str) -> None:
    """On the standard output. That nobody reads it any more is no failure."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _discard()
    except OSError as error:
        _discard()
        raise OSError(error.errno, error.strerror, "standard output") from error


def flush() -> None:
    """What others have written there."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard()


def _discard() -> None:
    """What is left to write, which the interpreter would try again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def say(message: str) -> None:
    """To the user, on the standard error, who may have closed that end."""
    _write_error(f"lockfile-py: {plain(message)}\n")


def say_aside(message: Callable[[], str]) -> threading.Thread | None:
    """By a thread, which may never end; None: there are no more threads. For who has something
    better to do than to wait for the user. Signals that the caller has blocked stay so."""
    return _aside(lambda: say(message()))


def say_in_time(message: str) -> None:
    """As long as somebody seems to listen."""
    thread = say_aside(lambda: message)
    if thread is None:
        say(message)
    wait_for_words([thread])


def wait_for_words(said: Iterable[threading.Thread | None]) -> None:
    """Those that were said aside; not for long."""
    deadline = time.monotonic() + PATIENCE
    for thread in said:
        if thread is not None:
            thread.join(max(0, deadline - time.monotonic()))


def _aside(function: Callable[[], object]) -> threading.Thread | None:
    thread = threading.Thread(target=function, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def _write_error(text: str) -> None:
    try:
        write_past_the_buffer(sys.stderr, text)
    except (OSError, ValueError):
        pass


def write_past_the_buffer(stream: TextIO, text: str) -> None:
    """A buffer is locked by who is stopped as it writes, and whoever came next, even the
    interpreter at its end, would stop there."""
    if sys.platform == "win32":
        stream.write(text)  # a console takes letters, not bytes
        stream.flush()
    else:
        os.write(stream.fileno(), text.encode(stream.encoding, "backslashreplace"))


def say_where_it_failed(report: str) -> None:
    """A traceback, for who mends the command."""
    wait_for_words([_aside(lambda: _write_error(report))])


def explain(error: Exception) -> str:
    """What has happened, and to which file, if the error knows."""
    if isinstance(error, OSError) and not isinstance(error, Error):
        what = error.strerror or str(error)
        return what if error.filename is None else f"{os.fsdecode(error.filename)}: {what}"
    return str(error)


def plain(text: str) -> str:
    """Names are others': what would steer the terminal, is not shown as it is."""
    return "".join(each if each.isprintable() else "?" for each in text)


class Complaints:
    """Of some of many, which do not keep the others from being told of."""

    def __init__(self) -> None:
        self.are_made = False

    def add(self, error: Exception) -> None:
        """Say what has happened."""
        self.are_made = True
        say(explain(error))
