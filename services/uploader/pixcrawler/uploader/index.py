"""A dataset's index as of a round: what became of every URL, and where the images are.

It is made of the candidates, verdicts and results of the job's chunks alone, and computes no status
of its own: that is the planner's (`JobFacts`). Its objects are created one by one and adopted where
they are there already; `dataset.json` comes last and stands for the whole. `outcomes.parquet` comes
first, and the totals are counted from what is stored of it, so that the parts of an index agree
with each other even where a stage that nobody waits for any more adds the verdicts of a failed
chunk while two replicas write.

Memory: a few chunks, one row group of each table, and 150 bytes per URL of the job.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import jobs, names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunk_outcomes import (
    ChunkObjects,
    Standing,
    outcomes_of_chunk,
    read_objects,
    totals,
)
from pixcrawler.common.context import Context
from pixcrawler.common.documents import DatasetFile, DatasetIndex, StoredFile
from pixcrawler.common.errors import BlobNotFound, Stopped
from pixcrawler.common.events import ImageTotals, JobFacts
from pixcrawler.common.ids import chunk_id
from pixcrawler.common.jobs import Job
from pixcrawler.uploader import card, storage
from pixcrawler.uploader.archive import PIECE_BYTES
from pixcrawler.uploader.croissant import croissant
from pixcrawler.uploader.images import Format, kept_images
from pixcrawler.uploader.tables import (
    OUTCOME_COLUMNS,
    ImageRow,
    LicenseTable,
    ParquetTable,
    TransformedRow,
    counted_outcomes,
    image_columns,
    image_row,
    load,
)

DATASET = "dataset.json"
README = "README.md"
CROISSANT = "croissant.json"
IMAGES = "images.parquet"
OUTCOMES = "outcomes.parquet"
LICENSES = "LICENSES.csv"

CHUNKS_AHEAD = 3
"""Chunks that are read while one is being written: hides the store's latency."""

T = TypeVar("T")
R = TypeVar("R")
Row = ImageRow | TransformedRow


async def find_or_write(
    job: Job, facts: JobFacts, context: Context, *, blobs: BlobStore, engine: AsyncEngine
) -> DatasetIndex:
    """The index of the closed round, made now unless it is there.

    Args:
        job: Not deleted.
        facts: The closed round's.
        context: The work in hand; must not mind that the job is cancelled.
        blobs: Where everything is.
        engine: Asked before each object whether the job is still there.

    Raises:
        Stopped: the job was deleted meanwhile.
    """
    dataset = await _find(blobs, job.job_id, facts.closed_round)
    gate = _Gate(job.job_id, context, engine)
    if dataset is None:
        dataset = await _Index(job, facts, blobs, gate).write()
    await _copy_beside_archives(dataset, blobs, gate)
    return dataset


@dataclass(frozen=True)
class _Gate:
    """Asked before each object, since a deleted job's blobs are being erased."""

    job_id: str
    context: Context
    engine: AsyncEngine

    async def check(self, latest_round: int | None = None) -> None:
        """Let it pass.

        Raises:
            Stopped: the job is deleted or unknown, or its latest round is not this one.
        """
        latest = await self.latest_round()
        if latest_round not in {None, latest}:
            raise Stopped(f"job {self.job_id} has a later round than {latest_round}")

    async def latest_round(self) -> int:
        """The number of the job's latest round.

        Raises:
            Stopped: the job is deleted or unknown.
        """
        await self.context.check()
        async with self.engine.connect() as connection:
            job = await jobs.load(connection, self.job_id)
        if job is None or job.deleted:
            raise Stopped(f"job {self.job_id} is gone")
        return job.round


@dataclass
class _Contents:
    """What is known once every chunk was read."""

    licenses: Counter[str] = field(default_factory=Counter)
    license_urls: set[str] = field(default_factory=set)
    extensions: set[str] = field(default_factory=set)
    decided_with: set[str] = field(default_factory=set)
    made_with: set[str] = field(default_factory=set)
    archives: list[StoredFile] = field(default_factory=list)

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.licenses[row.license] += 1
            self.license_urls.add(row.license_url or row.license)
            self.extensions.add(row.file_name.rpartition(".")[2])


