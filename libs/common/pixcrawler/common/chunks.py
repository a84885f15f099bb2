"""What every stage asks before it works on a chunk (rule 1: look before you work)."""

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import jobs, names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.documents import ChunkResult
from pixcrawler.common.errors import BlobNotFound, Stopped
from pixcrawler.common.ids import parse_chunk_id
from pixcrawler.common.jobs import Job


async def result_of(blobs: BlobStore, chunk: str) -> ChunkResult | None:
    """How the chunk ended, None while it has not."""
    try:
        return ChunkResult.model_validate_json(await blobs.read(names.result(chunk)))
    except BlobNotFound:
        return None


async def wanted_job(engine: AsyncEngine, job_id: str) -> Job:
    """The job, if work for it is still wanted.

    Raises:
        Stopped: it is unknown, cancelled or deleted.
    """
    async with engine.connect() as connection:
        job = await jobs.load(connection, job_id)
    if job is None or not job.wanted:
        raise Stopped(f"job {job_id} is not wanted any more")
    return job


async def open_chunk(engine: AsyncEngine, blobs: BlobStore, chunk: str) -> Job:
    """The job of a chunk that may be worked on.

    Raises:
        Stopped: the job is not wanted, or the chunk has ended.
    """
    job = await wanted_job(engine, parse_chunk_id(chunk).job_id)
    if await result_of(blobs, chunk) is not None:
        raise Stopped(f"chunk {chunk} has ended")
    return job
