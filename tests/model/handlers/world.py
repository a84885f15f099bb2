"""The real handlers of downloader, validator and uploader under the models' scheduler.

Their objects are in memory, the rows that they read are played (`rows.py`), and so is the planner:
it decides with the real one's `plan`, `refill`, `facts` and `endings`, and only its rows are
played. Its own handlers run under random schedules on a real PostgreSQL
(tests/integration/planner). Every process may stop for ever, or sleep, before any effect: a read, a
creation, a statement, a commit, an event.
"""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

from pixcrawler.common import names
from pixcrawler.common.chunks import result_of
from pixcrawler.common.context import RecordRef
from pixcrawler.common.db import locks
from pixcrawler.common.documents import ChunkResult
from pixcrawler.common.errors import GiveUp, Retry, Stopped
from pixcrawler.common.events import (
    ChunkDownloaded,
    ChunkEvent,
    ChunkFailed,
    ChunkPlanned,
    ChunkUploaded,
    ChunkValidated,
    Event,
    ImageTotals,
    JobCancelled,
    JobFacts,
    JobFinished,
    JobPlanned,
)
from pixcrawler.common.ids import chunk_id
from pixcrawler.common.jobs import Job, Options
from pixcrawler.common.turns import Turns
from pixcrawler.downloader.handler import handle_chunk_planned
from pixcrawler.downloader.parts import Parts
from pixcrawler.planner import endings, facts, plan, refill, store
from pixcrawler.planner.store import ChunkRow, Details, Held, JobRow, NewChunk
from pixcrawler.uploader.handler import handle_chunk_validated, handle_job_planned
from pixcrawler.uploader.sweep import Sweeper
from pixcrawler.uploader.transforming import Transformer
from pixcrawler.validator import judging
from pixcrawler.validator.handler import handle_chunk_downloaded
from pixcrawler.validator.judging import Judge
from tests.model.handlers import web
from tests.model.handlers.blobs import MemoryBlobs
from tests.model.handlers.process import Loop, effect, process
from tests.model.handlers.rows import Rows, Rules, Transaction
from tests.model.handlers.web import Web
from tests.model.world import Record, Steps, Work, World

JOB = "01890000-0000-7000-8000-000000000001"
TRANSFORMER = Transformer(1)
"""Never asked: the job takes its images as they are."""
PART_SIZE = 2
CHUNK_SIZE = 4
WANTED = 6
RETRIES = 2
TAKEBACKS = 5
_NOWHERE = RecordRef("", 0, 0, 0)
_WHEN = datetime(2024, 1, 1, tzinfo=UTC)

READERS: dict[type[Event], str] = {
    ChunkPlanned: "downloader",
    ChunkDownloaded: "validator",
    ChunkValidated: "uploader",
    JobPlanned: "uploader",
    ChunkUploaded: "planner",
    ChunkFailed: "planner",
    JobCancelled: "planner",
}

OFF = ("write_once", "job_locked", "claims_released", "result_ends_chunk")
"""Rules that can be switched off around the real handlers."""


@dataclass
class Row:
    """The planner's row of a chunk."""

    made: NewChunk
    attempt: int = 1
    retries: int = 0
    takebacks: int = 0
    result: ChunkResult | None = None


@dataclass
class Hand:
    """What a handler is given with its record."""

    world: "HandlerWorld"
    attempt: int
    watched: bool
    record: RecordRef = _NOWHERE
    worker: str = "w"
    source: str = "/w"
    traceparent: str = ""

    async def check(self) -> None:
        """Ask whether the job is wanted."""
        await effect()
        job = self.world.rows.jobs.get(JOB)
        if self.watched and (job is None or not job.wanted):
            raise Stopped("not wanted")

    def report(self, done: int, total: int, images: ImageTotals) -> None:
        """Nobody looks."""


