"""A job as the stages see it: what was asked for, and whether it is still wanted."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common.db.tables import crawl_jobs
from pixcrawler.common.events import Value


class Options(Value):
    """How a job's images are chosen and packed.

    Attributes:
        min_size: The shortest side allowed, in pixels.
        near_duplicates: Largest Hamming distance of two pHashes (64 bits) that counts as the same
            image; None switches the comparison off.
        refill_factor: Candidates at most, as a multiple of `max_images`.
        format: How archives are packed.
    """

    min_size: int = Field(default=64, ge=1, le=65_535)
    near_duplicates: int | None = Field(default=6, ge=0, le=16)
    refill_factor: float = Field(default=5.0, ge=1.0, le=100.0)
    format: Literal["zip", "webdataset"] = "zip"


class Job(Value):
    """A row of `crawl_jobs`, as much of it as the stages need."""

    job_id: str
    owner: str
    name: str
    keywords: tuple[str, ...]
    sources: tuple[str, ...]
    urls: tuple[str, ...] | None
    max_images: int
    chunk_size: int
    priority: int
    options: Options
    round: int
    cancelled: bool
    deleted: bool

    @property
    def wanted(self) -> bool:
        """Whether anyone still wants work done for it."""
        return not (self.cancelled or self.deleted)


def from_row(row: RowMapping | Mapping[str, Any]) -> Job:
    """A job from its row."""
    return Job(
        **{name: row[name] for name in Job.model_fields if name in row},
        cancelled=row["cancelled_at"] is not None,
        deleted=row["deleted_at"] is not None,
    )


async def load(connection: AsyncConnection, job_id: str) -> Job | None:
    """The job, None if it is unknown. A deleted job is there as long as its tombstone."""
    found = await connection.execute(select(crawl_jobs).where(crawl_jobs.c.job_id == job_id))
    row = found.mappings().one_or_none()
    return None if row is None else from_row(row)


async def unwanted(connection: AsyncConnection, job_ids: Collection[str]) -> set[str]:
    """Which of these jobs are cancelled, deleted or unknown: one query."""
    found = await connection.execute(
        select(crawl_jobs.c.job_id).where(
            crawl_jobs.c.job_id.in_(list(job_ids)),
            crawl_jobs.c.cancelled_at.is_(None),
            crawl_jobs.c.deleted_at.is_(None),
        )
    )
    return set(job_ids) - set(found.scalars())
