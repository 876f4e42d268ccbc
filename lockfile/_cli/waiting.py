"""wait: until nobody holds a lock."""

import argparse
import time

from lockfile import LockBase
from lockfile._cli import statuses
from lockfile._cli.changes import Changes
from lockfile._cli.line import Line
from lockfile._cli.locks import describe, look_for_its_directory, make, seconds_to_wait
from lockfile._cli.output import say

# The news of an owner's death comes a moment before the kernel frees what it has locked; and a
# wait that is as short as this shows nothing on a terminal.
MOMENTS = (0.001, 0.01, 0.1)


def main(options: argparse.Namespace) -> int:
    lock = make(options, options.path)
    look_for_its_directory(lock)
    if _wait(lock, options):
        return statuses.DONE
    say(f"{options.path} is still locked by {describe(lock.owner())}")
    return statuses.HELD


def _wait(lock: LockBase, options: argparse.Namespace) -> bool:
    deadline = time.monotonic() + seconds_to_wait(options)
    changes = Changes(lock)
    pauses = list(MOMENTS)
    with Line(options.path) as line:
        while True:
            changes.watch()
            if not lock.is_locked():
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            if not pauses:
                line.tell(lock.owner())
            pause = pauses.pop(0) if pauses else changes.pause
            if changes.wait(min(pause, remaining)):
                pauses = list(MOMENTS)
