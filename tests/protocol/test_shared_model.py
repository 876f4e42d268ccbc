"""Readers and writers, in any order, against a model of what a shared lock is.

The model knows for each path who has it, and whether that one reads. LOCKFILE_FUZZ_EXAMPLES=2000
tries so many sequences with each class instead of a few.
"""

import contextlib
import functools
import itertools
import os
import tempfile

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from protocol.test_model import SETTINGS, SHORT
from support import PATIENCE
from support.actors import Here, Nursery, Shelf, Thread
from support.leftovers import left_behind
from support.lock_classes import kind_of
from support.protocol import HOST, swept_clean

ACTORS = st.sampled_from(["main", "first", "second", "process"])
PATHS = st.sampled_from(["one", "two"])
READS, WRITES = True, False


class Place:
    """A path: who has it, and whether by reading; broken and dead ones are not there any more."""

    def __init__(self, path, keeps_dead):
        self.path = path
        self.keeps_dead = keeps_dead  # the rows of dead readers, until somebody has it alone
        self.holders = {}
        self.numbers = {}  # of the lock objects, by whether a thread owns, and whether it reads
        self.dead = None  # whether somebody was killed who had it, and has read
        self.made = 0  # how many locks there have been: those who share have one together

    def admits(self, reads):
        return not self.holders or (reads and all(self.holders.values()))

    def take(self, me, reads):
        joins_dead = self.keeps_dead and reads and self.dead is READS
        self.made += not self.holders
        self.dead = self.dead if joins_dead else None
        self.holders[me] = reads

    def lose(self):
        self.holders.clear()
        self.dead = None

    def refusal(self):
        return "NotMyLock" if self.holders else "NotLocked"


