"""A job as the stages see it: what was asked for, and whether it is still wanted."""

from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field
from sqlalchemy import RowMapping, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common.db.tables import crawl_jobs
from pixcrawler.common.events import Value
from pixcrawler.common.transform import (
    DEFAULT_QUALITY,
    Format,
    ImageSize,
    OnlyIfBigger,
    Quality,
    Resize,
    Transform,
    Upright,
)


class Options(Value):
    """How a job's images are chosen and packed.

    Attributes:
        min_size: The shortest side allowed, in pixels.
        near_duplicates: Largest Hamming distance of two pHashes (64 bits) that counts as the same
            image; None switches the comparison off.
        refill_factor: Candidates at most, as a multiple of `max_images`.
        format: How archives are packed.
        upright: Turn images as their EXIF orientation says.
        resize_mode: Whether and how images are resized.
        image_size: To how many pixels a side; None where they are not.
        resize_only_if_bigger: Never enlarge.
        image_format: Which format images are stored in.
        quality: Of JPEG and WebP, where an image is encoded again.
    """

    min_size: int = Field(default=64, ge=1, le=65_535)
    near_duplicates: int | None = Field(default=6, ge=0, le=16)
    refill_factor: float = Field(default=5.0, ge=1.0, le=100.0)
    format: Literal["zip", "webdataset"] = "zip"
    upright: Upright = False
    resize_mode: Resize = "none"
    image_size: ImageSize = None
    resize_only_if_bigger: OnlyIfBigger = False
    image_format: Format = "original"
    quality: Quality = DEFAULT_QUALITY

    @property
    def transform(self) -> Transform | None:
        """What is done to the images; None where they all stay as they were found."""
        return Transform.of(self)


class Job(Value):
    """A row of `crawl_jobs`, as much of it as the stages need.

    Without its URLs: a list of 100,000 has 10 MB, and every chunk's every stage loads the job.
    """

    job_id: str
    owner: str
    name: str
    keywords: tuple[str, ...]
    sources: tuple[str, ...]
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


class ListedUrls(NamedTuple):
    """A stretch of a job's own list of URLs, and how many it has in all."""

    urls: tuple[str, ...]
    total: int


class StoredList(NamedTuple):
    """The uploaded list that a job takes its candidates from: which, and how many rows it has.

    A list that was deleted has 0.
    """

    list_id: str
    rows: int


_COLUMNS = [crawl_jobs.c[name] for name in Job.model_fields if name in crawl_jobs.c]
_COLUMNS += [crawl_jobs.c.cancelled_at, crawl_jobs.c.deleted_at]

_LISTED = text("""
    SELECT jsonb_array_length(urls) AS total,
           ARRAY(SELECT value
                   FROM jsonb_array_elements_text(urls) WITH ORDINALITY AS listed (value, place)
                  WHERE place > :first AND place <= :last ORDER BY place) AS urls
      FROM crawl_jobs WHERE job_id = :job_id AND jsonb_typeof(urls) = 'array'
""")

_STORED = text("""
    SELECT list.list_id, CASE WHEN list.deleted_at IS NULL THEN list.rows ELSE 0 END AS rows
      FROM crawl_jobs AS job JOIN url_lists AS list ON list.list_id = job.url_list_id
     WHERE job.job_id = :job_id
""")


def from_row(row: RowMapping | Mapping[str, Any]) -> Job:
    """A job from its row."""
    return Job(
        **{name: row[name] for name in Job.model_fields if name in row},
        cancelled=row["cancelled_at"] is not None,
        deleted=row["deleted_at"] is not None,
    )


async def load(connection: AsyncConnection, job_id: str) -> Job | None:
    """The job, None if it is unknown. A deleted job is there as long as its tombstone."""
    found = await connection.execute(select(*_COLUMNS).where(crawl_jobs.c.job_id == job_id))
    row = found.mappings().one_or_none()
    return None if row is None else from_row(row)


async def listed_urls(
    connection: AsyncConnection, job_id: str, offset: int, limit: int
) -> ListedUrls:
    """The URLs `offset` … `offset + limit - 1` that the caller brought along; none if unknown."""
    found = await connection.execute(
        _LISTED, {"job_id": job_id, "first": offset, "last": offset + limit}
    )
    row = found.one_or_none()
    return ListedUrls((), 0) if row is None else ListedUrls(tuple(row.urls), row.total)


async def stored_list(connection: AsyncConnection, job_id: str) -> StoredList | None:
    """The uploaded list that the job was made with; None if there is none such."""
    found = await connection.execute(_STORED, {"job_id": job_id})
    row = found.one_or_none()
    return None if row is None else StoredList(row.list_id, row.rows)


async def unwanted(connection: AsyncConnection, job_ids: Collection[str]) -> set[str]:
    """Which of these jobs are cancelled, deleted or unknown: one query, if there are any."""
    if not job_ids:
        return set()
    found = await connection.execute(
        select(crawl_jobs.c.job_id).where(
            crawl_jobs.c.job_id.in_(list(job_ids)),
            crawl_jobs.c.cancelled_at.is_(None),
            crawl_jobs.c.deleted_at.is_(None),
        )
    )
    return set(job_ids) - set(found.scalars())
