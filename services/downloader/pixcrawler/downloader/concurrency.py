"""Several things at once: all of them, or the first error."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pixcrawler.common.errors import Signal

T = TypeVar("T")


@asynccontextmanager
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose first error (a signal before all others) is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as errors:
        leaves = list(_leaves(errors))
        signals = [error for error in leaves if isinstance(error, Signal)]
        raise (signals or leaves)[0] from None


async def all_of(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results, in order; if one fails, the others are cancelled."""
    async with group() as tasks:
        running = [tasks.create_task(coroutine) for coroutine in coroutines]
    return [task.result() for task in running]


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
