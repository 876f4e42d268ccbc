"""PostgreSQLLock under torture, on a server of its own.

    python tests/campaigns/postgresql.py --seconds 60 --seed 7

Two phases share the time:

- processes: workers are killed, stopped and interrupted while they lock. Never are two in at once:
  whoever owns marks a byte of a file by a POSIX lock, which is never waited for (witness.py says
  why that misses none, and cries no wolf). Refused means that another is in.
- connections: besides, sessions are terminated, sockets are shut down, and the server is restarted
  and killed. An owner may be cut off then, and others be in, until it looks; so whoever could
  release must have been in alone, by the times that it has written down.

At the end every worker ends by itself, the server knows of nobody who holds or waits, and the lock
can be had. The choices follow from the seed.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import PATIENCE, postgresql, wait_until

HERE = Path(__file__).resolve().parent
WORKERS = 5
NAMES = ("one", "two")
LONGEST_STOP = 0.3

# What an end leaves unsaid, every one of these is.
WORK = """
import contextlib, fcntl, json, os, random, socket, sys, time
from lockfile import Error
from lockfile.postgresql import PostgreSQLLock

names, scratch, cuts, seed = json.loads(sys.argv[1])
chance = random.Random(seed)
witness = os.open(os.path.join(scratch, "witness"), os.O_RDWR | os.O_CREAT)
log = os.open(os.path.join(scratch, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
ends = os.path.join(scratch, "ends")

def say(*words):
    os.write(log, (json.dumps(words) + "\\n").encode())

def mark(place):
    try:
        fcntl.lockf(witness, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError:
        if not cuts:
            say("overlap", names[place])

def inside(lock, place):
    mark(place)
    began = time.monotonic_ns()
    if chance.random() < 0.3:
        time.sleep(chance.random() * 0.005)
    if cuts and chance.random() < 0.1:
        with socket.socket(fileno=os.dup(lock.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
    ended = time.monotonic_ns()
    fcntl.lockf(witness, fcntl.LOCK_UN, 1, place)
    return began, ended

def turn():
    place = chance.randrange(len(names))
    lock = PostgreSQLLock(names[place], timeout=chance.choice([None, 30, 0.05, 0]))
    try:
        lock.acquire()
        times = inside(lock, place)
        lock.release()
        say("in", names[place], *times)
    except KeyboardInterrupt:
        fcntl.lockf(witness, fcntl.LOCK_UN, 1, place)
        if lock.i_am_locking():
            lock.release()
        say("interrupted")
    except Error as error:
        fcntl.lockf(witness, fcntl.LOCK_UN, 1, place)
        say(type(error).__name__, str(error))

while not os.path.exists(ends):
    with contextlib.suppress(KeyboardInterrupt, Error):
        turn()
"""


class Phase:
    def __init__(self, server, scratch, chance, cuts):
        self.server = server
        self.scratch = scratch
        self.chance = chance
        self.cuts = cuts
        self.workers = []
        self.done = {}

    def start(self):
        told = json.dumps([NAMES, self.scratch, self.cuts, self.chance.random()])
        environment = os.environ | self.server.environment()
        environment["PYTHONPATH"] = str(HERE.parent.parent)
        worker = subprocess.Popen([sys.executable, "-c", WORK, told], env=environment)
        self.workers.append(worker)

    def run(self, seconds):
        for _ in range(WORKERS):
            self.start()
        try:
            wait_until(self.somebody_was_in, "a first turn")
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                self.torment()
                time.sleep(self.chance.random() * 0.2)
            Path(self.scratch, "ends").touch()
            return self.ends()
        finally:
            for worker in self.workers:
                worker.kill()
                worker.wait()

    def somebody_was_in(self):
        log = Path(self.scratch, "log")
        return log.exists() and '"in"' in log.read_text()

    def torment(self):
        actions, weights = [self.kill, self.stop, self.interrupt], [2, 4, 4]
        if self.cuts:
            actions += [self.terminate, self.restart, self.crash]
            weights += [6, 0.3, 0.3]
        [action] = self.chance.choices(actions, weights)
        action()
        self.done[action.__name__] = self.done.get(action.__name__, 0) + 1

    def kill(self):
        worker = self.workers.pop(0)
        worker.kill()
        worker.wait()
        self.start()

    def stop(self):
        worker = self.chance.choice(self.workers)
        worker.send_signal(signal.SIGSTOP)
        time.sleep(self.chance.random() * LONGEST_STOP)
        worker.send_signal(signal.SIGCONT)

    def interrupt(self):
        worker = self.chance.choice(self.workers)
        if self.is_at_work(worker):
            worker.send_signal(signal.SIGINT)

    @staticmethod
    def is_at_work(worker):
        """It has imported all that it needs: it has opened its log."""
        with contextlib.suppress(OSError):
            names = os.listdir(f"/proc/{worker.pid}/fd")
            links = [os.readlink(f"/proc/{worker.pid}/fd/{name}") for name in names]
            return any(link.endswith("/log") for link in links)
        return False

    def terminate(self):
        with contextlib.suppress(Exception):
            self.server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'lockfile %%' ORDER BY random() LIMIT 1"
            )

    def restart(self):
        self.server.restart()

    def crash(self):
        self.server.kill()
        self.server.start()

    def ends(self):
        """The defects."""
        defects = []
        for worker in self.workers:
            try:
                if worker.wait(PATIENCE) not in (0, -signal.SIGINT):
                    defects.append(f"a worker has ended with {worker.returncode}")
            except subprocess.TimeoutExpired:
                defects.append("a worker does not end")
        words = [json.loads(line) for line in Path(self.scratch, "log").read_text().splitlines()]
        defects += [f"overlap: {word[1]}" for word in words if word[0] == "overlap"]
        for name in NAMES:
            defects += self.overlaps(name, words)
        if not any(word[0] == "in" for word in words):
            defects.append("nobody was ever in")
        self.done |= {"turns": sum(word[0] == "in" for word in words)}
        for word in words:
            if word[0] not in ("in", "overlap"):
                self.done[word[0]] = self.done.get(word[0], 0) + 1
        try:
            wait_until(lambda: self.server.held() + self.server.waiting() == 0, "rest")
        except AssertionError:
            defects.append("somebody holds or waits who is no more")
        return defects

    @staticmethod
    def overlaps(name, words):
        times = sorted(tuple(word[2:]) for word in words if word[:2] == ["in", name])
        pairs = itertools.pairwise(times)
        return [f"overlap: {name} {one} {other}" for one, other in pairs if other[0] < one[1]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    arguments = parser.parse_args()
    if postgresql.program("initdb") is None:
        print(f"PostgreSQLLock: left out, there is no server here: {postgresql.NEEDED}")
        return 0
    chance, defects = random.Random(arguments.seed), []
    for name, cuts in (("processes", False), ("connections", True)):
        with postgresql.running_server() as server, tempfile.TemporaryDirectory() as scratch:
            phase = Phase(server, scratch, chance, cuts)
            found = phase.run(arguments.seconds / 2)
        told = ", ".join(f"{count} {what}" for what, count in phase.done.items())
        print(f"PostgreSQLLock, {name}, seed {arguments.seed}: {told}; {len(found)} defects")
        defects += found
    print(*defects[:50], sep="\n")
    return bool(defects)


if __name__ == "__main__":
    sys.exit(main())
