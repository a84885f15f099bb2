"""An archive is what it says, and its bytes depend on nothing but its content."""

import hashlib
import io
import json
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixcrawler.common import names
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.documents import Files, FilesHead, ImageFile
from pixcrawler.common.errors import BlobNotFound, GiveUp
from pixcrawler.common.ids import chunk_id, new_job_id
from pixcrawler.common.outcomes import Outcome
from pixcrawler.uploader import parts
from pixcrawler.uploader.archive import pack
from pixcrawler.uploader.images import Format, KeptImage, kept_images
from tests.unit.uploader.made import Made, make_chunk, part_numbers, part_tar, picture, store_chunk

CHUNK = "0198c0de-0000-7000-8000-000000000001-00003"
FIELDS = [
    "file_name",
    "url",
    "source",
    "keyword",
    "title",
    "creator",
    "license",
    "license_url",
    "landing_url",
    "width",
    "height",
    "format",
    "bytes",
    "sha256",
    "phash",
]
FORMS: tuple[Format, ...] = ("zip", "webdataset")

contents = st.lists(st.binary(min_size=1, max_size=3000), unique=True, max_size=12)


async def packed(
    images: list[KeptImage], read: Callable[[int], AsyncIterator[bytes]], form: Format
) -> bytes:
    return b"".join([piece async for piece in pack(images, read, form)])


def in_pieces(made: Made, sizes: list[int]) -> Callable[[int], AsyncIterator[bytes]]:
    """Reads images in pieces of these sizes, over and over."""

    async def read(position: int) -> AsyncIterator[bytes]:
        data, turn = made.bytes_of[position], 0
        while data:
            size = sizes[turn % len(sizes)]
            yield data[:size]
            data, turn = data[size:], turn + 1

    return read


@pytest.mark.parametrize("form", FORMS)
@given(contents, st.lists(st.integers(1, 4000), min_size=1, max_size=4), st.randoms())
@settings(max_examples=40, deadline=None)
async def test_bytes_depend_on_content_only(
    form: Format, images: list[bytes], sizes: list[int], shuffled: random.Random
) -> None:
    """Neither the order of the images nor the size of the pieces they come in changes a byte."""
    made = make_chunk(CHUNK, images)
    kept = list(kept_images(made.candidates, made.verdicts, form))
    first = await packed(kept, made.read, form)
    shuffled.shuffle(kept)
    assert await packed(kept, in_pieces(made, sizes), form) == first


