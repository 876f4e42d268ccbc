"""Every allocation fails, one after the other: ours, Python's and SQLite's.

    python tests/campaigns/memory.py                     everything
    python tests/campaigns/memory.py LinkFileLock        one class
    python tests/campaigns/memory.py --every 7           only each 7th allocation, as the tests do

The operations are those of faults.py, and so is what must hold afterwards; MemoryError is a
documented end as well. What owner() imports when it is called first is imported before: Python's
compiler crashes where it gets no memory (seen on 3.11). In the case number N the N-th allocation of
the operation fails, alone or with the nine that follow. Allocations are counted by
preloaded/failing_malloc.c of tests/support;
PYTHONMALLOC=malloc leads Python's own to it, but for a Python without a GIL, which has no such
allocator.
"""

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import support
from campaigns import faults
from support.lock_classes import NAMES

LIBRARY = "LOCKFILE_FAILING_MALLOC"

# Where the interpreter itself gets no memory, an assertion of its own may end it.
DEBUG_BUILD = hasattr(sys, "gettotalrefcount")


class Starved(faults.Case):
    """One operation by one forked process, whose N-th allocation fails."""

    also = ("MemoryError",)

    def __init__(self, class_name, operation, directory, allocator, together):
        super().__init__(class_name, operation, directory)
        self.allocator = allocator
        self.together = together

    def do(self, lock, channel, number):
        failed = 0

        def over():
            nonlocal failed
            failed = self.allocator.stop_failing()

        def begin():
            self.allocator.fail_allocations(number, self.together)

        faults.subject(lock, self.operation, channel, begin, over, lambda: {"failed": failed})

    def drive(self, number, action):
        self.channel.settimeout(support.PATIENCE)
        with contextlib.suppress(TimeoutError):
            self.report = json.loads(self.channel.recv(65536) or "null")
        happened = self.report is None or self.report["failed"]
        self.fired = f"allocation {number}" if happened else None


def one_case(class_name, name, number, allocator, together):
    """Whether that many allocations were made. Raises Defect."""
    directory = tempfile.mkdtemp(prefix="lockfile-memory-")
    case = Starved(class_name, faults.OPERATIONS[name], directory, allocator, together)
    try:
        case.run(number, None)
        if (
            DEBUG_BUILD
            and os.WIFSIGNALED(case.status)
            and os.WTERMSIG(case.status) == signal.SIGABRT
        ):
            faults.check_killed(case)
        else:
            faults.check_failed(case)
        return case.fired is not None
    except faults.Defect as defect:
        raise faults.Defect(
            f"{class_name}, {name}, allocation {number} and {together - 1} more: {defect}"
        ) from None
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def campaign(class_name, allocator, every=1):
    """Run all operations; the number of cases, and the defects."""
    cases, defects = 0, []
    for name in faults.operations(class_name):
        for together in (1, 10):
            number, more = 1, True
            while more:
                try:
                    more = one_case(class_name, name, number, allocator, together)
                    cases += more
                except faults.Defect as defect:
                    cases += 1
                    defects.append(str(defect))
                number += every
    return cases, defects


def preload():
    """Start this program again with the failing allocator."""
    with tempfile.TemporaryDirectory() as directory:
        library = os.path.join(directory, "failing_malloc.so")
        source = support.PRELOADED / "failing_malloc.c"
        compiler = os.environ.get("CC", "cc").split()
        subprocess.run(
            [*compiler, "-std=c11", "-O1", "-fPIC", "-shared", "-o", library, source], check=True
        )
        environment = {
            **os.environ,
            LIBRARY: library,
            "LD_PRELOAD": library,
            **support.PLAIN_ALLOCATIONS,
        }
        return subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode


def load():
    """The allocator that was preloaded."""
    allocator = ctypes.PyDLL(os.environ[LIBRARY])  # keeps the GIL
    allocator.fail_allocations.argtypes = [ctypes.c_long, ctypes.c_long]
    allocator.fail_allocations.restype = None
    allocator.stop_failing.restype = ctypes.c_long
    return allocator


def main():
    if LIBRARY not in os.environ:
        return preload()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("classes", nargs="*", default=NAMES, metavar="class")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th allocation")
    arguments = parser.parse_args()
    allocator = load()
    failed = 0
    for class_name in arguments.classes:
        start = time.monotonic()
        cases, defects = campaign(class_name, allocator, arguments.every)
        failed += len(defects)
        took = time.monotonic() - start
        print(f"{class_name:15} {cases:6} cases, {len(defects)} defects, {took:.0f} s")
        for defect in defects:
            print(f"      {defect}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
