"""Processes that keep a lock together release it at random moments, and acquire it anew, alone.

Three parents, which exclude each other, keep each lock together with a child, until both release it
at about the same time; one child in ten is killed. Who has acquired it alone takes a flock on a
witness: refused, two are in. It must own until it releases, too.

    python tests/campaigns/heirs.py [--seconds SECONDS]
"""

import argparse
import contextlib
import fcntl
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lockfile
from support.lock_classes import KINDS
from support.protocol import swept_clean

PARENTS = 3
PATIENCE = 30  # seconds
REFUSED = lockfile.AlreadyLocked, lockfile.LockTimeout
LOST = lockfile.NotLocked, lockfile.NotMyLock
OVERLAPPED, ROSE = 7, 8  # exit statuses

# A process that ends closes its files from the last one on: the witness is to go before the lock.
WITNESS = 500


@contextlib.contextmanager
def alone(witness):
    descriptor = os.open(witness, os.O_RDWR)
    os.dup2(descriptor, WITNESS)
    os.close(descriptor)
    try:
        fcntl.flock(WITNESS, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        os._exit(OVERLAPPED)
    finally:
        os.close(WITNESS)


def release(lock):
    """Unless the other one of those who keep it was sooner."""
    with contextlib.suppress(*LOST):
        lock.release()


def take_a_turn_alone(lock, witness, chance):
    lock.acquire(timeout=PATIENCE)
    with alone(witness):
        time.sleep(chance.random() * 0.0005)
        assert lock.i_am_locking(), "it was lost"
    lock.release()


def take_a_turn_together(lock, witness, chance):
    lock.acquire(timeout=PATIENCE)
    with alone(witness):
        pass
    lock.set_inheritable(True)
    child = os.fork()
    time.sleep(chance.random() * 0.0003)
    for _ in range(chance.randrange(3)):
        lock.i_am_locking()  # which names the lock after who calls
    if child != 0 and chance.random() < 0.1:
        os.kill(child, signal.SIGKILL)
    release(lock)
    take_a_turn_alone(lock, witness, chance)
    if child == 0:
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        os._exit(status)


def parent(lock_class, path, witness, seed, until):
    """Ends its process, with the number of turns on the standard output."""
    turns, chance = 0, random.Random(seed)
    try:
        while time.monotonic() < until:
            take_a_turn_together(lock_class(path, threaded=False), witness, chance)
            turns += 1
        os.write(1, f"  {turns} turns together, seed {seed}\n".encode())
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(ROSE)


def campaign(lock_class, seconds, seed):
    """The defects."""
    with tempfile.TemporaryDirectory() as directory, tempfile.NamedTemporaryFile() as witness:
        path, until = os.path.join(directory, "README"), time.monotonic() + seconds
        processes = {}
        for number in range(PARENTS):
            process = os.fork()
            if process == 0:
                parent(lock_class, path, witness.name, seed + number, until)
            processes[process] = number
        told = {OVERLAPPED: "two were in", ROSE: "a call failed, or the lock was lost"}
        statuses = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in processes]
        defects = [told.get(status, f"ended with {status}") for status in statuses if status != 0]
        if not defects and not swept_clean(lock_class, path):
            defects.append("something is left")
    return defects


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600, help="for all classes together")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    arguments = parser.parse_args()
    classes = [kind.lock_class for kind in KINDS if not kind.is_row]
    found = 0
    for lock_class in classes:
        print(f"{lock_class.__name__}, kept together", flush=True)
        defects = campaign(lock_class, arguments.seconds / len(classes), arguments.seed)
        print(f"  {len(defects)} defects", *defects, sep="\n  ", flush=True)
        found += len(defects)
    return found != 0


if __name__ == "__main__":
    sys.exit(main())
