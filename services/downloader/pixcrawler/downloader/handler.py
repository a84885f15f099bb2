"""`chunk.planned` → `chunk.downloaded`: resolve a chunk's slices, fetch, store parts.

Both objects that it decides (the candidates, and each part) are created once; a second run adopts
what is there and goes on with what is missing. With everything there it only answers again.
"""

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import chunks
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.context import Context
from pixcrawler.common.errors import BlobNotFound, Retry
from pixcrawler.common.events import ChunkDownloaded, ChunkPlanned, Event
from pixcrawler.common.jobs import Job
from pixcrawler.downloader.candidates import Sources, pinned
from pixcrawler.downloader.parts import Parts


async def handle_chunk_planned(
    event: ChunkPlanned,
    context: Context,
    *,
    blobs: BlobStore,
    engine: AsyncEngine,
    sources: Callable[[Job], Sources],
    parts: Parts,
) -> Sequence[Event]:
    """Fetch every candidate of a chunk, or say why not.

    Raises:
        Stopped: the job is not wanted any more, or the chunk has ended.
        Retry: a source, the blob store or this machine cannot do it now.
        GiveUp: a source is unknown, or refuses.
    """
    job = await chunks.open_chunk(engine, blobs, event.chunk_id)
    candidates = await pinned(event.chunk_id, event.slices, sources(job), context, blobs)
    try:
        tally = await parts.complete(event.chunk_id, candidates.items, context)
    except BlobNotFound as missing:
        # A part went away while it was read: whoever ended the chunk has removed its staging.
        await chunks.open_chunk(engine, blobs, event.chunk_id)
        raise Retry(f"{missing.name} went away", error="input_missing") from missing
    return [
        ChunkDownloaded(
            chunk_id=event.chunk_id,
            attempt=context.attempt,
            candidates=tally.candidates,
            downloaded=tally.downloaded,
            bytes=tally.bytes,
        )
    ]
