"""What all of the planner's work shares."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.capacity import require_capacity
from pixcrawler.common.turns import Turns
from pixcrawler.planner.settings import Settings

TAKEBACKS = 5
"""How often a silent chunk is planned again before it is given up."""


@dataclass(frozen=True)
class Policy:
    """What the planner was told; see `settings.py` for the meaning and the units."""

    capacity: int = 35
    release_interval_s: float = 0.1
    max_retries: int = 3
    backoff_s: float = 2.0
    backoff_max_s: float = 120.0
    deadline_s: float = 900.0
    source_rest_s: float = 300.0

    def backoff(self, retry: int) -> float:
        """Seconds before the `retry`-th retry (from 0): doubles, with a quarter of jitter."""
        wait = min(self.backoff_s * 2.0**retry, self.backoff_max_s)
        return wait * random.uniform(0.75, 1.0)


def policy_from(settings: Settings) -> Policy:
    """The policy that the settings ask for.

    Raises:
        SettingsError: not even one chunk fits the capacity.
    """
    return Policy(
        capacity=require_capacity(settings),
        release_interval_s=settings.resource_release_interval_s,
        max_retries=settings.chunk_max_retries,
        backoff_s=settings.chunk_backoff_s,
        backoff_max_s=settings.chunk_backoff_max_s,
        deadline_s=settings.chunk_deadline_s,
        source_rest_s=settings.source_rest_s,
    )


def _nobody() -> None:
    """Nobody waits for a hint."""


@dataclass(frozen=True)
class Tools:
    """Where things are, and whom to wake.

    Attributes:
        engine: The database, as a role that may write `job_chunks`, `job_rounds` and `outbox`.
        blobs: Where results and verdicts are.
        policy: How to decide.
        source: `ce_source` of the planner's events, `/planner/<worker>`.
        published: Called after a commit that left something in the outbox.
        released: Called when a slot may have become free, or a chunk may want one.
        turns: At jobs: all work on one is done under its lock.
    """

    engine: AsyncEngine
    blobs: BlobStore
    policy: Policy
    source: str = "/planner"
    published: Callable[[], None] = _nobody
    released: Callable[[], None] = _nobody
    turns: Turns = field(default_factory=Turns)