class Readers(RuleBasedStateMachine):
    def __init__(self, lock_class, nursery, directory):
        super().__init__()
        self.lock_class, self.nursery = lock_class, nursery
        self.directory = tempfile.mkdtemp(dir=directory)
        keeps_dead = kind_of(lock_class).is_row
        self.places = {
            name: Place(os.path.join(self.directory, name), keeps_dead) for name in ("one", "two")
        }
        self.waited = {}  # which lock somebody waited for in vain, by whom and by which object
        self.shelf = Shelf()
        main = Here(self.shelf)
        self.actors = {"main": main}
        for name in ("first", "second"):
            self.actors[name] = Thread(self.shelf, main.owner(False))
        numbers = itertools.count()
        for place in self.places.values():
            for threaded, reads in itertools.product([True, False], [READS, WRITES]):
                number = place.numbers[threaded, reads] = next(numbers)
                self.shelf.put(number, lock_class(place.path, threaded, shared=reads))

    def actor(self, name):
        if name not in self.actors:
            process = self.actors[name] = self.nursery.process()
            for place in self.places.values():
                for number in place.numbers.values():
                    process.do("put", number, self.shelf.pickled(number))
        return self.actors[name]

    def call(self, who, place, threaded, reads, *call):
        return self.actor(who).do("call", place.numbers[threaded, reads], *call)

    def acquired(self, place, who, threaded, reads, timeout):
        """What acquire() raises, or None."""
        me, waiter = self.actor(who).owner(threaded), (who, place.numbers[threaded, reads])
        if place.holders.get(me) is READS and reads is WRITES:
            return "LockFailed"
        self.waited.pop(waiter, None)
        if me in place.holders:
            return None
        if place.admits(reads):
            place.take(me, reads)
            return None
        if timeout > 0:
            self.waited[waiter] = place.made
        return "LockTimeout" if timeout > 0 else "AlreadyLocked"

    @rule(
        name=PATHS,
        who=ACTORS,
        threaded=st.booleans(),
        reads=st.booleans(),
        timeout=st.sampled_from([0, 0, SHORT]),
    )
    def acquire(self, name, who, threaded, reads, timeout):
        place = self.places[name]
        expected = self.acquired(place, who, threaded, reads, timeout)
        answer = self.call(who, place, threaded, reads, "acquire", timeout)
        assert (answer and answer.partition(":")[0]) == expected

    @rule(name=PATHS, who=ACTORS, threaded=st.booleans(), reads=st.booleans())
    def release(self, name, who, threaded, reads):
        """By either object: what counts is what the owner has."""
        place = self.places[name]
        me = self.actor(who).owner(threaded)
        expected = None if me in place.holders else place.refusal()
        assert self.call(who, place, threaded, reads, "release") == expected
        place.holders.pop(me, None)

    @rule(name=PATHS, who=ACTORS, threaded=st.booleans(), reads=st.booleans())
    def downgrade(self, name, who, threaded, reads):
        place = self.places[name]
        me = self.actor(who).owner(threaded)
        expected = None if me in place.holders else place.refusal()
        assert self.call(who, place, threaded, reads, "downgrade") == expected
        if me in place.holders:
            place.holders[me] = READS

    @rule(name=PATHS, who=ACTORS, threaded=st.booleans(), reads=st.booleans())
    def break_lock(self, name, who, threaded, reads):
        """Of all who have it; after a wait in vain, if it is the one that was waited for."""
        place = self.places[name]
        waiter = (who, place.numbers[threaded, reads])
        condemned = self.waited.get(waiter, place.made)
        if condemned != place.made and place.keeps_dead and place.dead is READS:
            return  # it may be the same lock still, if the row of a dead reader was there
        self.waited.pop(waiter, None)
        assert self.call(who, place, threaded, reads, "break_lock") is None
        if condemned == place.made:
            place.lose()

    @precondition(lambda self: "process" in self.actors)
    @rule(killed=st.booleans())
    def end_the_process(self, killed):
        process = self.actors.pop("process")
        self.waited = {key: made for key, made in self.waited.items() if key[0] != "process"}
        self.nursery.kill() if killed else self.nursery.end()
        for place in self.places.values():
            for threaded in (True, False):
                had = place.holders.pop(process.owner(threaded), None)
                if had is not None and killed:
                    place.dead = had

    @rule(name=PATHS, who=ACTORS, threaded=st.booleans(), reads=st.booleans())
    def fork(self, name, who, threaded, reads):
        """The child has nothing, and comes in or not as anybody; then it dies."""
        place = self.places[name]
        number = place.numbers[threaded, reads]
        admitted = place.admits(reads)
        _, answers = self.actor(who).do(
            "fork", (number, "i_am_locking"), (number, "release"), (number, "acquire", 0)
        )
        assert answers == [False, place.refusal(), None if admitted else "AlreadyLocked"]
        if admitted:
            place.take("child", reads)
            del place.holders["child"]
            place.dead = reads

    @rule(name=PATHS, who=st.sampled_from(["first", "second", "process"]), reads=st.booleans())
    def wait(self, name, who, reads):
        """Whoever waits comes in when the last one of those has left who are in the way."""
        place = self.places[name]
        waiter = self.actor(who)
        me = waiter.owner(True)
        owners = {
            actor.owner(threaded): (other, threaded)
            for other, actor in self.actors.items()
            for threaded in (True, False)
        }
        if me in place.holders or any(
            owners[holder] == (who, False) or owners[holder][0] == who for holder in place.holders
        ):
            return  # it cannot both wait and release
        wait = waiter.begin("call", place.numbers[True, reads], "acquire", PATIENCE)
        if not place.admits(reads):
            for holder in list(place.holders):
                other, threaded = owners[holder]
                assert self.call(other, place, threaded, reads, "release") is None
                del place.holders[holder]
        assert wait() is None
        self.waited.pop((who, place.numbers[True, reads]), None)
        place.take(me, reads)

    @invariant()
    def all_see_what_the_model_knows(self):
        for (who, actor), place in itertools.product(self.actors.items(), self.places.values()):
            for threaded in (True, False):
                mine = actor.owner(threaded) in place.holders
                assert self.call(who, place, threaded, READS, "i_am_locking") is mine
            assert self.call(who, place, True, WRITES, "is_locked") is bool(place.holders)
            if place.holders or place.dead is None:
                told = self.call(who, place, True, READS, "owners")
                assert sorted(map(str, map(list, told))) == sorted(
                    str([HOST, holder.pid, holder.thread, True]) for holder in place.holders
                )

    def teardown(self):
        for place in self.places.values():
            for _ in range(2):  # the first one may be for what was waited for in vain
                self.call("main", place, True, READS, "break_lock")
            for (who, actor), threaded in itertools.product(self.actors.items(), (True, False)):
                assert actor and self.call(who, place, threaded, READS, "i_am_locking") is False
        if "process" in self.actors:
            self.nursery.end()
        for name in ("first", "second"):
            self.actors[name].end()
        assert swept_clean(self.lock_class, os.path.join(self.directory, "one"))
        if kind_of(self.lock_class).is_row:
            assert not left_behind(self.directory)
        self.shelf.clear()


def test_any_sequence_of_operations_of_readers_and_writers(shared_class, tmp_path):
    with contextlib.closing(Nursery()) as nursery:
        machine = functools.partial(Readers, shared_class, nursery, tmp_path)
        run_state_machine_as_test(machine, settings=SETTINGS)
