"""A job with chunks in a real database, and what its claims say."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.db.tables import chunk_claims, crawl_jobs, image_claims, job_chunks
from pixcrawler.common.ids import chunk_id, new_job_id
from pixcrawler.common.outcomes import Outcome
from pixcrawler.validator.claims import Image, Ruling, claim


@dataclass(frozen=True)
class Ledger:
    """A job in the database."""

    engine: AsyncEngine
    job_id: str

    @classmethod
    async def open(
        cls, engine: AsyncEngine, *, chunks: int, max_images: int, options: str = "{}"
    ) -> "Ledger":
        """A job with so many chunks, all in progress."""
        import json

        ledger = cls(engine, new_job_id())
        async with engine.begin() as connection:
            await connection.execute(
                insert(crawl_jobs).values(
                    job_id=ledger.job_id,
                    owner="tests",
                    keywords=["cat"],
                    sources=["openverse"],
                    max_images=max_images,
                    chunk_size=500,
                    options=json.loads(options),
                    round=1,
                )
            )
        await ledger.add_chunks(range(chunks))
        return ledger

    def chunk(self, index: int) -> str:
        """A chunk's id."""
        return chunk_id(self.job_id, index)

    async def add_chunks(self, indices: Sequence[int]) -> None:
        """More chunks, in progress."""
        rows = [
            {
                "chunk_id": self.chunk(index),
                "job_id": self.job_id,
                "chunk_index": index,
                "status": "processing",
                "image_range": {"start": 500 * index, "end": 500 * index + 499},
                "slices": [],
            }
            for index in indices
        ]
        if rows:
            async with self.engine.begin() as connection:
                await connection.execute(insert(job_chunks), rows)

    async def fail(self, index: int) -> None:
        """Give up on a chunk, as the planner does."""
        async with self.engine.begin() as connection:
            await connection.execute(
                update(job_chunks)
                .where(job_chunks.c.chunk_id == self.chunk(index))
                .values(status="failed")
            )

    async def change(self, **values: object) -> None:
        """Change the job."""
        async with self.engine.begin() as connection:
            await connection.execute(
                update(crawl_jobs).where(crawl_jobs.c.job_id == self.job_id).values(**values)
            )

    async def cancel(self) -> None:
        """Cancel the job."""
        await self.change(cancelled_at=datetime.now(UTC))

    async def delete(self) -> None:
        """Delete the job."""
        await self.change(deleted_at=datetime.now(UTC))

    async def claim(
        self, index: int, images: Sequence[Image], near: int | None = 6
    ) -> Mapping[int, Ruling]:
        """Claim for a chunk."""
        return await claim(self.engine, self.chunk(index), images, near=near)

    async def live(self) -> list[tuple[bytes, int, str, str]]:
        """The claims that count: digest, hash, URL, chunk."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                select(
                    image_claims.c.sha256,
                    image_claims.c.phash,
                    image_claims.c.url,
                    image_claims.c.chunk_id,
                )
                .join(job_chunks, job_chunks.c.chunk_id == image_claims.c.chunk_id)
                .where(image_claims.c.job_id == self.job_id, job_chunks.c.status != "failed")
            )
            return [
                (bytes(row.sha256), row.phash % (1 << 64), row.url, row.chunk_id) for row in rows
            ]

    async def marks(self) -> int:
        """How many chunks have decided."""
        async with self.engine.connect() as connection:
            found = await connection.scalar(
                select(func.count())
                .select_from(chunk_claims)
                .where(chunk_claims.c.job_id == self.job_id)
            )
        return int(found or 0)

    async def fill(self, index: int, phashes: bytes) -> None:
        """Claim many images at once: their hashes as 8 bytes each."""
        count = len(phashes) // 8
        async with self.engine.begin() as connection:
            await connection.execute(
                text("""
                    INSERT INTO image_claims (job_id, sha256, phash, url, chunk_id, position)
                    SELECT :job, sha256(int8send(n) || 'fill'), p, 'https://fill/' || n, :chunk, n
                      FROM unnest(CAST(:phashes AS bigint[])) WITH ORDINALITY AS u (p, n)
                """),
                {
                    "job": self.job_id,
                    "chunk": self.chunk(index),
                    "phashes": [
                        int.from_bytes(phashes[8 * n : 8 * n + 8], "little", signed=True)
                        for n in range(count)
                    ],
                },
            )


def image(position: int, name: str, phash: int) -> Image:
    """An image with bytes of this name; the URL says where it was found and what it is."""
    digest = hashlib.sha256(name.encode()).digest()
    return Image(position, f"https://example.org/{position}/{name}", digest, phash)


def outcomes(rulings: Mapping[int, Ruling]) -> dict[str, int]:
    """How many of each."""
    return dict(Counter(str(ruling.outcome) for ruling in rulings.values()))


def kept(rulings: Mapping[int, Ruling]) -> list[int]:
    """The positions of what is kept."""
    return [place for place, ruling in rulings.items() if ruling.outcome is Outcome.KEPT]
