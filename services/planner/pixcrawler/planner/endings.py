"""How chunks end: reading `result.json`, and giving up. No lock is held here."""

import asyncio
from collections.abc import Collection

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunk_outcomes import ChunkObjects, outcomes_of_chunk, read_objects, totals
from pixcrawler.common.chunks import result_of
from pixcrawler.common.documents import ChunkResult, Verdicts
from pixcrawler.common.errors import BlobNotFound
from pixcrawler.planner.refill import Unkept, unkept

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
    exhausted = objects.candidates.head.exhausted if objects.candidates else ()
    return bare.model_copy(update={"images": totals(rows), "exhausted": exhausted})


async def give_up_all(
    blobs: BlobStore, chunks: Collection[str], *, error: str, message: str
) -> list[ChunkResult]:
    """The same for several chunks."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(chunk: str) -> ChunkResult:
        async with gate:
            return await give_up(blobs, chunk, error=error, message=message)

    return await asyncio.gather(*map(one, chunks))


async def read_unkept(blobs: BlobStore, chunks: Collection[str]) -> dict[str, tuple[Unkept, ...]]:
    """The valid images that completed chunks did not keep. Verdicts never change."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(chunk: str) -> tuple[Unkept, ...]:
        async with gate:
            try:
                return unkept(Verdicts.parse(await blobs.read(names.verdicts(chunk))))
            except BlobNotFound:
                return ()  # it completed without a candidate, or was erased

    return dict(zip(chunks, await asyncio.gather(*map(one, chunks)), strict=True))