class HandlerWorld(World):
    """One schedule of one job.

    Args:
        seed: Which one.
        off: A rule to switch off.
        traced: Whether to keep a trace.
    """

    LIMIT = 40_000

    def __init__(self, seed: int, off: str = "", *, traced: bool = False) -> None:
        super().__init__(seed, chaos=0, traced=traced)
        self.chaos = self.pick((0, 6, 12, 20))
        self.off = off
        rules = Rules()
        if off in {"job_locked", "claims_released"}:
            rules = replace(rules, **{off: False})
        self.rows = Rows(rules)
        self.blobs = MemoryBlobs(self._created, write_once=off != "write_once")
        self.first_bytes: dict[str, bytes] = {}
        self.sweeper = Sweeper(
            self.blobs, self.rows.engine, deleted_for=timedelta(days=1), unknown_for=timedelta(0)
        )
        self.web = Web(self)
        self.refusals = self.pick((0, 2, 5)) if self.chaos else 0
        self.doomed = self.pick((None, None, chunk_id(JOB, 0))) if self.chaos else None
        self.end = self.pick(("", "", "", "", "cancel", "delete")) if self.chaos else ""
        self.planned: dict[str, Row] = {}
        self.closing: JobFacts | None = None
        self.finished: JobFinished | None = None
        self.silences = 3
        self.swept = 0
        self.loops: dict[Steps, Loop] = {}
        self.rows.jobs[JOB] = Job(
            job_id=JOB,
            owner="owner",
            name="name",
            keywords=("k",),
            sources=("web",),
            max_images=WANTED,
            chunk_size=CHUNK_SIZE,
            priority=5,
            options=Options(near_duplicates=None, min_size=1),
            round=1,
            cancelled=False,
            deleted=False,
        )
        cursors = plan.cursors_for(plan.streams(("web",), ("k",)), ())
        first = plan.plan_chunks(cursors, 0, WANTED, CHUNK_SIZE, 0)
        self.cursors = first.cursors
        for chunk in first.chunks:
            self.plan(NewChunk(*chunk))

    # ---- objects and records

    def _created(self, name: str, data: bytes) -> None:
        self.tell("create", name.replace(JOB, "J"))
        # What a deleted job's last hands make is erased again, whatever it is.
        decides = not name.startswith("staging/") and not self.rows.jobs[JOB].deleted
        if decides and self.first_bytes.setdefault(name, data) != data:
            self.breaks("what is decided never changes")

    def publish(self, event: Event) -> None:
        """An event, to its reader."""
        if isinstance(event, JobFinished):
            job = self.rows.jobs.get(JOB)
            if self.finished is not None and self.finished != event:
                self.breaks("one job.finished a round says one thing")
            self.finished = event
            assert job is not None
            return
        record = Record(READERS[type(event)], event.topic, event.key, event)
        self.bag.append(record)
        self.history.append(record)

    def plan(self, made: NewChunk) -> None:
        """One more chunk."""
        chunk = chunk_id(JOB, len(self.planned))
        self.planned[chunk] = Row(made)
        self.rows.chunks[chunk] = "processing"
        self.tell("plan", chunk[-2:], made)
        self.publish(self._planned(chunk, 1))

    def _planned(self, chunk: str, attempt: int) -> ChunkPlanned:
        slices = self.planned[chunk].made.slices
        return ChunkPlanned(chunk_id=chunk, attempt=attempt, slices=slices)

    def work_on(self, record: Record) -> Steps:
        return self.start(partial(self.handled, record, record.detail))

    def start(self, work: Callable[[], Coroutine[Any, Any, Sequence[Event]]]) -> Steps:
        """Work in a process of its own, then its events, one after another."""
        loop = Loop(self.rng)
        steps = self._run(loop, work)
        self.loops[steps] = loop
        return steps

    def _run(self, loop: Loop, work: Callable[[], Coroutine[Any, Any, Sequence[Event]]]) -> Steps:
        for event in (yield from process(loop, work)):
            yield
            self.publish(event)

    async def handled(self, record: Record, event: Event) -> Sequence[Event]:
        """What the consumer loop makes of a handler's end."""
        try:
            return await self.handle(record, event)
        except Stopped:
            return ()
        except Retry:
            self.bag.append(record)
            return ()
        except GiveUp as error:
            assert isinstance(event, ChunkEvent)
            return (self._failure(event, error),)
        except Exception as error:  # noqa: BLE001 - whatever nobody thought of
            self.breaks(f"a handler ends with an answer or a signal, not with {error!r}")
            return ()

    def _failure(self, event: ChunkEvent, error: GiveUp) -> ChunkFailed:
        if error.error == "input_missing":
            self.breaks("no input is missing")
        self.tell("FAILS", event.key[-2:], error.error)
        return ChunkFailed(
            chunk_id=event.chunk_id,
            attempt=event.attempt,
            stage="validator",
            retriable=error.retriable,
            error=error.error,
        )

    async def handle(self, record: Record, event: Event) -> Sequence[Event]:
        """The handler of each event."""
        blobs, engine = self.blobs, self.rows.engine
        attempt = event.attempt if isinstance(event, ChunkEvent) else 0
        hand = Hand(self, attempt, watched=record.reader != "planner")
        match event:
            case ChunkPlanned():
                parts = Parts(blobs, self.web.fetcher, self.web.spooler, 4)
                return await handle_chunk_planned(
                    event,
                    hand,
                    blobs=blobs,
                    engine=engine,
                    sources=lambda _: {"web": self.web},
                    parts=parts,
                )
            case ChunkDownloaded():
                judge = Judge(1, 1 << 30)
                return await handle_chunk_downloaded(
                    event,
                    hand,
                    blobs=blobs,
                    engine=engine,
                    judge=judge,
                    turns=Turns(),
                    max_pixels=1 << 20,
                )
            case ChunkValidated():
                self._refuse(event.chunk_id)
                return await handle_chunk_validated(
                    event,
                    hand,
                    blobs=blobs,
                    engine=engine,
                    transformer=TRANSFORMER,
                    ended=self._ended,
                    count=lambda _: None,
                )
            case JobPlanned():
                hand.watched = False
                return await handle_job_planned(event, hand, blobs=blobs, engine=engine)
            case _:
                await self.planner(event)
                return ()

    def _refuse(self, chunk: str) -> None:
        """The disk is full, say."""
        if chunk == self.doomed or (self.refusals and self.chance() < 0.3):
            self.refusals -= 1
            raise GiveUp("refused", error="refused", retriable=chunk != self.doomed)

    def _ended(self, chunk: str) -> None:
        self.sweeper.chunk_ended(chunk)
        self.running.append(Work(None, self.start(partial(self._quietly, self.sweeper.clear))))

    async def _quietly(self, work: Callable[[], Awaitable[object]]) -> Sequence[Event]:
        await work()
        return ()

    # ---- the planner

    async def planner(self, event: Event) -> None:
        """Retry, give up, take what results say, refill, close."""
        if isinstance(event, JobCancelled):
            await self.look([])
            return
        assert isinstance(event, ChunkEvent)
        chunk, row = event.chunk_id, self.planned[event.chunk_id]
        result = await result_of(self.blobs, chunk)
        if result is None and isinstance(event, ChunkFailed):
            if self.rows.chunks.get(chunk) != "processing" or row.attempt != event.attempt:
                return
            if self._again(chunk, row, event):
                return
            result = await self.give_up(chunk, event.error)
        await self.look([result] if result is not None else [])

    def _again(self, chunk: str, row: Row, event: ChunkFailed) -> bool:
        """Another attempt, if there is to be one; one that was only silent is no failure."""
        silent = event.error == "deadline"
        if silent and row.takebacks < TAKEBACKS:
            row.takebacks += 1
        elif not silent and event.retriable and row.retries < RETRIES:
            row.retries += 1
        else:
            return False
        row.attempt += 1
        self.publish(self._planned(chunk, row.attempt))
        return True

    async def give_up(self, chunk: str, error: str) -> ChunkResult:
        """End a chunk as failed, unless it has ended."""
        if self.off == "result_ends_chunk":
            return ChunkResult(chunk_id=chunk, status="failed", error=error)
        return await endings.give_up(self.blobs, chunk, error=error, message="")

    async def look(self, results: Sequence[ChunkResult]) -> None:
        """Apply results under the job's lock; refill or close when everything has ended.

        As `rounds.look` does: what needs objects is read between two transactions.
        """
        lost: tuple[int, dict[str, int]] = (-1, {})
        while True:
            async with self.rows.begin() as connection:
                await locks.job_lock(connection, JOB)  # type: ignore[arg-type]
                for result in results:
                    self._apply(result)
                job = self.rows.jobs.get(JOB)
                if job is None or self.closing is not None:
                    return
                working = [c for c in self.planned if self.rows.chunks[c] == "processing"]
                suspects = () if working else self._refill_or_close(job, lost)
                if not suspects and (job.wanted or not working):
                    return
            if working:
                results = [await self.give_up(chunk, "cancelled") for chunk in working]
            else:
                counted = len(self.planned)
                engine = self.rows.engine
                lost = (counted, await endings.count_lost(engine, self.blobs, JOB, suspects))

    def _apply(self, result: ChunkResult) -> None:
        if self.rows.chunks[result.chunk_id] == "processing":
            self.rows.chunks[result.chunk_id] = result.status
            self.planned[result.chunk_id].result = result
            self.tell("row", result.chunk_id[-2:], result.status, result.images.valid)

    def _refill_or_close(self, job: Job, lost: tuple[int, dict[str, int]]) -> Sequence[str]:
        """As the planner does with its rows; the chunks of which it has to know what they lost."""
        asked, chunks = self._asked(job), self._chunks()
        if not job.wanted:
            self._close(facts.closing(asked, chunks, "cancelled"), job)
        elif facts.kept(chunks) >= WANTED:
            self._close(facts.closing(asked, chunks, "reached"), job)
        else:
            details = self._details()
            suspects = refill.suspects(chunks, details)
            if suspects and lost[0] != len(chunks):
                return suspects
            more = refill.plan_refill(asked, chunks, self.cursors, details, lost[1])
            self.cursors = more.cursors
            for made in more.chunks:
                self.plan(made)
            if not more.chunks:
                self._close(facts.closing(asked, chunks, more.reason), job)
        return ()

    def _close(self, closing: JobFacts, job: Job) -> None:
        self.closing = closing
        self.tell("CLOSE", closing.status, closing.reason, closing.kept)
        if not job.deleted:
            self.publish(JobPlanned(job_id=JOB, **closing.model_dump()))

    def _asked(self, job: Job) -> JobRow:
        return JobRow(
            job_id=JOB,
            sources=job.sources,
            keywords=job.keywords,
            urls=0,
            max_images=WANTED,
            chunk_size=CHUNK_SIZE,
            priority=5,
            refill_factor=job.options.refill_factor,
            round=1,
            cancelled=job.cancelled,
            deleted=job.deleted,
            created_at=_WHEN,
            started_at=_WHEN,
            now=_WHEN,
        )

    def _chunks(self) -> tuple[ChunkRow, ...]:
        return tuple(
            ChunkRow(
                chunk_id=chunk,
                index=index,
                status=self.rows.chunks[chunk],
                attempt=row.attempt,
                retry_of=row.made.retry_of,
                error=row.result.error or None if row.result else None,
                range=row.made.range,
                images=row.result.images if row.result else None,
                ended_at=_WHEN,
            )
            for index, (chunk, row) in enumerate(self.planned.items())
        )

    def _details(self) -> dict[str, Details]:
        return {
            chunk: Details(
                slices=row.made.slices, exhausted=row.result.exhausted if row.result else ()
            )
            for chunk, row in self.planned.items()
        }

    # ---- chance and time

    def disturb(self) -> None:
        self.chaos -= 1
        luck = self.chance()
        if luck < 0.25:
            self.crash()
        elif luck < 0.4:
            self.pause()
        elif luck < 0.5:
            self.wake()
        elif luck < 0.6:
            self.twice()
        elif luck < 0.75:
            self.again()
        elif luck < 0.82:
            self.sweep()
        elif luck < 0.9 and self.silences:
            self.silences -= 1
            self.silent()
        elif self.end:
            self.wish()

    def lose(self, work: Work) -> None:
        work.steps.close()
        super().lose(work)

    def pause(self, work: Work | None = None) -> None:
        super().pause(work)
        for sleeper in self.asleep:
            self.loops[sleeper.steps].asleep = True

    def wake(self) -> None:
        super().wake()
        if self.running:
            self.loops[self.running[-1].steps].asleep = False

    def other(self) -> bool:
        return self.rows.end_paused()

    def wish(self) -> None:
        """Somebody cancels or deletes the job."""
        self.tell("API", self.end)
        gone = {"cancelled": True, "deleted": self.end == "delete"}
        self.rows.jobs[JOB] = self.rows.jobs[JOB].model_copy(update=gone)
        self.publish(JobCancelled(job_id=JOB, deleted=self.end == "delete"))
        self.end = ""

    def sweep(self) -> None:
        """The uploader's sweeps."""
        self.running.append(Work(None, self.start(partial(self._quietly, self.sweeper.sweep_all))))
        self.running.append(Work(None, self.start(partial(self._quietly, self.sweeper.sweep))))

    def silent(self) -> None:
        """A chunk was not heard of for its deadline."""
        busy = [chunk for chunk in self.planned if self.rows.chunks[chunk] == "processing"]
        if busy:
            chunk = self.pick(busy)
            self.tell("SILENT", chunk[-2:])
            event = ChunkFailed(
                chunk_id=chunk,
                attempt=self.planned[chunk].attempt,
                stage="planner",
                retriable=True,
                error="deadline",
            )
            self.bag.append(Record("planner", event.topic, chunk, event))

    def rest(self) -> bool:
        if self.chaos > 0:
            self.disturb()
        elif self.limbo:
            self.reassign()
        elif self.closing is None:
            self.breaks("no record is lost")
            return False
        elif self.asleep:
            self.wake()
            self.swept = 0
        elif self.swept < 1:
            self.swept += 1
            self.sweep()
        else:
            return False
        return True


async def _held(
    connection: Transaction, job_id: str, sha256: Collection[str], urls: Collection[str]
) -> Held:
    """In place of `store.held`: which of these images live claims hold."""
    await effect()
    live = connection.live_claims(job_id)
    mine = [claim for claim in live if claim.sha256.hex() in sha256 or claim.url in urls]
    return Held(frozenset(c.sha256.hex() for c in mine), frozenset(c.url for c in mine))


def small_parts_and_quick_images() -> ExitStack:
    """Two candidates in a part, no decoding, and the planner's question in memory."""
    stack = ExitStack()
    stack.enter_context(patch.object(names, "PART_SIZE", PART_SIZE))
    stack.enter_context(patch.object(judging, "decide", web.decide))
    stack.enter_context(patch.object(store, "held", _held))
    return stack
