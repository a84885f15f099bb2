"""Datasets as the uploader writes them, put together from its own parts without its broker."""

import asyncio
import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from pixcrawler.common import pictures
from pixcrawler.common.documents import (
    DatasetFile,
    DatasetIndex,
    Files,
    FilesHead,
    ImageFile,
    Verdicts,
)
from pixcrawler.common.events import ImageTotals, JobFacts
from pixcrawler.common.ids import chunk_id
from pixcrawler.common.jobs import Job, Options
from pixcrawler.common.transform import Transform
from pixcrawler.uploader import card
from pixcrawler.uploader.archive import pack
from pixcrawler.uploader.croissant import croissant
from pixcrawler.uploader.images import ARCHIVE_EXTENSION, Format, KeptImage, kept_images
from pixcrawler.uploader.tables import (
    ImageRow,
    LicenseTable,
    ParquetTable,
    TransformedRow,
    image_columns,
    image_row,
)
from tests.unit.uploader.made import Made, make_chunk

JOB = "0198c0de-0000-7000-8000-000000000001"
PER_CHUNK = 4


def make_dataset(
    folder: Path,
    form: Format,
    formats: Sequence[str],
    *,
    job_id: str = JOB,
    transform: Mapping[str, object] | None = None,
) -> Path:
    """A dataset whose images have these formats in turn, four to a chunk.

    Archives are named by the job, and what has other bytes needs another name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = _job(job_id, form, transform or {})
    files, rows = list[DatasetFile](), list[ImageRow | TransformedRow]()
    chunks = range(-(-len(formats) // PER_CHUNK))
    for index in chunks:
        mine = formats[index * PER_CHUNK : (index + 1) * PER_CHUNK]
        made = _with_formats(_chunk(job_id, index, mine), mine)
        made, became = _transformed(made, job.options.transform)
        images = kept_images(made.candidates, made.verdicts, form, became)
        name = f"chunk_{made.chunk}.{ARCHIVE_EXTENSION[form]}"
        files.append(_write(folder, name, asyncio.run(_packed(made, images, form))))
        rows += [image_row(image.record, made.chunk) for image in images]
    with ParquetTable(folder / "images.parquet", image_columns(job)) as table:
        table.add(rows)
    with LicenseTable(folder / "LICENSES.csv") as licenses:
        licenses.add(rows)
    table_file = _write(folder, "images.parquet", (folder / "images.parquet").read_bytes())
    totals = ImageTotals(candidates=len(rows), downloaded=len(rows), valid=len(rows))
    facts = JobFacts(
        round=1,
        closed_round=1,
        status="completed",
        reason="reached",
        total_chunks=len(chunks),
        requested=len(rows),
        kept=len(rows),
        closed_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    extensions = {row.file_name.rpartition(".")[2] for row in rows}
    described = croissant(
        job,
        name="pandas",
        description="Images of pandas.",
        published="2026-01-02",
        round_number=1,
        licenses=["CC0-1.0"],
        extensions=extensions,
        images=table_file,
        archives=files,
    )
    readme = card.card(job, facts, totals, licenses={"CC0-1.0": len(rows)}, archives=len(files))
    listed = (
        _write(folder, "README.md", readme),
        _write(folder, "croissant.json", described),
        table_file,
        *files,
    )
    whole = DatasetIndex(
        job_id=job_id, round=1, name="pandas", facts=facts, images=totals, files=listed
    )
    _write(folder, "dataset.json", whole.model_dump_json().encode())
    return folder


def _job(job_id: str, form: Format, transform: Mapping[str, object]) -> Job:
    return Job(
        job_id=job_id,
        owner="o",
        name="pandas",
        keywords=("red panda",),
        sources=("commons",),
        max_images=100,
        chunk_size=PER_CHUNK,
        priority=5,
        options=Options.model_validate({"format": form, **transform}),
        round=1,
        cancelled=False,
        deleted=False,
    )


def picture(seed: int, form: str, side: int = 24) -> bytes:
    """A small image of a format that PIL writes."""
    pixels = random.Random(seed).randbytes(side * side * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), pixels).save(out, form.upper())
    return out.getvalue()


def _chunk(job_id: str, index: int, formats: Sequence[str]) -> Made:
    first = index * PER_CHUNK
    kept = [picture(first + at, form) for at, form in enumerate(formats)]
    return make_chunk(chunk_id(job_id, index), kept)


def _with_formats(made: Made, formats: Sequence[str]) -> Made:
    items = tuple(
        verdict.model_copy(update={"format": form})
        for verdict, form in zip(made.verdicts.items, formats, strict=True)
    )
    verdicts = Verdicts(head=made.verdicts.head, items=items)
    return Made(made.candidates, verdicts, made.fetched, made.bytes_of)


def _transformed(made: Made, how: Transform | None) -> tuple[Made, Files | None]:
    """The chunk with the bytes that its images become."""
    if how is None:
        return made, None
    items, bytes_of = [], dict(made.bytes_of)
    for verdict in made.kept():
        became = pictures.transformed(made.bytes_of[verdict.position], verdict.format, how)
        facts = {name: getattr(became or verdict, name) for name in ("format", "width", "height")}
        data = bytes_of[verdict.position] = became.data if became else bytes_of[verdict.position]
        items.append(
            ImageFile(
                position=verdict.position,
                transformed=became is not None,
                bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                **facts,
            )
        )
    files = Files(head=FilesHead(chunk_id=made.chunk), items=tuple(items))
    return Made(made.candidates, made.verdicts, made.fetched, bytes_of), files


async def _packed(made: Made, images: Sequence[KeptImage], form: Format) -> bytes:
    return b"".join([piece async for piece in pack(images, made.read, form)])


def _write(folder: Path, name: str, content: bytes) -> DatasetFile:
    (folder / name).write_bytes(content)
    return DatasetFile(
        path=name, object=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
