"""What programs write, as a type checker sees it: `make lint` runs mypy --strict on this file.

It says what each expression is, and what is no use of the package.
"""

import asyncio
import copy
import pickle
import select
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, assert_type

import pytest

import lockfile
from lockfile import (
    AlreadyLocked,
    Error,
    FileLock,
    LinkFileLock,
    LockBase,
    LockError,
    LockFailed,
    LockFile,
    LockTimeout,
    MkdirFileLock,
    NotLocked,
    NotMyLock,
    Owner,
    SQLiteFileLock,
    Steps,
    UnlockError,
    all_of,
    locked,
)
from lockfile.linklockfile import LinkLockFile
from lockfile.mkdirlockfile import MkdirLockFile
from lockfile.pidlockfile import (
    PIDLockFile,
    read_pid_from_pidfile,
    remove_existing_pidfile,
    write_pid_to_pidfile,
)
from lockfile.sqlitelockfile import SQLiteLockFile
from lockfile.symlinklockfile import SymlinkLockFile


def test_block(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "counter")
    assert_type(lock, LinkFileLock)
    with lock as entered:
        assert_type(entered, LinkFileLock)
    with MkdirFileLock("counter", lock_file=tmp_path / "counter").acquire(timeout=5) as acquired:
        assert_type(acquired, MkdirFileLock)
    with LockFile(str(tmp_path / "counter"), timeout=10), ExitStack() as stack:
        stack.enter_context(SQLiteFileLock(tmp_path / "counter"))
    context: AbstractContextManager[LockBase] = lock
    with context as entered_again:
        assert_type(entered_again, LockBase)


def returns_from_a_block(path: Path) -> int:
    """A block does not swallow exceptions, so nothing is left to return after it."""
    with FileLock(path):
        return 3


def test_returns_from_a_block(tmp_path: Path) -> None:
    assert returns_from_a_block(tmp_path / "counter") == 3


def test_answers(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "counter")
    if lock.try_acquire():
        lock.release()
    assert_type(lock.try_acquire(), bool)
    assert_type(lock.try_acquire(0.5), bool)
    assert_type(lock.try_acquire(timeout=None), bool)
    assert_type(lock.is_locked(), bool)
    assert_type(lock.i_am_locking(), bool)
    if sys.platform != "win32":
        assert_type(lock.fileno(), int)
    lock.break_lock()


