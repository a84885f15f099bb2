"""The tracker's composition root."""

import functools
import logging

from pixcrawler.common import events, service, topics
from pixcrawler.common.events import Event, JobProgress, Record
from pixcrawler.common.periodic import Periodic
from pixcrawler.common.service import Runtime
from pixcrawler.common.stage import Route
from pixcrawler.tracker import handler, store
from pixcrawler.tracker.settings import Settings
from pixcrawler.tracker.shown import Shown
from pixcrawler.tracker.worker import Worker


async def build(settings: Settings, runtime: Runtime) -> list[service.Runnable]:
    """Wire the worker to the database and to `job.progress`."""
    for chatty in ("faust", "mode"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    async def tell(job_id: str, progress: JobProgress | None, traceparent: str) -> None:
        if progress is not None:
            await runtime.publisher.publish([progress], traceparent=traceparent)
        else:
            tombstone = Record(topics.JOB_PROGRESS, job_id.encode(), None, ())
            await runtime.publisher.send([tombstone])

    forward = functools.partial(handler.repartition, publisher=runtime.publisher)
    routes = [Route(event, forward, key=handler.key_of) for event in events.ALL if _is_read(event)]
    shown = Shown(runtime.engine, tell)
    return [
        runtime.stage(routes, in_flight=settings.tracker_in_flight, watch_jobs=False),
        Worker(settings, shown),
        Periodic("shown", shown.flush, interval_s=settings.tracker_flush_s),
        Periodic(
            "erase",
            functools.partial(store.erase, runtime.engine),
            interval_s=settings.tracker_erase_s,
        ),
    ]


def _is_read(event: type[Event]) -> bool:
    """Whether the registry says that the tracker reads it."""
    return any(
        topic.name == event.topic and "tracker" in topic.readers for topic in topics.registry()
    )


def main() -> None:
    """Run the tracker."""
    service.main("tracker", Settings, build)


if __name__ == "__main__":
    main()
