"""Coroutines."""

import asyncio

# More turns of a loop than a task needs to begin a wait.
TURNS = 20


async def settle(turns=TURNS):
    """The other tasks go on until they wait."""
    for _ in range(turns):
        await asyncio.sleep(0)
