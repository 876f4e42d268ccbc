import pytest

from support.lock_directories import Way


@pytest.fixture(params=["by renaming", "in place"])
def way(request):
    """Both ways to make a lock directory: the second is for file systems that lack the first."""
    if request.param == "in place":
        request.getfixturevalue("refusals")
    with Way(request.param) as thread:
        yield thread


@pytest.fixture
def in_place(refusals):
    with Way("in place") as thread:
        yield thread


@pytest.fixture
def made(lock):
    """A lock of SQLiteFileLock whose database is there."""
    with lock:
        pass
    return lock
