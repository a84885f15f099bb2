"""Images that a job wants otherwise: decided once, whatever dies and whoever goes on."""

import asyncio
import io
import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pixcrawler.common import names
from pixcrawler.common.documents import Files
from pixcrawler.common.errors import GiveUp, Stopped
from pixcrawler.common.outcomes import Outcome
from pixcrawler.uploader.images import ImageRecord, TransformedRecord
from pixcrawler.uploader.transforming import Transformer
from tests.integration.uploader.world import (
    Crash,
    Interrupted,
    World,
    crash_at,
    new_world,
    sha256,
    uploaded,
)
from tests.unit.uploader.made import Made, make_chunk, picture, store_chunk

NOW = datetime.now(UTC)
SMALL = {"resize_mode": "keep_ratio", "image_size": 16, "image_format": "webp", "quality": 80}
IMAGES = 55
"""Two parts of images; the first of them have the wanted size."""


async def transforming(world: World, **options: Any) -> World:
    return await new_world(world.blobs, world.engine, options=options or SMALL)


def some_chunk(world: World, index: int = 0) -> Made:
    """A few images that are as they should be, many that are not, and some that are not kept."""
    ready = [picture(seed, "webp", 16) for seed in range(5)]
    others = [picture(1000 * index + seed, side=20 + seed % 9) for seed in range(5, IMAGES)]
    return make_chunk(
        world.chunk(index), [*ready, *others], dropped=[Outcome.DUPLICATE, Outcome.TIMEOUT],
        url="https://example.org/{position}",
    )  # fmt: skip


def with_formats(made: Made) -> Made:
    """The verdicts as the validator makes them."""
    items = []
    for verdict in made.verdicts.items:
        if verdict.outcome is not Outcome.KEPT:
            items.append(verdict)
            continue
        with Image.open(io.BytesIO(made.bytes_of[verdict.position])) as image:
            assert image.format is not None
            facts = {"format": image.format.lower(), "width": image.width, "height": image.height}
        items.append(verdict.model_copy(update=facts))
    verdicts = made.verdicts.model_copy(update={"items": tuple(items)})
    return Made(made.candidates, verdicts, made.fetched, made.bytes_of)


async def stored_chunk(world: World, index: int = 0) -> Made:
    made = with_formats(some_chunk(world, index))
    await store_chunk(world.blobs, made)
    return made


async def archive_of(world: World, made: Made) -> bytes:
    return await world.blobs.read(names.archive(made.chunk, "zip"))


