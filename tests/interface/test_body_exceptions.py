"""What the body of a with block has raised goes on, whatever its end has to say: that is a note."""

import asyncio
import contextlib
import errno
import signal
import traceback

import pytest

import lockfile
from lockfile import LinkFileLock, LockBase, NotLocked, NotMyLock, UnlockError
from support import OtherThread, in_thread, refuse

BODY_EXCEPTIONS = [
    KeyError("body"),
    KeyboardInterrupt("body"),
    SystemExit(3),
    GeneratorExit("body"),
    asyncio.CancelledError("body"),
    ExceptionGroup("body", [ValueError("one")]),
    BaseExceptionGroup("body", [KeyboardInterrupt("one")]),
    StopIteration("body"),
    OSError(errno.EIO, "body"),
]


def notes_of(error):
    return getattr(error, "__notes__", [])


@pytest.mark.parametrize("raised", BODY_EXCEPTIONS, ids=lambda error: type(error).__name__)
def test_body_exception_goes_on_and_has_a_note_of_the_broken_lock(lock_class, path, raised):
    raised = type(raised)(*raised.args)
    with pytest.raises(type(raised)) as caught:
        with lock_class(path) as lock:
            lock.break_lock()
            raise raised
    assert caught.value is raised
    assert notes_of(raised) == [f"lockfile.NotLocked: {path} is not locked"]
    assert raised.__context__ is None
    assert notes_of(raised)[0] in "".join(traceback.format_exception(raised))


def test_traceback_of_the_body_exception_is_its_own(lock_class, path):
    def fail():
        raise KeyError

    with pytest.raises(KeyError) as caught:
        with lock_class(path) as lock:
            lock.break_lock()
            fail()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"


def test_note_says_who_has_the_lock_now(lock_class, path):
    with OtherThread() as thread:
        with pytest.raises(KeyError) as caught:
            with lock_class(path) as lock:
                lock.break_lock()
                thread.run(lock.acquire)
                raise KeyError
        thread.run(lock.release)
    [note] = notes_of(caught.value)
    assert note.startswith(f"lockfile.NotMyLock: {path} is locked, but not by me: held by thread")


@pytest.mark.parametrize("name", ["LinkFileLock", "MkdirFileLock"])
def test_note_says_that_the_release_has_failed(path, refusals, name):
    refused = {"LinkFileLock": "unlink", "MkdirFileLock": "rename"}[name]
    lock = getattr(lockfile, name)(path, threaded=False)
    error = KeyError()

    def leave():
        with contextlib.suppress(KeyError), lock:
            refuse(refused, errno.EIO)
            raise error

    in_thread(leave)
    [note] = notes_of(error)
    assert note.startswith(f"lockfile.UnlockError: {path} could not be unlocked")
    assert lock.i_am_locking()
    lock.release()


def test_without_a_body_exception_ours_is_raised(lock_class, path):
    with pytest.raises(NotLocked) as caught:
        with lock_class(path) as lock:
            lock.break_lock()
    assert notes_of(caught.value) == []
    lock.acquire()
    lock.break_lock()
    for arguments in [(), (None,), (None, None, None), (KeyError, None, None)]:
        with pytest.raises(NotLocked):
            lock.__exit__(*arguments)


def test_handled_exception_around_the_block_is_none_of_its_body(lock_class, path):
    try:
        raise KeyError
    except KeyError as error:
        with pytest.raises(NotLocked) as caught:
            with lock_class(path) as lock:
                lock.break_lock()
        assert caught.value.__context__ is error
        assert notes_of(error) == []


def test_body_exception_without_anything_to_say_has_no_note(lock_class, path):
    with pytest.raises(KeyError) as caught:
        with lock_class(path), lock_class(path):
            raise KeyError
    assert notes_of(caught.value) == []


# Blocks within each other


def test_nested_blocks_of_one_lock_add_one_note(lock_class, path):
    with pytest.raises(KeyError) as caught:
        with lock_class(path) as lock, lock, lock_class(path):
            lock.break_lock()
            raise KeyError
    assert len(notes_of(caught.value)) == 1
    with lock:
        assert lock.i_am_locking()
    assert not lock.is_locked()


def test_blocks_of_several_locks_add_a_note_each(lock_class, tmp_path):
    one, other = lock_class(tmp_path / "one"), lock_class(tmp_path / "other")
    error = KeyError()
    error.add_note("mine")
    with pytest.raises(KeyError):
        with one, other:
            one.break_lock()
            other.break_lock()
            raise error
    assert error.__notes__ == [
        "mine",
        f"lockfile.NotLocked: {other.path} is not locked",
        f"lockfile.NotLocked: {one.path} is not locked",
    ]


def test_what_the_body_exception_says_itself_is_no_note(lock_class, path):
    with pytest.raises(NotLocked) as caught:
        with lock_class(path) as lock, lock:
            lock.break_lock()
            lock.release()
    assert notes_of(caught.value) == []


