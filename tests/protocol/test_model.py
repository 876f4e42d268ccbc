"""Operations by several owners, in any order, against a model of what a lock is.

The model knows for each path which claim is there, and whose. LOCKFILE_FUZZ_EXAMPLES=2000 tries so
many sequences with each class instead of a few.
"""

import contextlib
import functools
import os
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

import lockfile
from lockfile import LinkFileLock, MkdirFileLock, SQLiteFileLock
from support import PATIENCE, names
from support.actors import Here, Nursery, Owner, Shelf, Thread
from support.databases import TABLE, execute, remove_lock_file
from support.lock_classes import FILE_LOCK_CLASSES, LOCK_CLASSES
from support.protocol import DEAD, HOST, open_files, plant

SETTINGS = settings(
    max_examples=int(os.environ.get("LOCKFILE_FUZZ_EXAMPLES", "15")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

# Long enough for a file that is made after the wait to have another time of birth.
SHORT = 0.012
TIMEOUTS = st.sampled_from([None, 0, -1, SHORT])
ACTORS = st.sampled_from(["main", "first", "second", "process"])
PATHS = st.sampled_from(["one", "two"])
SPELLINGS = st.sampled_from(["plain", "relative", "dotted", "bytes", "by a link"])
MANY = 8


@dataclass(eq=False)
class Claim:
    """What makes a path locked: by whom, whether that one lives, how deep its blocks nest."""

    owner: Owner | None  # None: another program
    alive: bool | None = True
    unbreakable: bool = False
    depth: int = 0

    @property
    def can_be_tidied(self):
        """If its lock file is gone: nobody does, in its process, for a thread that has ended."""
        return self.owner is None or not self.owner.has_ended

    def told(self):
        """What owner() says of it."""
        if self.owner is None:
            return [None] * 4
        return [HOST, self.owner.pid, self.owner.thread, self.alive]


class Place:
    """A path: the claim that is there, and those that were broken before their owners released."""

    def __init__(self, path):
        self.path = path
        self.claim = None
        self.broken = []

    @property
    def is_locked(self):
        return self.claim is not None and self.claim.alive is not False

    def belongs_to(self, owner):
        return self.claim is not None and self.claim.owner is owner

    def refusal(self):
        """What is raised when somebody who does not own wants to release."""
        return "NotMyLock" if self.is_locked else "NotLocked"

    def lose(self):
        """The claim is removed, whoever owns it."""
        self.broken.append(self.claim)
        self.claim = None


@dataclass(eq=False)
class Handle:
    """A lock object."""

    number: int
    place: Place
    lock_file: str
    threaded: bool
    given_timeout: float | None
    timeout: float | None

    def patience(self, timeout):
        """How long acquire(timeout) waits."""
        return self.timeout if timeout is None else timeout


class Locks(RuleBasedStateMachine):
    """A few paths, lock objects for them, and actors who use these."""

    handles = Bundle("handles")
    blocks = Bundle("blocks")
    vain = Bundle("vain")

    def __init__(self, lock_classes, nursery, directory):
        super().__init__()
        self.lock_classes = lock_classes
        self.nursery = nursery
        self.open_before = own_files()
        self.directory = tempfile.mkdtemp(dir=directory)
        os.mkdir(self.inside("real"))
        os.symlink("real", self.inside("link"))
        self.places = {name: Place(self.inside("real", name)) for name in ("one", "two")}
        self.made = 0
        self.live = []
        self.begun = {}  # blocks, by an object of a process: how many each owner has begun
        self.refused = {}  # who has not acquired since he tried, by an object of a process
        self.waited = {}  # what an actor waited for in vain, by an object
        self.shelf = Shelf()
        main = Here(self.shelf)
        self.actors = {"main": main}
        for name in ("first", "second", "watcher"):
            self.actors[name] = Thread(self.shelf, main.owner(False))

    def inside(self, *parts):
        return os.path.join(self.directory, *parts)

    @property
    def in_database(self):
        return self.lock_classes == [SQLiteFileLock]

    # Actors

    def actor(self, name):
        """Whoever is called so; the process is told of all lock objects when it joins."""
        if name not in self.actors:
            process = self.actors[name] = self.nursery.process()
            for handle in self.live:
                process.do("put", handle.number, self.shelf.pickled(handle.number))
        return self.actors[name]

    def shelf_keepers(self):
        """One actor for each process."""
        return [self.actors[name] for name in ("main", "process") if name in self.actors]

    def keep(self, lock, place, given_timeout, timeout):
        """Every process has the lock object from now on."""
        self.made += 1
        handle = Handle(self.made, place, lock.lock_file, lock.threaded, given_timeout, timeout)
        self.shelf.put(handle.number, lock)
        if "process" in self.actors:
            self.actors["process"].do("put", handle.number, self.shelf.pickled(handle.number))
        self.live.append(handle)
        return handle

    # Lock objects

    @initialize(attentive=st.booleans())
    def look_often_or_seldom(self, attentive):
        """Who looks at a lock lets go of what was broken; whoever never looks, does not know."""
        self.attentive = attentive

    @initialize(target=handles)
    def start_with_some(self):
        """Two lock objects for each path."""
        made = []
        for name in self.places:
            for threaded in (True, False):
                made.append(self.make(name, "plain", self.lock_classes[0], threaded, None))
        return multiple(*made)

    def make(self, name, spelling, lock_class, threaded, timeout):
        """A lock object, made from a directory that is left then."""
        path = {
            "plain": self.inside("real", name),
            "relative": name,
            "dotted": f"./elsewhere/..//{name}/",
            "bytes": os.fsencode(self.inside("real", name)),
            "by a link": self.inside("link", name),
        }[spelling]
        with contextlib.chdir(self.inside("real")):
            lock = lock_class(path, threaded, timeout)
        return self.keep(lock, self.places[name], timeout, timeout)

    @precondition(lambda self: len(self.live) < MANY)
    @rule(
        target=handles,
        name=PATHS,
        spelling=SPELLINGS,
        which=st.integers(0, 1),
        threaded=st.booleans(),
        timeout=TIMEOUTS,
    )
    def make_one_more(self, name, spelling, which, threaded, timeout):
        lock_class = self.lock_classes[which % len(self.lock_classes)]
        return self.make(name, spelling, lock_class, threaded, timeout)

    @precondition(lambda self: len(self.live) < MANY)
    @rule(target=handles, handle=handles, how=st.sampled_from(["copy", "deepcopy", "pickle"]))
    def copy(self, handle, how):
        lock = self.shelf.copied(handle.number, how)
        return self.keep(lock, handle.place, handle.given_timeout, handle.timeout)

    @rule(handle=consumes(handles))
    def delete(self, handle):
        self.live.remove(handle)
        for keeper in self.shelf_keepers():
            keeper.do("drop", handle.number)

    @rule(handle=handles, timeout=TIMEOUTS)
    def assign_timeout(self, handle, timeout):
        for keeper in self.shelf_keepers():
            keeper.do("assign_timeout", handle.number, timeout)
            if timeout is None:
                keeper.do("delete_timeout", handle.number)
        handle.timeout = handle.given_timeout if timeout is None else timeout

    # Methods

    def acquired(self, handle, actor, timeout):
        """The model's acquire(): what it answers."""
        place, me = handle.place, actor.owner(handle.threaded)
        self.waited.pop((handle, actor), None)
        if place.is_locked and not place.belongs_to(me):
            if timeout <= 0:
                return "AlreadyLocked"
            self.waited[handle, actor] = place.claim
            return "LockTimeout"
        if not place.is_locked:
            self.take(handle, actor)
        return None

    def entered(self, handle, actor):
        """The model's __enter__()."""
        return self.acquired(handle, actor, handle.timeout)

    def take(self, handle, actor):
        """What is free, or stale, is the actor's."""
        self.sweep(handle.place)
        handle.place.claim = Claim(actor.owner(handle.threaded))

    def sweep(self, place):
        """Whoever breaks a row whose owner is dead, removes all such rows."""
        if self.in_database and place.claim is not None and place.claim.alive is False:
            for each in self.places.values():
                if each.claim is not None and each.claim.alive is False:
                    each.claim = None

    def released(self, place, owner):
        """The model's release()."""
        if not place.belongs_to(owner):
            return place.refusal()
        place.claim = None
        return None

    def broken(self, handle, actor):
        """The model's break_lock(): after a wait in vain, for what was waited for."""
        place = handle.place
        there = place.claim
        condemned = self.waited.get((handle, actor), there)
        if there is not None and condemned is there:
            if there.unbreakable:
                return "UnlockError"
            place.lose()
        self.waited.pop((handle, actor), None)
        return None

    def bounded(self, handle, actor, timeout):
        """The timeout, unless it would mean to wait for ever."""
        place = handle.place
        waits = place.is_locked and not place.belongs_to(actor.owner(handle.threaded))
        return SHORT if waits and handle.patience(timeout) is None else timeout

    @rule(target=vain, handle=handles, who=ACTORS, timeout=TIMEOUTS)
    def acquire(self, handle, who, timeout):
        actor = self.actor(who)
        timeout = self.bounded(handle, actor, timeout)
        expected = self.acquired(handle, actor, handle.patience(timeout))
        assert actor.do("call", handle.number, "acquire", timeout) == expected
        self.note_refusal(handle, actor, expected)
        return (handle, who) if expected == "LockTimeout" else multiple()

    @rule(target=blocks, handle=handles, who=ACTORS)
    def enter(self, handle, who):
        """The beginning of a with block."""
        actor = self.actor(who)
        if self.bounded(handle, actor, None) is not None:
            return multiple()
        expected = self.entered(handle, actor)
        assert actor.do("call", handle.number, "__enter__") == expected
        self.note_refusal(handle, actor, expected)
        if expected is not None:
            return multiple()
        handle.place.claim.depth += 1
        begun = self.begun.setdefault((handle, actor.pid), Counter())
        if not begun:
            self.refused.pop((handle, actor.pid), None)  # by other blocks than this one
        begun[handle.place.claim.owner] += 1
        return handle, who

    def note_refusal(self, handle, actor, refusal):
        """Whoever could not acquire has begun no block: its __exit__() would be in error."""
        refused = self.refused.setdefault((handle, actor.pid), set())
        refused.discard(actor)
        if refusal is not None:
            refused.add(actor)

    @rule(target=blocks, block=blocks, other=handles)
    def enter_inside(self, block, other):
        """The beginning of a with block in another, with the same object or another of the path."""
        handle, who = block
        inner = other if other.place is handle.place else handle
        return self.enter(inner, who) if inner in self.live else multiple()

    @rule(block=consumes(blocks))
    def leave(self, block):
        """The end of a with block."""
        handle, who = block
        if handle not in self.live:
            return
        actor = self.actor(who)
        place, me = handle.place, self.who_began(handle, actor)
        answer = actor.do("call", handle.number, "__exit__", None, None, None)
        inner = [claim for claim in place.broken if claim.owner is me and claim.depth > 1]
        if place.belongs_to(me) and place.claim.depth > 1:
            place.claim.depth -= 1
            assert answer is None
        elif answer is None and not place.belongs_to(me) and inner:
            inner[0].depth -= 1  # the outermost says that it was broken
        else:
            assert answer == self.released(place, me)

    def who_began(self, handle, actor):
        """Whose block ends: the actor's own, else the one that another has begun by the object."""
        begun = self.begun.get((handle, actor.pid), Counter())
        me = actor.owner(handle.threaded)
        refused = self.refused.get((handle, actor.pid), ())
        mine = me in begun or handle.place.belongs_to(me) or actor in refused
        if not mine and len(begun) == 1:
            me = next(iter(begun))
        begun[me] -= 1
        if begun[me] <= 0:
            del begun[me]
        return me

    @rule(handle=handles, who=ACTORS)
    def release(self, handle, who):
        actor = self.actor(who)
        expected = self.released(handle.place, actor.owner(handle.threaded))
        assert actor.do("call", handle.number, "release") == expected

    @rule(handle=handles, who=ACTORS)
    def break_lock(self, handle, who):
        actor = self.actor(who)
        if who == "process" and handle.place.claim and not handle.place.claim.can_be_tidied:
            return
        expected = self.broken(handle, actor)
        answer = actor.do("call", handle.number, "break_lock")
        assert answer == expected or (
            expected == "UnlockError" and answer.startswith("UnlockError: ")
        )

    @rule(disappointed=consumes(vain))
    def break_after_a_wait(self, disappointed):
        """As programs do that have waited in vain."""
        handle, who = disappointed
        if handle in self.live:
            self.break_lock(handle, who)

    @rule(handle=handles, who=ACTORS)
    def look(self, handle, who):
        """All that a lock object tells, of the lock and of itself."""
        actor = self.actor(who)
        self.check(actor, [handle])
        mine = handle.place.belongs_to(actor.owner(handle.threaded))
        descriptor = actor.do("call", handle.number, "fileno")
        assert isinstance(descriptor, int) if mine else descriptor == handle.place.refusal()
        assert actor.do("call", handle.number, "pid") == actor.pid
        assert actor.do("call", handle.number, "timeout") == handle.timeout
        self.check_unique_name(handle, actor, mine)

    def check(self, actor, handles):
        """Does the actor see all that the model knows?"""
        methods = ("is_locked", "i_am_locking", "owner")
        calls = [(handle.number, method) for handle in handles for method in methods]
        expected = []
        for handle in handles:
            place = handle.place
            mine = place.belongs_to(actor.owner(handle.threaded))
            expected += [place.is_locked, mine, place.claim and place.claim.told()]
        assert actor.do("calls", *calls) == expected

    def check_unique_name(self, handle, actor, mine):
        """The real file of who owns, by whichever path; else how it would be called."""
        unique_name = actor.do("call", handle.number, "unique_name")
        me = actor.owner(handle.threaded)
        name = f"{HOST}-{me.thread:x}-{me.pid}" if me.thread else f"{HOST}--{me.pid}"
        if not mine:
            assert os.path.basename(unique_name) == name
            return
        assert f"{os.path.basename(unique_name)}.".startswith(f"{name}.")
        if self.lock_classes == [LinkFileLock]:
            assert os.path.samefile(unique_name, handle.lock_file)
        elif self.lock_classes == [MkdirFileLock]:
            assert os.path.isfile(unique_name)

    # Deaths

    @precondition(lambda self: "process" in self.actors)
    @rule(killed=st.booleans())
    def end_the_process(self, killed):
        """What it owns is stale if it was killed, else released."""
        process = self.actors.pop("process")
        if killed:
            self.nursery.kill()
        else:
            self.nursery.end()
        for place in self.places_of(process):
            if killed:
                place.claim.alive = False
            else:
                place.claim = None

    def places_of(self, process):
        """The paths that the process has locked."""
        owners = (process.owner(True), process.owner(False))
        return [
            place for place in self.places.values() if place.claim and place.claim.owner in owners
        ]

    @rule(who=st.sampled_from(["first", "second"]))
    def end_the_thread(self, who):
        """What it owns stays its own."""
        self.ask_everywhere(self.actors[who], "i_am_locking")  # lets go of what was broken
        self.actors[who].end()
        self.actors[who] = Thread(self.shelf, self.actors["main"].owner(False))

    @rule(who=ACTORS, handle=handles, takes=st.booleans())
    def fork(self, who, handle, takes):
        """The forked child owns nothing; it may take a lock, and dies."""
        self.fork_child(who, handle, takes)

    def fork_child(self, who, handle, takes):
        actor = self.actor(who)
        calls, expected = [], []
        for each in self.live:
            place = each.place
            calls += [(each.number, method) for method in ("i_am_locking", "release", "owner")]
            expected += [False, place.refusal(), place.claim and place.claim.told()]
        if takes:
            calls.append((handle.number, "acquire", 0))
            expected.append("AlreadyLocked" if handle.place.is_locked else None)
        pid, answers = actor.do("fork", *calls)
        assert answers == expected
        if takes and expected[-1] is None:
            owner = Owner(pid, actor.owner(handle.threaded).thread)
            self.sweep(handle.place)
            handle.place.claim = Claim(owner, alive=False)

    # What comes from elsewhere

    @precondition(lambda self: any(place.claim is None for place in self.places.values()))
    @rule(name=PATHS, kind=st.sampled_from(["file", "link", "directory", "full directory", "dead"]))
    def plant(self, name, kind):
        """Another program makes the lock file, or a killed owner has left it."""
        place = self.places[name]
        if place.claim is not None:
            return
        lock_file = f"{place.path}.lock"
        place.claim = Claim(None, alive=None)
        if self.in_database:
            self.plant_row(name)
        elif kind == "file":
            with open(lock_file, "x") as file:
                file.write("4711\n")
        elif kind == "link":
            os.symlink("nowhere", lock_file)
        elif kind == "dead":
            self.made += 1
            plant(place.path, f"{DEAD}.{self.made}")
            place.claim = Claim(Owner(3999999, 0x7F00DEADBEEF), alive=False)
        else:
            os.mkdir(lock_file)
            if kind == "full directory":
                os.mkdir(os.path.join(lock_file, "more"))
                place.claim.unbreakable = True

    def plant_row(self, name):
        with SQLiteFileLock(self.inside("real", "another")):
            pass  # makes the table
        self.made += 1  # no two claims have one beacon
        row = (os.fsencode(f"{name}.lock"), b"somebody", 0, self.made)
        self.execute(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?)", row)

    @precondition(lambda self: any(place.claim for place in self.places.values()))
    @rule(name=PATHS)
    def remove(self, name):
        """The lock file is removed behind its owner's back."""
        place = self.places[name]
        if place.claim is not None and place.claim.can_be_tidied:
            self.remove_lock_file(place)
            place.lose()

    def remove_lock_file(self, place):
        remove_lock_file(self.lock_classes[0](place.path))

    def execute(self, statement, values=()):
        """Tell the database something, or ask it."""
        return execute(self.inside("real", ".lockfile.sqlite3"), statement, values)

    # Waiting

    @precondition(lambda self: any(place.is_locked for place in self.places.values()))
    @rule(handle=handles, who=ACTORS, how=st.sampled_from(["release", "break", "remove", "kill"]))
    def wait(self, handle, who, how):
        """Whoever waits for a lock gets it when it becomes free, whatever frees it."""
        place, waiter = handle.place, self.actor(who)
        me = waiter.owner(handle.threaded)
        free = self.way_to_free(place, who, how)
        if who == "main" or not place.is_locked or place.belongs_to(me) or free is None:
            return
        wait = waiter.begin("call", handle.number, "acquire", PATIENCE)
        assert free() is None
        assert wait() is None
        self.waited.pop((handle, waiter), None)
        self.take(handle, waiter)

    def way_to_free(self, place, who, how):
        """How this claim can be made to end while `who` waits; None: not so."""
        claim = place.claim
        if claim is None:
            return None
        lock_class = self.lock_classes[0].__name__
        others = [actor for name, actor in self.actors.items() if name not in (who, "watcher")]
        owners = {
            actor.owner(threaded): (actor, threaded)
            for actor in others
            for threaded in (True, False)
        }
        if how == "release" and claim.owner in owners:
            actor, threaded = owners[claim.owner]
            return functools.partial(actor.do, "new", lock_class, place.path, threaded, "release")
        if how == "break" and not claim.unbreakable:
            return functools.partial(self.break_it, place)
        if how == "remove" and claim.can_be_tidied and not self.in_database:
            return functools.partial(self.remove, os.path.basename(place.path))
        if how == "kill" and who != "process" and claim.owner and "process" in self.actors:
            process = self.actors["process"]
            if claim.owner in (process.owner(True), process.owner(False)):
                return functools.partial(self.end_the_process, killed=True)
        return None

    def break_it(self, place):
        main = self.actors["main"]
        place.lose()
        return main.do("new", self.lock_classes[0].__name__, place.path, True, "break_lock")

    # After each step, and at the end

    @invariant()
    def all_see_what_the_model_knows(self):
        """Everybody, or only somebody who never owns."""
        for name, actor in self.actors.items():
            if name == "watcher" or getattr(self, "attentive", False):
                self.check(actor, self.live)

    def ask_everywhere(self, actor, method):
        """By all of the names that an owner may have locked a path by."""
        for lock_class in self.lock_classes:
            for directory in ("real", "link"):
                for name in self.places:
                    path = self.inside(directory, name)
                    for threaded in (True, False):
                        actor.do("new", lock_class.__name__, path, threaded, method)

    def teardown(self):
        """When everybody has released, nothing is left."""
        if sys.exception() is not None:
            self.give_up()
            return
        for actor in self.actors.values():
            self.ask_everywhere(actor, "release")
        self.free_what_nobody_can_release()
        for keeper in self.shelf_keepers():
            keeper.do("clear")
        self.end_threads()
        assert names(self.inside("real")) == []
        if os.path.exists(self.inside("real", ".lockfile.sqlite3")):
            assert self.execute(f"SELECT * FROM {TABLE}") == []
        assert own_files() == self.open_before
        shutil.rmtree(self.directory)

    def free_what_nobody_can_release(self):
        """Of threads that have ended, of dead processes, of other programs."""
        lock_class = self.lock_classes[0]
        for place in self.places.values():
            if place.claim is not None and place.claim.unbreakable:
                self.remove_lock_file(place)
            lock_class(place.path).break_lock()
        if not self.in_database:
            path = self.inside("real", "one")
            plant(path, f"{DEAD}.{self.made + 1}")
            with lock_class(path):
                pass  # who breaks a stale lock sweeps the directory

    def give_up(self):
        """Cut short, or failed: nobody owns anything that the next sequence could meet."""
        if "process" in self.actors:
            self.nursery.kill()
        for name in ("main", "first", "second"):
            with contextlib.suppress(Exception):
                self.ask_everywhere(self.actors[name], "release")
        for place in self.places.values():
            with contextlib.suppress(lockfile.Error):
                self.lock_classes[0](place.path).break_lock()
        self.end_threads()
        shutil.rmtree(self.directory)

    def end_threads(self):
        for name in ("first", "second", "watcher"):
            self.actors[name].end()


def own_files():
    """What this process has open, but for watches, kept for later, and the pipes to the other."""
    kept = ("anon_inode:inotify", "pipe:")
    return sorted(name for name in open_files() if not name.startswith(kept))


@pytest.mark.parametrize(
    "lock_classes",
    [*([lock_class] for lock_class in LOCK_CLASSES), FILE_LOCK_CLASSES],
    ids=lambda classes: "-".join(lock_class.__name__ for lock_class in classes),
)
def test_any_sequence_of_operations(lock_classes, tmp_path):
    """Each answer, and what everybody sees after it, is what the model says."""
    with contextlib.closing(Nursery()) as nursery:
        machine = functools.partial(Locks, lock_classes, nursery, tmp_path)
        run_state_machine_as_test(machine, settings=SETTINGS)
