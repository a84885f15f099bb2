"""Ranges of candidates: how a job is cut into chunks before anything is known of its sources.

The api tells a caller which chunks a job will have, the planner makes them: both from here.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

URLS = "urls"
"""The source whose candidates the caller brought along; it has no keywords."""

SOURCES: Final = ("openverse", "commons", URLS)
"""All that a job of this version can name; what each is, the api says (`GET /v1/sources`)."""


class Range(NamedTuple):
    """Candidates `start` to `end` of a job, inclusive, counted from 0."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many candidates."""
        return self.end - self.start + 1


def supply(sources: Sequence[str], urls: int) -> int | None:
    """How many candidates there can be at most; None where a search has no known end.

    Args:
        sources: The job's sources.
        urls: How many URLs the caller brought along.
    """
    return urls if all(source == URLS for source in sources) else None


def initial_ranges(
    max_images: int, chunk_size: int, available: int | None = None
) -> tuple[Range, ...]:
    """The chunks that a job starts with: one candidate for each image asked for.

    2500 in chunks of 500 → 0-499, …, 2000-2499; 250 → 0-249.

    Args:
        max_images: Images asked for.
        chunk_size: Candidates in a chunk at most.
        available: How many candidates there are (see `supply`), None if that is not known.
    """
    total = max_images if available is None else min(max_images, available)
    return cut(0, total, chunk_size)


def cut(start: int, count: int, chunk_size: int) -> tuple[Range, ...]:
    """`count` candidates from `start` on, in ranges of `chunk_size` and a rest."""
    end = start + count
    return tuple(
        Range(first, min(first + chunk_size, end) - 1) for first in range(start, end, chunk_size)
    )
