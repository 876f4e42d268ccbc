"""Contenders for one lock, as processes or threads, that start at once and go on until they end."""

import mmap
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_TURNS = 4096
# What a contender keeps where its leader can read it, before the list of its turns.
READY, ASKED, ENTERED, TURNS, LIST = range(5)
SLOT = LIST + 3 * MOST_TURNS
now = time.monotonic_ns


@dataclass
class Work:
    """What each contender does: take the lock, hold it for some seconds, leave, and so on."""

    make_lock: Callable[[], Any]
    hold: float
    polite: bool = False  # ask again only when another one has entered
    others: int = 0  # so many of them
    make_others_lock: Callable[[], Any] | None = None  # have this one instead

    def lock_of(self, number: int) -> Any:
        make = self.make_others_lock if number < self.others else None
        return (make or self.make_lock)()


class Crew:
    """Contenders who write down when they asked, entered and left."""

    def __init__(self, kind: str, count: int, work: Work) -> None:
        self.kind = kind
        self.count = count
        self.work = work
        # Shared with forked processes; untouched pages of it cost nothing.
        self.notes = memoryview(mmap.mmap(-1, 8 * (1 + count * SLOT))).cast("q")
        self.gate, self.entry, self.trouble = os.pipe(), os.pipe(), os.pipe()
        os.set_blocking(self.trouble[0], False)
        self.pids: list[int] = []

    def __enter__(self) -> "Crew":
        for number in range(self.count):
            if self.kind == "threads":
                threading.Thread(target=self.contend, args=[number], daemon=True).start()
            else:
                self.pids.append(os.fork() or self.be_process(number))
        while not all(self.note(number, READY) for number in range(self.count)):
            time.sleep(0.002)
            self.look_for_trouble()
        return self

    def __exit__(self, *exception: object) -> None:
        """End the processes; threads end with the leader."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)
        if self.pids:
            for pipe in (self.gate, self.entry, self.trouble):
                for end in pipe:
                    os.close(end)

    def note(self, number: int, what: int) -> int:
        return self.notes[1 + number * SLOT + what]

    def be_process(self, number: int) -> int:
        self.contend(number)
        os._exit(0)

    def contend(self, number: int) -> None:
        notes = self.notes[1 + number * SLOT : 1 + (number + 1) * SLOT]
        try:
            lock = self.work.lock_of(number)
            notes[READY] = 1
            os.read(self.gate[0], 1)
            while notes[TURNS] < MOST_TURNS:
                self.take_turn(lock, notes)
        except Exception as error:
            os.write(self.trouble[1], f"{type(error).__name__}: {error}"[:500].encode())

    def take_turn(self, lock: Any, notes: memoryview) -> None:
        asked = notes[ASKED] = now()
        lock.acquire()
        entered = notes[ENTERED] = now()
        if self.work.polite:
            self.let_predecessor_ask()
        time.sleep(self.work.hold)
        left = now()
        notes[ENTERED] = notes[ASKED] = 0  # before the next one can enter
        lock.release()
        start = LIST + 3 * notes[TURNS]
        for place, instant in enumerate((asked, entered, left), start):
            notes[place] = instant
        notes[TURNS] += 1
        if self.work.polite:
            os.read(self.entry[0], 1)

    def let_predecessor_ask(self) -> None:
        if self.notes[0]:
            os.write(self.entry[1], b".")
        self.notes[0] = 1  # by the first of all, who has no predecessor

    def go(self) -> None:
        """Let all begin: each reads one byte."""
        os.write(self.gate[1], b"." * self.count)

    def look_for_trouble(self) -> None:
        try:
            raise RuntimeError(os.read(self.trouble[0], 500).decode())
        except BlockingIOError:
            pass

    def wait_for_first_turns(self) -> None:
        """One of each, which opens what the next ones use: databases, for instance."""
        while not all(self.note(number, TURNS) for number in range(self.count)):
            time.sleep(0.002)
            self.look_for_trouble()

    def watch(self, turns: int, seconds: float) -> dict[str, Any]:
        """Wait for so many turns, but not longer than this, and say all that was written down.

        What came after the end is cut off, since the notes are read one after the other. A little
        later, since a turn is written down after its release.
        """
        started, used, slept = now(), self.processor_time(), self.sleeps()
        while now() - started < seconds * 1e9 and self.turns_taken() < turns:
            time.sleep(0.005)
        self.look_for_trouble()
        taken, ended, used = self.turns_taken(), now(), self.processor_time() - used
        slept = self.sleeps() - slept
        time.sleep(0.01)
        slots = [self.read(number) for number in range(self.count)]
        finished = [turn for slot in slots for turn in slot["turns"]]
        last = {turn[0]: turn[2] for turn in finished}
        # A turn that ended while the notes were read is in the list already.
        current = [slot["now"] for slot in slots]
        inside = [turn for turn in current if turn[2] > last.get(turn[0], 0)]
        return {
            "turns": [turn for turn in finished if turn[2] < ended],
            "inside": [turn for turn in inside if turn[2] < ended],
            "waiting": [
                asked
                for _, asked, entered, *_ in finished + current
                if 0 < asked < ended and (entered >= ended or not entered)
            ],
            "started": started,
            "ended": ended,
            "enough": taken >= turns,
            "processor": used / max(1, taken),
            "sleeps": slept / max(1, taken),
        }

    def processor_time(self) -> int:
        """Nanoseconds that the contenders have kept processors busy."""
        if not self.pids:
            return time.process_time_ns()
        times = (Path(f"/proc/{pid}/schedstat").read_text() for pid in self.pids)
        return sum(int(text.split()[0]) for text in times)

    def sleeps(self) -> int:
        """How often the contenders have gone to sleep, which each does once while it owns."""
        told = "".join(Path(f"/proc/{pid}/status").read_text() for pid in self.pids)
        return sum(map(int, re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", told, re.MULTILINE)))

    def turns_taken(self) -> int:
        return sum(self.note(number, TURNS) for number in range(self.count))

    def read(self, number: int) -> dict[str, Any]:
        """The turns of one contender, and the one in which it is, or for which it waits."""
        current = [number, self.note(number, ASKED), self.note(number, ENTERED)]
        start = 1 + number * SLOT + LIST
        instants = self.notes[start : start + 3 * self.note(number, TURNS)].tolist()
        turns = [[number, *instants[place : place + 3]] for place in range(0, len(instants), 3)]
        return {"turns": turns, "now": current}
