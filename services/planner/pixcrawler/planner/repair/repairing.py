"""The repair of a database, job by job, each in one transaction that begins with the job's lock.

Idempotent: what agrees is left alone, and a second run finds nothing. A dry run does everything and
takes it back. Services must be stopped: one that works on the old database decides things anew that
have been decided.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunks import result_of
from pixcrawler.common.db import locks
from pixcrawler.common.documents import Candidates, ChunkResult, DatasetIndex, Verdicts
from pixcrawler.common.errors import BlobNotFound, PixCrawlerError
from pixcrawler.common.events import JobFacts, Slice, Value
from pixcrawler.common.ids import chunk_id, parse_chunk_id
from pixcrawler.common.outcomes import Outcome
from pixcrawler.common.ranges import Range
from pixcrawler.planner import facts, gaps, plan, records, rounds, store
from pixcrawler.planner.plan import Cursor
from pixcrawler.planner.records import JobRecord
from pixcrawler.planner.repair import evidence, writing
from pixcrawler.planner.repair.evidence import Stored, Told
from pixcrawler.planner.repair.writing import Kept, Known
from pixcrawler.planner.rounds import CANCELLED
from pixcrawler.planner.store import JobRow, NewChunk


class ServicesRun(PixCrawlerError):
    """Services are connected to the database that is to be repaired."""

    def __init__(self, roles: Sequence[str]) -> None:
        super().__init__(
            f"{', '.join(roles)} are connected to the database: stop all services (and the pooler, "
            "which keeps connections) before it is repaired; what they decide meanwhile may "
            "contradict what has been decided"
        )


class JobRepair(Value):
    """What was wrong with a job, and is mended (or would be). Numbers of rows.

    Attributes:
        job_id: Which one.
        restored: It was unknown.
        round: Its latest round.
        advanced: It had been started, extended or retried since.
        cancelled: It had been cancelled since.
        deleted: It had been deleted since: the services erase it.
        chunks_made: Chunks that were unknown.
        chunks_ended: Chunks that were open, and have a result.
        chunks_released: Chunks in progress, which nobody has: they wait for a slot again.
        chunks_claimed: Chunks whose decisions were unknown.
        images_claimed: The images that they keep.
        rounds_closed: Rounds that were open or unknown.
        cursors_moved: Searches had gone further.
        progress_shown: What is shown of it had gone further.
        problems: What cannot be mended, one sentence each.
    """

    job_id: str
    restored: bool = False
    round: int = 0
    advanced: bool = False
    cancelled: bool = False
    deleted: bool = False
    chunks_made: int = 0
    chunks_ended: int = 0
    chunks_released: int = 0
    chunks_claimed: int = 0
    images_claimed: int = 0
    rounds_closed: int = 0
    cursors_moved: bool = False
    progress_shown: bool = False
    problems: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was wrong."""
        return self.mended or bool(self.problems)

    @property
    def mended(self) -> bool:
        """Whether anything was changed."""
        same = JobRepair(job_id=self.job_id, round=self.round, problems=self.problems)
        return self != same

    @property
    def words(self) -> str:
        """What was changed, for people."""
        flags = {
            "unknown job": self.restored,
            "later round": self.advanced,
            "cancelled": self.cancelled,
            "deleted": self.deleted,
            "searches": self.cursors_moved,
            "progress": self.progress_shown,
        }
        counts = {
            "chunks made": self.chunks_made,
            "chunks ended": self.chunks_ended,
            "chunks released": self.chunks_released,
            "chunks' claims": self.chunks_claimed,
            "images claimed": self.images_claimed,
            "rounds closed": self.rounds_closed,
        }
        said = [word for word, is_so in flags.items() if is_so]
        return ", ".join(said + [f"{number} {word}" for word, number in counts.items() if number])


@dataclass
class _Read:
    """What of a job's objects the database lacks, as values."""

    requests: list[JobRecord] = field(default_factory=list)
    results: dict[str, ChunkResult] = field(default_factory=dict)
    kept: dict[str, list[Kept]] = field(default_factory=dict)
    closings: dict[int, JobFacts] = field(default_factory=dict)
    searched: dict[str, list[Slice]] = field(default_factory=dict)


