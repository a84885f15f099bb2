"""A chunk's archive and result: once, whole, and the same, whatever dies and however often."""

import asyncio
import io
import json
import zipfile
from datetime import UTC, datetime

import pytest

from pixcrawler.common import names
from pixcrawler.common.documents import ChunkResult
from pixcrawler.common.errors import GiveUp, Stopped
from pixcrawler.common.events import ChunkUploaded
from pixcrawler.common.outcomes import Outcome
from tests.integration.uploader.world import (
    Crash,
    Interrupted,
    World,
    crash_at,
    new_world,
    sha256,
    uploaded,
)
from tests.unit.uploader.made import EXHAUSTED, Made, make_chunk, part_numbers, picture, store_chunk

NOW = datetime.now(UTC)


def some_chunk(world: World, index: int = 0, images: int = 60) -> Made:
    """A chunk of two parts: sixty kept images and a few that are not."""
    return make_chunk(
        world.chunk(index),
        [picture(1000 * index + seed) for seed in range(images)],
        dropped=[Outcome.DUPLICATE, Outcome.TIMEOUT, Outcome.HTTP_ERROR],
    )


async def result_of(world: World, made: Made) -> ChunkResult:
    return ChunkResult.model_validate_json(await world.blobs.read(names.result(made.chunk)))


async def test_a_chunk_becomes_an_archive_and_a_result(world: World) -> None:
    """What was kept is in the archive, byte by byte; the result and the event say what there is."""
    made = some_chunk(world)
    await store_chunk(world.blobs, made)
    event = uploaded(await world.upload(made, attempt=3))
    result = await result_of(world, made)
    archive = await world.blobs.read(names.archive(made.chunk, "zip"))
    assert event == ChunkUploaded(
        chunk_id=made.chunk,
        attempt=3,
        images=made.verdicts.head.images,
        archive=names.archive(made.chunk, "zip"),
    )
    assert result.status == "completed"
    assert result.images == made.verdicts.head.images
    assert result.exhausted == EXHAUSTED
    assert result.archive is not None
    assert (result.archive.name, result.archive.size, result.archive.sha256) == (
        event.archive,
        len(archive),
        sha256(archive),
    )
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        lines = list(map(json.loads, file.read("metadata.jsonl").splitlines()))
        assert {line["url"] for line in lines} == {verdict.url for verdict in made.kept()}
        stored = {verdict.url: made.bytes_of[verdict.position] for verdict in made.kept()}
        assert all(file.read(line["file_name"]) == stored[line["url"]] for line in lines)
    assert world.ended == [made.chunk]
    assert world.counted == [made.verdicts.head.images]


async def test_a_repeated_event_is_answered_from_the_result(local_world: World) -> None:
    """Also when staging, candidates and verdicts are gone, and the job was cancelled since."""
    world = local_world
    made = some_chunk(world)
    await store_chunk(world.blobs, made)
    first = await world.upload(made)
    await world.blobs.delete_prefix(names.staging_prefix(made.chunk))
    await world.blobs.delete(names.verdicts(made.chunk))
    await world.blobs.delete(names.candidates(made.chunk))
    await world.change_job(cancelled_at=NOW)
    assert await world.upload(made) == first
    assert len(world.counted) == 1


async def test_nothing_kept_completes_without_an_archive(world: World) -> None:
    """A chunk of duplicates only has a result, an event, and no archive."""
    made = make_chunk(world.chunk(0), [], dropped=[Outcome.DUPLICATE, Outcome.TIMEOUT])
    await store_chunk(world.blobs, made)
    assert uploaded(await world.upload(made)).archive == ""
    assert (await result_of(world, made)).archive is None
    assert await world.listed("datasets/") == []


async def test_an_empty_chunk_completes(local_world: World) -> None:
    """No candidates, no parts: still a result."""
    made = make_chunk(local_world.chunk(0), [])
    await store_chunk(local_world.blobs, made)
    assert uploaded(await local_world.upload(made)).images.candidates == 0


async def test_a_webdataset_job_gets_tars(world: World) -> None:
    """The job's format decides how its chunks are packed."""
    other = await new_world(world.blobs, world.engine, options={"format": "webdataset"})
    made = some_chunk(other)
    await store_chunk(other.blobs, made)
    event = uploaded(await other.upload(made))
    assert event.archive == names.archive(made.chunk, "tar")
    assert (await world.blobs.read(event.archive))[257:262] == b"ustar"


async def test_the_same_bytes_again(local_world: World) -> None:
    """An archive that was lost before its result is made again with the same bytes."""
    made = some_chunk(local_world)
    await store_chunk(local_world.blobs, made)
    await local_world.upload(made)
    first = await local_world.contents("datasets/")
    await local_world.blobs.delete(names.archive(made.chunk, "zip"))
    await local_world.blobs.delete(names.result(made.chunk))
    await local_world.upload(made)
    assert await local_world.contents("datasets/") == first


async def test_dying_between_any_two_steps_changes_nothing(world: World) -> None:
    """Before and after archive and result: the next try gives the same event and the same bytes."""
    images = [picture(seed) for seed in range(60)]
    archives = set()
    for step in range(5):
        job = await new_world(world.blobs, world.engine)
        made = make_chunk(job.chunk(0), images, url="https://example.org/{position}")
        await store_chunk(job.blobs, made)
        dying = crash_at(job.blobs, step)
        if step < 4:  # archive and result, each before and after
            with pytest.raises(Crash):
                await job.upload(made, blobs=dying)
        else:
            await job.upload(made, blobs=dying)
        event = uploaded(await job.upload(made, attempt=2))
        archives.add(await job.blobs.read(event.archive))
        result = await result_of(job, made)
        assert result.archive is not None
        assert result.archive.sha256 == sha256(await job.blobs.read(event.archive))
    assert len(archives) == 1


