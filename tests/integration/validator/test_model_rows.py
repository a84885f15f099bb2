"""The rows that the model plays (tests/model/handlers) answer as PostgreSQL does."""

import random

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.errors import Stopped
from pixcrawler.common.jobs import Job, Options
from pixcrawler.validator.claims import Image, claim
from tests.integration.validator.ledger import Ledger, image
from tests.model.handlers.rows import Rows

CHUNKS = 4
WANTED = 6


def twin_of(ledger: Ledger) -> Rows:
    """The same job in memory."""
    rows = Rows()
    rows.jobs[ledger.job_id] = Job(
        job_id=ledger.job_id,
        owner="tests",
        name="",
        keywords=("cat",),
        sources=("openverse",),
        max_images=WANTED,
        chunk_size=500,
        priority=5,
        options=Options(),
        round=1,
        cancelled=False,
        deleted=False,
    )
    rows.chunks = {ledger.chunk(index): "processing" for index in range(CHUNKS)}
    return rows


def some_images(chance: random.Random) -> list[Image]:
    """Of few kinds, some near to each other, some behind the same URL."""
    found: dict[bytes, Image] = {}
    for position in range(chance.randrange(1, 7)):
        group, member = chance.randrange(6), chance.randrange(2)
        phash = (0x0F0F_3C3C_5A5A_9669 * (group + 1) % (1 << 64)) ^ member
        one = image(position, f"{group}-{member}", phash)
        if chance.random() < 0.3:
            one = Image(position, f"https://example.org/shared/{group}", one.sha256, phash)
        if all(one.url != other.url for other in found.values()):
            found.setdefault(one.sha256, one)
    return list(found.values())


async def ask(
    engine: AsyncEngine, chunk: str, images: list[Image], near: int | None
) -> dict[int, tuple[str, str]] | str:
    """The rulings, or that there are none."""
    try:
        rulings = await claim(engine, chunk, images, near=near)
    except Stopped:
        return "stopped"
    return {place: (str(r.outcome), r.duplicate_of) for place, r in rulings.items()}


@pytest.mark.parametrize("seed", range(20))
async def test_claims_are_the_same(engine: AsyncEngine, seed: int) -> None:
    """Claims, made again, released, taken over and refused: the same rulings, the same rows."""
    chance = random.Random(seed)
    ledger = await Ledger.open(engine, chunks=CHUNKS, max_images=WANTED)
    rows = twin_of(ledger)
    near = chance.choice([None, 6])
    images = {index: some_images(chance) for index in range(CHUNKS + 1)}
    for _ in range(12):
        index, luck = chance.randrange(CHUNKS + 1), chance.random()
        chunk = ledger.chunk(index)
        if luck < 0.2 and index < CHUNKS:
            await ledger.fail(index)
            rows.chunks[chunk] = "failed"
        elif luck > 0.97:
            await ledger.cancel()
            job = rows.jobs[ledger.job_id]
            rows.jobs[ledger.job_id] = job.model_copy(update={"cancelled": True})
        else:
            said = await ask(engine, chunk, images[index], near)
            assert await ask(rows.engine, chunk, images[index], near) == said
        live = [c for c in rows.claims.values() if rows.live(c)]
        mine = [(c.sha256, c.phash % (1 << 64), c.url, c.chunk_id) for c in live]
        assert sorted(mine) == sorted(await ledger.live())
        assert len(rows.marks) == await ledger.marks()