class _Index:
    """One writing of one index."""

    def __init__(self, job: Job, facts: JobFacts, blobs: BlobStore, gate: _Gate) -> None:
        self._job = job
        self._facts = facts
        self._blobs = blobs
        self._gate = gate
        # One thread, since each that allocates keeps a heap of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._chunks = [chunk_id(job.job_id, index) for index in range(facts.total_chunks)]
        self._prefix = names.round_prefix(job.job_id, facts.closed_round)
        self._transforms = job.options.transform is not None

    async def write(self) -> DatasetIndex:
        """Write all of it; what `dataset.json` says then."""
        with TemporaryDirectory(prefix="pixcrawler-index-") as folder, self._thread:
            return await self._write(Path(folder))

    async def _write(self, folder: Path) -> DatasetIndex:
        contents = await self._write_tables(folder)
        outcomes = await self._store_file(folder / OUTCOMES)
        images = await self._in_thread(_count, folder / OUTCOMES)
        tables = [await self._store_file(folder / IMAGES), outcomes]
        licenses = await self._store_file(folder / LICENSES)
        archives = [_in_dataset(archive) for archive in contents.archives]
        described = await self._store(
            CROISSANT, self._croissant(contents, images, tables[0], archives)
        )
        readme = await self._store(README, self._card(contents, images))
        dataset = DatasetIndex(
            job_id=self._job.job_id,
            round=self._facts.closed_round,
            name=self._job.name,
            facts=self._facts,
            images=images,
            files=(readme, described, *tables, licenses, *archives),
        )
        await self._store(DATASET, dataset.model_dump_json(indent=1).encode() + b"\n")
        return DatasetIndex.model_validate_json(await self._blobs.read(f"{self._prefix}{DATASET}"))

    async def _write_tables(self, folder: Path) -> _Contents:
        # On a busy machine its import takes seconds, which the loop's heartbeats cannot spare.
        await asyncio.get_running_loop().run_in_executor(self._thread, load)
        standing = await self._standing()
        contents, columns = _Contents(), image_columns(self._job)
        with ExitStack() as open_tables:
            outcomes = open_tables.enter_context(ParquetTable(folder / OUTCOMES, OUTCOME_COLUMNS))
            images = open_tables.enter_context(ParquetTable(folder / IMAGES, columns))
            licenses = open_tables.enter_context(LicenseTable(folder / LICENSES))

            def add(objects: ChunkObjects) -> None:
                outcomes.add(standing.rows(objects, outcomes_of_chunk(objects)))
                rows = _image_rows(objects, self._job.options.format)
                images.add(rows)
                licenses.add(rows)
                contents.add(rows)
                if rows and objects.verdicts is not None:
                    contents.decided_with.update(objects.verdicts.head.decided_with)
                if rows and objects.files is not None:
                    contents.made_with.update(objects.files.head.made_with)
                if objects.result is not None and objects.result.archive is not None:
                    contents.archives.append(objects.result.archive)

            async for objects in _each(self._blobs, self._chunks, files=self._transforms):
                await self._in_thread(add, objects)
        return contents

    async def _standing(self) -> Standing:
        standing = Standing()
        async for objects in _each(self._blobs, self._chunks):
            await self._in_thread(lambda read: standing.add(read, outcomes_of_chunk(read)), objects)
        return standing

    async def _in_thread(self, call: Callable[[T], R], argument: T) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, argument)

    def _croissant(
        self,
        contents: _Contents,
        images: ImageTotals,
        table: DatasetFile,
        archives: Sequence[DatasetFile],
    ) -> bytes:
        closed = self._facts.closed_at
        return croissant(
            self._job,
            name=card.title(self._job),
            description=card.summary(self._job, images),
            published=closed.isoformat() if closed else "",
            round_number=self._facts.closed_round,
            licenses=sorted(filter(None, contents.license_urls)),
            extensions=contents.extensions,
            images=table,
            archives=archives,
        )

    def _card(self, contents: _Contents, images: ImageTotals) -> bytes:
        return card.card(
            self._job,
            self._facts,
            images,
            licenses=contents.licenses,
            archives=len(contents.archives),
            decided_with=sorted(contents.decided_with),
            made_with=sorted(contents.made_with),
        )

    async def _store(self, path: str, content: bytes) -> DatasetFile:
        """Create a file of the index, or adopt the one that is there."""
        name = f"{self._prefix}{path}"
        await self._gate.check()
        await self._blobs.create(name, content)
        return _in_dataset(await storage.stored(self._blobs, name))

    async def _store_file(self, path: Path) -> DatasetFile:
        """The same for a file of the temporary folder, which has the stored bytes afterwards."""
        name = f"{self._prefix}{path.name}"
        await self._gate.check()
        if not await self._blobs.create(name, _pieces(path)):
            await _fetch(self._blobs, name, path)
        return _in_dataset(await storage.stored(self._blobs, name))