@pytest.mark.parametrize("form", FORMS)
@given(contents, st.lists(st.binary(max_size=3000), min_size=12, max_size=12), st.randoms())
@settings(max_examples=25, deadline=None)
async def test_bytes_of_transformed_images_depend_on_content_only(
    form: Format, images: list[bytes], became: list[bytes], shuffled: random.Random
) -> None:
    """What each image became decides, in which order ever it is told; equal ones do not collide."""
    made = make_chunk(CHUNK, images)
    items = [
        ImageFile(
            position=at,
            transformed=True,
            width=1,
            height=1,
            format=shuffled.choice(("png", "webp", "jpeg")),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        for at, data in enumerate(became[: len(images)])
    ]

    async def read(position: int) -> AsyncIterator[bytes]:
        yield became[position]

    archives = set()
    for _ in range(3):
        shuffled.shuffle(items)
        files = Files(head=FilesHead(chunk_id=CHUNK), items=tuple(items))
        kept = list(kept_images(made.candidates, made.verdicts, form, files))
        shuffled.shuffle(kept)
        archives.add(await packed(kept, read, form))
        assert len({image.record.file_name for image in kept}) == len(images)
    assert len(archives) == 1


@pytest.mark.parametrize(
    ("form", "sha256"),
    [
        ("zip", "5d1fa214720382b8069cad2b6a7172c9eb10ed4d8ceacbf9d09653f6b9953cfc"),
        ("webdataset", "75b80707bf2a0b66e803ed37bda413127e51dd2427573e2f8f4f4ac9fd03793f"),
    ],
)
async def test_bytes_are_the_same_everywhere(form: Format, sha256: str) -> None:
    """The bytes of a known archive are those of every machine and every day before."""
    made = make_chunk(CHUNK, [b"one", b"two" * 700_000, b"three"], form="png")
    data = await packed(list(kept_images(made.candidates, made.verdicts, form)), made.read, form)
    assert hashlib.sha256(data).hexdigest() == sha256


async def test_zip_is_an_image_folder() -> None:
    """Sorted names, no directories, nothing deflated, whole images, one full line for each."""
    shown = ["jpeg", "png", "webp", "gif", "bmp", "tiff"]
    made = make_chunk(CHUNK, [picture(7, form) for form in shown], dropped=[Outcome.SURPLUS])
    formats = {v.position: form for v, form in zip(made.kept(), shown, strict=True)}
    verdicts = made.verdicts.model_copy(
        update={
            "items": tuple(
                v.model_copy(update={"format": formats.get(v.position, "")})
                for v in made.verdicts.items
            )
        }
    )
    data = await packed(list(kept_images(made.candidates, verdicts, "zip")), made.read, "zip")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        listed = archive.namelist()
        assert listed == sorted(listed)
        assert listed[-1] == "metadata.jsonl"
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert not any(info.is_dir() for info in archive.infolist())
        lines = list(map(json.loads, archive.read("metadata.jsonl").splitlines()))
        assert [line["file_name"] for line in lines] == listed[:-1]
        for line in lines:
            assert list(line) == FIELDS
            assert None not in line.values()
            image = archive.read(line["file_name"])
            assert hashlib.sha256(image).hexdigest() == line["sha256"]
            assert line["file_name"].startswith(f"images/{line['sha256'][:20]}.")
            assert Image.open(io.BytesIO(image)).format.lower() == line["format"]  # type: ignore[union-attr]
        assert {line["file_name"].rpartition(".")[2] for line in lines} == {
            "jpg", "png", "webp", "gif", "bmp", "tiff"
        }  # fmt: skip


async def test_tar_pairs_each_image_with_its_json() -> None:
    """As WebDataset reads it: neighbours of one name, one of them the record."""
    made = make_chunk(CHUNK, [picture(seed) for seed in range(5)])
    images = list(kept_images(made.candidates, made.verdicts, "webdataset"))
    data = await packed(images, made.read, "webdataset")
    assert len(data) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        read = [archive.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(m.mtime, m.mode, m.uid, m.gid, m.uname) for m in members} == {(0, 0o644, 0, 0, "")}
    for at in range(0, len(members), 2):
        record = json.loads(read[at + 1])
        assert list(record) == FIELDS
        assert record["file_name"] == members[at].name
        assert members[at + 1].name == f"{record['sha256'][:20]}.json"
        assert hashlib.sha256(read[at]).hexdigest() == record["sha256"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", [b"", b"judged?", b"judged and more", b"judgeD"])
async def test_only_what_was_judged_is_packed(form: Format, damage: bytes) -> None:
    """Other bytes than those that have a verdict end the packing, whatever their size."""
    made = make_chunk(CHUNK, [b"judged"])
    images = list(kept_images(made.candidates, made.verdicts, form))

    async def damaged(position: int) -> AsyncIterator[bytes]:
        del position
        yield damage

    with pytest.raises(GiveUp) as raised:
        await packed(images, damaged, form)
    assert (raised.value.error, raised.value.retriable) == ("staging_damaged", True)


async def test_large_archives_turn_to_zip64(monkeypatch: pytest.MonkeyPatch) -> None:
    """More members than the old format counts (lowered here) are as readable as few."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 100)
    record = make_chunk(CHUNK, [b"x"])
    [first] = kept_images(record.candidates, record.verdicts, "zip")
    images = [
        KeptImage(0, first.record.model_copy(update={"file_name": f"images/{at:020x}.jpg"}))
        for at in range(200)
    ]
    data = await packed(images, record.read, "zip")
    assert b"PK\x06\x06" in data  # the end record of ZIP64
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.namelist()) == len(images) + 1
        assert archive.read(images[-1].record.file_name) == b"x"


async def stored(tmp_path: Path, made: Made) -> LocalBlobs:
    blobs = LocalBlobs(tmp_path)
    await store_chunk(blobs, made)
    return blobs


@pytest.mark.parametrize("form", FORMS)
async def test_parts_give_every_image_wherever_it_is(tmp_path: Path, form: Format) -> None:
    """Three parts give the archive that the images themselves give."""
    made = make_chunk(
        chunk_id(new_job_id(), 0),
        [picture(seed) for seed in range(120)],
        dropped=[Outcome.TIMEOUT, Outcome.SURPLUS] * 5,
    )
    assert list(part_numbers(made)) == [0, 1, 2]
    blobs = await stored(tmp_path, made)
    images = list(kept_images(made.candidates, made.verdicts, form))
    extents = await parts.locate(blobs, made.chunk, [image.position for image in images])
    reader = parts.ReadAhead(blobs, [(i.position, extents[i.position]) for i in images])
    try:
        assert await packed(images, reader, form) == await packed(images, made.read, form)
    finally:
        await reader.close()
        await blobs.close()


async def test_large_images_are_not_read_ahead(tmp_path: Path) -> None:
    """A chunk of images larger than a piece is packed with a few pieces in memory."""
    big = [random.Random(seed).randbytes(9 << 20) for seed in range(6)]
    made = make_chunk(chunk_id(new_job_id(), 0), big)
    blobs = await stored(tmp_path, made)
    images = list(kept_images(made.candidates, made.verdicts, "zip"))
    extents = await parts.locate(blobs, made.chunk, [image.position for image in images])
    reader = parts.ReadAhead(blobs, [(i.position, extents[i.position]) for i in images])
    tracemalloc.start()
    size = 0
    async for piece in pack(images, reader, "zip"):
        size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    await reader.close()
    await blobs.close()
    assert size > 6 * (9 << 20)
    assert peak < 6 << 20


async def test_missing_parts_and_images_are_told_apart(tmp_path: Path) -> None:
    """A part that is gone may have been removed with the chunk's end; a lost image is damage."""
    made = make_chunk(chunk_id(new_job_id(), 0), [b"a", b"b"])
    blobs = await stored(tmp_path, made)
    with pytest.raises(BlobNotFound):
        await parts.locate(blobs, made.chunk, [0, names.PART_SIZE])
    with pytest.raises(GiveUp):
        await parts.locate(blobs, made.chunk, [0, 7])
    extents = await parts.locate(blobs, made.chunk, [0, 1])
    data = part_tar(made, 0)
    await blobs.put(names.part(made.chunk, 0), data.replace(b"000001", b"000007"))
    with pytest.raises(GiveUp):
        _ = [piece async for piece in parts.image(blobs, extents[1])]
    await blobs.put(names.part(made.chunk, 0), b"?" * len(data))
    with pytest.raises(GiveUp):
        await parts.locate(blobs, made.chunk, [0])
    await blobs.close()


async def test_long_outcomes_are_read_whole(tmp_path: Path) -> None:
    """The lines of a part may be longer than what is read of it at first."""
    made = make_chunk(chunk_id(new_job_id(), 0), [picture(seed) for seed in range(50)])
    long = tuple(f.model_copy(update={"final_url": "u" * 3000}) for f in made.fetched)
    blobs = await stored(tmp_path, replace(made, fetched=long))
    extents = await parts.locate(blobs, made.chunk, [49])
    assert b"".join([piece async for piece in parts.image(blobs, extents[49])]) == picture(49)
    await blobs.close()
