"""The processes and threads that the torture campaign torments.

An actor is a thread that locks, round after round, until told to stop. It notes each thing that
must not be as a defect; nobody tells it when it will be stopped, killed or interrupted.

Ctrl-C reaches a process's main actor only while that is `armed`: from before a method of a lock is
called until after it has returned, or around a whole `with`. One KeyboardInterrupt disarms. So none
comes between an acquire() that is known to have succeeded and the mark, and the marks stay true.
What the interrupted call had done by then, only the lock can say: see settle().
"""

import contextlib
import ctypes
import faulthandler
import functools
import math
import os
import random
import signal
import threading
import time
import traceback
import warnings

import lockfile
import support
from campaigns.witness import THREADS, WAITING, WORKERS, CommonWitness, SharedWitness, Witness
from support.lock_classes import kind_of
from support.protocol import UNIQUE_NAME

LEFT_WHILE_INSIDE = 7  # a process's exit code
BREAK_AFTER = 0.3


class World:
    """What all workers of one phase share."""

    def __init__(self, lock_class, directory, places, record, scratch, for_ever):
        self.lock_class = lock_class
        self.paths = [os.path.join(directory, f"README{place}") for place in range(places)]
        self.record = record
        self.witness = Witness(os.path.join(scratch, "witness"))
        self.common_witness = CommonWitness(os.path.join(scratch, "witness"))
        self.shared_witness = SharedWitness(os.path.join(scratch, "witness"))
        # Does who owns get it once more?
        self.enters_twice = not kind_of(lock_class).is_pid_file
        # The longest timeout; None: for ever, where that does not mean not to wait.
        self.for_ever = for_ever if for_ever or self.enters_twice else math.inf
        self.actor = None  # the main thread's


