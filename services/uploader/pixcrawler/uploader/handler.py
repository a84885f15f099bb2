"""What the uploader does with an event, in the order in which it happens.

`chunk.validated`: transform what was kept where the job wants that, pack it, say how the chunk
ended, publish `chunk.uploaded`.
`job.planned` that closes the job's latest round: write the dataset's index, publish `job.finished`.

Both look before they work, and decide by creating objects that are never overwritten; so both may
be repeated at any time, and by several replicas at once.
"""

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import chunks, jobs, names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.context import Context, decide
from pixcrawler.common.documents import Candidates, ChunkResult, Verdicts
from pixcrawler.common.errors import BlobNotFound, GiveUp, Stopped
from pixcrawler.common.events import (
    ChunkUploaded,
    ChunkValidated,
    Event,
    ImageTotals,
    JobFinished,
    JobPlanned,
)
from pixcrawler.common.jobs import Job
from pixcrawler.uploader import index
from pixcrawler.uploader.images import ARCHIVE_EXTENSION, kept_images
from pixcrawler.uploader.storage import store_archive
from pixcrawler.uploader.transforming import Transformer


async def handle_chunk_validated(
    event: ChunkValidated,
    context: Context,
    *,
    blobs: BlobStore,
    engine: AsyncEngine,
    ended: Callable[[str], None],
    transformer: Transformer,
    count: Callable[[ImageTotals], None],
) -> Sequence[Event]:
    """Pack a chunk, and say that it has completed.

    Args:
        event: Every candidate of the chunk has its verdict.
        context: The work in hand.
        blobs: Where everything is.
        engine: Where the job is.
        transformer: Transforms images, where a job wants that.
        ended: Told of a chunk that has a result: its staging may go.
        count: Told what became of the images of a chunk that this call completed.
    """
    job = await _existing_job(engine, event.job_id)
    result = await chunks.result_of(blobs, event.chunk_id)
    if result is None:
        result = await _complete(
            event.chunk_id, job, context, blobs=blobs, transformer=transformer, count=count
        )
    ended(event.chunk_id)
    if result.status == "failed":
        await remove_archives(blobs, event.chunk_id)
        return ()
    return (
        ChunkUploaded(
            chunk_id=event.chunk_id,
            attempt=context.attempt,
            images=result.images,
            archive=result.archive.name if result.archive else "",
        ),
    )


async def _complete(
    chunk: str,
    job: Job,
    context: Context,
    *,
    blobs: BlobStore,
    transformer: Transformer,
    count: Callable[[ImageTotals], None],
) -> ChunkResult:
    """How the chunk ended: by what is packed here, or as was decided by someone else before."""
    if not job.wanted:
        raise Stopped(f"job {job.job_id} is cancelled")
    try:
        return await _pack_and_decide(
            chunk, job, context, blobs=blobs, transformer=transformer, count=count
        )
    except BlobNotFound as missing:
        # Whoever ended the chunk meanwhile may have removed its staging or its archive.
        result = await chunks.result_of(blobs, chunk)
        if result is not None:
            return result
        raise GiveUp(
            f"{missing.name} is missing", error="input_missing", retriable=True
        ) from missing


async def _pack_and_decide(
    chunk: str,
    job: Job,
    context: Context,
    *,
    blobs: BlobStore,
    transformer: Transformer,
    count: Callable[[ImageTotals], None],
) -> ChunkResult:
    candidates = Candidates.parse(await blobs.read(names.candidates(chunk)))
    verdicts = Verdicts.parse(await blobs.read(names.verdicts(chunk)))
    steps = _Steps(context, verdicts, 1 if job.options.transform is None else 2)
    files = await transformer.files(
        verdicts, job.options.transform, context=context, blobs=blobs, report=steps.done
    )
    archive = await store_archive(
        chunk,
        kept_images(candidates, verdicts, job.options.format, files),
        job.options.format,
        context=context,
        blobs=blobs,
        files=files,
        report=steps.done,
    )
    result = ChunkResult(
        chunk_id=chunk,
        status="completed",
        images=verdicts.head.images,
        archive=archive,
        exhausted=candidates.head.exhausted,
        unanswered=candidates.head.unanswered,
    )
    if await decide(context, blobs, names.result(chunk), result.model_dump_json().encode()):
        count(result.images)
        return result
    decided = await chunks.result_of(blobs, chunk)
    if decided is None:
        raise Stopped(f"job {job.job_id} was erased")
    return decided


class _Steps:
    """Says how far the work is, in images: each takes so many steps."""

    def __init__(self, context: Context, verdicts: Verdicts, an_image: int) -> None:
        self._context = context
        self._totals = verdicts.head.images
        self._an_image = an_image
        self._steps = 0

    def done(self) -> None:
        """One more step."""
        self._steps += 1
        self._context.report(self._steps // self._an_image, self._totals.valid, self._totals)


async def remove_archives(blobs: BlobStore, chunk: str) -> None:
    """Remove what was packed of a chunk that has failed."""
    for extension in ARCHIVE_EXTENSION.values():
        await blobs.delete(names.archive(chunk, extension))


async def handle_job_planned(
    event: JobPlanned, context: Context, *, blobs: BlobStore, engine: AsyncEngine
) -> Sequence[Event]:
    """Finish a round: write the dataset's index, and say that it is there.

    Only for a round that is closed and the job's latest; a cancelled job's too, so the context must
    not mind that. Repetitions answer from the index that is there, so always the same.
    """
    if event.closed_round == 0 or event.closed_round != event.round:
        return ()
    job = await _existing_job(engine, event.job_id)
    if job.round != event.closed_round:
        return ()
    dataset = await index.find_or_write(job, event.facts(), context, blobs=blobs, engine=engine)
    await _existing_job(engine, event.job_id)  # a deleted job has no job.finished
    return (
        JobFinished(
            job_id=job.job_id,
            dataset=names.dataset_index(job.job_id, dataset.round),
            **dataset.facts.model_copy(update={"images": dataset.images}).model_dump(),
        ),
    )


async def _existing_job(engine: AsyncEngine, job_id: str) -> Job:
    """The job, also a cancelled one.

    Raises:
        Stopped: it is unknown or deleted.
    """
    async with engine.connect() as connection:
        job = await jobs.load(connection, job_id)
    if job is None or job.deleted:
        raise Stopped(f"job {job_id} is gone")
    return job