def test_exit_stack_passes_the_body_exception_on(lock_class, path):
    with pytest.raises(KeyError) as caught:
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_class(path)).break_lock()
            raise KeyError
    assert len(notes_of(caught.value)) == 1


def test_generator_that_is_closed_in_a_block_ends_quietly(lock_class, path):
    def generate():
        with lock_class(path) as lock:
            lock.break_lock()
            try:
                yield
            except GeneratorExit as error:
                ends.append(error)
                raise

    ends = []
    generator = generate()
    next(generator)
    generator.close()
    assert len(notes_of(ends[0])) == 1


def test_cancelled_task_is_cancelled(lock_class, path):
    """Were CancelledError replaced, asyncio.timeout() and task groups would not know their own."""

    async def work():
        with lock_class(path) as lock:
            lock.break_lock()
            await asyncio.sleep(1000)

    async def main():
        async with asyncio.timeout(0.01):
            await work()

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(main())
    assert len(notes_of(caught.value.__context__)) == 1


# Exceptions that take no notes


class Deaf(Exception):
    def add_note(self, note):
        raise ValueError("no notes")


class WithNotesOfItsOwn(Exception):
    __notes__ = 3


class WithoutAttributes(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)


@pytest.mark.parametrize("exception", [Deaf, WithNotesOfItsOwn])
def test_exception_that_takes_no_notes_goes_on_and_ours_is_its_context(lock_class, path, exception):
    with pytest.raises(exception) as caught:
        with lock_class(path) as lock:
            lock.break_lock()
            raise exception
    assert isinstance(caught.value.__context__, NotLocked)
    assert caught.value.__context__.__context__ is None


def test_exception_that_takes_no_attributes_goes_on(lock_class, path):
    with pytest.raises(WithoutAttributes):
        with lock_class(path) as lock:
            lock.break_lock()
            raise WithoutAttributes


def test_context_of_an_exception_that_takes_no_notes_is_kept(lock_class, path):
    with pytest.raises(Deaf) as caught:
        with lock_class(path) as lock:
            lock.break_lock()
            try:
                raise KeyError
            except KeyError:
                raise Deaf  # noqa: B904
    assert isinstance(caught.value.__context__, KeyError)


class Urgent(Exception):
    def add_note(self, note):
        raise KeyboardInterrupt


def test_interrupt_while_the_note_is_added_comes_through(lock_class, path):
    with pytest.raises(KeyboardInterrupt):
        with lock_class(path) as lock:
            lock.break_lock()
            raise Urgent


# release() of a subclass, and what comes in between


class Told(LockBase):
    """A scheme whose release() raises what it is told."""

    error = None

    def acquire(self, timeout=None):
        return self

    def release(self):
        raise self.error


class SpecialError(UnlockError):
    pass


@pytest.mark.parametrize(
    "error", [NotLocked("gone"), NotMyLock("gone"), UnlockError("gone"), SpecialError("gone")]
)
def test_what_a_release_of_ones_own_says_of_the_lock_is_a_note(error):
    lock = Told("README")
    lock.error = error
    with pytest.raises(KeyError) as caught:
        with lock:
            raise KeyError
    kind = type(error)
    assert notes_of(caught.value) == [f"{kind.__module__}.{kind.__qualname__}: gone"]


@pytest.mark.parametrize(
    "error", [OSError("gone"), lockfile.LockFailed("gone"), KeyboardInterrupt()], ids=repr
)
def test_what_a_release_of_ones_own_raises_else_comes_through(error):
    lock = Told("README")
    lock.error = error
    with pytest.raises(type(error)) as caught:
        with lock:
            raise KeyError
    assert caught.value is error
    assert isinstance(error.__context__, KeyError)


def test_release_that_raises_the_body_exception_itself():
    lock = Told("README")
    lock.error = NotLocked("gone")
    with pytest.raises(NotLocked) as caught:
        with lock:
            raise lock.error
    assert caught.value is lock.error
    assert notes_of(lock.error) == []


def test_release_on_top_of_a_mechanism_is_called_once_more(lock_class, path):
    class Counting(lock_class):
        released = 0

        def release(self):
            self.released += 1
            super().release()

    with pytest.raises(KeyError) as caught:
        with Counting(path) as lock:
            lock.break_lock()
            raise KeyError
    assert lock.released == 1
    assert len(notes_of(caught.value)) == 1


class Interrupted(LinkFileLock):
    """A signal comes while it is released, and its handler raises."""

    def release(self):
        signal.raise_signal(signal.SIGUSR1)
        super().release()


class HandlerError(Exception):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, HandlerError, TimeoutError])
def test_what_a_signal_handler_raises_in_a_release_is_not_lost(path, error):
    def handle(*_):
        raise error

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with pytest.raises(error) as caught:
            with Interrupted(path) as lock:
                raise KeyError
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert isinstance(caught.value.__context__, KeyError)
    assert lock.i_am_locking()
    LinkFileLock(path).release()
