"""break: a lock is removed, whoever holds it."""

import argparse
import sys

from lockfile import LockBase, LockTimeout, Owner
from lockfile._cli import statuses
from lockfile._cli.locks import UsageError, describe, held_for, look_for_its_directory, make
from lockfile._cli.output import plain, say, tell

# Seconds of a wait in vain: what was waited for is what break_lock() breaks, and nothing that has
# taken its place since.
IN_VAIN = 0.001


def main(options: argparse.Namespace) -> int:
    lock = make(options, options.path)
    if not options.yes and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on: --yes breaks without a question")
    look_for_its_directory(lock)
    if not _is_held(lock):
        tell(plain(f"{options.path} is not locked"))
        return statuses.NO
    owner = lock.owner()
    if not options.yes and not _agrees(options.path, owner):
        say("nothing was broken")
        return statuses.NO
    lock.break_lock()
    return _tell(options.path, owner, lock.owner())


def _is_held(lock: LockBase) -> bool:
    """By another, who is condemned from now on. If its owner is dead, it is gone afterwards."""
    if lock.owner() is None:
        return False  # also where no lock can be made
    try:
        lock.acquire(timeout=IN_VAIN)
    except LockTimeout:
        return True
    lock.release()
    return False


def _agrees(path: str, owner: Owner | None) -> bool:
    print(plain(f"{path} is locked by {describe(owner)}{held_for(owner)}."), file=sys.stderr)
    if owner is not None and owner.alive:
        print("It lives: two will own the lock if it is broken.", file=sys.stderr)
    print("Break it? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)  # the input has ended on that line
    return answer.strip().lower() in ("y", "yes")


def _tell(path: str, before: Owner | None, after: Owner | None) -> int:
    if after is None:
        tell(plain(f"{path} is not locked any more"))
        return statuses.DONE
    if before == after and before.since == after.since:
        say(f"{path} is still locked by {describe(after)}")
        return statuses.HELD
    tell(plain(f"{path}: that lock is gone; it is locked by {describe(after)} now"))
    return statuses.DONE
