"""How far a chunk is, told often enough to be a sign of life."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pixcrawler.common.context import Context
from pixcrawler.common.documents import Fetched
from pixcrawler.common.events import ImageTotals

REPORT_S = 0.5
"""Seconds between two reports of progress (the loop publishes fewer still)."""
PULSE_S = 20.0
"""Seconds between two reports while nothing gets done: far less than a chunk's deadline."""


@dataclass(slots=True)
class Tally:
    """What became of the candidates of a chunk so far."""

    candidates: int
    done: int = 0
    downloaded: int = 0
    bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, fetched: Fetched) -> None:
        """Count one more."""
        self.done += 1
        if fetched.outcome is None:
            self.downloaded += 1
            self.bytes += fetched.bytes
        else:
            self.dropped[fetched.outcome] += 1

    def totals(self) -> ImageTotals:
        """As progress shows it; nothing is kept yet."""
        return ImageTotals(
            candidates=self.candidates, downloaded=self.downloaded, dropped=dict(self.dropped)
        )


class Progress:
    """Says how far a chunk is, often enough to be a sign of life.

    Args:
        tally: What became of its candidates so far.
        context: Whom to tell.
    """

    def __init__(self, tally: Tally, context: Context) -> None:
        self._tally = tally
        self._context = context
        self._at = 0.0

    def add(self, fetched: Fetched) -> None:
        """Count one more."""
        self._tally.add(fetched)
        if time.monotonic() - self._at >= REPORT_S:
            self.report()

    def report(self) -> None:
        """Tell it now."""
        self._at = time.monotonic()
        tally = self._tally
        self._context.report(tally.done, tally.candidates, tally.totals())


@asynccontextmanager
async def pulse(report: Callable[[], None], every_s: float = PULSE_S) -> AsyncIterator[None]:
    """Report again and again while the context lasts.

    A search that asks for patience, a host whose budget others use, a database that is away: all
    of these are waited for, within bounds of their own, and meanwhile the chunk is in good hands.
    """

    async def beat() -> None:
        while True:
            await asyncio.sleep(every_s)
            report()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
