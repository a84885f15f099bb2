"""What requests do to jobs: each a transaction with its event, reading top to bottom.

Whatever is asked for is a row: the job, or the request of a further round, numbered by the job's
own count under the lock of its row. The event leaves in the same transaction through the outbox.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pydantic_core import PydanticCustomError
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from yarl import URL

from pixcrawler.api import deliveries, quotas, store
from pixcrawler.api.idempotency import Once, Said, digest
from pixcrawler.api.lists import store as lists
from pixcrawler.api.problems import Problem, conflict, not_found, wrong_value
from pixcrawler.api.quotas import Quotas
from pixcrawler.api.requests import NewJob, Start, check_sources
from pixcrawler.api.settings import Settings
from pixcrawler.api.store import JobRecord, LockedJob
from pixcrawler.api.views import Started, chunk_view, job_view
from pixcrawler.common import audit, ids, logs, outbox, telemetry
from pixcrawler.common.audit import Action, Actor
from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.db.tables import crawl_jobs
from pixcrawler.common.events import JobCancelled, JobCreated, JobEvent
from pixcrawler.common.guard import Blocked, Guard
from pixcrawler.common.keys import Scope
from pixcrawler.common.ranges import initial_ranges, supply

log = logs.get(__name__)


class Caller(NamedTuple):
    """Who asks, the trace that the request belongs to (a W3C traceparent), and what they may have.

    A request that names no trace belongs to none. `key_id` and `reason` are for the audit log.
    """

    owner: str
    traceparent: str | None
    quotas: Quotas = Quotas()
    scope: Scope = Scope.READ
    key_id: str = ""
    reason: str = ""

    @property
    def actor(self) -> Actor:
        """Who acts, as the audit log says it."""
        return Actor(self.owner, self.key_id, self.reason)


class Answer(NamedTuple):
    """What a request is answered, also when it comes again: JSON, about this job."""

    job_id: str
    content: str


class Jobs:
    """What can be done to jobs.

    Args:
        engine: As a role that may write `crawl_jobs`, `job_requests` and `outbox`.
        settings: Limits, and the size of chunks.
        source: `ce_source` of the events.
        hint: Called after a commit that has put an event into the outbox.
    """

    def __init__(
        self, engine: AsyncEngine, settings: Settings, *, source: str, hint: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._guard = Guard(settings.fetch_allow_networks)
        self._source = source
        self._hint = hint

    async def create(self, caller: Caller, asked: NewJob, key: str | None) -> Answer:
        """Store a job, and start it unless that was not wanted.

        Args:
            caller: Whose job it will be.
            asked: What is wanted.
            key: The `Idempotency-Key`.

        Raises:
            Problem: 409, the key was used with another request; 422, too many images.
        """
        job_id, once = ids.new_job_id(), Once(caller.owner, key, _digest(asked))
        span = telemetry.first_of(job_id, caller.traceparent, "POST /v1/jobs")
        trace = str(span.trace)
        async with transaction(self._engine, "create") as connection:
            await quotas.lock(connection, caller.owner, caller.quotas)
            # Before the list is looked for, which may have been deleted since.
            if said := await once.said(connection):
                return await _again(connection, caller.owner, said)
            images = await _number(connection, caller.owner, asked)
            row = self._row(job_id, caller, asked, images, trace)
            made = await store.insert_job(
                connection, {**row, "idempotency_key": key, "request_sha256": once.digest}
            )
            if not made:  # the same at the same time: it waited here until that was stored
                if said := await once.said(connection):
                    return await _again(connection, caller.owner, said)
                raise Problem(503, "The job of this key is just being removed; try again.")
            await quotas.check_jobs(connection, caller.owner, caller.quotas)
            await quotas.check_images(connection, caller.owner, caller.quotas, images)
            if asked.start:
                await store.add_round(connection, job_id, 1, "start")
                await self._tell(connection, trace, _created(job_id, 1, "start"))
            answer = await _shown(connection, caller.owner, job_id)
            await once.keep(connection, answer.content, job_id=job_id)
        span.end(images=images)
        self._hint()
        return answer

    async def start(self, caller: Caller, job_id: str, asked: Start) -> Started:
        """Make round 1; if it is there, answer what the first start has answered.

        Raises:
            Problem: 404; 409, the job is cancelled, or there is no room and `wait` is false; 422,
                the sources do not fit the job.
        """
        async with transaction(self._engine, "start") as connection:
            job = await _lock(connection, caller.owner, job_id)
            if job.round:
                return _started(job, await store.extended_by(connection, job_id))
            _refuse_cancelled(job)
            if asked.sources:
                job = job.model_copy(update={"sources": _sources(job, asked)})
                await store.update_job(connection, job_id, sources=list(job.sources))
            answer = _started(job, 0)
            if not asked.wait:
                await self._require_room(connection, answer.total_chunks)
            await store.add_round(connection, job_id, 1, "start")
            await self._tell(connection, job.traceparent, _created(job_id, 1, "start"))
        self._hint()
        return answer

    async def extend(
        self, caller: Caller, job_id: str, images: int, priority: int | None, key: str | None = None
    ) -> Answer:
        """Ask for more images: a further round, or none yet for a job that was not started.

        Raises:
            Problem: 404; 409, the job is cancelled, or the key was used with another request; 422,
                too many images.
        """
        once = Once(caller.owner, key, digest("extend", job_id, images, priority))
        async with transaction(self._engine, "extend") as connection:
            await quotas.lock(connection, caller.owner, caller.quotas)
            job = await _lock(connection, caller.owner, job_id)
            if said := await once.said(connection):
                return await _again(connection, caller.owner, said)
            _refuse_cancelled(job)
            self._limit(job.max_images + images)
            changed: dict[str, object] = {"max_images": job.max_images + images}
            if priority is not None:
                changed["priority"] = priority
            await store.update_job(connection, job_id, **changed)
            told = {name: (getattr(job, name), value) for name, value in changed.items()}
            await _note(connection, caller, "job.extend", job_id, told)
            if job.round:
                number = job.round + 1
                await self._add_round(connection, caller, job, "extend", images=images)
                await self._tell(connection, job.traceparent, _created(job_id, number, "extend"))
            await quotas.check_images(connection, caller.owner, caller.quotas, images)
            answer = await _shown(connection, caller.owner, job_id)
            await once.keep(connection, answer.content, job_id=job_id)
        self._hint()
        return answer

    async def retry(self, caller: Caller, job_id: str, key: str | None = None) -> Answer:
        """Ask for all failed chunks again: a further round, unless one that does so waits.

        Raises:
            Problem: 404; 409, the job is cancelled, no chunk has failed, or the key was used with
                another request.
        """
        once = Once(caller.owner, key, digest("retry", job_id))
        async with transaction(self._engine, "retry") as connection:
            await quotas.lock(connection, caller.owner, caller.quotas)
            job = await _lock(connection, caller.owner, job_id)
            if said := await once.said(connection):
                return await _again(connection, caller.owner, said)
            _refuse_cancelled(job)
            if not await store.has_failed_chunks(connection, job_id):
                raise conflict("no chunk of this job has failed")
            if not await store.waits_for_retry(connection, job_id, None):
                await self._add_retry(connection, caller, job, None)
                await _note(connection, caller, "job.retry", job_id, {"round": job.round + 1})
            answer = await _shown(connection, caller.owner, job_id)
            await once.keep(connection, answer.content, job_id=job_id)
        self._hint()
        return answer

    async def retry_chunk(
        self, caller: Caller, job_id: str, index: int, key: str | None = None
    ) -> Answer:
        """Ask for one failed chunk again: a further round, unless one that does so waits.

        Raises:
            Problem: 404; 409, the job is cancelled, the chunk has not failed, or was retried, or
                the key was used with another request.
        """
        once = Once(caller.owner, key, digest("retry", job_id, index))
        async with transaction(self._engine, "retry_chunk") as connection:
            await quotas.lock(connection, caller.owner, caller.quotas)
            job = await _lock(connection, caller.owner, job_id)
            if said := await once.said(connection):
                return await _again(connection, caller.owner, said)
            chunk = await store.chunk(connection, job_id, index)
            if chunk is None:
                raise not_found(f"chunk {index} of job {job_id}")
            _refuse_cancelled(job)
            if chunk.status != "failed":
                raise conflict(f"chunk {index} has not failed: it is {chunk.status}")
            if chunk.superseded:
                raise conflict(f"chunk {index} was retried already")
            if not await store.waits_for_retry(connection, job_id, chunk.chunk_id):
                await self._add_retry(connection, caller, job, chunk.chunk_id)
                told = {"round": job.round + 1, "error": chunk.error}
                await _note(connection, caller, "chunk.retry", job_id, told, of=chunk.chunk_id)
            answer = Answer(job_id, chunk_view(chunk).model_dump_json())
            await once.keep(connection, answer.content, job_id=job_id)
        self._hint()
        return answer

    async def prioritize(self, caller: Caller, job_id: str, priority: int) -> JobRecord:
        """Give a job another priority; the planner moves its chunks that wait.

        Raises:
            Problem: 404; 409, the job is cancelled, or its latest round is over.
        """
        async with transaction(self._engine, "prioritize") as connection:
            job = await _lock(connection, caller.owner, job_id)
            _refuse_cancelled(job)
            if job.round and await store.is_closed(connection, job_id, job.round):
                raise conflict("the job is finished")
            if job.priority != priority:
                await store.update_job(connection, job_id, priority=priority)
                told = {"priority": (job.priority, priority)}
                await _note(connection, caller, "job.priority", job_id, told)
            return await _job(connection, caller.owner, job_id)

    async def give_up_chunk(
        self, caller: Caller, job_id: str, index: int, key: str | None = None
    ) -> Answer:
        """Have a chunk given up that has not ended; the planner does it within seconds.

        Raises:
            Problem: 404; 409, the job is cancelled, the chunk has ended, or the key was used with
                another request.
        """
        once = Once(caller.owner, key, digest("give up", job_id, index))
        async with transaction(self._engine, "give_up_chunk") as connection:
            job = await _lock(connection, caller.owner, job_id)
            if said := await once.said(connection):
                return await _again(connection, caller.owner, said)
            chunk = await store.chunk(connection, job_id, index)
            if chunk is None:
                raise not_found(f"chunk {index} of job {job_id}")
            _refuse_cancelled(job)
            if chunk.status not in {"pending", "processing"}:
                raise conflict(f"chunk {index} has ended: it is {chunk.status}")
            if await store.give_up(connection, job_id, chunk.chunk_id, caller.reason):
                told = {"status": chunk.status, "stage": chunk.stage, "attempt": chunk.attempt}
                await _note(connection, caller, "chunk.give_up", job_id, told, of=chunk.chunk_id)
            answer = Answer(job_id, chunk_view(chunk).model_dump_json())
            await once.keep(connection, answer.content, job_id=job_id)
        return answer

    async def cancel(self, caller: Caller, job_id: str, key: str | None = None) -> Answer:
        """Stop a job; what was uploaded stays. Again and again does no harm while it stops.

        The planner closes rounds under the job's lock, so under it a round is either closed, and
        nothing is cancelled, or will be closed as cancelled.

        Raises:
            Problem: 404; 409, the latest round is over, or the key was used with another request.
        """
        once = Once(caller.owner, key, digest("cancel", job_id))
        async with transaction(self._engine, "cancel") as connection:
            await locks.job_lock(connection, job_id)
            job = await _lock(connection, caller.owner, job_id)
            if said := await once.said(connection):
                return await _again(connection, caller.owner, said)
            if job.round and await store.is_closed(connection, job_id, job.round):
                raise conflict("the job is finished")
            if not job.cancelled:
                await store.update_job(connection, job_id, cancelled_at=func.now())
                if not job.round:
                    await store.add_round(connection, job_id, 1, "cancel")
                await self._tell(connection, job.traceparent, JobCancelled(job_id=job_id))
                await _note(connection, caller, "job.cancel", job_id, {"round": job.round})
            answer = await _shown(connection, caller.owner, job_id)
            await once.keep(connection, answer.content, job_id=job_id)
        self._hint()
        return answer

    async def delete(self, caller: Caller, job_id: str) -> None:
        """Cancel a job and forget it: it is gone for its owner at once.

        Raises:
            Problem: 404.
        """
        async with transaction(self._engine, "delete") as connection:
            job = await _lock(connection, caller.owner, job_id)
            await store.update_job(
                connection,
                job_id,
                cancelled_at=func.coalesce(crawl_jobs.c.cancelled_at, func.now()),
                deleted_at=func.now(),
            )
            await deliveries.forget(connection, job_id)
            await self._tell(connection, job.traceparent, JobCancelled(job_id=job_id, deleted=True))
            await _note(connection, caller, "job.delete", job_id, {"name": job.name})
        self._hint()

    def _row(
        self, job_id: str, caller: Caller, asked: NewJob, images: int, traceparent: str
    ) -> dict[str, object]:
        self._limit(images)
        return {
            "job_id": job_id,
            "owner": caller.owner,
            "name": asked.name,
            "project_id": asked.project_id,
            "keywords": list(dict.fromkeys(asked.keywords)),
            "sources": list(asked.wanted_sources),
            "urls": None if asked.listed is None else list(asked.listed),
            "url_list_id": asked.list_id,
            "max_images": images,
            "chunk_size": self._settings.resource_chunk_size_images,
            "priority": asked.priority,
            "options": asked.options.options().model_dump(mode="json"),
            "webhook_url": self._reachable(asked.webhook_url),
            "traceparent": traceparent,
        }

    def _limit(self, images: int) -> None:
        most = self._settings.api_max_images
        if images > most:
            raise wrong_value("max_images", f"max_images must be at most {most}")

    def _reachable(self, webhook_url: str | None) -> str | None:
        """The URL, unless it can be seen already that it leads to where nobody may send us."""
        if webhook_url is not None:
            try:
                self._guard.check_url(URL(webhook_url))
            except (Blocked, ValueError) as error:
                raise wrong_value("webhook_url", f"webhook_url is not allowed: {error}") from None
        return webhook_url

    async def _require_room(self, connection: AsyncConnection, wanted: int) -> None:
        """There is room if the job's chunks, or as many as ever run at once, find free slots."""
        most = self._settings.max_chunks
        free = most - await store.open_chunks(connection)
        if free < min(wanted, most) or free <= 0:
            raise conflict(
                f"Insufficient capacity: {wanted} chunks are needed, {max(free, 0)} of {most} "
                "are available",
                title="Insufficient capacity",
            )

    async def _add_round(
        self,
        connection: AsyncConnection,
        caller: Caller,
        job: LockedJob,
        kind: store.RequestKind,
        *,
        images: int = 0,
        chunk_ids: Sequence[str] | None = None,
    ) -> None:
        """A further round; a job that was finished counts as one more that is not."""
        was_closed = await store.is_closed(connection, job.job_id, job.round)
        await store.add_round(
            connection, job.job_id, job.round + 1, kind, images=images, chunk_ids=chunk_ids
        )
        if was_closed:
            await quotas.check_jobs(connection, caller.owner, caller.quotas)

    async def _add_retry(
        self, connection: AsyncConnection, caller: Caller, job: LockedJob, chunk_id: str | None
    ) -> None:
        number = job.round + 1
        chunk_ids = None if chunk_id is None else [chunk_id]
        await self._add_round(connection, caller, job, "retry", chunk_ids=chunk_ids)
        await self._tell(connection, job.traceparent, _created(job.job_id, number, "retry"))

    async def _tell(
        self, connection: AsyncConnection, traceparent: str | None, event: JobEvent
    ) -> None:
        """Put an event of a job into the outbox.

        It belongs to the job's trace, whatever trace this request belongs to: the line, which has
        the request's id, leads from the one to the other.
        """
        trace = telemetry.sending(event.topic, event.job_id, traceparent)
        await outbox.add(connection, event, source=self._source, traceparent=str(trace))
        log.info(
            "told",
            action="tell",
            job=event.job_id,
            topic=event.topic,
            event_id=event.event_id,
            trace_id=trace.trace_id,
        )


