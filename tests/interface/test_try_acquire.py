"""try_acquire(): an answer where acquire() raises an exception."""

import errno
import math
import os
import threading

import pytest

import lockfile
from lockfile import AlreadyLocked, LinkFileLock, LockBase, LockFailed, LockTimeout, NotLocked
from support import PATIENCE, OtherThread, in_thread, names
from support.protocol import SteppedChild


def test_free_lock_is_taken(lock):
    assert lock.try_acquire() is True
    assert lock.i_am_locking()
    lock.release()
    assert not lock.is_locked()


def test_own_lock_is_had_already_and_is_not_counted(lock_class, lock, path):
    lock.acquire()
    assert lock.try_acquire() is True
    assert lock_class(path).try_acquire() is True
    lock.release()
    assert not lock.is_locked()


@pytest.mark.parametrize("arguments", [(), (0,), (-1,), (False,), (0.01,)], ids=repr)
def test_held_lock_is_not_taken(lock_class, path, arguments):
    with lock_class(path) as lock:
        assert in_thread(lock_class(path).try_acquire, *arguments) is False
        assert lock.i_am_locking()
    assert in_thread(lock_class(path).try_acquire) is True
    lock_class(path).break_lock()


def test_lock_of_another_program_is_not_taken(file_lock_class, tmp_path):
    foreign = tmp_path / "README.lock"
    foreign.touch()
    assert file_lock_class(tmp_path / "README").try_acquire() is False
    foreign.unlink()


@pytest.mark.parametrize("timeout", [None, True, PATIENCE, math.inf])
def test_it_waits_as_acquire_does(lock_class, path, timeout):
    """None and True: as long as the attribute says, which is for ever here."""
    lock = lock_class(path)
    with OtherThread() as thread:
        with lock:
            waiting = thread.start(lock.try_acquire, timeout)
            with pytest.raises(TimeoutError):
                waiting.result(0.05)
        assert waiting.result(PATIENCE) is True
        thread.run(lock.release)


@pytest.mark.parametrize("argument", [None, True])
def test_attribute_says_how_long_it_waits_if_asked_for(lock_class, path, argument):
    with lock_class(path):
        assert in_thread(lock_class(path, timeout=0.01).try_acquire, argument) is False


def test_attribute_does_not_count_by_default(lock_class, path):
    with lock_class(path):
        assert in_thread(lock_class(path, timeout=math.inf).try_acquire) is False


def test_what_is_no_matter_of_being_held_is_raised(lock_class, path):
    with pytest.raises(LockFailed) as caught:
        lock_class(os.path.join(path, "missing")).try_acquire()
    assert caught.value.__cause__.errno == errno.ENOENT
    assert caught.value.timeout == 0


@pytest.mark.parametrize("wrong", ["1", [], 1j, math.nan, 10**400], ids=str)
def test_arguments_are_checked_as_those_of_acquire(lock_class, path, tmp_path, wrong):
    lock = lock_class(path)
    with pytest.raises((TypeError, ValueError)) as expected:
        lock.acquire(wrong)
    with pytest.raises(expected.type) as caught:
        lock.try_acquire(wrong)
    assert str(caught.value) == str(expected.value)
    for call in (lambda: lock.try_acquire(1, 2), lambda: lock.try_acquire(patience=1)):
        with pytest.raises(TypeError):
            call()
    assert names(tmp_path) == []


def test_lock_that_was_waited_for_in_vain_is_the_one_to_break(lock_class, path):
    """As after a LockTimeout: what has come in its place is left."""
    lock = lock_class(path)
    with OtherThread() as thread:
        thread.run(lock.acquire)
        assert lock.try_acquire(0.01) is False
        thread.run(lock.release)
        thread.run(lock.acquire)
        lock.break_lock()
        assert lock.is_locked()
        thread.run(lock.release)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_no_exception_is_made_only_to_be_dropped(lock_class, path, monkeypatch, timeout):
    made = []
    for exception in (AlreadyLocked, LockTimeout):
        monkeypatch.setattr(exception, "__init__", lambda *arguments: made.append(arguments))
    with lock_class(path):
        with pytest.raises(lockfile.LockError):
            in_thread(lock_class(path).acquire, timeout)
        assert len(made) == 1, "this is how one would be seen"
        assert in_thread(lock_class(path).try_acquire, timeout) is False
    assert len(made) == 1


TRY = """
    lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
    lock.try_acquire()  # what is done once
    lock.is_locked() and lock.i_am_locking() and lock.release()
    be_stopped()
    say("begin")
    try:
        answer = getattr(lock, sys.argv[3])(timeout=0)
    except lockfile.AlreadyLocked:
        answer = False
    say(bool(answer))
    """


