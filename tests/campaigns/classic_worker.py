"""A process that locks with the classic package, beside ours on the same path.

Run by torture.py with a Python that has the classic package and not ours:

    python -I classic_worker.py CLASS PATH PLACE SLOT DIRECTORY SEED
"""

import importlib.metadata
import os
import random
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from witness import WAITING, Record, Witness

from lockfile import AlreadyLocked, LockTimeout, linklockfile, mkdirlockfile

VERSION = "0.12.2"
CLASSES = {
    "LinkFileLock": linklockfile.LinkLockFile,
    "MkdirFileLock": mkdirlockfile.MkdirLockFile,
}


def work(lock, place, slot, record, witness, chance):
    """Lock and unlock until told to stop. Most waits are short, as the classic package polls."""
    while not record.stopped:
        slot.beat()
        slot.put("state", WAITING + place)
        try:
            lock.acquire(timeout=chance.choice([0, 0.001, 0.005, 0.02, 0.2]))
        except (AlreadyLocked, LockTimeout):
            slot.put("state", 0)
            slot.timed_out(place)
            continue
        if not witness.mark(place):
            record.defect("overlap", f"classic beside {witness.other(place)} at {place}")
            lock.release()
            continue
        slot.acquired(place)
        if chance.random() < 0.5:
            time.sleep(chance.random() * 0.002)
        if not lock.i_am_locking():
            record.defect("defect", "a classic lock was broken while it was owned")
        slot.put("state", 0)
        witness.unmark(place)
        lock.release()
        time.sleep(chance.random() * 0.001)


def main():
    class_name, path, place, number, directory, seed = sys.argv[1:]
    assert importlib.metadata.version("lockfile") == VERSION
    record = Record(directory)
    slot = record.slot(int(number))
    lock = CLASSES[class_name](path)
    with open(os.path.join(directory, f"classic-{number}"), "w") as file:
        file.write(lock.unique_name)
    witness = Witness(os.path.join(directory, "witness"))
    try:
        work(lock, int(place), slot, record, witness, random.Random(seed))
    except BaseException:
        record.defect("defect", traceback.format_exc())
        record.stop()
    slot.put("beat", 0)


if __name__ == "__main__":
    main()
