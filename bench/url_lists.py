"""How quickly a list of URLs is taken in, and with how much memory; and how quickly it is read.

    .venv/bin/python -m bench.url_lists [--rows 10000000] [--formats parquet,csv.gz,txt,…]

Writes lists of so many rows (a URL, a caption, a licence), takes each in as the api does, into a
folder, and reads stretches of 500 as the downloader does. Memory is the most that the process that
plays the api, and the one that reads the list, ever had resident (the kernel's count, VmHWM).
"""

import argparse
import asyncio
import gzip
import json
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path

from pixcrawler.api.lists.uploads import TakenIn, Told, Uploads
from pixcrawler.api.settings import Settings
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.ids import new_list_id
from pixcrawler.common.url_lists import read_rows

STRETCH = 500
PIECE = 64 << 10
"""Bytes that a web server hands over at a time."""
MB = 1_000_000
COLUMNS = ("url", "caption", "license")


def rows(count: int) -> Iterator[tuple[str, str, str]]:
    """Rows as they are found in published lists: no two hosts in a row, captions of some words."""
    words = ("red", "panda", "sits", "on", "a", "tree", "in", "the", "morning", "light", "near")
    rng = random.Random(1)
    captions = [" ".join(rng.choices(words, k=9)) for _ in range(10_000)]
    for number in range(count):
        caption = captions[number % 9973]
        url = (
            f"https://images{number % 97}.example.org/{number % 1009}/{number:x}/photo_{number}.jpg"
        )
        yield url, caption, "CC BY 4.0"


def write(path: Path, count: int) -> None:
    """A list in the format that the name says."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        plain = path.with_suffix("")
        write_parquet(plain, count)
        pack(plain, path) if path.suffix == ".gz" else plain.rename(path)
        return
    separator = {"csv": ",", "tsv": "\t"}.get(kind, "")
    with gzip.open(path, "wt", 1) if path.suffix == ".gz" else path.open("w") as file:
        if separator:
            file.write(separator.join(COLUMNS) + "\n")
        for row in rows(count):
            if kind == "jsonl":
                file.write(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n")
            else:
                file.write((separator.join(row) if separator else row[0]) + "\n")


def pack(plain: Path, path: Path) -> None:
    """Gzip over a file, and no file any more."""
    with plain.open("rb") as source, gzip.open(path, "wb", 1) as packed:
        shutil.copyfileobj(source, packed)
    plain.unlink()


def write_parquet(path: Path, count: int) -> None:
    """With groups of 500,000 rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in ("URL", "TEXT", "LICENSE")])
    with pq.ParquetWriter(path, schema) as writer:
        source = rows(count)
        while batch := list(islice(source, 500_000)):
            columns = [pa.array(column) for column in zip(*batch, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


async def body(path: Path) -> AsyncIterator[bytes]:
    """A file as a web server gives it."""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def peak_mb(pid: int | str) -> float:
    """The most memory that a process ever had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MB


class Watched(Uploads):
    """Looks at the memory of the reading process while it runs."""

    reader_mb = 0.0

    async def _start(self, told: Told, files: object) -> object:  # type: ignore[override]
        process = await super()._start(told, files)  # type: ignore[arg-type]
        self._watching = asyncio.create_task(self._watch(process.pid))
        return process

    async def _watch(self, pid: int) -> None:
        while True:
            try:
                self.reader_mb = max(self.reader_mb, peak_mb(pid))
            except (OSError, StopIteration):
                return
            await asyncio.sleep(0.1)


async def take(path: Path, blobs: BlobStore) -> tuple[str, TakenIn, float, float]:
    """Take a list in; its id, the answer, seconds, and the reader's memory."""
    settings = Settings(database_url="postgresql+asyncpg://nowhere", api_upload_dir=path.parent)
    uploads, list_id = Watched(blobs, settings), new_list_id()
    began = time.monotonic()
    taken = await uploads.take(list_id, Told(path.name), body(path))
    return list_id, taken, time.monotonic() - began, uploads.reader_mb


async def read(blobs: BlobStore, list_id: str, count: int) -> float:
    """Seconds for a stretch in the middle, in the mean of some."""
    rng = random.Random(2)
    offsets = [rng.randrange(max(count - STRETCH, 1)) for _ in range(200)]
    began = time.monotonic()
    for offset in offsets:
        await read_rows(blobs, list_id, offset, STRETCH)
    return (time.monotonic() - began) / len(offsets)


async def measure(kind: str, count: int, folder: Path) -> None:
    path = folder / f"list.{kind}"
    write_in_another_process(path, count)
    blobs = LocalBlobs(folder / "blobs")
    before = peak_mb("self")
    list_id, taken, seconds, reader_mb = await take(path, blobs)
    after = peak_mb("self")
    stretch_s = await read(blobs, list_id, taken.answer.rows)
    size = path.stat().st_size / MB
    stored = sum([found.size async for found in blobs.list("lists/")])
    print(
        f"{kind:>10}: {taken.answer.rows:,} rows, {size:.0f} MB in {seconds:.0f} s"
        f" ({taken.answer.rows / seconds:,.0f} rows/s); memory: api {after:.0f} MB (before:"
        f" {before:.0f}), reader {reader_mb:.0f} MB; stored {stored / MB:.0f} MB;"
        f" {STRETCH} rows read in {stretch_s * 1000:.1f} ms, memory then {peak_mb('self'):.0f} MB"
    )
    await blobs.delete_prefix(f"lists/{list_id}/")
    await blobs.close()
    path.unlink()


def write_in_another_process(path: Path, count: int) -> None:
    """So that its memory is not counted."""
    import multiprocessing

    writer = multiprocessing.get_context("spawn").Process(target=write, args=(path, count))
    writer.start()
    writer.join()
    assert writer.exitcode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--formats", default="parquet,csv.gz,csv")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for kind in asked.formats.split(","):
            asyncio.run(measure(kind, asked.rows, Path(folder)))


if __name__ == "__main__":
    main()