async def test_two_uploaders_at_once(world: World) -> None:
    """Both say the same, one archive and one result are there, and images are counted once."""
    made = some_chunk(world)
    await store_chunk(world.blobs, made)
    first, second = await asyncio.gather(world.upload(made), world.upload(made))
    assert first == second
    archive = await world.blobs.read(names.archive(made.chunk, "zip"))
    result = await result_of(world, made)
    assert result.archive is not None
    assert result.archive.sha256 == sha256(archive)
    assert len(world.counted) == 1
    assert await world.listed("datasets/") == [result.archive.name]


async def test_an_uploader_that_wakes_up_late(local_world: World) -> None:
    """Staging went while it packed, because another one had ended the chunk: it says the same."""
    world = local_world
    made = some_chunk(world)
    await store_chunk(world.blobs, made)

    async def meanwhile(kind: str, name: str) -> None:
        del kind
        if name == names.archive(made.chunk, "zip") and not await world.listed("datasets/"):
            await world.upload(made)
            await world.blobs.delete_prefix(names.staging_prefix(made.chunk))

    late = Interrupted(world.blobs, before=meanwhile)
    assert uploaded(await world.upload(made, blobs=late)).archive
    assert len(world.counted) == 1


async def test_the_planner_gave_up_first(world: World) -> None:
    """Its result stands: the archive that was made meanwhile goes, and nothing is said."""
    made = some_chunk(world)
    await store_chunk(world.blobs, made)

    async def give_up(kind: str, name: str) -> None:
        del kind
        if name == names.result(made.chunk):
            assert await world.listed("datasets/") != []
            assert await world.give_up(made.chunk)

    assert await world.upload(made, blobs=Interrupted(world.blobs, before=give_up)) == []
    assert (await result_of(world, made)).status == "failed"
    assert await world.listed("datasets/") == []
    assert world.counted == []
    assert world.ended == [made.chunk]


async def test_the_planner_gave_up_last(local_world: World) -> None:
    """A completed result stands, whatever the planner wanted."""
    made = some_chunk(local_world)
    await store_chunk(local_world.blobs, made)
    await local_world.upload(made)
    assert not await local_world.give_up(made.chunk)
    assert uploaded(await local_world.upload(made)).archive


async def test_a_failed_chunk_leaves_no_archive(local_world: World) -> None:
    """A replayed event of a chunk that was given up removes what a dead replica had packed."""
    made = some_chunk(local_world)
    await local_world.blobs.create(names.archive(made.chunk, "zip"), b"a stray")
    await local_world.give_up(made.chunk)
    assert await local_world.upload(made) == []
    assert await local_world.listed("datasets/") == []


async def test_missing_verdicts_are_an_attempt_that_failed(local_world: World) -> None:
    """An event without its object is not believed; another attempt may help."""
    made = some_chunk(local_world)
    await store_chunk(local_world.blobs, made, verdicts=False)
    with pytest.raises(GiveUp) as raised:
        await local_world.upload(made)
    assert (raised.value.error, raised.value.retriable) == ("input_missing", True)


async def test_missing_parts_are_an_attempt_that_failed(world: World) -> None:
    """Nothing is created from a chunk whose bytes are not all there."""
    made = some_chunk(world)
    await store_chunk(world.blobs, made)
    await world.blobs.delete(names.part(made.chunk, part_numbers(made)[-1]))
    with pytest.raises(GiveUp):
        await world.upload(made)
    assert await world.listed("datasets/") == []


async def test_damaged_parts_never_become_an_archive(world: World) -> None:
    """Bytes that are not those that were judged end the attempt, and no object is left."""
    made = some_chunk(world)
    await store_chunk(world.blobs, made)
    name = names.part(made.chunk, 0)
    data = await world.blobs.read(name)
    victim = made.bytes_of[7]
    await world.blobs.put(name, data.replace(victim, victim[:-1] + bytes([victim[-1] ^ 1])))
    with pytest.raises(GiveUp) as raised:
        await world.upload(made)
    assert raised.value.error == "staging_damaged"
    assert await world.listed("datasets/") == []


@pytest.mark.parametrize("gone", [{"cancelled_at": NOW}, {"deleted_at": NOW}])
async def test_unwanted_jobs_are_left_alone(local_world: World, gone: dict[str, datetime]) -> None:
    """Nothing is packed for a job that is cancelled or deleted."""
    made = some_chunk(local_world)
    await store_chunk(local_world.blobs, made)
    await local_world.change_job(**gone)
    with pytest.raises(Stopped):
        await local_world.upload(made)
    assert await local_world.listed("datasets/") == []


async def test_a_job_that_is_cancelled_while_it_is_packed(local_world: World) -> None:
    """No result is created once the job is cancelled: the planner ends the chunk."""
    made = some_chunk(local_world)
    await store_chunk(local_world.blobs, made)

    async def cancel(kind: str, name: str) -> None:
        del kind, name
        await local_world.change_job(cancelled_at=NOW)

    with pytest.raises(Stopped):
        await local_world.upload(made, blobs=Interrupted(local_world.blobs, after=cancel))
    assert await local_world.listed(names.result(made.chunk)) == []


async def test_a_deleted_job_has_no_answer(local_world: World) -> None:
    """Not even where the chunk has a result."""
    made = some_chunk(local_world)
    await store_chunk(local_world.blobs, made)
    await local_world.upload(made)
    await local_world.change_job(deleted_at=NOW)
    with pytest.raises(Stopped):
        await local_world.upload(made)
