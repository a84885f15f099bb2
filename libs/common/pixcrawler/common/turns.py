"""Turns within a process: of those who want the same thing, one after the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """Keeps a process from standing in the queue for a database lock more than once.

    PostgreSQL ends a transaction whose process is paused (`idle_in_transaction_session_timeout`).
    A process that waits for the same lock in several transactions would then get it again and
    again, and hold up everybody else for that long each time.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait until nobody else in this process has the turn of that name, and have it."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            yield