def calls_of(lock_class, path, method):
    """The system calls of one try: their kinds."""
    kinds = ("open", "flock", "link", "unlink", "stat", "fcntl", "mkdir", "rename", "list", "say")
    with SteppedChild(TRY, lock_class.__name__, path, method, kinds=kinds) as child:
        child.run_to("say")
        calls = []
        while (call := child.next_call()).kind != "say":
            calls.append(call.kind)
        child.go_on()
        child.finish()
    return calls


def test_it_costs_what_acquire_costs(lock_class, path):
    told = calls_of(lock_class, path, "acquire")
    assert told
    assert calls_of(lock_class, path, "try_acquire") == told


def test_who_tries_does_not_look_for_the_owner(file_lock_class, path):
    """Which is to list a directory of any size, unless the lock file says it itself."""
    with file_lock_class(path):
        told = calls_of(file_lock_class, path, "acquire")
        tried = calls_of(file_lock_class, path, "try_acquire")
    assert len(tried) <= len(told)
    if file_lock_class is LinkFileLock:
        assert "list" in told
        assert "list" not in tried


# Subclasses


class Recording(LockBase):
    """Its own scheme: what acquire() does, it is told."""

    def __init__(self, *answers):
        super().__init__("README")
        self.answers, self.timeouts = list(answers), []

    def acquire(self, *timeouts):
        self.timeouts.extend(timeouts)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class TakenByAProgram(AlreadyLocked):
    pass


@pytest.mark.parametrize(
    ("answer", "acquired"),
    [
        (None, True),
        (True, True),
        ("the lock", True),
        (0, True),
        (False, False),
        (AlreadyLocked("README is taken"), False),
        (LockTimeout("README is taken"), False),
        (TakenByAProgram(), False),
    ],
    ids=repr,
)
def test_acquire_of_a_scheme_of_its_own_decides(answer, acquired):
    """It returns anything, as the classic ones did; False is what threading.Lock says."""
    lock = Recording(answer, answer, answer)
    for arguments in ((), (3,), (None,)):
        assert lock.try_acquire(*arguments) is acquired
    assert lock.timeouts == [0, 3, None]


@pytest.mark.parametrize(
    "error",
    [
        LockFailed("no"),
        lockfile.LockError("no"),
        NotLocked("no"),
        TimeoutError("no"),
        KeyError("no"),
        KeyboardInterrupt(),
        GeneratorExit(),
    ],
    ids=repr,
)
def test_other_errors_of_a_scheme_of_its_own_come_through(error):
    with pytest.raises(type(error)) as caught:
        Recording(error).try_acquire()
    assert caught.value is error


def test_scheme_without_an_acquire():
    with pytest.raises(NotImplementedError, match=r"LockBase does not implement acquire\(\)"):
        LockBase("README").try_acquire()


def counting(lock_class):
    class Counting(lock_class):
        acquired = 0

        def acquire(self, timeout=None):
            super().acquire(timeout)
            self.acquired += 1

    return Counting


def test_acquire_on_top_of_a_mechanism_is_called(lock_class, path):
    lock = counting(lock_class)(path)
    assert lock.try_acquire() is True
    assert lock.acquired == 1
    assert in_thread(lock.try_acquire) is False
    assert lock.acquired == 1
    lock.release()


@pytest.mark.parametrize("where", ["class", "object"])
def test_patched_acquire_is_called(lock_class, path, monkeypatch, where):
    lock = lock_class(path)
    calls = []
    if where == "class":
        monkeypatch.setattr(lock_class, "acquire", lambda self, timeout: calls.append(timeout))
    else:
        lock.acquire = calls.append
    assert lock.try_acquire() is True
    assert lock.try_acquire(timeout=2) is True
    assert calls == [0, 2]


def test_subclass_that_overrides_nothing_is_asked_directly(lock_class, path):
    lock = type("Plain", (lock_class,), {"timeout": 0.01})(path)
    with lock_class(path):
        assert in_thread(lock.try_acquire, None) is False
    assert lock.try_acquire() is True
    lock.release()


def test_acquire_of_another_object_is_not_taken_for_ours(lock_class, path, tmp_path):
    lock, other = lock_class(path), lock_class(tmp_path / "other")
    lock.acquire = other.acquire
    assert lock.try_acquire() is True
    assert other.i_am_locking()
    assert not lock.is_locked()
    other.release()


def test_threads_that_try_get_in_one_at_a_time(lock_class, path):
    inside, together, entered = [], [], []

    def work():
        lock = lock_class(path)
        while len(entered) < 50:
            if lock.try_acquire():
                inside.append(None)
                together.append(len(inside))
                entered.append(None)
                inside.pop()
                lock.release()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert set(together) == {1}