async def _note(
    connection: AsyncConnection,
    caller: Caller,
    action: Action,
    job_id: str,
    details: Mapping[str, object],
    *,
    of: str | None = None,
) -> None:
    """A line in the audit log, about a job or something of it."""
    await audit.write(connection, caller.actor, action, of or job_id, details, job_id=job_id)


async def _number(connection: AsyncConnection, owner: str, asked: NewJob) -> int:
    """How many images are asked for; a URL that is listed twice gives one.

    Raises:
        Problem: 422, there is no such list.
    """
    urls = len(asked.listed or ())
    if asked.list_id is not None:
        found = await lists.hold(connection, owner, asked.list_id)
        if found is None:
            raise wrong_value("urls", f"urls: the list {asked.list_id} was not found")
        urls = found.urls
    return asked.max_images or urls


def _created(job_id: str, number: int, reason: str) -> JobCreated:
    return JobCreated.model_validate({"job_id": job_id, "round": number, "reason": reason})


def _started(job: LockedJob, extended_by: int) -> Started:
    """The chunks that round 1 asks for, whatever came after it."""
    ranges = initial_ranges(
        job.max_images - extended_by, job.chunk_size, supply(job.sources, job.urls)
    )
    return Started(
        job_id=job.job_id,
        status="pending",
        total_chunks=len(ranges),
        chunk_ids=tuple(ids.chunk_id(job.job_id, index) for index in range(len(ranges))),
    )


