"""Readers of a LinkFileLock, where asking for a mark is to lock it."""

import os

import pytest

from lockfile import LinkFileLock, UnlockError
from support import Child, children, handles, injected
from support.handles import READ, WRITE
from support.injected import STOP

READ_ON = """
    lock = lockfile.LinkFileLock(sys.argv[1], shared=True)
    lock.acquire()
    say("reads")
    hear()
    lock.release()
    """

# Says "stopped" before that call, and goes on when it hears; then whether it owns.
ACQUIRE = """
    import ctypes, threading, time
    assert "injected" in lockfile.__file__
    path, shared, seconds, stop = sys.argv[1:]
    lock = lockfile.LinkFileLock(path, shared=shared == "shared")
    ended = threading.Event()

    def tell():
        text = ctypes.create_unicode_buffer(64)
        while text.value != "stopped" and not ended.is_set():
            ctypes.windll.kernel32.GetEnvironmentVariableW("LOCKFILE_INJECT", text, 64)
            time.sleep(0.001)
        if text.value == "stopped":
            say("stopped")
            hear()
            os.environ["LOCKFILE_INJECT"] = ""

    hear()
    os.environ["LOCKFILE_INJECT"] = stop
    thread = threading.Thread(target=tell)
    thread.start()
    owned = lock.try_acquire(float(seconds))
    ended.set()
    thread.join()
    say(owned)
    hear()
    """


def begin(child):
    """Until it is stopped, or knows whether it owns."""
    child.say("go")
    return child.hear()


def go_on(child, word):
    """Whether it owns."""
    if word != "stopped":
        return word
    child.say("go on")
    return child.hear()


@pytest.mark.leaves_files
@pytest.mark.parametrize("removal", range(3))
@pytest.mark.parametrize("call", ["open", "change"])
def test_who_joins_the_dead_and_who_recovers_from_them_see_each_other(
    path, call, removal, monkeypatch
):
    """The one is stopped before any of its calls, its reader dies, and the other at a removal."""
    monkeypatch.setattr(children, "IMPORT_PATH", [injected.directory(), *children.IMPORT_PATH])
    monkeypatch.chdir(os.path.dirname(path))  # not where the tree's own package is
    joins, skip, met = "stopped", 0, set()
    while joins == "stopped":
        with (
            Child(READ_ON, path) as reader,
            Child(ACQUIRE, path, "shared", "0", f"{call} {STOP} {skip} 1") as joining,
            # Long enough to take who is stopped in a look for that.
            Child(ACQUIRE, path, "alone", "1", f"dispose {STOP} {removal} 1") as writing,
        ):
            assert reader.hear() == "reads"
            joins = begin(joining)
            reader.kill()
            writes = begin(writing)
            met.add((joins, writes))
            joined = go_on(joining, joins)
            assert not (joined and go_on(writing, writes)), f"{call} {skip}"
        with LinkFileLock(path):
            skip += 1
    assert ("stopped", "stopped") in met


DENIED = "c0000022"


@pytest.mark.leaves_files
@pytest.mark.parametrize("skip", range(2))
def test_reader_that_could_not_release_is_told_that_its_lock_was_broken(path, skip):
    """A check of its release fails, so it owns still; then another breaks the lock."""
    told = injected.run(
        """
        import subprocess
        lock = lock_class(path, shared=True).acquire()
        inject("open", SKIP)
        try:
            lock.release()
        except lockfile.UnlockError:
            assert end() and lock.i_am_locking()
            code = "import lockfile, sys; lockfile.LinkFileLock(sys.argv[1]).break_lock()"
            subprocess.run([sys.executable, "-P", "-c", code, path], check=True)
            try:
                lock.release()
            except lockfile.UnlockError as error:
                print(type(error).__name__)
        """.replace("SKIP", str(skip)),
        path,
        LinkFileLock,
        DENIED,
    )
    assert told == ["NotLocked"]


def test_who_may_not_remove_the_lock_file_does_not_share_it(path):
    with Child(READ_ON, path) as reader:
        assert reader.hear() == "reads"
        told = injected.run(
            """
            inject("change", 0)
            try:
                lock_class(path, shared=True).acquire(timeout=0)
            except lockfile.AlreadyLocked as error:
                print(end(), "could not remove it" in str(error))
            """,
            path,
            LinkFileLock,
            DENIED,
            many=50,
        )
        assert told == ["True True"]
        reader.say("leave")
        reader.finish()


def test_release_that_fails_leaves_one_mark(path):
    """Another program has the lock file open, so that it cannot be removed."""
    lock = LinkFileLock(path, shared=True)
    lock.acquire()
    with handles.opened(lock.lock_file, share=READ | WRITE):
        for _ in range(3):
            with pytest.raises(UnlockError, match="still locked by me"):
                lock.release()
            assert len(lock.owners()) == 1
    with Child(READ_ON, path) as reader:
        assert reader.hear() == "reads"
        lock.release()
        assert [owner.pid for owner in lock.owners()] == [reader.pid]
    with LinkFileLock(path):
        pass
    assert os.listdir(os.path.dirname(path)) == []
