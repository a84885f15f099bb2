"""What the validator does with `chunk.downloaded`, in the order in which it happens.

Look whether the chunk is still open; decide every file; claim what is kept; write the verdicts,
once; publish `chunk.validated`. It may be repeated at any time, and by several replicas at once.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunks import open_chunk
from pixcrawler.common.context import Context, decide
from pixcrawler.common.documents import Candidates, Verdicts
from pixcrawler.common.errors import BlobNotFound, GiveUp
from pixcrawler.common.events import ChunkDownloaded, ChunkValidated, Event
from pixcrawler.common.ids import parse_chunk_id
from pixcrawler.common.turns import Turns
from pixcrawler.validator.claims import claim
from pixcrawler.validator.decision import Limits
from pixcrawler.validator.judging import Judge, Judged
from pixcrawler.validator.verdicts import askers, assemble, so_far


async def handle_chunk_downloaded(
    event: ChunkDownloaded,
    context: Context,
    *,
    blobs: BlobStore,
    engine: AsyncEngine,
    judge: Judge,
    turns: Turns,
    max_pixels: int,
) -> Sequence[Event]:
    """Decide what becomes of every candidate of a chunk.

    Args:
        event: Every candidate was fetched or has its reason.
        context: The work in hand.
        blobs: Where everything is.
        engine: Where the job and the claims are.
        judge: Decides files.
        turns: At claiming for a job, one chunk after the other.
        max_pixels: More is a bomb.

    Raises:
        Stopped: nobody wants the chunk any more, or it has ended.
        GiveUp: nothing in it is a valid image, or an input is missing.
    """
    job = await open_chunk(engine, blobs, event.chunk_id)
    verdicts = await _verdicts(blobs, event.chunk_id)
    if verdicts is None:
        limits = Limits(
            min_size=job.options.min_size,
            max_pixels=max_pixels,
            transform=job.options.transform,
        )
        verdicts = await _decide(
            event.chunk_id,
            context,
            blobs=blobs,
            engine=engine,
            judge=judge,
            turns=turns,
            limits=limits,
            near=job.options.near_duplicates,
        )
    if verdicts.items and not verdicts.head.valid_images:
        raise GiveUp(_summary(verdicts), error="no_valid_images", retriable=False)
    return (
        ChunkValidated(
            chunk_id=event.chunk_id, attempt=context.attempt, images=verdicts.head.images
        ),
    )


async def _decide(
    chunk: str,
    context: Context,
    *,
    blobs: BlobStore,
    engine: AsyncEngine,
    judge: Judge,
    turns: Turns,
    limits: Limits,
    near: int | None,
) -> Verdicts:
    """The verdicts: as decided here, or as someone else has decided meanwhile."""
    try:
        candidates, judged = await _judge(chunk, context, blobs, judge, limits)
    except BlobNotFound as missing:
        # Whoever ended the chunk meanwhile may have removed its parts.
        await open_chunk(engine, blobs, chunk)
        raise GiveUp(
            f"{missing.name} is missing", error="input_missing", retriable=True
        ) from missing
    asking = askers(candidates, judged)
    async with turns.turn(parse_chunk_id(chunk).job_id):
        rulings = await claim(engine, chunk, asking, near=near)
    verdicts = assemble(candidates, judged, asking, rulings)
    if await decide(context, blobs, names.verdicts(chunk), verdicts.dump()):
        return verdicts
    return Verdicts.parse(await blobs.read(names.verdicts(chunk)))


async def _judge(
    chunk: str, context: Context, blobs: BlobStore, judge: Judge, limits: Limits
) -> tuple[Candidates, Judged]:
    candidates = Candidates.parse(await blobs.read(names.candidates(chunk)))
    count = len(candidates.items)

    def report(judged: Judged) -> None:
        waiting = sum(line.outcome is None for line in judged.fetched.values())
        done = len(judged.fetched) - waiting + len(judged.decisions)
        context.report(done, count, so_far(judged))

    return candidates, await judge.judge(blobs, chunk, count, limits, report)


async def _verdicts(blobs: BlobStore, chunk: str) -> Verdicts | None:
    try:
        return Verdicts.parse(await blobs.read(names.verdicts(chunk)))
    except BlobNotFound:
        return None


def _summary(verdicts: Verdicts) -> str:
    dropped = verdicts.head.images.dropped
    counts = ", ".join(f"{number} {outcome}" for outcome, number in dropped.items())
    return f"none of {len(verdicts.items)} candidates is a valid image: {counts}"
