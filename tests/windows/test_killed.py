"""Processes that are killed before any of their calls, as injected.c does it."""

import pytest

from lockfile import LinkFileLock, MkdirFileLock, PIDLockFile
from support import holder, names
from support.injected import CALLS, killed_at


def one_of(names):
    return pytest.mark.parametrize("lock_class", names, ids=lambda each: each.__name__)


@pytest.mark.parametrize("call", CALLS)
@one_of([MkdirFileLock, LinkFileLock, PIDLockFile])
def test_who_is_killed_anywhere_is_recovered_and_swept(lock_class, call, tmp_path):
    """By the next who breaks a stale lock."""
    path = str(tmp_path / "README")
    code = "lock_class(path).acquire().release()"
    skip = 0
    while killed_at(call, skip, code, path, lock_class):
        with lock_class(path, timeout=0):
            pass
        skip += 1
        holder(lock_class, path).kill()
        with lock_class(path, timeout=0):
            pass
        assert names(tmp_path) == [], f"killed before {call} {skip}"
    assert skip > 0 or call == "link"
