"""Who calls: as of all locks, LockBase finds it."""

from typing import NamedTuple

from lockfile import LockBase

# Several of them share a thread.
_STRANDS = ("task", "greenlet")


class Caller(NamedTuple):
    token: int  # what owns: never used again; 0: the whole process
    number: int  # who calls
    kind: str  # of what owns
    name: str  # HOST-THREAD-PID
    thread: int
    lets_others_run: bool  # of its thread, while it waits

    def is_beside(self, caller: "Caller") -> bool:
        """Does this owner run in the calling thread, beside the caller?"""
        is_thread = self.kind == "thread" and caller.kind in _STRANDS
        return self.thread == caller.thread and (self.kind in _STRANDS or is_thread)


def find(lock: LockBase) -> Caller:
    return Caller._make(lock._caller())
