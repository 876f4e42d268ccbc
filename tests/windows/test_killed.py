"""Processes that are killed before any of their calls, as injected.c does it."""

import pytest

from lockfile import LinkFileLock, MkdirFileLock, PIDLockFile
from support import holder, names
from support.injected import CALLS, killed_at

ALONE = "lock_class(path).acquire().release()"
SHARED = "lock_class(path, shared=True).acquire().release()"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("lock_class", "code"),
    [(MkdirFileLock, ALONE), (LinkFileLock, ALONE), (PIDLockFile, ALONE), (LinkFileLock, SHARED)],
)
def test_who_is_killed_anywhere_is_recovered_and_swept(lock_class, code, call, tmp_path):
    """By the next who breaks a stale lock."""
    path = str(tmp_path / "README")
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


@pytest.mark.parametrize("call", CALLS)
def test_reader_that_is_killed_anywhere_is_in_no_other_readers_way(call, tmp_path):
    """Nor in a writer's, once that one has left, too."""
    path = str(tmp_path / "README")
    reader, writer = LinkFileLock(path, shared=True), LinkFileLock(path, threaded=False)
    killed, skip = True, 0
    while killed:
        with reader:
            killed = killed_at(call, skip, SHARED, path, LinkFileLock)
            assert reader.i_am_locking()
            assert not writer.try_acquire()
        with writer:
            assert writer.owners() == [writer.owner()]
        skip += 1
    assert skip > 1 or call not in ("open", "change")
    holder(LinkFileLock, path).kill()
    with writer:
        pass
    assert names(tmp_path) == [], f"killed before {call}"