def unzipped(archive: bytes) -> tuple[list[dict[str, Any]], Mapping[str, bytes]]:
    """The records and the images of an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        assert file.testzip() is None
        lines = list(map(json.loads, file.read("metadata.jsonl").splitlines()))
        return lines, {name: file.read(name) for name in file.namelist()[:-1]}


async def test_a_transformed_chunk(world: World) -> None:
    """Each file is what was asked for, named by what it was; its record tells of both."""
    job = await transforming(world)
    made = await stored_chunk(job)
    event = uploaded(await job.upload(made))
    assert event.images == made.verdicts.head.images
    lines, images = unzipped(await archive_of(job, made))
    by_url = {verdict.url: verdict for verdict in made.kept()}
    assert [line["file_name"] for line in lines] == sorted(images)
    assert {line["url"] for line in lines} == set(by_url)
    for line in lines:
        assert list(line) == list(TransformedRecord.model_fields)
        assert None not in line.values()
        verdict, data = by_url[line["url"]], images[line["file_name"]]
        assert line["file_name"] == f"images/{verdict.sha256[:20]}.webp"
        assert (line["sha256"], line["bytes"]) == (sha256(data), len(data))
        for name in ("sha256", "bytes", "width", "height", "format"):
            assert line[f"original_{name}"] == getattr(verdict, name)
        with Image.open(io.BytesIO(data)) as image:
            assert (image.size, image.format) == ((16, 16), "WEBP")
            assert (line["width"], line["height"], line["format"]) == (16, 16, "webp")
        if verdict.format == "webp":  # as it should be already
            assert data == made.bytes_of[verdict.position]
    files = Files.parse(await job.blobs.read(names.files(made.chunk)))
    assert [file.transformed for file in files.items] == [False] * 5 + [True] * (IMAGES - 5)
    assert files.head.made_with[0].startswith("Pillow ")
    assert job.ended == [made.chunk]


async def test_the_index_tells_of_both(local_world: World) -> None:
    """`images.parquet` and Croissant have the columns of the archives, and the card says what."""
    job = await transforming(local_world, resize_mode="center_crop", image_size=12, upright=True)
    chunks = [await stored_chunk(job, index) for index in range(2)]
    lines = []
    for made in chunks:
        await job.upload(made)
        await job.blobs.delete_prefix(names.staging_prefix(made.chunk))
        found, _ = unzipped(await archive_of(job, made))
        lines += [{**line, "chunk_id": made.chunk} for line in found]
    await job.finish(job.planned(completed=(0, 1), kept=2 * IMAGES))
    prefix = names.round_prefix(job.job_id, 1)
    index = {name.removeprefix(prefix): data for name, data in (await job.contents(prefix)).items()}
    assert pq.read_table(io.BytesIO(index["images.parquet"])).to_pylist() == lines
    described = json.loads(index["croissant.json"])["recordSet"][0]
    assert [field["name"] for field in described["field"]] == list(lines[0])
    card = index["README.md"].decode()
    assert "turned upright (EXIF), resized (`center_crop`, 12 pixels) by Pillow " in card
    outcomes = pq.read_table(io.BytesIO(index["outcomes.parquet"])).to_pylist()
    kept = {row["url"]: row["sha256"] for row in outcomes if row["outcome"] == "kept"}
    assert kept == {line["url"]: line["original_sha256"] for line in lines}


async def test_nothing_asked_for_changes_nothing(local_world: World) -> None:
    """Without a transform there is neither an object nor a column more."""
    job = await transforming(local_world, format="webdataset")
    made = await stored_chunk(job)
    await job.upload(made)
    assert await job.listed(names.files(made.chunk)) == []
    assert [name for name in await job.listed("staging/") if "transformed" in name] == []
    job = await transforming(local_world, quality=95)
    made = await stored_chunk(job)
    await job.upload(made)
    lines, _ = unzipped(await archive_of(job, made))
    assert list(lines[0]) == list(ImageRecord.model_fields)


async def test_dying_between_any_two_steps_changes_nothing(local_world: World) -> None:
    """Before and after two parts, files, archive and result: in the end the same bytes."""
    archives = set()
    for step in range(11):
        job = await transforming(local_world)
        made = await stored_chunk(job)
        dying = crash_at(job.blobs, step)
        if step < 10:
            with pytest.raises(Crash):
                await job.upload(made, blobs=dying)
        else:
            await job.upload(made, blobs=dying)
        event = uploaded(await job.upload(made, attempt=2))
        assert event.archive == names.archive(made.chunk, "zip")
        archives.add(await archive_of(job, made))
    assert len(archives) == 1


async def test_another_encoder_goes_on_where_the_first_one_stopped(world: World) -> None:
    """What was decided stays, though this one gives other bytes (it has another quality here)."""
    job = await transforming(world)
    made = await stored_chunk(job)
    with pytest.raises(Crash):
        await job.upload(made, blobs=crash_at(job.blobs, 2))  # before the second part
    await job.change_job(options={**SMALL, "quality": 10})
    await job.upload(made)
    first = await archive_of(job, made)
    lines, images = unzipped(first)
    sizes = {int(line["url"].rpartition("/")[2]): line["bytes"] for line in lines}
    assert min(sizes[at] for at in range(5, 50)) > max(sizes[at] for at in range(50, IMAGES))

    # Its archive and result are lost, even: a third one makes the archive with the same bytes.
    await job.change_job(options={**SMALL, "quality": 50})
    await world.blobs.delete(names.archive(made.chunk, "zip"))
    await world.blobs.delete(names.result(made.chunk))
    await job.upload(made)
    assert await archive_of(job, made) == first
    assert {name: sha256(data) for name, data in images.items()} == {
        line["file_name"]: line["sha256"] for line in lines
    }


async def test_two_encoders_at_once(world: World) -> None:
    """Both give other bytes; each part is one's or the other's, and both say the same."""
    job = await transforming(world)
    made = await stored_chunk(job)
    other = World(job.blobs, job.engine, job.job_id)

    started = False

    async def meanwhile(kind: str, name: str) -> None:
        """The second one starts, and ends, when the first is about to write."""
        nonlocal started
        del kind, name
        if not started:
            started = True
            await job.change_job(options={**SMALL, "quality": 10})
            await other.upload(made)

    assert await job.upload(made, blobs=Interrupted(job.blobs, before=meanwhile)) == (
        await other.upload(made)
    )
    lines, images = unzipped(await archive_of(job, made))
    assert [sha256(images[line["file_name"]]) for line in lines] == [x["sha256"] for x in lines]
    assert max(line["bytes"] for line in lines if line["original_format"] == "jpeg") < 300


async def test_two_images_that_become_one(local_world: World) -> None:
    """Other bytes, the same pixels: both are there, under the names of what they were."""
    job = await transforming(local_world, resize_mode="keep_ratio", image_size=10)
    flat = Image.new("RGB", (40, 40), "teal")
    originals = []
    for level in (1, 9):
        out = io.BytesIO()
        flat.save(out, "PNG", compress_level=level, dpi=(level, level))
        originals.append(out.getvalue())
    made = with_formats(make_chunk(job.chunk(0), originals))
    await store_chunk(job.blobs, made)
    await job.upload(made)
    lines, images = unzipped(await archive_of(job, made))
    assert len(images) == 2
    assert lines[0]["sha256"] == lines[1]["sha256"]
    assert lines[0]["file_name"] != lines[1]["file_name"]


async def test_no_image_fails_a_chunk(local_world: World) -> None:
    """One that nobody can decode stays as it was found, and its record says so."""
    job = await transforming(local_world)
    made = make_chunk(job.chunk(0), [b"\x89PNG\r\n\x1a\nno picture", picture(3, "png")], form="png")
    await store_chunk(job.blobs, made)
    await job.upload(made)
    lines, images = unzipped(await archive_of(job, made))
    found = {line["url"].rpartition("/")[2]: line for line in lines}
    broken, good = found["0.jpg"], found["1.jpg"]
    assert broken["file_name"].endswith(".png")
    assert images[broken["file_name"]] == made.bytes_of[0]
    assert (broken["format"], broken["sha256"]) == ("png", broken["original_sha256"])
    assert (good["format"], good["width"]) == ("webp", 16)


async def test_damaged_parts_and_a_gate_that_opens_again(local_world: World) -> None:
    """Bytes that were not judged end the attempt, again and again; then the next chunk is done."""
    job = await transforming(local_world)
    job.transformer = Transformer(1)
    made = await stored_chunk(job)
    name, victim = names.part(made.chunk, 0), made.bytes_of[7]
    data = await job.blobs.read(name)
    await job.blobs.put(name, data.replace(victim, victim[:-1] + bytes([victim[-1] ^ 1])))
    for _ in range(3):
        with pytest.raises(GiveUp) as raised:
            await job.upload(made)
        assert raised.value.error == "staging_damaged"
    assert [n for n in await job.listed("staging/") if "transformed" in n] == []
    assert uploaded(await job.upload(await stored_chunk(job, 1))).images.valid == IMAGES


async def test_cancelled_work_gives_its_turns_back(local_world: World) -> None:
    """Whatever it is in the middle of: the next chunk is done by the only thread there is."""
    job = await transforming(local_world)
    job.transformer = Transformer(1)
    for at in range(3):
        made = await stored_chunk(job, at)
        work = asyncio.create_task(job.upload(made))
        async with asyncio.timeout(30):
            while len(job.hands) <= at or len(job.hands[at].reported) < 5 * at:
                await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert uploaded(await job.upload(await stored_chunk(job, 3))).images.valid == IMAGES


async def test_a_job_that_is_cancelled_meanwhile(local_world: World) -> None:
    """No further part is written."""
    job = await transforming(local_world)
    made = await stored_chunk(job)

    async def cancel(kind: str, name: str) -> None:
        del kind, name
        await job.change_job(cancelled_at=NOW)

    with pytest.raises(Stopped):
        await job.upload(made, blobs=Interrupted(job.blobs, after=cancel))
    assert [n for n in await job.listed("staging/") if "transformed" in n] == [
        names.transformed_part(made.chunk, 0)
    ]


async def test_progress_goes_on_while_images_are_transformed(local_world: World) -> None:
    """A sign of life for every image, that never goes back."""
    job = await transforming(local_world)
    made = await stored_chunk(job)
    await job.upload(made)
    reported = job.hands[-1].reported
    assert len(reported) == 2 * IMAGES
    assert reported == sorted(reported)
    assert reported[-1] == (IMAGES, IMAGES)
