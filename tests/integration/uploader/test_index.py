"""The index of a round: one row per URL, the same whoever writes it and however often."""

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest

from pixcrawler.common import names
from pixcrawler.common.documents import DatasetIndex
from pixcrawler.common.errors import Stopped
from pixcrawler.common.events import Event, JobFinished, JobPlanned
from pixcrawler.common.outcomes import Outcome
from tests.integration.uploader.world import (
    Crash,
    Interrupted,
    World,
    crash_at,
    new_world,
    sha256,
)
from tests.unit.uploader.made import make_chunk, picture, store_chunk

NOW = datetime.now(UTC)
FILES = {
    "dataset.json",
    "README.md",
    "croissant.json",
    "images.parquet",
    "outcomes.parquet",
    "LICENSES.csv",
}


async def ended_job(world: World) -> JobPlanned:
    """Five chunks that ended in five ways; one URL of each is in the next one, too.

    0: keeps three. 1: given up with verdicts. 2: given up without. 3: again what 1 was, keeps two.
    4: keeps nothing.
    """
    shared = {"url": "https://example.org/{position}/of/the/first"}
    made = [
        make_chunk(world.chunk(0), [picture(1), picture(2), picture(3)], dropped=[Outcome.TIMEOUT]),
        make_chunk(world.chunk(1), [picture(4), picture(5)], dropped=[Outcome.TIMEOUT], **shared),
        make_chunk(world.chunk(2), [], dropped=[Outcome.TIMEOUT, Outcome.TIMEOUT]),
        make_chunk(world.chunk(3), [picture(4), picture(5)], dropped=[Outcome.CORRUPT], **shared),
        make_chunk(world.chunk(4), [], dropped=[Outcome.DUPLICATE]),
    ]
    for number, chunk in enumerate(made):
        await store_chunk(world.blobs, chunk, verdicts=number != 2)
    for number in (1, 2):
        await world.give_up(world.chunk(number))
    for number in (0, 3, 4):
        await world.upload(made[number])
    return world.planned(completed=(0, 3, 4), failed=(1, 2), kept=5)


def finished(events: list[Event]) -> JobFinished:
    [event] = events
    assert isinstance(event, JobFinished)
    return event


async def index_of(world: World, number: int = 1) -> dict[str, bytes]:
    prefix = names.round_prefix(world.job_id, number)
    contents = await world.contents(prefix)
    return {name.removeprefix(prefix): data for name, data in contents.items()}