class Actor:
    """A thread, which is an owner of its own, or a process of one thread."""

    child_rounds = 30

    def __init__(self, world, number, locks, chance, main=False):
        self.world, self.record, self.witness = world, world.record, world.witness
        self.number, self.slot = number, world.record.slot(number)
        self.locks = locks  # for each place, the objects to use
        self.chance = chance
        self.is_main, self.armed = main, False
        self.child = None

    def run(self, rounds=None):
        """Round after round. What goes wrong ends the phase."""
        try:
            while not self.record.stopped and rounds != 0:
                self.slot.beat()
                place = self.chance.randrange(len(self.locks))
                self.round(self.chance.choice(self.locks[place]), place)
                self.slot.put("state", 0)
                rounds = rounds and rounds - 1
            self.reap()
        except BaseException:
            self.defect(traceback.format_exc())
            self.record.stop()
        self.slot.put("beat", 0)

    def defect(self, text):
        self.record.defect("defect", text)

    def demand(self, condition, text):
        if not condition:
            self.defect(text)

    # Ctrl-C

    def interrupted(self):
        """The handler of SIGINT."""
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt

    def interruptible(self, call, *arguments):
        """Call it. False: a KeyboardInterrupt has come out of it, or right before or after it."""
        try:
            try:
                self.armed = self.is_main
                call(*arguments)
            finally:
                self.armed = False
        except KeyboardInterrupt:
            self.slot.add("interrupts")
            return False
        return True

    def settle(self, lock, place):
        """After a KeyboardInterrupt: whatever the lock says of itself, must be so."""
        if lock.i_am_locking():
            if self.mark(place):
                self.witness.unmark(place)
            lock.release()
        self.demand(not lock.i_am_locking(), "locking after a release")
        self.demand_not_owned(lock)

    def demand_not_owned(self, lock):
        try:
            lock.release()
        except (lockfile.NotLocked, lockfile.NotMyLock):
            return
        self.defect("released what it did not own")

    # What it does with a lock

    def round(self, lock, place):
        kinds, weights = zip(*self.kinds, strict=True)
        [kind] = self.chance.choices(kinds, weights)
        kind(self, lock, place)

    def acquire(self, lock, place):
        """True: owned, and known to be."""
        timeout = self.chance.choice([self.world.for_ever, self.world.for_ever, 0, 0.001, 0.01])
        self.slot.put("state", WAITING + place)
        try:
            if self.interruptible(self.acquiring(lock), timeout):
                return True
        except (lockfile.AlreadyLocked, lockfile.LockTimeout):
            self.slot.timed_out(place)
            self.demand(timeout is not None, "a timeout without a timeout")
            return False
        self.settle(lock, place)
        return False

    def acquiring(self, lock):
        return lock.acquire

    def release(self, lock, place):
        if not self.interruptible(lock.release):
            self.settle(lock, place)

    def plain(self, lock, place):
        if self.acquire(lock, place):
            self.inside(lock, place)
            self.release(lock, place)

    def twice(self, lock, place):
        """Acquired twice, by two objects if there are two: one release() unlocks."""
        if self.acquire(lock, place):
            with self.no_second_time():
                self.chance.choice(self.locks[place]).acquire(timeout=0)
            self.inside(lock, place)
            self.chance.choice(self.locks[place]).release()
            self.demand_not_owned(lock)

    @contextlib.contextmanager
    def no_second_time(self):
        """What is in it acquires what is owned already: no AlreadyLocked, or nothing else."""
        refused = False
        try:
            yield
        except (lockfile.AlreadyLocked, lockfile.LockTimeout):
            refused = True
        self.demand(refused != self.world.enters_twice, f"owned twice: {not refused}")

    def inner(self, place):
        """What the inner of two blocks is of."""
        return self.chance.choice(self.locks[place])

    def block(self, lock, place):
        """Nested `with` blocks, interrupted before, between and after what is inside."""

        def blocks():
            with lock:
                other = self.inner(place)
                with (
                    self.no_second_time(),
                    other if self.world.enters_twice else other.acquire(timeout=0),
                ):
                    pass
                self.armed = False
                self.inside(lock, place)
                self.armed = self.is_main

        self.slot.put("state", WAITING + place)
        lock.timeout = self.world.for_ever
        try:
            if self.interruptible(blocks):
                self.demand_not_owned(lock)
            else:
                self.settle(lock, place)
        except lockfile.LockTimeout:
            self.slot.timed_out(place)

    def look(self, lock, place):
        """From outside. All answers are right, for they may be old; none of them may fail."""
        lock.is_locked()
        owner = lock.owner()
        self.demand(
            owner is None or owner.pid != os.getpid() or owner.thread != threading.get_ident(),
            f"owned by itself, it is told: {owner}",
        )
        self.demand(not lock.i_am_locking(), "locking without an acquire()")

    kinds = ((plain, 10), (twice, 1), (block, 4), (look, 1))

    # While it owns

    def mark(self, place):
        """The one place where an overlap is found."""
        if self.witness.mark(place):
            return True
        self.record.defect("overlap", f"beside {self.witness.other(place)} at place {place}")
        return False

    def inside(self, lock, place):
        """It owns: what it does until it releases."""
        if not self.mark(place):
            return
        self.slot.acquired(place)
        self.slot.beat()
        chance = self.chance.random()
        self.demand(lock.i_am_locking(), "not locking after an acquire()")
        if chance < 0.3:
            time.sleep(chance * 0.006)
        elif chance < 0.33:
            self.fork(lock, place, waits=True)
        elif chance < 0.34:
            self.fork(lock, place, waits=False)
        elif chance < 0.341:
            self.slot.put("beat", 0)
            os._exit(LEFT_WHILE_INSIDE)
        self.demand(lock.i_am_locking(), "not locking before the release()")
        self.slot.put("state", 0)
        self.witness.unmark(place)

    # Forks

    def fork(self, lock, place, waits):
        """While it owns. The child tries to; then it ends while we wait, or becomes a worker."""
        self.reap(os.WNOHANG)
        if self.child is not None or self.number >= WORKERS * THREADS:
            return  # one at a time, since each has numbers of its own; and a child has none
        self.slot.add("forks")
        self.child = os.fork()
        if self.child == 0:
            self.be_child(lock, place, 0 if waits else self.child_rounds)
        if waits:
            self.reap()

    def be_child(self, lock, place, rounds):
        code = 1
        try:
            self.world.witness.reset()
            self.world.common_witness.reset()
            self.world.shared_witness.reset()
            actor = type(self)(
                self.world,
                self.number + WORKERS * THREADS,
                [[self.world.lock_class(path)] for path in self.world.paths],
                random.Random(self.chance.random()),
                main=True,
            )
            self.world.actor = actor
            actor.try_parents_lock(lock, place)
            actor.run(rounds)
            code = 0
        except BaseException:
            self.defect(traceback.format_exc())
        finally:
            os._exit(code)

    def try_parents_lock(self, lock, place):
        """If it gets in, its parent must be dead by then: the witness knows."""
        self.demand(not lock.i_am_locking(), "a child owns its parent's lock")
        self.demand_not_owned(lock)
        try:
            self.acquiring(lock)(timeout=0)
        except lockfile.AlreadyLocked:
            return
        if self.mark(place):
            self.witness.unmark(place)
        lock.release()

    def reap(self, options=0):
        """Take leave of the child. (One that works is not waited for inside: it wants the lock.)"""
        if self.child is not None:
            process, status = os.waitpid(self.child, options)
            if process != 0:
                self.child = None
                code = os.waitstatus_to_exitcode(status)
                self.demand(code in (0, LEFT_WHILE_INSIDE), f"a child ended with {code}")


