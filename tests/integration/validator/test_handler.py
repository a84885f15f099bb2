"""`chunk.downloaded` over a real database and a folder: once, whatever dies and however often."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pixcrawler.common import names
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.blobs.port import BlobStore, Content
from pixcrawler.common.context import RecordRef
from pixcrawler.common.db import locks
from pixcrawler.common.documents import ChunkResult, Verdicts
from pixcrawler.common.errors import GiveUp, Stopped
from pixcrawler.common.events import ChunkDownloaded, ChunkValidated, ImageTotals
from pixcrawler.common.outcomes import Outcome
from pixcrawler.common.turns import Turns
from pixcrawler.miniweb import files as made
from pixcrawler.validator.handler import handle_chunk_downloaded
from pixcrawler.validator.judging import Judge
from tests.integration.validator.ledger import Ledger
from tests.unit.validator.files import photograph, photographs
from tests.unit.validator.made import Content as Contents
from tests.unit.validator.made import store_chunk, url_of


@dataclass
class NotingContext:
    """A `Context` that notes reports; `wanted` false: the job is cancelled."""

    attempt: int = 1
    worker: str = "test"
    source: str = ""
    wanted: bool = True
    traceparent: str = ""
    reports: list[tuple[int, int, ImageTotals]] = field(default_factory=list)
    record: RecordRef = field(default_factory=lambda: RecordRef("chunk.downloaded", 0, 0, 0))

    async def check(self) -> None:
        if not self.wanted:
            raise Stopped("cancelled")

    def report(self, done: int, total: int, images: ImageTotals) -> None:
        self.reports.append((done, total, images))


class Crash(Exception):
    """The process dies here."""


class Crashing(LocalBlobs):
    """A store that dies when the verdicts are to be created, before or after."""

    def __init__(self, folder: Path, *, after: bool) -> None:
        super().__init__(folder)
        self.after = after
        self.armed = True

    async def create(self, name: str, content: Content) -> bool:
        if not self.armed or not name.endswith("verdicts.jsonl"):
            return await super().create(name, content)
        self.armed = False
        if self.after:
            await super().create(name, content)
        raise Crash


@dataclass
class World:
    """A job, a store, and a validator."""

    ledger: Ledger
    blobs: BlobStore
    judge: Judge

    async def store(self, index: int, contents: Sequence[Contents]) -> None:
        await store_chunk(self.blobs, self.ledger.chunk(index), contents)

    async def validate(
        self,
        index: int,
        *,
        attempt: int = 1,
        context: NotingContext | None = None,
        turns: Turns | None = None,
    ) -> ChunkValidated:
        """As a replica of its own does it, unless it shares its turns with others."""
        chunk = self.ledger.chunk(index)
        event = ChunkDownloaded(
            chunk_id=chunk, attempt=attempt, candidates=0, downloaded=0, bytes=0
        )
        [answer] = await handle_chunk_downloaded(
            event,
            context or NotingContext(attempt=attempt),
            blobs=self.blobs,
            engine=self.ledger.engine,
            judge=self.judge,
            turns=turns or Turns(),
            max_pixels=10_000_000,
        )
        assert isinstance(answer, ChunkValidated)
        return answer

    async def verdicts(self, index: int) -> Verdicts:
        return Verdicts.parse(await self.blobs.read(names.verdicts(self.ledger.chunk(index))))

    async def said(self, index: int) -> list[str]:
        return [str(it.outcome) for it in (await self.verdicts(index)).items]

    async def end(self, index: int) -> None:
        """Give up on a chunk, as the planner does: the result first."""
        chunk = self.ledger.chunk(index)
        result = ChunkResult(chunk_id=chunk, status="failed", error="cancelled")
        await self.blobs.create(names.result(chunk), result.model_dump_json().encode())


@pytest_asyncio.fixture
async def world(engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[World]:
    ledger = await Ledger.open(engine, chunks=4, max_images=500)
    judge = Judge(2, 8 << 20)
    yield World(ledger, LocalBlobs(tmp_path), judge)
    judge.close()


def mixture() -> list[Contents]:
    """Sixty candidates of every kind."""
    image = photograph()
    odd: list[Contents] = [
        made.png(image), made.cut(made.jpeg(image), 60), made.html("x"), made.png_bomb(4000),
        made.png(image.resize((40, 40))), made.photoshop(image), Outcome.TIMEOUT, Outcome.BLOCKED,
        photographs()[3], made.jpeg(photograph(20)), made.webp(photograph(20)),
    ]  # fmt: skip
    return [*photographs()[:8], *odd, *photographs()[100:141]]


MIXTURE = [
    *["kept"] * 8,
    "near_duplicate", "corrupt", "not_image", "bomb", "too_small", "unsupported", "timeout",
    "blocked", "duplicate", "kept", "near_duplicate",
    *["kept"] * 41,
]  # fmt: skip


async def test_every_candidate_gets_its_outcome(world: World) -> None:
    """All outcomes in one chunk; the event, the head and the verdicts agree."""
    context = NotingContext(attempt=3)
    await world.store(0, mixture())
    event = await world.validate(0, attempt=3, context=context)
    verdicts = await world.verdicts(0)
    assert await world.said(0) == MIXTURE
    assert event == ChunkValidated(
        chunk_id=world.ledger.chunk(0), attempt=3, images=verdicts.head.images
    )
    assert event.images.valid == 50
    assert event.images.valid + sum(event.images.dropped.values()) == event.images.candidates == 60
    assert len(await world.ledger.live()) == 50
    assert all(done <= total == 60 for done, total, _ in context.reports)
    assert max(done for done, *_ in context.reports) >= 50
    assert not any(images.valid for *_, images in context.reports)
    twin = verdicts.items[16]
    assert twin.duplicate_of == url_of(world.ledger.chunk(0), 3)


async def test_a_repeated_event_is_answered_from_the_verdicts(world: World) -> None:
    """Also when the parts are gone, and with the attempt of the one who asks."""
    await world.store(0, mixture())
    first = await world.validate(0)
    await world.blobs.delete_prefix(names.staging_prefix(world.ledger.chunk(0)))
    again = await world.validate(0, attempt=2)
    assert (again.attempt, again.images) == (2, first.images)


@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_around_the_verdicts_changes_nothing(
    world: World, tmp_path: Path, after: bool
) -> None:
    """Between claim and verdicts, or after them: what was claimed is what is kept."""
    await world.store(0, mixture())
    await world.store(1, mixture())
    world.blobs = Crashing(tmp_path, after=after)
    with pytest.raises(Crash):
        await world.validate(0)
    claimed = {url for *_, url, _ in await world.ledger.live()}
    await world.validate(1)
    await world.validate(0)
    assert await world.said(0) == MIXTURE
    kept = {it.url for it in (await world.verdicts(0)).items if it.outcome is Outcome.KEPT}
    assert kept == claimed
    assert set(await world.said(1)) <= {str(it) for it in Outcome} - {"kept"}


async def test_two_replicas_at_once_agree(world: World) -> None:
    """The same event at the same time: one set of verdicts, two equal answers."""
    await world.store(0, mixture())
    one, two = await asyncio.gather(world.validate(0), world.validate(0))
    assert one == two
    assert await world.said(0) == MIXTURE


async def test_a_replica_waits_once_for_a_job(world: World) -> None:
    """Were it paused now, it would hold up the others once, and not once for each of its chunks."""
    await world.ledger.add_chunks(range(4, 8))
    contexts = [NotingContext() for _ in range(8)]
    for index in range(8):
        await world.store(index, mixture())
    turns = [Turns(), Turns()]
    async with world.ledger.engine.connect() as holder:
        await locks.job_lock(holder, world.ledger.job_id)
        work = [
            asyncio.create_task(world.validate(n, context=contexts[n], turns=turns[n % 2]))
            for n in range(8)
        ]
        async with asyncio.timeout(60):
            while not all(each.reports and each.reports[-1][0] for each in contexts):
                await asyncio.sleep(0.05)
            while await _waiting(holder) < len(turns):
                await asyncio.sleep(0.05)
        for _ in range(10):  # whoever is late has time to come
            await asyncio.sleep(0.05)
            assert await _waiting(holder) == len(turns)
        await holder.rollback()
    await asyncio.gather(*work)


async def _waiting(connection: AsyncConnection) -> int:
    """Transactions that wait for an advisory lock."""
    return int(
        await connection.scalar(
            text(
                """
                SELECT count(*) FROM pg_locks JOIN pg_database ON database = pg_database.oid
                WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
                """
            )
        )
        or 0
    )


async def test_a_job_over_chunks_is_exact(world: World) -> None:
    """Four chunks at once over the same photographs, 70 wanted: 70, no two alike."""
    await world.ledger.change(max_images=70)
    chance = random.Random(1)
    for index in range(4):
        await world.store(index, chance.sample(photographs()[:100], 60))
    await asyncio.gather(*(world.validate(index) for index in range(4)))
    kept = [
        it.sha256
        for index in range(4)
        for it in (await world.verdicts(index)).items
        if it.outcome is Outcome.KEPT
    ]
    assert len(kept) == len(set(kept)) == 70
    assert {digest.hex() for digest, *_ in await world.ledger.live()} == set(kept)


async def test_nothing_valid_fails_for_good_with_its_verdicts_written(world: World) -> None:
    """The outcomes are known, and a repetition says the same again."""
    await world.store(0, [b"text", Outcome.TIMEOUT, made.cut(made.jpeg(photograph()), 50)])
    for _ in range(2):
        with pytest.raises(GiveUp) as given_up:
            await world.validate(0)
        assert (given_up.value.error, given_up.value.retriable) == ("no_valid_images", False)
        assert await world.said(0) == ["not_image", "timeout", "corrupt"]
    assert str(given_up.value) == (
        "none of 3 candidates is a valid image: 1 corrupt, 1 not_image, 1 timeout"
    )
    assert await world.ledger.marks() == 1


async def test_only_duplicates_and_surplus_go_on(world: World) -> None:
    """Valid images, none of them kept: that is no failure."""
    await world.ledger.change(max_images=1)
    await world.store(0, [photographs()[0]])
    await world.store(1, [photographs()[0], photographs()[1]])
    await world.validate(0)
    event = await world.validate(1)
    assert event.images.valid == 0
    assert await world.said(1) == ["duplicate", "surplus"]


async def test_a_chunk_without_candidates_goes_on(world: World) -> None:
    """It completes empty."""
    await world.store(0, [])
    event = await world.validate(0)
    assert event.images == ImageTotals()
    assert await world.said(0) == []


async def test_a_missing_input_may_come(world: World) -> None:
    """No candidates, or a part missing: another attempt may help."""
    await world.store(1, list(photographs()[:60]))
    await world.blobs.delete(names.part(world.ledger.chunk(1), 1))
    for index in (0, 1):
        with pytest.raises(GiveUp) as given_up:
            await world.validate(index)
        assert (given_up.value.error, given_up.value.retriable) == ("input_missing", True)
    assert await world.ledger.marks() == 0


class Ending(LocalBlobs):
    """A store in which the chunk ends, and its parts go, while its candidates are read."""

    world: World

    async def read(self, name: str) -> bytes:
        data = await super().read(name)
        if name.endswith("candidates.jsonl"):
            await self.world.end(0)
            await super().delete_prefix(names.staging_prefix(self.world.ledger.chunk(0)))
        return data


async def test_a_missing_input_of_a_chunk_that_has_ended_is_no_complaint(
    world: World, tmp_path: Path
) -> None:
    """Looked for the result once more: the sweep was faster."""
    await world.store(0, list(photographs()[:3]))
    world.blobs = blobs = Ending(tmp_path)
    blobs.world = world
    with pytest.raises(Stopped):
        await world.validate(0)


async def test_what_has_ended_or_is_not_wanted_is_left_alone(world: World) -> None:
    """A result; a cancelled job; a job that is cancelled while the chunk is decided; a deleted."""
    for index in range(4):
        await world.store(index, list(photographs()[:3]))
    await world.end(0)
    with pytest.raises(Stopped):
        await world.validate(0)
    with pytest.raises(Stopped):
        await world.validate(1, context=NotingContext(wanted=False))
    assert await world.blobs.stat(names.verdicts(world.ledger.chunk(1))) is None
    await world.ledger.cancel()
    with pytest.raises(Stopped):
        await world.validate(2)
    await world.ledger.delete()
    with pytest.raises(Stopped):
        await world.validate(3)


async def test_options_of_the_job_count(engine: AsyncEngine, tmp_path: Path) -> None:
    """`min_size` and `near_duplicates` are the job's."""
    options = '{"min_size": 400, "near_duplicates": null}'
    ledger = await Ledger.open(engine, chunks=1, max_images=9, options=options)
    world = World(ledger, LocalBlobs(tmp_path), Judge(1, 8 << 20))
    large = photograph().resize((500, 400))
    await world.store(0, [photographs()[7], made.jpeg(large), made.png(large)])
    await world.validate(0)
    assert await world.said(0) == ["too_small", "kept", "kept"]
    world.judge.close()
