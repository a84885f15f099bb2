"""How chunks end, and what ended chunks have lost: reading the blob store. No lock is held here."""

import asyncio
from collections.abc import Collection, Iterable

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunk_outcomes import ChunkObjects, outcomes_of_chunk, read_objects, totals
from pixcrawler.common.chunks import result_of
from pixcrawler.common.documents import ChunkResult, Verdicts
from pixcrawler.common.errors import BlobNotFound
from pixcrawler.common.periodic import beat
from pixcrawler.planner import refill, store
from pixcrawler.planner.refill import Unkept

AT_ONCE = 8
"""Requests to the blob store at a time."""


async def give_up(blobs: BlobStore, chunk: str, *, error: str, message: str) -> ChunkResult:
    """End a chunk as failed, unless it has ended: then the answer is how it did.

    Only `kept` verdicts become `failed`; the others stand. Candidates without a verdict are
    cancelled, or failed.
    """
    objects = await read_objects(blobs, chunk)
    if objects.result is not None:
        return objects.result
    mine = _failed(objects, error, message)
    if await blobs.create(names.result(chunk), mine.model_dump_json().encode()):
        return mine
    # None: whoever owns the blobs of a deleted job has erased it again meanwhile.
    return await result_of(blobs, chunk) or mine


def _failed(objects: ChunkObjects, error: str, message: str) -> ChunkResult:
    bare = ChunkResult(chunk_id=objects.chunk_id, status="failed", error=error, message=message)
    rows = outcomes_of_chunk(objects._replace(result=bare))
    known: dict[str, object] = {"images": totals(rows)}
    if objects.candidates is not None:
        head = objects.candidates.head
        known |= {"exhausted": head.exhausted, "unanswered": head.unanswered}
    return bare.model_copy(update=known)


async def give_up_all(
    blobs: BlobStore, chunks: Collection[str], *, error: str, message: str
) -> list[ChunkResult]:
    """The same for several chunks."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(chunk: str) -> ChunkResult:
        async with gate:
            return await give_up(blobs, chunk, error=error, message=message)

    return await asyncio.gather(*map(one, chunks))


async def count_lost(
    engine: AsyncEngine, blobs: BlobStore, job_id: str, chunks: Iterable[str]
) -> dict[str, int]:
    """How many valid images each of these completed chunks has that no live claim holds any more.

    Chunk by chunk, so that memory does not grow with the job.
    """
    lost: dict[str, int] = {}
    for chunk in chunks:
        beat()
        images = await _read_unkept(blobs, chunk)
        if images:
            urls = {image.duplicate_of for image in images if image.duplicate_of}
            async with engine.connect() as connection:
                held = await store.held(connection, job_id, {i.sha256 for i in images}, urls)
            lost[chunk] = refill.count_lost(images, held)
    return lost


async def _read_unkept(blobs: BlobStore, chunk: str) -> tuple[Unkept, ...]:
    try:
        return refill.unkept(Verdicts.parse(await blobs.read(names.verdicts(chunk))))
    except BlobNotFound:
        return ()  # it completed without a candidate, or was erased