class Sharer(Actor):
    """Now a reader, now a writer, by the same objects."""

    def __init__(self, world, number, locks, chance, main=False):
        super().__init__(world, number, locks, chance, main)
        self.witness = world.shared_witness
        self.reads = False

    def round(self, lock, place):
        self.reads = self.chance.random() < 0.8
        super().round(lock, place)

    def acquiring(self, lock):
        return functools.partial(lock.acquire, shared=self.reads)

    def mark(self, place):
        together = self.reads and self.witness.reading[place] > 0
        if not self.witness.mark(place, self.reads):
            self.record.defect(
                "overlap",
                f"{'reads' if self.reads else 'writes'} beside {self.witness.other(place)}"
                f" at place {place}",
            )
            return False
        if self.reads:
            self.slot.add("read")
        if together:
            self.slot.add("read together")
        return True

    def plain(self, lock, place):
        if self.acquire(lock, place):
            if self.reads:
                self.upgrade(lock)
            elif self.chance.random() < 0.3:
                self.downgrade(lock, place)
            self.inside(lock, place)
            self.release(lock, place)

    def upgrade(self, lock):
        """Is refused at once, whatever the timeout."""
        try:
            lock.acquire(timeout=self.chance.choice([0, 1000]), shared=False)
        except lockfile.LockFailed:
            return
        self.defect("a reader has become a writer")

    def downgrade(self, lock, place):
        """From before it on others may read beside it; the mark says so first."""
        if self.mark(place):
            self.witness.share(place)
            self.slot.add("downgrades")
            lock.downgrade()
            self.demand(lock.i_am_locking(), "not locking after a downgrade")
            self.witness.unmark(place)
            self.reads = True

    def block(self, lock, place):
        """With an object of its own, since what a block asks for is the object's to say."""
        super().block(self.made(lock.threaded, place, self.reads), place)

    def made(self, threaded, place, shared):
        return self.world.lock_class(self.world.paths[place], threaded, shared=shared)

    def inner(self, place):
        """Who has it alone may share it with itself."""
        return self.made(self.locks[place][0].threaded, place, shared=True)

    def twice(self, lock, place):
        """Who has it, has it: to share it, too."""
        if self.acquire(lock, place):
            self.chance.choice(self.locks[place]).acquire(timeout=0, shared=True)
            self.inside(lock, place)
            self.chance.choice(self.locks[place]).release()
            self.demand_not_owned(lock)

    kinds = ((plain, 10), (twice, 1), (block, 4), (Actor.look, 1))


class CommonActor(Actor):
    """One of several threads that are one owner: each has blocks of its own."""

    def __init__(self, world, number, locks, chance, main=False):
        super().__init__(world, number, locks, chance)  # no Ctrl-C: others may be inside
        self.witness = world.common_witness

    def block(self, lock, place):
        self.slot.put("state", WAITING + place)
        lock.timeout = self.world.for_ever
        try:
            with lock:
                with self.chance.choice(self.locks[place]):
                    self.inside(lock, place)
                self.demand(lock.i_am_locking(), "an inner block has released")
        except lockfile.LockTimeout:
            self.slot.timed_out(place)

    kinds = ((block, 1),)


def is_young(start):
    """Is a lock that was wanted since then younger than any that may be broken at the place 0?"""
    return time.monotonic_ns() - start < BREAK_AFTER / 2 * 1e9


