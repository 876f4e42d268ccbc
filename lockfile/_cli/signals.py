"""Signals that come to the command: what they end while nothing runs, and whom they are for."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# What users and systems send to end a program: whatever is owned just then is released.
if sys.platform == "win32":
    ENDING = (signal.SIGINT, signal.SIGBREAK, signal.SIGTERM)
else:
    ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

# What Windows' programs end with after Ctrl-C, as exit() takes it.
CONTROL_C_EXIT = -0x3FFFFEC6

# What nobody can catch; what a process is sent for its own faults; and what stops it, lets it go
# on, or tells it something that does not end it.
_NOT_PASSED_ON = """SIGKILL SIGSTOP SIGABRT SIGBUS SIGFPE SIGILL SIGSEGV SIGSYS SIGTRAP SIGPIPE
SIGXCPU SIGXFSZ SIGCHLD SIGCONT SIGTSTP SIGTTIN SIGTTOU SIGURG SIGWINCH""".split()


# Those that have come since signals raise.
_came: list[int] = []


class Signalled(BaseException):
    """One of ENDING has come."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def passed_on() -> set[int]:
    """All signals that would end us, and that others send."""
    not_passed_on = {int(getattr(signal, name)) for name in _NOT_PASSED_ON}
    return {int(each) for each in signal.valid_signals()} - not_passed_on


def leave_to_the_system() -> None:
    """Ctrl-C ends us as SIGTERM does, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    _came.append(number)
    raise Signalled(number)


def raise_what_came() -> None:
    """It may have come where what is raised is lost: in a finalizer, or a callback of another
    library's."""
    if _came:
        raise Signalled(_came[0])


@contextmanager
def raising() -> Iterator[None]:
    """Inside, signals that end a program raise; those that are ignored (nohup) stay so."""
    before = {each: signal.getsignal(each) for each in ENDING}
    _came.clear()
    try:
        for each, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(each, _raise)
        yield
        raise_what_came()
    finally:
        for each, handler in before.items():
            if handler is not None:
                signal.signal(each, handler)


def die_of(number: int) -> NoReturn:
    """End as if the signal had never been caught: a shell that reads a script then ends, too."""
    if sys.platform == "win32":
        raise SystemExit(CONTROL_C_EXIT)
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)  # the first process of a container is not killed