async def repair(
    engine: AsyncEngine,
    blobs: BlobStore,
    told: Mapping[str, Told],
    *,
    dry_run: bool = False,
) -> list[JobRepair]:
    """Bring every job up to what the blob store and the topics say.

    Args:
        engine: The database, as its owner.
        blobs: Where everything was decided.
        told: What the topics said (`evidence.told`), empty where there are none.
        dry_run: Change nothing, only say what would be changed.

    Returns:
        The jobs that something was wrong with, by id.

    Raises:
        ServicesRun: services are connected.
    """
    async with engine.connect() as connection:
        running = await writing.services(connection)
        if running:
            raise ServicesRun(running)
        unfinished = await writing.unfinished(connection)
    stored = await evidence.stored(blobs)
    done = []
    for job_id in sorted(unfinished | evidence.jobs(stored, told)):
        one = await repair_job(
            engine,
            blobs,
            job_id,
            stored.get(job_id, evidence.NOTHING_STORED),
            told.get(job_id, evidence.NOTHING_TOLD),
            dry_run=dry_run,
        )
        if one.changed:
            done.append(one)
    return done


async def repair_job(
    engine: AsyncEngine, blobs: BlobStore, job_id: str, stored: Stored, told: Told, *, dry_run: bool
) -> JobRepair:
    """One job; see `repair`."""
    async with engine.connect() as connection:
        known = await writing.known(connection, job_id)
    if known is not None and known.deleted:
        return JobRepair(job_id=job_id)
    read = await _read(blobs, job_id, stored, told, known)
    async with engine.connect() as connection, connection.begin() as transaction:
        await locks.job_lock(connection, job_id)
        done = await _Mending(connection, job_id, stored, told, read).mend(known)
        if dry_run:
            await transaction.rollback()
    return done


# ---- what is read of the blob store, before any lock is held


async def _read(
    blobs: BlobStore, job_id: str, stored: Stored, told: Told, known: Known | None
) -> _Read:
    """The objects that the database may lack, and no others."""
    known = known or writing.UNKNOWN
    requests = {n for n in stored.requests if n > known.round or (n == 1 and not known.closed)}
    closings = {n: told.closings[n] for n in told.closings.keys() - known.closed}
    return _Read(
        requests=await records.read(blobs, job_id, requests),
        results=await _read_results(blobs, stored, known),
        kept=await _read_kept(blobs, stored.verdicts - known.claimed),
        closings=closings | await _read_closings(blobs, job_id, stored.datasets - known.closed),
        searched=await _read_searched(
            blobs, stored.candidates - known.chunks.keys() - told.chunks.keys()
        ),
    )


async def _read_results(blobs: BlobStore, stored: Stored, known: Known) -> dict[str, ChunkResult]:
    open_ = (c for c in sorted(stored.results) if known.chunks.get(c) in {None, *store.OPEN})
    read = [await result_of(blobs, chunk) for chunk in open_]
    return {result.chunk_id: result for result in read if result is not None}


async def _read_kept(blobs: BlobStore, chunks: Iterable[str]) -> dict[str, list[Kept]]:
    read = {}
    for chunk in sorted(chunks):
        with suppress(BlobNotFound):  # erased meanwhile; likewise below
            verdicts = Verdicts.parse(await blobs.read(names.verdicts(chunk)))
            read[chunk] = _kept(verdicts)
    return read


async def _read_closings(
    blobs: BlobStore, job_id: str, numbers: Iterable[int]
) -> dict[int, JobFacts]:
    read = {}
    for number in sorted(numbers):
        with suppress(BlobNotFound):
            index = await blobs.read(names.dataset_index(job_id, number))
            read[number] = DatasetIndex.model_validate_json(index).facts
    return read


async def _read_searched(blobs: BlobStore, chunks: Iterable[str]) -> dict[str, list[Slice]]:
    read = {}
    for chunk in sorted(chunks):
        with suppress(BlobNotFound):
            read[chunk] = _searched(Candidates.parse(await blobs.read(names.candidates(chunk))))
    return read


def _kept(verdicts: Verdicts) -> list[Kept]:
    return [
        Kept(bytes.fromhex(v.sha256), writing.signed(v.phash), v.url, v.position)
        for v in verdicts.items
        if v.outcome is Outcome.KEPT
    ]


def _searched(candidates: Candidates) -> list[Slice]:
    """Searches of a chunk by its candidates: how many each gave; from where on is not known."""
    counted = Counter((item.source, item.keyword) for item in candidates.items)
    for owed in candidates.head.unanswered:
        counted[owed.source, owed.keyword] += owed.limit
    return [
        Slice(source=source, keyword=keyword, offset=0, limit=limit)
        for (source, keyword), limit in counted.items()
    ]


# ---- what is written, under the job's lock