def _sources(job: LockedJob, asked: Start) -> tuple[str, ...]:
    try:
        check_sources(asked.sources, job.keywords, ("",) * job.urls)
    except PydanticCustomError as error:
        raise wrong_value("sources", error.message()) from None
    return tuple(dict.fromkeys(asked.sources))


def _refuse_cancelled(job: LockedJob) -> None:
    if job.cancelled:
        raise conflict("the job is cancelled")


def _digest(asked: NewJob) -> bytes:
    """What tells a repeated request from another one: the values, however they were written."""
    return hashlib.sha256(asked.model_dump_json().encode()).digest()


async def _again(connection: AsyncConnection, owner: str, said: Said) -> Answer:
    """What the same request was answered; the job as it is where that was not kept."""
    job_id = str(said.job_id)
    if said.answer is None:
        return await _shown(connection, owner, job_id)
    return Answer(job_id, said.answer)


async def _shown(connection: AsyncConnection, owner: str, job_id: str) -> Answer:
    return Answer(job_id, job_view(await _job(connection, owner, job_id)).model_dump_json())


async def _lock(connection: AsyncConnection, owner: str, job_id: str) -> LockedJob:
    job = await store.lock_job(connection, owner, job_id)
    if job is None:
        raise not_found(f"job {job_id}")
    return job


async def _job(connection: AsyncConnection, owner: str, job_id: str) -> JobRecord:
    job = await store.job(connection, owner, job_id)
    if job is None:
        raise not_found(f"job {job_id}")
    return job
