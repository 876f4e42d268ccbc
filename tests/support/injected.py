"""A build of the package in which a system call gets an answer that Wine never gives.

See tests/windows/injected.c. Each call in turn, or each of its kind.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from support import IMPORT_PATH, PATIENCE
from support.children import start

CALLS = ("create", "open", "reopen", "change", "rename", "link", "dispose")
KILL = "dead"  # no answer: the process ends before that call
KILLED = 9
STOP = "5709"  # nor an answer: it stops there until another of its threads sets the variable

# Gives each call of one kind in turn the answer; `times` tells how many calls there were.
PRELUDE = f"""
import ctypes, os, sys
import lockfile
assert "injected" in lockfile.__file__
path, lock_class = sys.argv[1], getattr(lockfile, sys.argv[2])
status, many = sys.argv[3], int(sys.argv[4])

def inject(call, skip):
    os.environ["LOCKFILE_INJECT"] = f"{{call}} {{status}} {{skip}} {{many}}"

def end():
    '''Has any call been answered?'''
    left = ctypes.create_unicode_buffer(64)
    ctypes.windll.kernel32.GetEnvironmentVariableW("LOCKFILE_INJECT", left, 64)
    os.environ["LOCKFILE_INJECT"] = ""
    return int(left.value.split()[-1]) < many

def each_call(begin, act):
    '''What came of it, for each call that was answered.'''
    for call in {CALLS!r}:
        for skip in range(100):
            lock = begin()
            inject(call, skip)
            try:
                act(lock)
                outcome = "done"
            except lockfile.Error as error:
                outcome = type(error).__name__
            if not end():
                yield lock, f"{{call}} {{skip}}", None
                break
            yield lock, f"{{call}} {{skip}}", outcome
"""


def directory():
    """Of the build with which this can be done."""
    found = os.environ.get("LOCKFILE_INJECTED", "")
    if not Path(found, "lockfile").exists():
        pytest.skip("tools/windows/build.py has not made the build for it")
    return found


def run(code, path, lock_class, status, many=1, ends=0):
    """In a process of its own, by that build: what it prints."""
    paths = [directory(), *IMPORT_PATH, os.environ.get("PYTHONPATH", "")]
    process = start(
        [
            *(sys.executable, "-P", "-c", PRELUDE + textwrap.dedent(code)),
            *(path, lock_class.__name__, status, str(many)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        text=True,
    )
    told, failure = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, ends), failure
    return told.splitlines()


def killed_at(call, skip, code, path, lock_class):
    """Has a process been killed before it made that call? Else `code` has run to its end."""
    told = run(
        f"inject({call!r}, {skip})\n{textwrap.dedent(code)}\nprint(end())",
        path,
        lock_class,
        KILL,
        ends=KILLED,
    )
    return told == []