def test_constructors(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    classes: list[type[LockBase]] = [LinkFileLock, MkdirFileLock, SQLiteFileLock, LockBase]
    for lock_class in classes:
        lock_class(str(path))
        lock_class(bytes(path), False)
        lock_class(path, True, 5)
        lock_class(path=path, threaded=1, timeout=2.5, lock_file=None)
        lock_class(path, lock_file=b"elsewhere")
    SQLiteFileLock(path, database=tmp_path / "locks")
    SQLiteFileLock(path, lock_file="elsewhere", database=None)


def test_attributes(tmp_path: Path) -> None:
    lock = SQLiteFileLock(tmp_path / "counter", timeout=3)
    assert_type(lock.path, str | Any)
    assert_type(lock.lock_file, str)
    assert_type(lock.unique_name, str)
    assert_type(lock.hostname, str)
    assert_type(lock.pid, int)
    assert_type(lock.threaded, bool)
    assert_type(lock.timeout, float | None)
    assert_type(lock.tname, str)
    assert_type(lock.database, str)
    lock.timeout = 5
    lock.timeout = None
    assert_type(copy.copy(lock), SQLiteFileLock)
    pickle.dumps(lock)


def say_who(owner: Owner) -> None:
    print(f"waiting for process {owner.pid}")


def test_messages_while_waiting(tmp_path: Path) -> None:
    path, told = tmp_path / "counter", list[Owner]()
    with FileLock(path, on_wait=say_who) as lock:
        assert_type(lock.on_wait, Callable[[Owner], object] | None)
    lock.acquire(timeout=5, on_wait=told.append).release()
    lock.on_wait = lambda owner: print(owner.command)
    if lock.try_acquire(1, on_wait=say_who):
        lock.release()
    lock.on_wait = None
    SQLiteFileLock(path, timeout=5, on_wait=told.append)
    assert not told


def test_owner(tmp_path: Path) -> None:
    with FileLock(tmp_path / "counter") as lock:
        owner = lock.owner()
        assert_type(owner, Owner | None)
        assert owner is not None
        assert_type(owner.hostname, str | None)
        assert_type(owner.pid, int | None)
        assert_type(owner.thread, int | None)
        assert_type(owner.alive, bool | None)
        assert_type(owner.since, float | None)
        assert_type(owner.command, str | None)
        hostname, pid, thread, alive = owner
        assert_type(hostname, str | None)
        assert_type(pid, int | None)
        assert_type(thread, int | None)
        assert_type(alive, bool | None)


def who_holds(error: Error) -> str:
    owner = error.owner
    return f"{error.path}, {owner.pid if owner is not None else None}, {error.timeout}"


def test_exceptions(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "missing" / "counter", timeout=0)
    try:
        lock.acquire()
    except (LockTimeout, AlreadyLocked) as held:
        assert_type(held.owner, Owner | None)
        pytest.fail(who_holds(held))
    except LockFailed as error:
        assert_type(error.path, str | None)
        assert_type(error.timeout, float | None)
        assert who_holds(error) == f"{lock.path}, None, 0.0"
    try:
        lock.release()
    except NotMyLock:
        pytest.fail("nobody has it")
    except NotLocked as error:
        assert_type(error.args, tuple[Any, ...])
    parents: list[type[Error]] = [LockError, UnlockError]
    timeouts: list[type[TimeoutError]] = [LockTimeout]
    assert parents and timeouts


def test_exception_of_a_program(tmp_path: Path) -> None:
    with pytest.raises(LockTimeout) as caught:
        raise LockTimeout("counter is taken")
    caught.value.path = str(tmp_path)
    caught.value.owner = None
    caught.value.timeout = 3


OnWait = Callable[[Owner], object] | None


class Counting(FileLock):
    """A subclass with a constructor of its own, on top of a mechanism."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(directory / name, timeout=5, lock_file=directory / f"{name}.locked")
        self.acquired = 0

    def acquire(
        self, timeout: float | None = None, *, on_wait: OnWait = None, shared: bool | None = None
    ) -> "Counting":
        super().acquire(timeout, on_wait=on_wait, shared=shared)
        self.acquired += 1
        return self


class Counter(LockBase):
    """A scheme of its own."""

    holds = False

    def acquire(
        self, timeout: float | None = None, *, on_wait: OnWait = None, shared: bool | None = None
    ) -> "Counter":
        if self.holds:
            raise AlreadyLocked(f"{self.path} is already locked")
        self.holds = True
        return self

    def release(self) -> None:
        self.holds = False


def test_subclasses(tmp_path: Path) -> None:
    with Counting("counter", tmp_path) as lock:
        assert_type(lock, Counting)
    assert lock.acquired == 1
    assert_type(lock.try_acquire(), bool)
    lock.release()
    with Counter("counter") as other:
        assert_type(other, Counter)
        assert other.try_acquire() is False


async def in_coroutines(path: Path) -> None:
    lock = FileLock(path, timeout=10)
    async with lock as inside:
        assert_type(inside, LinkFileLock)
    async with asyncio.timeout(10), MkdirFileLock(path) as other:
        assert_type(other, MkdirFileLock)
    assert_type(await lock.acquire_async(), LinkFileLock)
    assert_type(await asyncio.wait_for(lock.acquire_async(timeout=1), 10), LinkFileLock)
    lock.release()
    async with all_of(lock, SQLiteFileLock(path), timeout=10) as locks:
        assert locks.locks


def test_coroutines(tmp_path: Path) -> None:
    asyncio.run(in_coroutines(tmp_path / "counter"))


def test_several_at_once(tmp_path: Path) -> None:
    source, target = FileLock(tmp_path / "source"), MkdirFileLock(tmp_path / "target")
    with all_of(source, target, timeout=5):
        assert source.i_am_locking() and target.i_am_locking()
    assert_type(all_of(source, target).try_acquire(), bool)
    source.release()
    target.release()


def drive(steps: Steps) -> None:
    """As an event loop does."""
    while (seconds := steps.step()) is not None:
        assert_type(seconds, float)
        select.select([steps.fileno()] if steps.fileno() >= 0 else [], [], [], seconds)


def test_owners(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "counter", owner="object")
    drive(lock.acquire_in_steps(timeout=1))
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    for other in FileLock("x", owner="thread"), FileLock("x", owner="task", threaded=False):
        assert_type(other.threaded, bool)


class ElsewhereLock(LinkLockFile):
    """As programs derive from the classic package's classes."""

    def __init__(self, path: Path, threaded: bool = True) -> None:
        super().__init__(path, threaded)
        self.path = path
        self.lock_file = f"{path}.lck"
        self.hostname = "here"


def test_subclass_that_assigns(tmp_path: Path) -> None:
    with ElsewhereLock(tmp_path / "counter").acquire(timeout=5) as lock:
        assert_type(lock, ElsewhereLock)
        assert (tmp_path / "counter.lck").exists()


def test_decorators(tmp_path: Path) -> None:
    @FileLock(tmp_path / "counter")
    def double(number: int) -> int:
        return 2 * number

    @locked(tmp_path / "counter", timeout=5)
    def triple(number: int) -> int:
        return 3 * number

    @locked(str(tmp_path / "counter"))
    async def quadruple(number: int) -> int:
        return 4 * number

    assert_type(double(1), int)
    assert_type(triple(1), int)
    assert (double(1), triple(1), asyncio.run(quadruple(1))) == (2, 3, 4)


def test_submodules() -> None:
    assert_type(lockfile.linklockfile.LinkLockFile("counter"), LinkFileLock)
    assert_type(MkdirLockFile("counter"), MkdirFileLock)
    assert_type(SQLiteLockFile("counter"), SQLiteFileLock)
    assert_type(lockfile.__version__, str)
    assert_type(SymlinkLockFile("counter"), SymlinkLockFile)


def test_pid_files(tmp_path: Path) -> None:
    path = tmp_path / "daemon.pid"
    with PIDLockFile(path, timeout=5).acquire() as lock:
        assert_type(lock, PIDLockFile)
        assert_type(lock.read_pid(), int | None)
        assert_type(read_pid_from_pidfile(path), int | None)
    write_pid_to_pidfile(str(path))
    remove_existing_pidfile(bytes(path))


def test_what_is_no_use_of_the_package(tmp_path: Path) -> None:
    """Each of these lines would be an error; an ignore that is not needed is one, too."""
    lock = FileLock(tmp_path / "counter")
    with pytest.raises(TypeError):
        FileLock(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        FileLock("counter", True, None, "elsewhere")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        FileLock("counter", database="locks")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        FileLock("counter", on_wait="print")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        FileLock("counter", owner="me")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        FileLock("counter")(3)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        lock.try_acquire("1")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        lock.database  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(TypeError):
        type("Heir", (Owner,), {})
    with pytest.raises(AttributeError):
        lockfile.Lock  # type: ignore[attr-defined]  # noqa: B018