class Breaker(Actor):
    """It breaks locks, so others may be inside beside it. All else must hold.

    At the place 0 locks are broken only after a timeout. There, of all who wait in vain and break
    at once, none breaks a lock that another has just got. (Half of the time is what a lock must
    have been seen for: a waiter that is kept from its first look sees it for less than all.)
    """

    def round(self, lock, place):
        start = time.monotonic_ns()
        if self.acquire_or_break(lock, place):
            self.slot.beat()
            marked = self.mark_young(place, start)
            self.slot.acquired(place)
            chance = self.chance.random()
            if chance < 0.1:
                time.sleep(self.chance.random() * 2 * BREAK_AFTER)
            elif chance < 0.6:
                time.sleep(self.chance.random() * 0.003)
            elif chance < 0.61:
                self.fork(lock, place, waits=False)
            self.slot.put("state", 0)
            if marked:
                self.witness.unmark(place)
            self.release_or_find_broken(lock, place, start)

    def mark_young(self, place, start):
        """Another may be in; at the place 0 only if one of the two locks was old enough."""
        before = self.record.since(place)
        if self.witness.mark(place):
            self.record.note_since(place, start)
            return True
        same = self.record.since(place) == before
        if place == 0 and same and is_young(before) and is_young(start):
            self.record.defect("overlap", f"young beside {self.witness.other(place)}")
        return False

    def acquire_or_break(self, lock, place):
        timeout = self.chance.choice([0, BREAK_AFTER, BREAK_AFTER, self.world.for_ever])
        try:
            if self.interruptible(lock.acquire, timeout):
                return True
            self.settle(lock, place)
        except lockfile.AlreadyLocked:
            self.slot.timed_out(place)
            if place > 0 and self.chance.random() < 0.3:
                self.break_lock(lock)
        except lockfile.LockTimeout:
            self.slot.timed_out(place)
            self.break_lock(lock)
        return False

    def break_lock(self, lock):
        self.slot.add("breaks")
        self.interruptible(lock.break_lock)

    def release_or_find_broken(self, lock, place, start):
        try:
            if not self.interruptible(lock.release):
                self.settle(lock, place)
        except (lockfile.NotLocked, lockfile.NotMyLock):
            self.slot.add("broken")
            self.demand(place > 0 or not is_young(start), "broken too early")
        self.demand(not lock.i_am_locking(), "locking after a release")

    def settle(self, lock, place):
        with contextlib.suppress(lockfile.NotLocked, lockfile.NotMyLock):
            lock.release()
        self.demand(not lock.i_am_locking(), "locking after a release")

    def try_parents_lock(self, lock, place):
        self.demand(not lock.i_am_locking(), "a child owns its parent's lock")
        self.demand_not_owned(lock)


# Kinds of processes: for each thread an actor, and whether it is an owner of its own.

THREE_THREADS = [(Actor, True), (Actor, True), (Actor, True)]
MIXED_THREADS = [(Actor, False), (Actor, True), (Actor, True)]
ONE_THREAD = [(Actor, True)]
ONE_PROCESS = [(Actor, False)]
COMMON_THREADS = [(CommonActor, False), (CommonActor, False), (CommonActor, False)]
SHARERS = [(Sharer, True), (Sharer, True), (Sharer, True)]
ONE_SHARER = [(Sharer, False)]
BREAKERS = [(Breaker, True), (Breaker, True)]
ONE_BREAKER = [(Breaker, False)]


def make_actors(world, kind, worker, chance):
    """The actors of one process. Each place has a lock object for all threads, and one for each."""
    common = {
        threaded: [world.lock_class(path, threaded) for path in world.paths]
        for threaded in (True, False)
    }
    for thread, (actor, threaded) in enumerate(kind):
        locks = [
            [shared, world.lock_class(path, threaded)]
            for shared, path in zip(common[threaded], world.paths, strict=True)
        ]
        number = worker * THREADS + thread
        yield actor(world, number, locks, random.Random(chance.random()), main=thread == 0)


def descriptors():
    """What this process has open, but for what is kept for later."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in found if "inotify" not in name and not support.is_databases(name)]


def files_of_this_process(world):
    """What is named after it. (What was when it began, a dead process of that number has left.)"""
    matches = map(UNIQUE_NAME.fullmatch, os.listdir(os.path.dirname(world.paths[0])))
    return {match[0] for match in matches if match and int(match["pid"]) == os.getpid()}


def die_with_parent():
    """Let no worker outlive the campaign, however that ends."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)


def work(world, kind, worker, chance, dumps):
    """A worker's life; returns its exit code. It has been forked by a process of one thread."""
    actors = list(make_actors(world, kind, worker, chance))
    world.actor = actors[0]
    signal.signal(signal.SIGINT, lambda *_: world.actor.interrupted())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    die_with_parent()
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads: on purpose
    faulthandler.register(signal.SIGUSR1, file=dumps, all_threads=True)
    before, namesakes = descriptors(), files_of_this_process(world)
    threads = [threading.Thread(target=actor.run) for actor in actors[1:]]
    for thread in threads:
        thread.start()
    actors[0].run()
    for thread in threads:
        thread.join()
    lost = descriptors()
    for name in before:
        lost.remove(name)
    if lost:
        world.record.defect("defect", f"descriptors are left: {lost}")
    left = files_of_this_process(world) - namesakes
    # A first reader's file stays for those who read on, and goes with the last of them.
    if left and not isinstance(actors[0], Sharer):
        world.record.defect("defect", f"files are left: {left}")
    return 0
