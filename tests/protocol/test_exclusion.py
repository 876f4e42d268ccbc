"""Processes and threads mixed, some killed at random: never two owners, and nothing left."""

import os

from support import PATIENCE, Child
from support.killed_anywhere import KILLED_ANYWHERE
from support.protocol import swept_clean

# A short run each time; set this for a long one.
SECONDS = float(os.environ.get("LOCKFILE_STRESS_SECONDS", "4"))

# It goes on until so many were killed, and each of the five workers has held so often.
WANTED = round(5 * SECONDS)


def test_processes_and_threads_exclude_each_other_though_some_are_killed(lock_class, tmp_path):
    directory, marks = tmp_path / "directory", tmp_path / "marks"
    directory.mkdir()
    marks.mkdir()
    with Child(
        KILLED_ANYWHERE, lock_class.__name__, directory, marks, str(SECONDS), str(WANTED)
    ) as child:
        report = child._lines.get(timeout=SECONDS + 3 * PATIENCE)
        assert not (marks / "overlaps").exists(), (marks / "overlaps").read_text()
        assert report
        child.finish()

    path = str(directory / "README")
    with lock_class(path, timeout=PATIENCE):
        pass
    assert swept_clean(lock_class, path)
