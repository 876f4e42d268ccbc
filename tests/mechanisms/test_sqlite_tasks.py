"""SQLiteFileLock in coroutines: while another writes into the database, the loop goes on."""

import asyncio

import pytest

from lockfile import SQLiteFileLock
from support import OtherThread
from support.databases import writing
from support.tasks import settle


@pytest.fixture
def lock(path):
    lock = SQLiteFileLock(path)
    with lock:
        pass  # makes the database
    return lock


async def leave(lock, inside, end):
    async with lock:
        inside.set()
        await end.wait()


async def begin_to_leave(lock, end):
    inside = asyncio.Event()
    task = asyncio.create_task(leave(lock, inside, end))
    await inside.wait()
    return task


def test_other_tasks_run_while_the_end_of_a_block_waits(lock):
    async def main():
        end = asyncio.Event()
        task = await begin_to_leave(lock, end)
        with writing(lock.database):
            end.set()
            await settle()
            assert not task.done()  # or the loop was stopped until it gave up
        await task

    asyncio.run(main())
    assert not lock.is_locked()


def test_end_of_a_block_that_is_cancelled_is_finished_all_the_same(lock):
    async def main():
        end = asyncio.Event()
        task = await begin_to_leave(lock, end)
        with OtherThread() as thread:
            transaction = writing(lock.database)
            thread.run(transaction.__enter__)
            end.set()
            await settle()
            task.cancel()
            over = thread.start(transaction.__exit__, None, None, None)
            with pytest.raises(asyncio.CancelledError):
                await task
            over.result()
        assert not lock.is_locked()

    asyncio.run(main())
