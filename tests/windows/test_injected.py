"""What Wine never shows, injected in front of the system's calls: names whose deletion is pending,
files that a scanner has to itself for a moment, and renames that Windows refuses.

See injected.c. Each call in turn gets such an answer.
"""

import pytest

from lockfile import LinkFileLock, MkdirFileLock, PIDLockFile
from support import holder, names
from support.injected import CALLS, run

PENDING = "c0000056"
SHARING = "c0000043"
DENIED = "c0000022"


@pytest.fixture(params=[MkdirFileLock, LinkFileLock, PIDLockFile], ids=lambda each: each.__name__)
def lock_class(request):
    return request.param


for_a_moment = pytest.mark.parametrize("status", [PENDING, SHARING], ids=["pending", "sharing"])
any_answer = pytest.mark.parametrize(
    "status", [PENDING, SHARING, DENIED], ids=["pending", "sharing", "denied"]
)


# To open the directory around is not tried twice: nobody has one to himself, but who removes it.
DIRECTORY = "open 0 LockFailed False"


@for_a_moment
@pytest.mark.leaves_files  # for the next sweep: what could not be removed just then
def test_acquire_waits_for_what_is_in_the_way_for_a_moment(lock_class, path, status):
    told = run(
        """
        for lock, where, outcome in each_call(
            lambda: lock_class(path), lambda lock: lock.acquire(timeout=20)
        ):
            print(where, outcome, lock.i_am_locking())
            if lock.i_am_locking():
                lock.release()
        """,
        path,
        lock_class,
        status,
    )
    assert len(told) > len(CALLS) + 3
    told.remove(DIRECTORY)
    assert [line for line in told if not line.endswith(("None True", "done True"))] == []


@for_a_moment
@pytest.mark.leaves_files
def test_release_waits_for_what_is_in_the_way_for_a_moment(lock_class, path, status, tmp_path):
    told = run(
        """
        for lock, where, outcome in each_call(
            lambda: lock_class(path).acquire(), lambda lock: lock.release()
        ):
            print(where, outcome, lock.i_am_locking())
            if lock.i_am_locking():
                lock.release()
        """,
        path,
        lock_class,
        status,
    )
    assert len(told) > len(CALLS) + 3
    assert [line for line in told if not line.endswith(("None False", "done False"))] == []
    assert all(
        name.startswith((lock_class(path).hostname, ".removed-")) for name in names(tmp_path)
    )


@any_answer
@pytest.mark.leaves_files
def test_whatever_a_call_answers_an_error_tells_the_truth(lock_class, path, status):
    """Who is told that it owns, owns; whose release fails, can release afterwards."""
    told = run(
        """
        for begin, act in (
            (lambda: lock_class(path), lambda lock: lock.acquire(timeout=0)),
            (lambda: lock_class(path).acquire(), lambda lock: lock.release()),
        ):
            for lock, where, outcome in each_call(begin, act):
                owns = lock.i_am_locking()
                print(where, outcome, owns, lock.is_locked() == owns)
                if owns:
                    lock.release()
        """,
        path,
        lock_class,
        status,
    )
    assert [line for line in told if not line.endswith("True")] == []


@any_answer
@pytest.mark.leaves_files
def test_whatever_a_call_answers_there_is_one_owner(lock_class, path, status):
    with holder(lock_class, path):
        told = run(
            """
            for lock, where, outcome in each_call(
                lambda: lock_class(path), lambda lock: lock.acquire(timeout=0.01)
            ):
                print(where, outcome, lock.i_am_locking())
            """,
            path,
            lock_class,
            status,
        )
    assert len(told) > len(CALLS)
    assert [line for line in told if not line.endswith("False")] == []
    assert [line for line in told if "done" in line] == []
