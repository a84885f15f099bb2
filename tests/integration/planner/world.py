"""A world in which everything goes wrong: a random scheduler around the planner's real handlers.

Messages come late, twice, in any order and again; replicas of the planner work at the same time and
are cut off in the middle of anything; chunks fall silent; people extend, retry, cancel and delete.
The stages and the tracker are played here, as thin as the rules allow; database, locks, objects and
the outbox are real. Afterwards the world settles, and `check` says what was promised and not kept.
"""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from pixcrawler.common import events, names
from pixcrawler.common.chunks import result_of
from pixcrawler.common.documents import ChunkResult, Stream, Verdict, Verdicts
from pixcrawler.common.errors import BlobNotFound
from pixcrawler.common.events import (
    ChunkFailed,
    ChunkPlanned,
    ChunkProgress,
    ChunkUploaded,
    Event,
    ImageTotals,
    JobCancelled,
    JobCreated,
    JobFacts,
    JobPlanned,
)
from pixcrawler.common.ids import parse_chunk_id
from pixcrawler.common.outcomes import Outcome
from pixcrawler.planner import admission, store, timer
from tests.integration.planner.desk import Desk, failed, verdict

CAPACITY = 2
CHUNK_SIZE = 2
FACTOR = 5

READERS: dict[type[Event], str] = {
    JobCreated: "P",
    JobCancelled: "PT",
    JobPlanned: "T",
    ChunkPlanned: "W",
    ChunkUploaded: "P",
    ChunkFailed: "P",
    ChunkProgress: "P",
}
"""Planner, tracker (with the uploader's index), worker (the three stages in one)."""


@dataclass
class Running:
    """Something in progress; without a message it is a timer's work."""

    task: asyncio.Task[None]
    message: tuple[str, Event] | None


