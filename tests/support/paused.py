"""The test is slow, as on a busy machine: what it starts, tells or hears of runs ahead of it."""

import functools
import time

from support import children

PAUSE = 0.15  # seconds: longer than a child needs for anything


def _paused_after(method):
    @functools.wraps(method)
    def paused(*arguments, **keywords):
        value = method(*arguments, **keywords)
        time.sleep(PAUSE)
        return value

    return paused


def begin():
    for name in ("__init__", "say", "hear"):
        setattr(children.Child, name, _paused_after(getattr(children.Child, name)))