class _Mending:
    """One job's repair within its transaction."""

    def __init__(
        self, connection: AsyncConnection, job_id: str, stored: Stored, told: Told, read: _Read
    ) -> None:
        self._connection = connection
        self._job_id = job_id
        self._stored = stored
        self._told = told
        self._read = read
        self._problems: list[str] = []

    async def mend(self, known: Known | None) -> JobRepair:
        """Everything, in the order in which one thing needs the other."""
        connection, read = self._connection, self._read
        advanced = await self._asked(known)
        if advanced is None:
            return JobRepair(job_id=self._job_id, problems=tuple(self._problems))
        cancelled = self._is_cancelled() and await writing.cancel(connection, self._job_id)
        deleted = self._told.deleted and await writing.delete(connection, self._job_id)
        job = await store.job(connection, self._job_id)
        assert job is not None, "it is there by now"
        done = JobRepair(
            job_id=self._job_id,
            restored=known is None,
            round=job.round,
            advanced=advanced,
            cancelled=cancelled,
            deleted=deleted,
        )
        if job.deleted or job.round == 0:
            return done
        made = await self._chunks(job)
        ended = await store.end_chunks(connection, list(read.results.values()))
        released = await writing.release(connection, self._job_id)
        claimed = await self._claims()
        closed = await self._rounds()
        moved = await self._cursors(job)
        shown = await self._show(job)
        return done.model_copy(
            update={
                "chunks_made": made,
                "chunks_ended": len(ended),
                "chunks_released": released,
                "chunks_claimed": len(read.kept),
                "images_claimed": claimed,
                "rounds_closed": closed,
                "cursors_moved": moved,
                "progress_shown": shown,
                "problems": tuple(self._problems + self._gone(known) + self._unbegun(job)),
            }
        )

    # -- the job

    async def _asked(self, known: Known | None) -> bool | None:
        """The job and its requests; whether it is further than it was, None if nothing is known."""
        latest = self._read.requests[-1] if self._read.requests else None
        if known is None:
            if latest is None:
                if not self._told.deleted:
                    self._problems.append(
                        "the database does not know the job, and what it asked for is nowhere "
                        "else: ask for it again"
                    )
                return None
            await writing.insert_job(self._connection, latest)
        further = known is not None and latest is not None and latest.round > known.round
        if latest is not None:
            if further:
                await writing.advance_job(self._connection, self._job_id, latest)
            await writing.insert_requests(self._connection, latest)
        for number in sorted(self._read.closings):
            told = self._read.closings[number]
            further |= await writing.advance_to(self._connection, self._job_id, told)
        return further

    def _is_cancelled(self) -> bool:
        return (
            self._told.cancelled
            or any(result.error == CANCELLED for result in self._read.results.values())
            or any(closing.status == "cancelled" for closing in self._read.closings.values())
        )

    def _gone(self, known: Known | None) -> list[str]:
        """Chunks that have ended, as the database says, and whose results are not there."""
        ended = {
            c for c, status in (known.chunks if known else {}).items() if status not in store.OPEN
        }
        gone = len(ended - self._stored.results)
        if not gone:
            return []
        problem = (
            f"{gone} chunks have ended and have no result in the blob store: if the job was "
            "deleted since the backup, delete it again; else this is not its blob store"
        )
        return [problem]

    def _unbegun(self, job: JobRow) -> list[str]:
        """A round that somebody asked for, and that had not begun: nobody knows what it was."""
        if self._told.asked <= job.round:
            return []
        return [f"round {self._told.asked} was asked for and had not begun: ask for it again"]

    # -- chunks

    async def _chunks(self, job: JobRow) -> int:
        """Chunks that are known to have been planned; how many were not there."""
        connection = self._connection
        book = await store.book(connection, self._job_id)
        known = await store.chunks(connection, self._job_id)
        evident = self._stored.chunks | self._told.chunks.keys()
        planned: dict[int, NewChunk] = {}
        if book is None and not known and (job.wanted or evident):
            planned = await self._split(job)
        have = {chunk.index for chunk in known}
        indices = {parse_chunk_id(chunk).index for chunk in evident} | planned.keys()
        made = 0
        for index in sorted(indices - have):
            new = await self._planned(job, index, planned.get(index))
            made += await store.insert_chunks(connection, self._job_id, job.priority, index, [new])
        attempts = dict.fromkeys(self._stored.chunks, 1)
        attempts |= {chunk: event.attempt for chunk, event in self._told.chunks.items()}
        await writing.admitted(connection, self._job_id, attempts)
        return made

    async def _split(self, job: JobRow) -> dict[int, NewChunk]:
        """The chunks that the job started with: a pure function of what was asked for."""
        if self._read.requests:
            first = self._read.requests[0]
            job = job.model_copy(update={"max_images": first.job["max_images"]})
        cursors = plan.cursors_for(plan.streams(job.sources, job.keywords), ())
        new, moved = rounds.split(job, cursors)
        await store.open_rounds(self._connection, self._job_id, 0, 1, moved)
        return dict(enumerate(new))

    async def _planned(self, job: JobRow, index: int, split: NewChunk | None) -> NewChunk:
        """A chunk as it was planned: as its admission said, else as can be worked out."""
        chunk = chunk_id(self._job_id, index)
        event = self._told.chunks.get(chunk)
        if event is None and split is not None:
            return split
        before = await store.chunks(self._connection, self._job_id)
        details = await store.details(self._connection, self._job_id)
        slices = event.slices if event is not None else self._guess(job, chunk, details)
        if split is not None and split.slices == slices:
            return split
        retried = self._retried(index, slices, before, details)
        if retried is not None:
            return NewChunk(retried.range, slices, retried.chunk_id)
        start = max((c.range.end + 1 for c in before if c.index < index), default=0)
        size = max(sum(piece.limit for piece in slices), 1)
        return NewChunk(Range(start, start + size - 1), slices)

    def _guess(
        self, job: JobRow, chunk: str, details: Mapping[str, store.Details]
    ) -> tuple[Slice, ...]:
        """Searches whose stretches nobody knows any more: behind all that are known."""
        slices = (piece for detail in details.values() for piece in detail.slices)
        ends = _ends(plan.cursors_for(plan.streams(job.sources, job.keywords), ()), slices)
        at = {cursor.stream: cursor.next_offset for cursor in ends}
        searched = self._read.searched.get(chunk)
        if searched is None:
            self._problems.append(f"which searches {chunk} had is not known any more")
            return ()
        return tuple(
            piece.model_copy(update={"offset": at.get(gaps.stream_of(piece), 0)})
            for piece in searched
        )

    def _retried(
        self,
        index: int,
        slices: tuple[Slice, ...],
        chunks: Iterable[store.ChunkRow],
        details: Mapping[str, store.Details],
    ) -> store.ChunkRow | None:
        """The failed chunk whose slices a chunk has: it is that one's retry."""
        chunks = tuple(chunks)
        superseded = facts.superseded(chunks)
        for chunk in reversed(chunks):
            if chunk.index < index and details[chunk.chunk_id].slices == slices:
                result = self._read.results.get(chunk.chunk_id)
                status = result.status if result is not None else chunk.status
                failed = status == "failed" and chunk.chunk_id not in superseded
                return chunk if failed and slices else None
        return None

    # -- claims, rounds, progress

    async def _claims(self) -> int:
        """What chunks keep: first the live ones, which take over what failed ones held."""
        chunks = await store.chunks(self._connection, self._job_id)
        failed = {chunk.chunk_id for chunk in chunks if chunk.status == "failed"}
        claimed = 0
        for chunk in sorted(self._read.kept, key=lambda chunk: (chunk in failed, chunk)):
            kept, live = self._read.kept[chunk], chunk not in failed
            held = await writing.claim(self._connection, self._job_id, chunk, kept, live=live)
            claimed += held
            if live and held < len(kept):
                self._problems.append(
                    f"{len(kept) - held} images that {chunk} keeps are kept by another chunk too: "
                    "services have worked on the old database"
                )
        return claimed

    async def _rounds(self) -> int:
        """Close rounds as they were closed."""
        chunks = await store.chunks(self._connection, self._job_id)
        book = await store.book(self._connection, self._job_id)
        closed = 0
        for number in sorted(self._read.closings):
            closed += await writing.close_round(
                self._connection,
                self._job_id,
                self._read.closings[number],
                cursors=book.cursors if book is not None else (),
                spent=facts.spent(chunks),
            )
        return closed

    async def _cursors(self, job: JobRow) -> bool:
        """Every search goes on behind what has been planned of it."""
        book = await store.book(self._connection, self._job_id)
        if book is None:
            return False
        details = await store.details(self._connection, self._job_id)
        base = plan.cursors_for(plan.streams(job.sources, job.keywords), book.cursors)
        slices = (piece for detail in details.values() for piece in detail.slices)
        return await writing.move_cursors(self._connection, self._job_id, _ends(base, slices))

    async def _show(self, job: JobRow) -> bool:
        """Show what was shown of an open round.

        Not that one has finished: the planner repeats its facts until that is shown, so that
        `job.finished` is said again, and its webhook sent, whose row may be lost.
        """
        shown = self._told.progress
        if shown is None or shown.revision[0] >= job.round:
            return False
        return await writing.show(self._connection, shown)


def _ends(cursors: Sequence[Cursor], slices: Iterable[Slice]) -> list[Cursor]:
    """The cursors, each behind all of its slices."""
    ends = {cursor.stream: cursor.next_offset for cursor in cursors}
    for piece in slices:
        stream = gaps.stream_of(piece)
        ends[stream] = max(ends.get(stream, 0), piece.offset + piece.limit)
    return [c.model_copy(update={"next_offset": ends[c.stream]}) for c in cursors]
