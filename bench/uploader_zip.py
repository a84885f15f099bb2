"""What packing a chunk costs: a stored ZIP from parts, beside a plain copy of the same bytes.

    .venv/bin/python bench/uploader_zip.py [--images 500] [--kilobytes 200]

Every line is one kind of work in a process of its own: seconds and seconds of CPU (best of three),
megabytes a second, and the most memory that the process ever had (before the work, after it).

    copy           the parts, read and written as they are
    zipfile        the images from memory into one `zipfile` on disk
    pack           parts to archive bytes, thrown away: reading, checking, packing
    store          the same into the folder store, durable, as the uploader does it
    store tar      likewise as a WebDataset
"""

import argparse
import asyncio
import hashlib
import io
import random
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from pixcrawler.common import names
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.documents import PART_OUTCOMES, Fetched, dump_lines, part_member
from pixcrawler.uploader import parts
from pixcrawler.uploader.archive import pack
from pixcrawler.uploader.images import Format, ImageRecord, KeptImage
from pixcrawler.uploader.storage import Measure

CHUNK = "0198c0de-0000-7000-8000-000000000001-00000"
TEXT = (
    "url", "source", "keyword", "title", "creator", "license", "license_url", "landing_url",
    "phash",
)  # fmt: skip


def image_bytes(position: int, size: int) -> bytes:
    """Incompressible, as images are; the sizes vary by half."""
    chance = random.Random(position)
    return chance.randbytes(chance.randint(size // 2, size * 3 // 2))


def kept(position: int, data: bytes, form: Format) -> KeptImage:
    sha256 = hashlib.sha256(data).hexdigest()
    folder = "images/" if form == "zip" else ""
    return KeptImage(
        position,
        ImageRecord(
            file_name=f"{folder}{sha256[:20]}.jpg",
            width=1,
            height=1,
            format="jpeg",
            bytes=len(data),
            sha256=sha256,
            **dict.fromkeys(TEXT, "some text"),
        ),
    )


def make_parts(root: Path, images: int, size: int) -> None:
    for number in range((images + names.PART_SIZE - 1) // names.PART_SIZE):
        path = root / names.part(CHUNK, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        first = number * names.PART_SIZE
        datas = {at: image_bytes(at, size) for at in range(first, first + names.PART_SIZE)}
        lines = dump_lines(
            Fetched(position=at, http_status=200, bytes=len(data)) for at, data in datas.items()
        )
        members = {PART_OUTCOMES: lines, **{part_member(at): datas[at] for at in datas}}
        with tarfile.open(path, "w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


async def packed(blobs: LocalBlobs, images: list[KeptImage], form: Format) -> AsyncIterator[bytes]:
    extents = await parts.locate(blobs, CHUNK, [image.position for image in images])
    ordered = sorted(images, key=lambda image: image.record.file_name)
    reader = parts.ReadAhead(blobs, [(i.position, extents[i.position]) for i in ordered])
    try:
        async for piece in pack(ordered, reader, form):
            yield piece
    finally:
        await reader.close()


async def copy(blobs: LocalBlobs, _: list[KeptImage], name: str) -> None:
    async def everything() -> AsyncIterator[bytes]:
        async for blob in blobs.list(names.staging_prefix(CHUNK)):
            async for piece in blobs.stream(blob.name):
                yield piece

    await blobs.create(name, everything())


async def pack_only(blobs: LocalBlobs, images: list[KeptImage], _: str) -> None:
    async for _piece in packed(blobs, images, "zip"):
        pass


async def store(blobs: LocalBlobs, images: list[KeptImage], name: str) -> None:
    assert await blobs.create(name, Measure().of(packed(blobs, images, "zip")))


async def store_tar(blobs: LocalBlobs, images: list[KeptImage], name: str) -> None:
    assert await blobs.create(name, Measure().of(packed(blobs, images, "webdataset")))


async def plain_zipfile(blobs: LocalBlobs, images: list[KeptImage], name: str) -> None:
    extents = await parts.locate(blobs, CHUNK, [image.position for image in images])
    path = blobs.root / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for position, record in images:
            extent = extents[position]
            with (blobs.root / extent.part).open("rb") as file:
                file.seek(extent.offset + parts.BLOCK)
                archive.writestr(record.file_name, file.read(extent.size))


WORKS: dict[str, Callable[[LocalBlobs, list[KeptImage], str], Awaitable[None]]] = {
    "copy": copy,
    "zipfile": plain_zipfile,
    "pack": pack_only,
    "store": store,
    "store-tar": store_tar,
}


async def measure(work: str, root: Path, images: int, size: int) -> None:
    """One line of the table, in a process of its own."""
    form: Format = "webdataset" if work == "store-tar" else "zip"
    listed = [kept(at, image_bytes(at, size), form) for at in range(images)]
    total = sum(image.record.bytes for image in listed)
    base_mb = peak_mb()
    blobs = LocalBlobs(root)
    best = cpu = float("inf")
    for turn in range(3):
        started, started_cpu = time.perf_counter(), time.process_time()
        await WORKS[work](blobs, listed, f"out-{work}-{turn}")
        best = min(best, time.perf_counter() - started)
        cpu = min(cpu, time.process_time() - started_cpu)
        await blobs.delete(f"out-{work}-{turn}")
    await blobs.close()
    speed = total / 1e6 / best
    print(
        f"{work:10} {best:7.3f} s {cpu:7.3f} s CPU {speed:6.0f} MB/s"
        f"   peak {base_mb:.0f} → {peak_mb():.0f} MB"
    )


def peak_mb() -> float:
    """The most memory that this process ever had (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--kilobytes", type=int, default=200)
    parser.add_argument("--work", choices=list(WORKS))
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    size = given.kilobytes * 1000
    if given.work:
        asyncio.run(measure(given.work, given.root, given.images, size))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_parts(Path(folder), given.images, size)
        print(f"{given.images} images of about {given.kilobytes} kB", flush=True)
        for work in WORKS:
            command = [sys.executable, __file__, "--work", work, "--root", folder]
            command += ["--images", str(given.images), "--kilobytes", str(given.kilobytes)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
