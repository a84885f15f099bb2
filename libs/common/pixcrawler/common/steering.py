"""How a replica is steered: it reads what operators want of it, and tells how it is.

See `controls.py` for what they can want. Both are a statement or two every second or few; while the
database is away, what was known before holds.
"""

import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import controls
from pixcrawler.common.controls import Control

State = Literal["working", "paused", "draining", "drained", "halted"]
"""What a replica says of itself."""

LOOK_S = 1.0
"""Seconds between two looks."""
TELL_S = 5.0
"""Seconds between two signs of life; a change of state is told at once."""


def _nobody() -> None:
    """Nobody waits for it."""


class Steering:
    """What operators want of this replica, as it was read last.

    Args:
        engine: The database, as a role that may write `replicas`.
        stage: Which stage this is a replica of.
        worker: Its name.

    Attributes:
        paused: Set while its stage is paused: finish what is in hand, take nothing more.
        drained: Set while it is to leave its group as well.
        sources: Those that are paused, by name.
        on_sources: Called when those have changed.
    """

    def __init__(self, engine: AsyncEngine, stage: str, worker: str) -> None:
        self._engine = engine
        self._stage = stage
        self._worker = worker
        self._instance = uuid.uuid4().hex
        self.paused: Control | None = None
        self.drained: Control | None = None
        self.sources: Mapping[str, Control] = MappingProxyType({})
        self.on_sources: Callable[[], None] = _nobody

    async def look(self) -> None:
        """Read what is wanted now."""
        async with self._engine.connect() as connection:
            found = await controls.over(
                connection, stage=self._stage, worker=self._worker, instance=self._instance
            )
        kinds = {each.kind: each for each in found}
        self.paused, self.drained = kinds.get("stage"), kinds.get("replica")
        before = self.sources
        self.sources = {each.name: each for each in found if each.kind == "source"}
        if before.keys() != self.sources.keys():
            self.on_sources()

    async def tell(self, state: State, in_hand: int) -> None:
        """Say that this replica is there, and how it is."""
        async with self._engine.begin() as connection:
            await connection.execute(
                text("""
                    INSERT INTO replicas (stage, worker, instance, state, in_hand)
                    VALUES (:stage, :worker, :instance, :state, :in_hand)
                    ON CONFLICT (stage, worker) DO UPDATE
                    SET instance = excluded.instance, state = excluded.state,
                        in_hand = excluded.in_hand, seen_at = clock_timestamp(),
                        started_at = CASE WHEN replicas.instance = excluded.instance
                                     THEN replicas.started_at ELSE clock_timestamp() END"""),
                {
                    "stage": self._stage,
                    "worker": self._worker,
                    "instance": self._instance,
                    "state": state,
                    "in_hand": in_hand,
                },
            )

    async def leave(self) -> None:
        """Say that this replica has gone, and forget those that went long ago without a word."""
        async with self._engine.begin() as connection:
            await connection.execute(
                text("""
                    DELETE FROM replicas
                    WHERE stage = :stage AND (worker = :worker AND instance = :instance
                          OR seen_at < clock_timestamp() - interval '1 day')"""),
                {"stage": self._stage, "worker": self._worker, "instance": self._instance},
            )