def table(data: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
    return rows


def outcomes(index: Mapping[str, bytes]) -> dict[str, str]:
    rows = table(index["outcomes.parquet"])
    assert len({row["url"] for row in rows}) == len(rows)
    return {row["url"]: row["outcome"] for row in rows}


async def test_a_round_gets_its_index(world: World) -> None:
    """Every file is there and is what `dataset.json` says; totals count each URL once."""
    planned = await ended_job(world)
    event = finished(await world.finish(planned))
    index = await index_of(world)
    assert set(index) == FILES
    dataset = DatasetIndex.model_validate_json(index["dataset.json"])
    assert [file.path for file in dataset.files] == [
        "README.md",
        "croissant.json",
        "images.parquet",
        "outcomes.parquet",
        "LICENSES.csv",
        f"chunk_{world.chunk(0)}.zip",
        f"chunk_{world.chunk(3)}.zip",
    ]
    for file in dataset.files:
        data = await world.blobs.read(file.object)
        assert (file.size, file.sha256) == (len(data), sha256(data))
    assert dataset.facts == planned.facts()
    assert event.dataset == names.dataset_index(world.job_id, 1)
    assert event.event_id == f"{world.job_id}:1"
    assert event.images == dataset.images
    said = planned.model_dump(exclude={"images"})
    assert event.model_dump(include=set(said)) == said
    assert dataset.images.candidates == 10
    assert dataset.images.valid == 5
    assert dataset.images.dropped == {"corrupt": 1, "duplicate": 1, "failed": 2, "timeout": 1}


async def test_one_row_per_url(local_world: World) -> None:
    """The kept one stands before all, a completed chunk's before a failed one's."""
    await local_world.finish(await ended_job(local_world))
    index = await index_of(local_world)
    job = local_world
    assert outcomes(index) == {
        **{f"https://example.org/{job.chunk(0)}/{at}.jpg": "kept" for at in range(3)},
        f"https://example.org/{job.chunk(0)}/3.jpg": "timeout",
        f"https://example.org/{job.chunk(2)}/0.jpg": "failed",
        f"https://example.org/{job.chunk(2)}/1.jpg": "failed",
        "https://example.org/0/of/the/first": "kept",
        "https://example.org/1/of/the/first": "kept",
        "https://example.org/2/of/the/first": "corrupt",
        f"https://example.org/{job.chunk(4)}/0.jpg": "duplicate",
    }
    rows = {row["url"]: row for row in table(index["outcomes.parquet"])}
    assert rows[f"https://example.org/{job.chunk(2)}/0.jpg"]["detail"] == "given up: blob_store"


async def test_images_licenses_and_archives_agree(local_world: World) -> None:
    """One row per kept image, in the order of chunks and archives, in each of the three."""
    await local_world.finish(await ended_job(local_world))
    index = await index_of(local_world)
    images = table(index["images.parquet"])
    lines = []
    for number in (0, 3):
        archive = await local_world.blobs.read(names.archive(local_world.chunk(number), "zip"))
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            lines += [
                {**json.loads(line), "chunk_id": local_world.chunk(number)}
                for line in file.read("metadata.jsonl").splitlines()
            ]
    assert images == lines
    listed = list(csv.DictReader(io.StringIO(index["LICENSES.csv"].decode())))
    assert [row["url"] for row in listed] == [row["url"] for row in images]


async def test_a_repetition_answers_the_same(world: World) -> None:
    """Also when the facts come with other totals, and when the index is made anew from nothing."""
    planned = await ended_job(world)
    first = await world.finish(planned)
    index = await index_of(world)
    again = planned.model_copy(update={"kept": 99})
    assert await world.finish(again) == first
    assert await index_of(world) == index
    await world.blobs.delete_prefix(names.round_prefix(world.job_id, 1))
    assert await world.finish(planned) == first
    assert await index_of(world) == index


async def test_two_uploaders_write_one_index(world: World) -> None:
    """At the same time: both answer the same, and every file is what `dataset.json` says."""
    planned = await ended_job(world)
    first, second = await asyncio.gather(world.finish(planned), world.finish(planned))
    assert first == second
    dataset = DatasetIndex.model_validate_json((await index_of(world))["dataset.json"])
    for file in dataset.files:
        assert sha256(await world.blobs.read(file.object)) == file.sha256


async def test_dying_between_any_two_files_changes_nothing(local_world: World) -> None:
    """Before and after each object and each copy: the next try ends with the same index."""
    planned = await ended_job(local_world)
    counting = Interrupted(local_world.blobs)
    quiet = await local_world.finish(planned, blobs=counting)
    index = await index_of(local_world)
    copies = {name: await local_world.blobs.read(copy(local_world, name)) for name in index}
    assert copies == index
    assert counting.changes == 2 * (len(FILES) + len(FILES))
    for step in range(counting.changes):
        await local_world.blobs.delete_prefix(names.round_prefix(local_world.job_id, 1))
        for name in index:
            await local_world.blobs.delete(copy(local_world, name))
        with pytest.raises(Crash):
            await local_world.finish(planned, blobs=crash_at(local_world.blobs, step))
        assert await local_world.finish(planned) == quiet
        assert await index_of(local_world) == index
        assert {n: await local_world.blobs.read(copy(local_world, n)) for n in index} == index


def copy(world: World, name: str) -> str:
    return f"{names.dataset_prefix(world.job_id)}{name}"


async def test_late_verdicts_of_a_failed_chunk_do_not_divide_an_index(local_world: World) -> None:
    """A paused validator adds verdicts while the index is written: its files still agree."""
    planned = await ended_job(local_world)
    late = make_chunk(local_world.chunk(2), [], dropped=[Outcome.TIMEOUT, Outcome.TIMEOUT])

    async def add_verdicts(kind: str, name: str) -> None:
        del kind
        if name.endswith("images.parquet"):
            await local_world.blobs.create(names.verdicts(late.chunk), late.verdicts.dump())
            raise Crash(name)

    with pytest.raises(Crash):
        await local_world.finish(planned, blobs=Interrupted(local_world.blobs, after=add_verdicts))
    event = finished(await local_world.finish(planned))
    found = list(outcomes(await index_of(local_world)).values())
    counted = {name: found.count(name) for name in sorted(set(found) - {"kept"})}
    assert event.images.dropped == counted
    assert counted["failed"] == 2


async def test_a_cancelled_job_is_finished_as_well(local_world: World) -> None:
    """What was uploaded stays, with an index."""
    planned = await ended_job(local_world)
    await local_world.change_job(cancelled_at=NOW)
    event = finished(await local_world.finish(planned.model_copy(update={"status": "cancelled"})))
    assert event.status == "cancelled"
    assert set(await index_of(local_world)) == FILES


async def test_an_open_round_is_not_finished(local_world: World) -> None:
    """Nor one that a later round has overtaken, nor a job that was never started."""
    planned = await ended_job(local_world)
    assert await local_world.finish(planned.model_copy(update={"round": 2})) == []
    assert (
        await local_world.finish(planned.model_copy(update={"round": 0, "closed_round": 0})) == []
    )
    await local_world.change_job(round=2)
    assert await local_world.finish(planned) == []
    assert await index_of(local_world) == {}


async def test_a_deleted_job_is_never_finished(local_world: World) -> None:
    """Neither before nor in the middle, when nothing more is created."""
    planned = await ended_job(local_world)

    async def delete(kind: str, name: str) -> None:
        if (kind, name.rpartition("/")[2]) == ("create", "images.parquet"):
            await local_world.change_job(deleted_at=NOW)

    with pytest.raises(Stopped):
        await local_world.finish(planned, blobs=Interrupted(local_world.blobs, after=delete))
    assert set(await index_of(local_world)) == {"outcomes.parquet", "images.parquet"}
    with pytest.raises(Stopped):
        await local_world.finish(planned)


async def test_a_later_round_has_its_own_index(local_world: World) -> None:
    """The first one stays as it is; the copy beside the archives is the latest."""
    world = local_world
    await world.finish(await ended_job(world))
    first = await index_of(world)
    more = make_chunk(world.chunk(5), [picture(9)])
    await store_chunk(world.blobs, more)
    await world.upload(more)
    await world.change_job(round=2)
    planned = world.planned(completed=(0, 3, 4, 5), failed=(1, 2), round_number=2, kept=6)
    event = finished(await world.finish(planned))
    assert event.images.valid == 6
    assert await index_of(world) == first
    second = await index_of(world, 2)
    assert {name: await world.blobs.read(copy(world, name)) for name in second} == second


async def test_a_copier_that_was_overtaken_leaves_the_later_copy(local_world: World) -> None:
    """A copier stands still between its look and its write; a later round is copied meanwhile."""
    world = local_world
    first = await ended_job(world)
    about_to_write, go_on = asyncio.Event(), asyncio.Event()

    def stand_still(kind: str, name: str) -> Any:
        if kind == "put" and name == copy(world, "README.md"):
            about_to_write.set()
            return go_on.wait()
        return None

    slow = Interrupted(world.blobs, before=stand_still)
    copying = asyncio.create_task(world.finish(first, blobs=slow))
    await asyncio.wait_for(about_to_write.wait(), 30)
    await world.change_job(round=2)
    again = world.planned(completed=(0, 3, 4), failed=(1, 2), round_number=2, kept=5)
    await world.finish(again)
    go_on.set()
    with pytest.raises(Stopped):
        await copying
    second = await index_of(world, 2)
    assert second["README.md"] != (await index_of(world))["README.md"]
    assert {name: await world.blobs.read(copy(world, name)) for name in second} == second


async def test_a_round_without_chunks_is_a_round(world: World) -> None:
    """A job that was cancelled before it began has an index, and tables without rows."""
    event = finished(await world.finish(world.planned(status="cancelled")))
    assert event.images.candidates == 0
    index = await index_of(world)
    assert set(index) == FILES
    assert table(index["outcomes.parquet"]) == []
    assert json.loads(index["croissant.json"])["recordSet"][0]["name"] == "images"


async def test_a_webdataset_index_names_tars(local_world: World) -> None:
    """The card and the Croissant point at the archives that are there."""
    world = await new_world(
        local_world.blobs, local_world.engine, options={"format": "webdataset"}, name="Pandas"
    )
    made = make_chunk(world.chunk(0), [picture(1), picture(2)])
    await store_chunk(world.blobs, made)
    await world.upload(made)
    await world.finish(world.planned(completed=(0,), kept=2))
    index = await index_of(world)
    assert 'data_files: "chunk_*.tar"' in index["README.md"].decode()
    dataset = DatasetIndex.model_validate_json(index["dataset.json"])
    assert (dataset.name, dataset.files[-1].path) == ("Pandas", f"chunk_{made.chunk}.tar")
    [row, _] = table(index["images.parquet"])
    assert row["file_name"] == f"{row['sha256'][:20]}.jpg"
