"""The detector of the torture campaign, and what its processes tell each other.

Each place (a path that is locked) has a byte of a witness file. Whoever owns the place's lock marks
it right after acquire() and takes the mark off right before release(). The mark is a POSIX lock on
the byte, which is never waited for: refused means that another is in, an overlap.

It misses none. Of two who are in at once, each wants the byte, and the kernel gives it to one. A
POSIX lock belongs to a process, so the threads of one process meet at a mutex first, which is not
waited for either. Outside of the marks are only the instructions between acquire() and the mark,
and between the mark's end and release(); who loses the lock there is told so by its own
release(), which is a defect, too.

It cries no wolf, for an owner's mark ends before its lock does. For the living that is the order of
the calls. A process that dies loses its POSIX locks as its descriptors are closed, one after the
other; what its open files keep locked (the beacons: flock, open-file-description locks) goes with
the open files, which the kernel drops only when all descriptors are closed. And those are closed
when the last thread has come to its end, so nobody is inside any more. So whoever is granted a dead
owner's beacon, or comes later, finds the byte free. try_out() shows both on the running kernel.

A process loses its marks when it closes any descriptor of the witness file. So that is opened once
for each program, and inherited; a forked child inherits no mark.

This module knows no lock: the workers of the classic package use it as well.
"""

import fcntl
import mmap
import os
import signal
import struct
import threading
import time

PLACES = 4
WORKERS = 8
THREADS = 4

# What each thread counts. Only the thread itself writes its numbers.
COUNTS = (
    "acquired",
    "handed on",  # acquired after somebody else
    "timeouts",
    "interrupts",
    "forks",
    "breaks",
    "broken",  # releases that found the lock broken
    "read",  # acquired to share it
    "read together",  # while another of its process did, too
    "downgrades",
)
FIELDS = (
    *COUNTS,
    "beat",  # when it last made progress; 0: it has ended
    "state",  # 0, or 1 + place: in acquire(), or 101 + place: in
    *(f"acquired {place}" for place in range(PLACES)),
    *(f"timeouts {place}" for place in range(PLACES)),
)
NUMBER = {field: number for number, field in enumerate(FIELDS)}
WAITING, INSIDE = 1, 101

# Of each place: who was in last, and since when, in nanoseconds.
STOP, LAST, SINCE, FIRST_SLOT = 0, 1, 1 + PLACES, 1 + 2 * PLACES
SLOTS = 2 * WORKERS * THREADS  # each thread's, and its child's


class Witness:
    """Marks of owners of which each thread is one."""

    def __init__(self, file):
        self.descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.reset()

    def reset(self):
        """Nothing is marked: a forked child begins so."""
        self.threads = [threading.Lock() for _ in range(PLACES)]

    def mark(self, place):
        """False: another is in."""
        if not self.threads[place].acquire(blocking=False):
            return False
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            self.threads[place].release()
            return False
        return True

    def unmark(self, place):
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, place)
        self.threads[place].release()

    def other(self, place):
        """Who has marked it, as far as other processes go."""
        query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
        kind, _, _, _, process = struct.unpack(
            "hhqqi4x", fcntl.fcntl(self.descriptor, fcntl.F_GETLK, query)
        )
        return "another thread" if kind == fcntl.F_UNLCK else f"process {process}"


class CommonWitness(Witness):
    """Marks of a process whose threads are one owner: the first marks, the last unmarks."""

    def reset(self):
        super().reset()
        self.mutex = threading.Lock()
        self.inside = [0] * PLACES

    def mark(self, place):
        with self.mutex:
            granted = self.inside[place] > 0 or super().mark(place)
            self.inside[place] += granted
            return granted

    def unmark(self, place):
        with self.mutex:
            self.inside[place] -= 1
            if self.inside[place] == 0:
                super().unmark(place)


class SharedWitness(Witness):
    """Marks of those who read, too: many of them, or one who writes."""

    def reset(self):
        self.mutex = threading.Lock()
        self.reading = [0] * PLACES
        self.is_written = [False] * PLACES

    def mark(self, place, reads=False):
        with self.mutex:
            if self.is_written[place] or (self.reading[place] > 0 and not reads):
                return False
            if self.reading[place] == 0 and not self.ask(place, reads):
                return False
            self.reading[place] += reads
            self.is_written[place] = not reads
            return True

    def ask(self, place, reads):
        how = fcntl.LOCK_SH if reads else fcntl.LOCK_EX
        try:
            fcntl.lockf(self.descriptor, how | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def share(self, place):
        """Who writes only reads from now on: to be called before others may join."""
        with self.mutex:
            self.is_written[place] = False
            self.reading[place] = 1
            self.ask(place, reads=True)

    def unmark(self, place):
        with self.mutex:
            self.is_written[place] = False
            self.reading[place] -= self.reading[place] > 0
            if self.reading[place] == 0:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, place)


