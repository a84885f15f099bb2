"""The planner's composition root: `python -m pixcrawler.planner`."""

from functools import partial
from typing import Any

from pixcrawler.common import service
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
from pixcrawler.common.outbox import Relay
from pixcrawler.common.periodic import Periodic
from pixcrawler.common.service import Runnable, Runtime
from pixcrawler.common.stage import Route
from pixcrawler.planner import admission, handler, timer
from pixcrawler.planner.settings import Settings
from pixcrawler.planner.signs import Signs
from pixcrawler.planner.tools import Tools, policy_from


def main() -> None:
    """Run the planner until it is told to stop."""
    service.main("planner", Settings, build)


async def build(settings: Settings, runtime: Runtime) -> list[Runnable]:
    """Wire the consumer loop, the outbox's relay, and the timers.

    Raises:
        SettingsError: not even one chunk fits the capacity.
    """
    policy = policy_from(settings)
    relay = Relay(runtime.engine, runtime.publisher)
    admitting = Periodic(
        "admission", lambda: admission.admit(tools), interval_s=settings.planner_tick_s
    )
    tools = Tools(
        engine=runtime.engine,
        blobs=runtime.blobs,
        policy=policy,
        source=runtime.source,
        published=relay.hint,
        released=admitting.hint,
    )
    signs = Signs(runtime.engine)
    reviewing = Periodic(
        "review", lambda: timer.review(tools), interval_s=settings.planner_review_s
    )
    runtime.steering.on_sources = reviewing.hint  # rounds may wait for one that is paused
    return [
        runtime.stage(routes(tools, signs), watch_jobs=False),
        relay,
        admitting,
        Periodic("deadlines", lambda: timer.tick(tools, signs), interval_s=settings.planner_tick_s),
        reviewing,
    ]


def routes(tools: Tools, signs: Signs) -> list[Route[Any]]:
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


if __name__ == "__main__":
    main()
