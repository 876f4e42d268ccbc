"""The campaigns in short (`make faults ARGS=--quick`); `make faults` runs them whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import support
from campaigns import faults
from support.lock_classes import KINDS, NAMES, kind_of


@pytest.mark.parametrize("class_name", NAMES)
@pytest.mark.parametrize("kind", ["kill", "fail"])
def test_faults_at_system_calls(class_name, kind):
    if not support.REFUSABLE:
        pytest.skip("the numbers of this machine's system calls are not known")
    every = {"kill": 9, "fail": 31}[kind] * (3 if kind_of(class_name).has_many_steps else 1)
    cases, defects = faults.campaign(kind, class_name, every)
    assert cases > 20
    assert not defects, "\n".join(defects)


@pytest.mark.parametrize(
    ("class_name", "every"), [(kind.name, 61 if kind.has_many_steps else 5) for kind in KINDS]
)
def test_failing_allocations(class_name, every):
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        pytest.skip("the failing allocator knows the GNU C library only")
    program = Path(__file__).with_name("memory.py")
    done = subprocess.run(
        [sys.executable, program, class_name, "--every", str(every)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
