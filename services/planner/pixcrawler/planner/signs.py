"""Signs of life, gathered and written in batches: losing some in a crash costs nothing."""

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.db.engine import transaction
from pixcrawler.planner import store
from pixcrawler.planner.store import Sign

FULL = 200
"""Chunks after which a batch is written before its time."""


class Signs:
    """The chunks that gave a sign of life since the last batch, with the last sign of each.

    Args:
        engine: The database.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._seen: dict[str, Sign] = {}

    def saw(self, chunk_id: str, sign: Sign) -> None:
        """A chunk gave a sign of life."""
        self._seen[chunk_id] = sign

    @property
    def full(self) -> bool:
        """Whether a batch is worth writing now."""
        return len(self._seen) >= FULL

    async def flush(self) -> None:
        """Write what was seen. What could not be written is seen again soon enough."""
        taken, self._seen = self._seen, {}
        if taken:
            async with transaction(self._engine, "signs") as connection:
                await store.seen(connection, taken)
