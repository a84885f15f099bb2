"""Live progress as Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import AsyncIterator
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Header
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, format_sse_event

from pixcrawler.api import examples, store, views
from pixcrawler.api.auth import Reader
from pixcrawler.api.feed import News
from pixcrawler.api.handler import Caller
from pixcrawler.api.openapi import problem
from pixcrawler.api.parts import Parts, PartsOf
from pixcrawler.api.problems import Problem
from pixcrawler.api.routes.paths import JobId, found_job
from pixcrawler.api.store import JobRecord
from pixcrawler.common.events import JobProgress, ProgressView, Revision

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


NO_CONTENT = 204
RETRY_S = 2
"""Seconds after which a client whose stream broke off asks again."""
_BUSY_S = "10"
_HEARTBEAT = b": still here\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""The second keeps nginx from collecting events."""


class Shown(NamedTuple):
    """A progress and its place in their order."""

    revision: Revision
    progress: ProgressView


@router.get(
    "/{job_id}/events",
    response_class=Response,
    summary="Follow a job",
    responses={
        200: {
            "description": "Events as they come; a comment every 15 seconds without any.",
            "content": {
                "text/event-stream": {"schema": {"type": "string"}, "example": examples.STREAM}
            },
        },
        204: {"description": "The `Last-Event-ID` is that of the end: there is nothing more."},
        503: problem({"busy": Problem(503, "too many streams are open here")}),
    },
)
async def stream_events(
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    last_event_id: Annotated[
        str,
        Header(
            description="The `id` of the last event that was received: only what is newer is sent.",
            examples=["0.1.0.1.412"],
        ),
    ] = "",
) -> Response:
    """Progress as it changes, as Server-Sent Events: `progress`, then `finished` once.

    The data of each is the progress object; the stream ends after `finished`, which is that of the
    round. A job that is deleted meanwhile ends with `deleted`.
    """
    job = await found_job(parts, caller, job_id)
    last = _revision(last_event_id)
    if last is not None and _is_finished(job, _shown(job)) and last >= _shown(job).revision:
        return Response(status_code=NO_CONTENT)
    if parts.feed.watched >= parts.settings.api_max_streams:
        raise Problem(503, "too many streams are open here", headers={"Retry-After": _BUSY_S})
    return EventSourceResponse(_stream(parts, caller, job_id, last), headers=_HEADERS)


async def _stream(
    parts: Parts, caller: Caller, job_id: str, last: Revision | None
) -> AsyncIterator[bytes]:
    """The events of a stream, newer ones only."""
    yield f"retry: {RETRY_S * 1000}\n\n".encode()
    job: JobRecord | None = None
    with parts.feed.watching(job_id) as watcher:
        while True:
            news = await watcher.next(parts.settings.api_heartbeat_s)
            if news is News.NOTHING:
                yield _HEARTBEAT
                continue
            if news is News.CLOSED:
                return  # the client comes back, to another replica
            if news is News.LOOK or job is None:
                async with parts.engine.connect() as connection:
                    job = await store.job(connection, caller.owner, job_id)
            if job is None or news is News.GONE:
                yield format_sse_event(event="deleted", data_str="{}")
                return
            shown = _told(job, news) if isinstance(news, JobProgress) else _shown(job)
            if last is not None and shown.revision <= last:
                continue
            if _is_finished(job, shown):
                yield _event("finished", shown)
                return
            if shown.progress.status in views.TERMINAL:
                continue  # the end of an earlier round, said once more
            last = shown.revision
            yield _event("progress", shown)


def _event(name: str, shown: Shown) -> bytes:
    return format_sse_event(
        event=name,
        id=".".join(map(str, shown.revision)),
        data_str=shown.progress.model_dump_json(),
    )


def _told(job: JobRecord, event: JobProgress) -> Shown:
    return Shown(event.revision, views.completed(event.progress, job))


def _shown(job: JobRecord) -> Shown:
    return Shown(job.revision or (0, 0, 0, 0, 0), views.progress_view(job))


def _is_finished(job: JobRecord, shown: Shown) -> bool:
    """Whether it shows the end of the job's latest round, as far as this stream knows of rounds."""
    return shown.progress.status in views.TERMINAL and shown.revision[0] >= job.round


def _revision(text: str) -> Revision | None:
    """From an event's id; None for what is none of ours."""
    match [int(number) for number in text.split(".") if number.isdecimal()]:
        case [finished, latest, closed, chunks, rest]:
            return (finished, latest, closed, chunks, rest)
    return None