def _image_rows(objects: ChunkObjects, form: Format) -> list[Row]:
    """The rows of `images.parquet` of a chunk, in the order of its archive."""
    chunk, candidates, verdicts, result, files = objects
    if result is None or result.status != "completed" or not (candidates and verdicts):
        return []
    return [
        image_row(image.record, chunk) for image in kept_images(candidates, verdicts, form, files)
    ]


def _count(outcomes: Path) -> ImageTotals:
    return totals(counted_outcomes(outcomes))


async def _each(
    blobs: BlobStore, chunks: Sequence[str], *, files: bool = False
) -> AsyncIterator[ChunkObjects]:
    """What each chunk has decided, in order, the next few read ahead."""
    reading: list[asyncio.Task[ChunkObjects]] = []
    try:
        for chunk in chunks:
            reading.append(asyncio.create_task(read_objects(blobs, chunk, files=files)))
            if len(reading) > CHUNKS_AHEAD:
                yield await reading.pop(0)
        while reading:
            yield await reading.pop(0)
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _copy_beside_archives(dataset: DatasetIndex, blobs: BlobStore, gate: _Gate) -> None:
    """Copy the index to where people look who read the container directly; it decides nothing.

    Only the latest round's, `dataset.json` last: where that is there already, all is.

    Raises:
        Stopped: the job is gone, or has a later round by now.
    """
    beside = names.dataset_prefix(dataset.job_id)
    own = names.dataset_index(dataset.job_id, dataset.round)
    if await _read(blobs, f"{beside}{DATASET}") == await _read(blobs, own):
        return
    await gate.check(latest_round=dataset.round)
    copied: DatasetIndex | None = dataset
    while copied is not None:
        with suppress(Stopped):
            await _copy(copied, beside, blobs, gate)
        latest = await gate.latest_round()
        # A later round may have begun before our last file was written, which then lies upon its
        # copy. Where its index is not complete yet, whoever writes that copies it after us.
        copied = None if latest == copied.round else await _find(blobs, dataset.job_id, latest)
    await gate.check(latest_round=dataset.round)


async def _find(blobs: BlobStore, job_id: str, number: int) -> DatasetIndex | None:
    """The index of a round, if it is complete."""
    data = await _read(blobs, names.dataset_index(job_id, number))
    return None if data is None else DatasetIndex.model_validate_json(data)


async def _copy(dataset: DatasetIndex, beside: str, blobs: BlobStore, gate: _Gate) -> None:
    """Copy one index's files.

    Raises:
        Stopped: its round is not the latest.
    """
    index = names.dataset_index(dataset.job_id, dataset.round)
    for file in dataset.files:
        if not file.object.startswith(beside):
            await gate.check(latest_round=dataset.round)
            await blobs.put(f"{beside}{file.path}", blobs.stream(file.object))
    await gate.check(latest_round=dataset.round)
    await blobs.put(f"{beside}{DATASET}", blobs.stream(index))


async def _read(blobs: BlobStore, name: str) -> bytes | None:
    try:
        return await blobs.read(name)
    except BlobNotFound:
        return None


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


async def _fetch(blobs: BlobStore, name: str, path: Path) -> None:
    with path.open("wb") as file:
        async for piece in blobs.stream(name):
            await asyncio.to_thread(file.write, piece)


def _in_dataset(file: StoredFile) -> DatasetFile:
    return DatasetFile(
        path=file.name.rpartition("/")[2], object=file.name, size=file.size, sha256=file.sha256
    )
