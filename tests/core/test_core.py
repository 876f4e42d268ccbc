"""The core by itself. `make core` drives it: under sanitizers, with another C library, for a
narrower machine, and where less is offered."""

import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGNS = Path(__file__).with_name("run.py")


def test_what_all_posix_systems_share_uses_nothing_else():
    done = subprocess.run(
        [sys.executable, CAMPAIGNS, "--seconds", "1", "posix"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "skipped: " in done.stdout:
        pytest.skip(done.stdout.partition("skipped: ")[2].strip())
    assert done.returncode == 0, done.stdout + done.stderr
