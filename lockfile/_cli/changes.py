"""When a lock may have changed hands: by the events that its waiters wait for, where there are
any, and by a look from time to time."""

import os
import select
import sys
import time

from lockfile import LockBase, SQLiteFileLock
from lockfile._lockfile import Watch, _reach

# Seconds between two looks: where no events come; where none come for locks that are rows, and a
# look costs more; and in case an event was lost.
NO_EVENTS = 0.05
ROWS = 0.25
LOST_EVENTS = 1.0


class Changes:
    """What happens to a lock from now on."""

    def __init__(self, lock: LockBase) -> None:
        self._lock = lock
        self._watch = _watch_for(lock)
        if sys.platform == "win32":
            self.tells = False
            self.pause = NO_EVENTS
            return  # there is nothing that could be polled
        self._poll = select.poll()
        if self._watch is not None:
            self._poll.register(self._watch.fileno(), select.POLLIN)
        self.tells = self._watch is not None
        rows = isinstance(lock, SQLiteFileLock)
        self.pause = ROWS if rows else LOST_EVENTS if self._watch is not None else NO_EVENTS

    def add(self, descriptor: int) -> None:
        """Of something else that ends a wait."""
        self._poll.register(descriptor, select.POLLIN)

    def watch(self) -> None:
        """Watch what is there now. To be called before each look: what happens after that look is
        not missed then."""
        if self._watch is None:
            return
        for path in self._paths():
            try:
                self._watch.add(path)
            except OSError:
                pass  # it is not there, or not ours to see

    def _paths(self) -> list[str]:
        """A lock file; and the unique file where one leads to it, as its removal is told of."""
        lock_file = self._lock.lock_file
        try:
            return [lock_file, os.path.join(os.path.dirname(lock_file), os.readlink(lock_file))]
        except OSError:
            return [lock_file]

    def wait(self, seconds: float) -> bool:
        """Has something happened before that time was over?"""
        if sys.platform == "win32":
            time.sleep(max(0, seconds))
            return False
        ready = self._poll.poll(max(0, seconds) * 1000)
        if ready and self._watch is not None:
            self._watch.read()
        return bool(ready)


def _watch_for(lock: LockBase) -> Watch | None:
    """None: no events tell of the lock, or none can be had."""
    if isinstance(lock, SQLiteFileLock) or sys.platform == "win32":
        return None
    try:
        if _reach(os.path.dirname(lock.lock_file)) == "anybody":
            return None  # what other machines do, is not told
        return Watch()
    except OSError:
        return None
