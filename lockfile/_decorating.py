"""How locks decorate functions, and coroutine functions.

Imported when the first lock does.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from lockfile._lockfile import LockBase

Function = TypeVar("Function", bound=Callable[..., Any])


LATER = "whose body would run after the lock's release"


def _refuse_what_runs_later(result: object) -> None:
    """Only a call tells what a wrapper of other functions returns."""
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
    elif not inspect.isasyncgen(result):
        return
    raise TypeError(f"a function that a lock decorates has returned {result!r}, {LATER}")


def decorate(function: Function, find_lock: Callable[[], LockBase]) -> Function:
    """The function, with the lock that find_lock() returns around each of its calls."""
    if not callable(function):
        raise TypeError(f"a lock decorates functions, not {type(function)!r}")
    kinds = function, type(function).__call__  # of objects that can be called, too
    if any(inspect.isgeneratorfunction(kind) or inspect.isasyncgenfunction(kind) for kind in kinds):
        raise TypeError(f"a lock cannot decorate a generator, {LATER}")

    if any(map(inspect.iscoroutinefunction, kinds)):

        @functools.wraps(function)
        async def call_async(*arguments: Any, **keywords: Any) -> Any:
            async with find_lock():
                return await function(*arguments, **keywords)

        return cast(Function, call_async)

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        with find_lock():
            result = function(*arguments, **keywords)
            _refuse_what_runs_later(result)
            return result

    return cast(Function, call)


def decorate_with(lock: LockBase, function: Function) -> Function:
    """What calling a lock does."""
    return decorate(function, lambda: lock)
