"""Operations on PID files by several owners, in any order, against the model of test_model.py.

Here the process is the owner, nobody gets twice what he has, and who says no timeout does not wait.
"""

import contextlib
import functools
import os

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from lockfile import PIDLockFile
from protocol.test_model import PATHS, SETTINGS, Claim, Handle, Locks
from support.actors import Nursery, Owner
from support.protocol import DEAD, plant_as

UNUSED = 3999999


class PIDHandle(Handle):
    def patience(self, timeout):
        given = super().patience(timeout)
        return 0 if given is None else given


class PIDFiles(Locks):
    def keep(self, lock, place, given_timeout, timeout):
        handle = super().keep(lock, place, given_timeout, timeout)
        handle.__class__ = PIDHandle
        return handle

    def bounded(self, handle, actor, timeout):
        return timeout

    def acquired(self, handle, actor, timeout):
        """Whoever has it: the process that calls, too."""
        place = handle.place
        timeout = 0 if timeout is None else timeout
        self.waited.pop((handle, actor), None)
        if not place.is_locked:
            self.take(handle, actor)
            return None
        if timeout <= 0:
            return "AlreadyLocked"
        self.waited[handle, actor] = place.claim
        return "LockTimeout"

    def entered(self, handle, actor):
        """A block begins with what its caller acquired by this object, if no other has begun so."""
        by, claim = self.acquired_last.get((handle, actor.pid), (None, None))
        answer = None
        if by is not actor or claim is not handle.place.claim:
            answer = super().entered(handle, actor)
        by, _ = self.acquired_last.get((handle, actor.pid), (None, None))
        if by is actor:
            del self.acquired_last[handle, actor.pid]
        return answer

    def take(self, handle, actor):
        super().take(handle, actor)
        self.acquired_last[handle, actor.pid] = (actor, handle.place.claim)

    @precondition(lambda self: any(place.claim is None for place in self.places.values()))
    @rule(name=PATHS, kind=st.sampled_from(["file", "text", "link", "directory", "dead"]))
    def plant(self, name, kind):
        """Another program makes the PID file, or a killed owner has left it."""
        place = self.places[name]
        if place.claim is not None:
            return
        place.claim = Claim(None, alive=None, unbreakable=kind == "directory")
        if kind == "link":
            os.symlink("nowhere", place.path)
        elif kind == "directory":
            os.mkdir(place.path)
        elif kind == "dead":
            self.made += 1
            plant_as(PIDLockFile, place.path, f"{DEAD}.{self.made}")
            place.claim = Claim(Owner(UNUSED, 0x7F00DEADBEEF), alive=False)
        else:
            with open(place.path, "x") as file:
                file.write(f"{UNUSED}\n" if kind == "file" else "no number")

    @precondition(lambda self: any(place.claim for place in self.places.values()))
    @rule(name=PATHS)
    def write_over(self, name):
        """Another program writes its own number into it: it is that one's from then on."""
        place = self.places[name]
        if place.claim is not None and os.path.isfile(place.path):
            with open(place.path, "w") as file:
                file.write(f"{UNUSED - 1}\n")
            before = place.claim
            place.lose()
            place.claim = Claim(None, alive=before.alive if before.alive else None)
            self.over.add(place.claim)
            for waited in [key for key, claim in self.waited.items() if claim is before]:
                self.waited[waited] = place.claim  # for the file, whoever has written into it

    def __init__(self, *arguments):
        self.over = set()
        self.acquired_last = {}  # by which actor, by an object of a process
        self.orphans = set()  # names of files that were written over, and whose PID file is gone
        super().__init__(*arguments)

    def check(self, actor, handles):
        """What owner() says of a file that was written over depends on who has looked at it."""
        methods = ("is_locked", "i_am_locking", "owner", "read_pid")
        for handle in handles:
            answers = actor.do("calls", *[(handle.number, method) for method in methods])
            claim = handle.place.claim
            mine = handle.place.belongs_to(actor.owner(False))
            assert answers[:2] == [handle.place.is_locked, mine]
            if claim not in self.over:
                assert answers[2] == (claim and claim.told())
            if claim is not None and claim.owner is not None:
                assert answers[3] == claim.owner.pid

    def fork_child(self, who, handle, takes):
        """Who looks first at a file that was written over decides what owner() says of it."""
        if not any(place.claim in self.over for place in self.places.values()):
            super().fork_child(who, handle, takes)

    def remove_lock_file(self, place):
        if os.path.isdir(place.path):
            os.rmdir(place.path)
            return
        if place.claim in self.over:
            self.orphans |= self.names_of(os.lstat(place.path))
        os.remove(place.path)

    def names_of(self, status):
        """Those of waiters come and go meanwhile."""
        found = set()
        for name in os.listdir(self.inside("real")):
            path = self.inside("real", name)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(path), status):
                    found.add(path)
        return found

    def free_what_nobody_can_release(self):
        for place in self.places.values():
            if place.claim is not None and place.claim.unbreakable:
                self.remove_lock_file(place)
            PIDLockFile(place.path).break_lock()
        path = self.inside("real", "one")
        plant_as(PIDLockFile, path, f"{DEAD}.{self.made + 1}")
        with PIDLockFile(path):
            pass  # who breaks a stale lock sweeps the directory
        for orphan in self.orphans:  # who is killed before it notices leaves what is another's now
            with contextlib.suppress(FileNotFoundError):
                os.remove(orphan)


def test_any_sequence_of_operations_on_pid_files(tmp_path):
    with contextlib.closing(Nursery()) as nursery:
        machine = functools.partial(PIDFiles, [PIDLockFile], nursery, tmp_path)
        run_state_machine_as_test(machine, settings=SETTINGS)
