"""Building: what it says where it cannot be done, and what it is done from."""

import os
import re
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import lockfile  # noqa: F401
import support
from support import portable

ROOT = Path(__file__).resolve().parent.parent.parent
platforms = run_path(str(ROOT / "tools" / "platforms.py"))


def build(tmp_path, **environment):
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(tmp_path)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_missing_compiler_is_named_and_how_to_get_one(tmp_path):
    done = build(tmp_path, CC="no-such-compiler")
    assert done.returncode != 0
    assert "there is no no-such-compiler" in done.stderr
    assert "apt-get install gcc" in done.stderr
    assert "Traceback" not in done.stderr


def test_system_that_is_not_known_is_refused_with_what_to_read(tmp_path):
    done = build(tmp_path, LOCKFILE_PLATFORM="plan9")
    assert done.returncode != 0
    assert "docs/platforms.rst" in done.stderr


def test_tests_know_which_build_they_test():
    """They skip what the portable one has not."""
    made = sys.modules["lockfile._lockfile"].__file__
    command = ["nm", "-D", "--undefined-only", made]
    wanted = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert ("inotify_init1" not in wanted) == support.PORTABLE


def test_tests_that_the_portable_build_skips_are_there():
    found = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE))
    named = {
        name
        for part in (portable.SINGLE, portable.OF_MKDIR, portable.OF_PID_FILES)
        for names in part.values()
        for name in names
    }
    assert named <= found
    assert all((ROOT / file).exists() for file in portable.WHOLE)


def test_each_system_is_built_from_files_that_are_there():
    for name in platforms["PLATFORMS"]:
        files = platforms["sources"](name, ROOT)
        assert files and all((ROOT / file).is_file() for file in files), name


def test_every_source_of_the_platforms_belongs_to_a_system():
    used = {file for name in platforms["PLATFORMS"] for file in platforms["sources"](name, ROOT)}
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc/platform").rglob("*.c")}
    assert used == there