class Record:
    """Numbers that all processes of a campaign see, and the list of defects."""

    def __init__(self, directory):
        size = 8 * (FIRST_SLOT + SLOTS * len(FIELDS))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(os.path.join(directory, "record"), flags, 0o600)
        os.ftruncate(descriptor, size)
        self.words = memoryview(mmap.mmap(descriptor, size)).cast("Q")
        os.close(descriptor)
        self.log_file = os.path.join(directory, "defects")
        self.log = os.open(self.log_file, flags | os.O_APPEND, 0o600)

    @property
    def stopped(self):
        return self.words[STOP]

    def stop(self):
        self.words[STOP] = 1

    def defect(self, kind, text):
        """Written by one call, so none is lost however many write."""
        line = " ".join(f"{kind}: process {os.getpid()}: {text}".split())
        os.write(self.log, line.encode() + b"\n")

    def defects(self):
        with open(self.log_file) as log:
            return log.read().splitlines()

    def note_since(self, place, start):
        """To be called with the place marked."""
        self.words[SINCE + place] = start

    def since(self, place):
        return self.words[SINCE + place]

    def slot(self, number):
        return Slot(self.words, FIRST_SLOT + number * len(FIELDS))

    def total(self, field):
        start = FIRST_SLOT + NUMBER[field]
        return sum(self.words[start + slot * len(FIELDS)] for slot in range(SLOTS))


class Slot:
    """The numbers of one thread."""

    def __init__(self, words, start):
        self.words, self.start = words, start

    def get(self, field):
        return self.words[self.start + NUMBER[field]]

    def put(self, field, value):
        self.words[self.start + NUMBER[field]] = value

    def add(self, field):
        self.words[self.start + NUMBER[field]] += 1

    def beat(self):
        self.put("beat", time.monotonic_ns())

    def acquired(self, place):
        """To be called with the place marked: the place's last owner is nobody else's to write."""
        self.add("acquired")
        self.add(f"acquired {place}")
        self.put("state", INSIDE + place)
        if self.words[LAST + place] != self.start:
            self.add("handed on")
            self.words[LAST + place] = self.start

    def timed_out(self, place):
        self.add("timeouts")
        self.add(f"timeouts {place}")


# The detector itself is tried first.


def try_out(directory, kills=50):
    """Does it see who is in, and does a mark end before a beacon does? What it gets wrong."""
    witness = Witness(os.path.join(directory, "trial"))
    beacon = os.path.join(directory, "beacon")
    assert witness.mark(0)
    if witness.mark(0):
        return "two threads mark one place"
    witness.unmark(0)
    for turn in range(kills):
        child = _marking_child(witness, beacon, many=turn % 2)
        descriptor = os.open(beacon, os.O_RDONLY | os.O_CREAT)
        if witness.mark(0):
            return "two processes mark one place"
        os.kill(child, signal.SIGKILL)
        _take_turns(descriptor)
        if not witness.mark(0):
            return "a dead process has given up its beacon, and still marks its place"
        witness.unmark(0)
        os.close(descriptor)
        os.waitpid(child, 0)
    return None


def _marking_child(witness, beacon, many):
    """A process that has marked a place and lit a beacon, by a low or a high descriptor."""
    hear, say = os.pipe()
    child = os.fork()
    if child == 0:
        witness.reset()
        for _ in range(60 * many):
            os.open("/dev/null", os.O_RDONLY)
        fcntl.flock(os.open(beacon, os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
        for _ in range(60):
            os.open("/dev/null", os.O_RDONLY)
        if many:
            threading.Thread(target=time.sleep, args=[60], daemon=True).start()
        os.write(say, b"!" if witness.mark(0) else b"?")
        time.sleep(60)
        os._exit(1)
    os.close(say)
    assert os.read(hear, 1) == b"!"
    os.close(hear)
    return child


def _take_turns(descriptor):
    """Ask for the beacon until it is granted, as fast as can be."""
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