@dataclass
class World:
    """The scheduler's state.

    Attributes:
        desk: The planner's replicas and its neighbours' pens.
        rng: Where all chance comes from.
        chaos: How many more things go wrong.
    """

    desk: Desk
    rng: random.Random
    chaos: int
    supply: dict[str, list[str]] = field(default_factory=dict)
    bag: list[tuple[str, Event]] = field(default_factory=list)
    history: list[Event] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    ops: list[tuple[str, str]] = field(default_factory=list)
    told: dict[tuple[str, int], JobFacts] = field(default_factory=dict)
    violations: set[str] = field(default_factory=set)
    flaky: int = 0
    relayed: int = 0
    happened: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    # ---- what happens

    async def begin(self) -> None:
        """Two jobs, and what people will want of them."""
        self.flaky = self.rng.choice([0, 2, 4, 8])
        for _ in range(2):
            count = self.rng.randrange(3, 12)
            images = [
                f"shared-{self.rng.randrange(5)}" if self.rng.random() < 0.5 else f"own-{i}"
                for i in range(count)
            ]
            job = await self.desk.create(
                self.rng.randrange(2, 6), chunk_size=CHUNK_SIZE, started=False
            )
            self.supply[job] = [f"{job[-4:]}/{image}" for image in images]
            if self.rng.random() < 0.85:
                await self.desk.request(job, "start")
            else:
                self.ops.append(("start", job))
            wishes = self.rng.choices(["extend", "retry", "retry"], k=self.rng.randrange(3))
            self.ops += [(wish, job) for wish in wishes]
            end = self.rng.random()
            if end < 0.3:
                self.ops.append(("cancel" if end < 0.15 else "delete", job))
        self.rng.shuffle(self.ops)

    async def act(self) -> None:
        """One random step."""
        choices = ["admit", "relay", "relay"]
        choices += ["start"] * 4 if self.bag else []
        choices += ["user"] if self.ops and self.rng.random() < 0.2 else []
        if self.chaos > 0:
            choices += ["timer", "deadline"]
            choices += ["crash", "twice"] if self.running else []
            choices += ["again"] if self.history else []
            choices += ["lose"] if self.bag else []
        what = self.rng.choice(choices)
        self.happened[what] += 1
        if what in {"timer", "deadline", "crash", "twice", "again", "lose"}:
            self.chaos -= 1
        await getattr(self, f"_{what}")()
        await asyncio.sleep(self.rng.choice([0, 0, 0.001, 0.004, 0.01]))
        self._reap()

    async def _admit(self) -> None:
        for replica in range(len(self.desk.tools)):
            self._spawn(self._admit_one(replica))

    async def _admit_one(self, replica: int) -> None:
        await admission.admit_one(self.desk.tools[replica])

    async def _timer(self) -> None:
        self._spawn(timer.review(self.desk.tools[self._replica()]))

    async def _start(self) -> None:
        if len(self.running) < 8:
            self._deliver(self.bag.pop(self.rng.randrange(len(self.bag))))

    async def _user(self) -> None:
        what, job = self.ops.pop()
        if what == "start":
            await self.desk.request(job, "start")
        elif what == "extend":
            await self.desk.request(job, "extend", images=self.rng.randrange(1, 3))
        elif what == "retry":
            gone = [r["chunk_id"] for r in await self.desk.rows(job) if r["status"] == "failed"]
            if gone:
                asked = self.rng.choice([None, [self.rng.choice(gone)]])
                await self.desk.request(job, "retry", chunk_ids=asked)
                await self.desk.request(job, "retry", chunk_ids=asked)
        elif what == "cancel":
            await self.desk.cancel(job)
        else:
            await self.desk.delete(job)

    async def _deadline(self) -> None:
        busy = await self._column("SELECT chunk_id FROM job_chunks WHERE status = 'processing'")
        if busy:
            await self.desk.silence(self.rng.choice(busy))
            self._spawn(timer.watch_deadlines(self.desk.tools[self._replica()]))

    async def _crash(self) -> None:
        victim = self.rng.choice(self.running)
        victim.task.cancel()
        if victim.message is not None:
            self.bag.append(victim.message)

    async def _twice(self) -> None:
        victim = self.rng.choice(self.running)
        if victim.message is not None:
            self.bag.append(victim.message)

    async def _lose(self) -> None:
        """A message is gone, as when retention or an older table overtakes it."""
        self.bag.pop(self.rng.randrange(len(self.bag)))

    async def _again(self) -> None:
        event = self.rng.choice(self.history)
        self.bag.append((self.rng.choice(READERS[type(event)]), event))

    async def _relay(self) -> None:
        async with self.desk.engine.connect() as connection:
            found = await connection.execute(
                text("SELECT id, topic, key, value FROM outbox WHERE id > :last ORDER BY id"),
                {"last": self.relayed},
            )
            rows = found.all()
        for row in rows:
            self._publish(events.decode(row.topic, row.key, row.value))
            if self.chaos > 0 and self.rng.random() < 0.1:
                self.chaos -= 1
                return  # it dies before it marks the row
            self.relayed = row.id

    # ---- messages

    def _publish(self, event: Event) -> None:
        self.history.append(event)
        self.bag += [(reader, event) for reader in READERS[type(event)]]

    def _deliver(self, message: tuple[str, Event]) -> None:
        reader, event = message
        match reader, event:
            case "P", _:
                work = self.desk.handle(event, self._replica())
            case "W", ChunkPlanned():
                work = self._work(event)
            case _:
                work = self._show(event)
        self._spawn(work, message)

    def _spawn(
        self, work: Coroutine[Any, Any, Any], message: tuple[str, Event] | None = None
    ) -> None:
        self.running.append(Running(asyncio.create_task(work), message))

    def _reap(self) -> None:
        """Forget what is done; an error nobody foresaw is a violation."""
        for one in [r for r in self.running if r.task.done()]:
            self.running.remove(one)
            if not one.task.cancelled() and (error := one.task.exception()) is not None:
                self.violations.add(f"unforeseen: {error!r}")

    def _replica(self) -> int:
        return self.rng.randrange(len(self.desk.tools))

    async def _pause(self) -> None:
        await asyncio.sleep(self.rng.choice([0, 0, 0.001, 0.003]))

    # ---- the stages, in one

    async def _wanted(self, job: str) -> bool:
        return bool(
            await self._column(
                "SELECT 1 FROM crawl_jobs WHERE job_id = :job AND cancelled_at IS NULL"
                " AND deleted_at IS NULL",
                job=job,
            )
        )

    async def _work(self, event: ChunkPlanned) -> None:
        """A chunk from its slices to its result, looking before each step."""
        chunk, job, attempt = event.chunk_id, event.job_id, event.attempt
        result = await result_of(self.desk.blobs, chunk)
        if result is not None:
            if result.status == "completed":
                self._publish(_uploaded(chunk, attempt))
            return
        if not await self._wanted(job):
            return
        await self._pause()
        if self.flaky and self.rng.random() < 0.4:
            self.flaky -= 1
            error = self.rng.choice(["blob_store", "source_unavailable"])
            self._publish(failed(chunk, attempt, retriable=self.rng.random() < 0.75, error=error))
            return
        self._publish(
            ChunkProgress(chunk_id=chunk, attempt=attempt, stage="validator", done=1, total=2)
        )
        images = [
            image
            for piece in event.slices
            for image in self.supply[job][piece.offset : piece.offset + piece.limit]
        ]
        if not await self._judge(chunk, images):
            return
        if self.flaky and self.rng.random() < 0.3:
            self.flaky -= 1
            self._publish(failed(chunk, attempt, retriable=self.rng.random() < 0.5))
            return
        await self._pause()
        if not await self._wanted(job):
            return
        await self._pause()
        verdicts = Verdicts.parse(await self.desk.blobs.read(names.verdicts(chunk)))
        dry = any(s.offset + s.limit >= len(self.supply[job]) for s in event.slices)
        mine = ChunkResult(
            chunk_id=chunk,
            status="completed",
            images=_totals(verdicts),
            exhausted=(Stream(source="commons", keyword="cat"),) if dry else (),
        )
        await self.desk.blobs.create(names.result(chunk), mine.model_dump_json().encode())
        await self._pause()
        decided = await result_of(self.desk.blobs, chunk)
        if decided is not None and decided.status == "completed":
            self._publish(_uploaded(chunk, attempt))

    async def _judge(self, chunk: str, images: list[str]) -> bool:
        """Claim and decide, once; False if the chunk may not claim."""
        try:
            await self.desk.blobs.read(names.verdicts(chunk))
        except BlobNotFound:
            pass
        else:
            return True
        kept = await self.desk.claim(chunk, images, 1000)
        await self._pause()
        live = set(
            await self._column(
                "SELECT url FROM image_claims JOIN job_chunks USING (chunk_id)"
                " WHERE image_claims.job_id = :job AND status <> 'failed'",
                job=parse_chunk_id(chunk).job_id,
            )
        )
        marked = await self._column("SELECT 1 FROM chunk_claims WHERE chunk_id = :c", c=chunk)
        if not marked:
            return False
        await self._pause()
        await self.desk.write_verdicts(chunk, _verdicts(images, kept, live))
        return True

    # ---- the tracker and the index

    async def _show(self, event: Event) -> None:
        """Show what was said last; a round's closing facts are always the same."""
        job = event.key
        if isinstance(event, JobCancelled):
            if event.deleted:
                await self.desk.forget_progress(job)
            return
        assert isinstance(event, JobPlanned)
        facts = event.facts()
        finished = facts.closed_round == facts.round
        if finished and self.told.setdefault((job, facts.round), facts) != facts:
            self.violations.add("two contents of one closing")
        await self.desk.execute(
            """
            INSERT INTO job_progress (job_id, revision, progress)
            SELECT job_id, CAST(:revision AS jsonb), '{}' FROM crawl_jobs
            WHERE job_id = :job AND deleted_at IS NULL
            ON CONFLICT (job_id) DO UPDATE SET revision = excluded.revision
            WHERE excluded.revision > job_progress.revision""",
            job=job,
            revision=json.dumps([facts.closed_round if finished else 0, facts.round, 0, 0, 0]),
        )

    # ---- settling

    async def settle(self) -> None:
        """No more chaos: deliver everything, let the timers run, until nothing moves."""
        self.chaos = 0
        still = 0
        for _ in range(400):
            await self._finish_all()
            before = (len(self.history), len(self.ops))
            await self._relay()
            while self.bag:
                for _ in range(min(4, len(self.bag))):
                    self._deliver(self.bag.pop(self.rng.randrange(len(self.bag))))
                await self._finish_all()
                await self._relay()
            if self.ops and self.rng.random() < 0.5:
                await self._user()
            await admission.admit(self.desk.tools[self._replica()])
            await self._relay()
            if not self.bag:
                busy = await self._column(
                    "SELECT chunk_id FROM job_chunks WHERE status = 'processing'"
                )
                for chunk in busy:
                    await self.desk.silence(chunk)
                await timer.watch_deadlines(self.desk.tools[0])
                await timer.review(self.desk.tools[self._replica()])
                await self._relay()
            still = still + 1 if before == (len(self.history), len(self.ops)) else 0
            if still >= 2 and not self.bag and not self.ops:
                return
        self.violations.add("did not quiesce")

    async def _finish_all(self) -> None:
        while self.running:
            await asyncio.wait([one.task for one in self.running], timeout=30)
            self._reap()

    async def replay(self) -> None:
        """Every message again, shuffled; then settle."""
        self.bag += [(r, event) for event in self.history for r in READERS[type(event)]]
        self.rng.shuffle(self.bag)
        await self.settle()

    # ---- the promise

    async def watch_capacity(self) -> None:
        """No more slots than there are."""
        busy = await self._column("SELECT 1 FROM job_chunks WHERE status = 'processing'")
        if len(busy) > CAPACITY:
            self.violations.add("capacity exceeded")

    async def check(self, when: str = "") -> None:
        """What was promised of each job."""
        for job in self.supply:
            found = await self._check_job(job)
            self.violations |= {f"{what}{when}" for what in found}

    async def _check_job(self, job: str) -> set[str]:
        async with self.desk.engine.connect() as connection:
            state = (
                await connection.execute(
                    text("SELECT * FROM crawl_jobs WHERE job_id = :job"), {"job": job}
                )
            ).one()
        rows = await self.desk.rows(job)
        shown = await self._column("SELECT revision FROM job_progress WHERE job_id = :j", j=job)
        if state.deleted_at is not None:
            rounds = await self._column("SELECT 1 FROM job_rounds WHERE job_id = :j", j=job)
            left = {"rows": rows, "rounds": rounds, "progress": shown}
            return {f"deleted job: {what} left" for what, some in left.items() if some}
        if state.round == 0:
            return set()
        async with self.desk.engine.connect() as connection:
            book = await store.book(connection, job)
        if book is None or book.closed_round != state.round or book.facts is None:
            return {"job never closes"}
        return {
            *self._check_facts(state, book.facts, shown),
            *await self._check_rows(state, book.facts, rows),
        }

    def _check_facts(self, state: Any, facts: JobFacts, shown: list[Any]) -> set[str]:
        wrong = set()
        if self.told.get((state.job_id, state.round)) != facts:
            wrong.add("the closing was not said as it was decided")
        if not shown or shown[0][:2] != [state.round, state.round]:
            wrong.add("the round is not shown as finished")
        true = "incomplete" if facts.kept else "failed"
        true = "completed" if facts.kept >= facts.requested else true
        # Cancelling a closed round changes nothing.
        if facts.status not in {true, "cancelled"}:
            wrong.add("status is not the truth")
        if facts.status == "cancelled" and state.cancelled_at is None:
            wrong.add("cancelled by nobody")
        if facts.requested != state.max_images:
            wrong.add("requested is not the number asked for")
        return wrong

    async def _check_rows(
        self, state: Any, facts: JobFacts, rows: list[dict[str, Any]]
    ) -> set[str]:
        wrong = set()
        kept: list[str] = []
        reachable: set[str] = set()
        for row in rows:
            result = await result_of(self.desk.blobs, row["chunk_id"])
            if row["status"] in {"pending", "processing"}:
                wrong.add("a chunk is open")
            if result is None or result.status != row["status"]:
                wrong.add("row and result disagree")
            if row["status"] == "completed":
                raw = await self.desk.blobs.read(names.verdicts(row["chunk_id"]))
                items = Verdicts.parse(raw).items
                kept += [v.url for v in items if v.outcome is Outcome.KEPT]
                for s in row["slices"]:
                    reachable |= set(self._images(state.job_id, s["offset"], s["limit"]))
        if len(kept) != len(set(kept)) or len(kept) != facts.kept or len(kept) > state.max_images:
            wrong.add("what is kept is not unique, not counted right, or too much")
        cursor = max((s["offset"] + s["limit"] for r in rows for s in r["slices"]), default=0)
        reachable |= set(self.supply[state.job_id][cursor:])
        cut_short = facts.status == "cancelled" or facts.reason in {"budget", "unavailable"}
        if len(kept) < state.max_images and len(reachable) > len(kept) and not cut_short:
            wrong.add("fewer than asked for though the supply is there")
        return wrong | self._check_plan(state, rows)

    def _check_plan(self, state: Any, rows: list[dict[str, Any]]) -> set[str]:
        wrong = set()
        retried = [row["retry_of"] for row in rows if row["retry_of"]]
        if len(retried) != len(set(retried)):
            wrong.add("retried twice")
        sizes = [
            row["image_range"]["end"] - row["image_range"]["start"] + 1
            for row in rows
            if row["chunk_id"] not in retried and row["error"] != "source_unavailable"
        ]
        if sum(sizes) > FACTOR * state.max_images:
            wrong.add("over the budget")
        if [row["chunk_index"] for row in rows] != list(range(len(rows))):
            wrong.add("indices with gaps")
        return wrong

    def _images(self, job: str, offset: int, limit: int) -> list[str]:
        return self.supply[job][offset : offset + limit]

    async def objects(self) -> dict[str, bytes]:
        """Every result, to compare."""
        found = {}
        async for blob in self.desk.blobs.list("jobs/"):
            if blob.name.endswith("result.json"):
                found[blob.name] = await self.desk.blobs.read(blob.name)
        return found

    async def _column(self, statement: str, **values: Any) -> list[Any]:
        async with self.desk.engine.connect() as connection:
            return list((await connection.execute(text(statement), values)).scalars())


def _uploaded(chunk: str, attempt: int) -> ChunkUploaded:
    return ChunkUploaded(chunk_id=chunk, attempt=attempt, images=ImageTotals())


def _verdicts(images: list[str], kept: list[str], live: set[str]) -> list[Verdict]:
    """The outcome of each image: the first of equal ones may be kept."""
    found = []
    seen: set[str] = set()
    for position, image in enumerate(images):
        if image in kept and image not in seen:
            outcome = Outcome.KEPT
        elif image in live:
            outcome = Outcome.DUPLICATE
        else:
            outcome = Outcome.SURPLUS
        seen.add(image)
        found.append(
            verdict(position, image, outcome, image if outcome is Outcome.DUPLICATE else "")
        )
    return found


def _totals(verdicts: Verdicts) -> ImageTotals:
    dropped: dict[str, int] = defaultdict(int)
    for item in verdicts.items:
        dropped[item.outcome] += item.outcome is not Outcome.KEPT
    kept = sum(item.outcome is Outcome.KEPT for item in verdicts.items)
    return ImageTotals(
        candidates=len(verdicts.items),
        valid=kept,
        dropped={k: n for k, n in sorted(dropped.items()) if n},
    )
