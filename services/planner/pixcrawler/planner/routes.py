"""Which of the planner's handlers gets which event."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pixcrawler.common.events import (
    ChunkDownloaded,
    ChunkFailed,
    ChunkProgress,
    ChunkUploaded,
    ChunkValidated,
    Event,
    JobCancelled,
    JobCreated,
)
from pixcrawler.common.work import Route
from pixcrawler.planner import handler
from pixcrawler.planner.signs import Signs
from pixcrawler.planner.tools import Tools


def routes(tools: Tools, signs: Signs) -> Sequence[Route[Any]]:
    """What the planner reads.

    Keyed by the event's id and not by the chunk: two attempts that failed are two facts, and the
    second must not get lost in the work for the first.
    """
    return [
        Route(JobCreated, partial(handler.handle_job_created, tools=tools), _by_id),
        Route(JobCancelled, partial(handler.handle_job_cancelled, tools=tools), _by_id),
        Route(ChunkUploaded, partial(handler.handle_chunk_uploaded, tools=tools), _by_id),
        Route(ChunkFailed, partial(handler.handle_chunk_failed, tools=tools), _by_id),
        Route(ChunkDownloaded, partial(handler.handle_chunk_downloaded, tools=tools), _by_id),
        Route(ChunkValidated, partial(handler.handle_chunk_validated, tools=tools), _by_id),
        Route(ChunkProgress, partial(handler.handle_chunk_progress, signs=signs), _by_id),
    ]


def _by_id(event: Event) -> str:
    return event.event_id
