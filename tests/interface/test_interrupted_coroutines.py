"""Whatever a signal's handler raises, and wherever: a lock is owned by whom the outcome says."""

import asyncio
import contextlib
import dis
import gc
import inspect
import sys

import pytest

import lockfile
from lockfile import _waiting
from support.tasks import settle


class Raised(BaseException):
    """By a handler."""


# After which the interpreter runs handlers; nowhere else.
LOOKS_FOR_SIGNALS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD", "RESUME"}


class Interruption:
    """Raises where a handler may, at one place of the code that waits for locks, in one task."""

    def __init__(self, number):
        self.left = number
        self.task = None
        self.place = None  # the name of the function in which it has raised
        self.before = {}  # what each frame has just executed

    def trace(self, frame, event, arg):
        mine = frame.f_code.co_filename == _waiting.__file__
        if not mine or asyncio.current_task() is not self.task:
            return None
        frame.f_trace_opcodes = True
        return self.trace_one

    def trace_one(self, frame, event, arg):
        if event == "opcode":
            now = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if self.before.get(frame) in LOOKS_FOR_SIGNALS:
                self.left -= 1
                if self.left == 0:
                    self.place = frame.f_code.co_name
                    raise Raised
            self.before[frame] = now
        return self.trace_one


async def contend(lock_class, path, interruption):
    """One waits, is interrupted, and another waits behind it."""
    inside = []

    async def work(name):
        async with lock_class(path):
            inside.append(name)
            await asyncio.sleep(0)

    await (lock := lock_class(path)).acquire_async()
    interruption.task = asyncio.create_task(work("first"))
    sys.settrace(interruption.trace)
    try:
        await settle()
        behind = asyncio.create_task(work("behind"))
        await settle()
        lock.release()
        with contextlib.suppress(Raised):
            await interruption.task
        async with asyncio.timeout(60):
            await behind
    finally:
        sys.settrace(None)
    assert not lock.is_locked()
    assert _waiting.waits_in == {} or all(not waits.lines for waits in _waiting.waits_in.values())
    async with asyncio.timeout(60), lock_class(path):
        pass


# A handler may raise between a coroutine's making and its first step.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.skipif(sys.gettrace() is not None, reason="another traces")
def test_lock_is_not_lost_wherever_a_handler_raises(file_lock_class, path):
    interruptions = []

    async def main():
        # How often the first waits is the scheduler's: so are the places, and their number.
        while len(interruptions) < 99 or interruptions[-1].place is not None:
            interruptions.append(Interruption(len(interruptions) + 1))
            await contend(file_lock_class, path, interruptions[-1])

    asyncio.run(main())
    gc.collect()  # waits that were interrupted are in cycles, and keep their watches
    functions = {interruption.place for interruption in interruptions if interruption.place}
    assert len(functions) >= 5


def test_granted_lock_reaches_the_block_without_code_of_pythons(lock_class, path):
    """So that no handler comes in between."""
    lock = lock_class(path)

    async def main():
        steps = lock.__aenter__()
        assert not lock.is_locked()
        iterator = steps.__await__()
        assert lock.i_am_locking()
        assert not inspect.isgenerator(iterator) and not inspect.iscoroutine(iterator)
        with pytest.raises(StopIteration) as stopped:
            next(iterator)
        assert stopped.value.value is lock
        end = lock.__aexit__(None, None, None)  # which a handler may keep from being awaited
        assert not lock.is_locked()
        with pytest.raises(StopIteration):
            next(end.__await__())
        assert not lock.is_locked()

    asyncio.run(main())


def test_steps_give_back_what_nobody_has_taken(lock_class, path):
    lock = lock_class(path)
    steps = lock.acquire_in_steps()
    assert steps.step() is None
    assert lock.i_am_locking()
    steps.end()
    steps.end()
    assert not lock.is_locked()


def test_steps_give_back_nothing_that_was_owned_before(lock_class, path):
    lock = lock_class(path)
    lock.acquire()
    steps = lock.acquire_in_steps()
    assert steps.step() is None
    steps.end()
    assert lock.i_am_locking()
    lock.release()


def test_steps_that_go_away_leave_the_lock_to_its_owner(lock_class, path):
    lock = lock_class(path)
    steps = lock.acquire_in_steps()
    assert steps.step() is None
    assert steps.value is lock
    del steps
    assert lock.i_am_locking()
    lock.release()


def test_steps_are_over_once(lock_class, path):
    lock = lock_class(path)
    steps = lock.acquire_in_steps()
    assert steps.step() is None
    with pytest.raises(RuntimeError, match="over"):
        steps.step()
    lock.release()


def test_steps_fail_as_acquire_does(lock_class, path):
    with lock_class(path, owner="object"):
        steps = lock_class(path).acquire_in_steps(timeout=0)
        with pytest.raises(lockfile.AlreadyLocked):
            steps.step()
