"""The core by itself: with another C library, for a narrower machine, and where less is offered.

`make core` drives it for longer, under sanitizers.
"""

import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGNS = Path(__file__).with_name("run.py")


def run(campaign):
    done = subprocess.run(
        [sys.executable, CAMPAIGNS, "--seconds", "1", campaign],
        capture_output=True,
        text=True,
        check=False,
    )
    if "skipped: " in done.stdout:
        pytest.skip(done.stdout.partition("skipped: ")[2].strip())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("platform", ["musl", "narrow", "polling"])
def test_core_compiles_and_runs_elsewhere(platform):
    """Where the C library lacks calls that glibc has, where an offset is a word too long, and where
    no files can be watched."""
    run(platform)


def test_what_all_posix_systems_share_uses_nothing_else():
    run("posix")
