"""What nobody needs any more goes, by state; nothing else does."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.db.tables import job_chunks, url_lists
from pixcrawler.common.ids import chunk_id, new_job_id, new_list_id
from pixcrawler.uploader.sweep import Sweeper, Swept
from tests.integration.uploader.world import World, new_world
from tests.unit.uploader.made import make_chunk, picture, store_chunk

HOUR = timedelta(hours=1)


def sweeper(world: World, *, later: timedelta = timedelta(), unknown: timedelta = HOUR) -> Sweeper:
    """A sweeper whose clock is that much ahead of the store's."""
    return Sweeper(
        world.blobs,
        world.engine,
        deleted_for=HOUR,
        unknown_for=unknown,
        now=lambda: datetime.now(UTC) + later,
    )


async def add_row(world: World, index: int, status: str) -> None:
    async with world.engine.begin() as connection:
        await connection.execute(
            insert(job_chunks).values(
                chunk_id=world.chunk(index),
                job_id=world.job_id,
                chunk_index=index,
                status=status,
                image_range={"start": 0, "end": 499},
                slices=[],
            )
        )


async def everything(world: World) -> list[str]:
    return [*await world.listed("datasets/"), *await world.listed("jobs/")] + await world.listed(
        "staging/"
    )


async def test_staging_of_ended_chunks_goes(world: World) -> None:
    """Completed or failed; a chunk without a result keeps its parts, however old they are."""
    completed, failed, still_open = (
        make_chunk(world.chunk(index), [picture(index)]) for index in range(3)
    )
    for made in (completed, failed, still_open):
        await store_chunk(world.blobs, made)
    await world.upload(completed)
    await world.give_up(failed.chunk)
    assert (await sweeper(world, later=1000 * HOUR).sweep()).staging == 2
    assert await world.listed("staging/") == [names.part(still_open.chunk, 0)]
    assert await sweeper(world).sweep() == Swept()


async def test_noted_chunks_are_cleared_at_once(local_world: World) -> None:
    """The handler notes a chunk that has ended, and its staging needs no listing to go."""
    made = make_chunk(local_world.chunk(0), [picture(0)])
    await store_chunk(local_world.blobs, made)
    clearing = sweeper(local_world)
    clearing.chunk_ended(made.chunk)
    assert await clearing.clear() == 1
    assert await local_world.listed("staging/") == []
    assert await clearing.clear() == 0


async def test_archives_of_failed_chunks_go(world: World) -> None:
    """Only where row and result agree on it: a completed chunk's archive is never touched."""
    made = [make_chunk(world.chunk(index), [picture(index)]) for index in range(3)]
    for chunk in made:
        await store_chunk(world.blobs, chunk)
        await world.upload(chunk)
    await world.blobs.delete(names.result(made[1].chunk))
    await world.give_up(made[1].chunk)
    for index, status in enumerate(("completed", "failed", "failed")):  # the last row is wrong
        await add_row(world, index, status)
    assert (await sweeper(world).sweep_all()).archives == 1
    assert await world.listed("datasets/") == [
        names.archive(made[0].chunk, "zip"),
        names.archive(made[2].chunk, "zip"),
    ]


async def test_everything_of_a_deleted_job_goes_again_and_again(world: World) -> None:
    """Also what a paused stage writes after it was erased; another job keeps everything."""
    made = make_chunk(world.chunk(0), [picture(0)])
    await store_chunk(world.blobs, made)
    await world.upload(made)
    await world.finish(world.planned(completed=(0,), kept=1))
    other = await new_world(world.blobs, world.engine)
    kept = make_chunk(other.chunk(0), [picture(1)])
    await store_chunk(world.blobs, kept)
    before = await everything(world)
    await world.change_job(deleted_at=datetime.now(UTC))
    sweeping = sweeper(world)
    for _ in range(2):
        assert (await sweeping.sweep()).jobs > 0
        assert await everything(world) == [name for name in before if other.job_id in name]
        await store_chunk(world.blobs, made)
    await sweeping.sweep()


async def test_what_a_job_deleted_long_ago_left_is_found(world: World) -> None:
    """Long after, a job is only erased where something of it is found."""
    await world.change_job(deleted_at=datetime.now(UTC) - 2 * HOUR)
    await store_chunk(world.blobs, make_chunk(world.chunk(0), [picture(0)]))
    assert await sweeper(world).sweep() == Swept()
    assert (await sweeper(world).sweep_all()).jobs == 3
    assert await everything(world) == []


async def test_unknown_jobs_go_once_nothing_of_them_is_young(
    local_blobs: BlobStore, engine: AsyncEngine
) -> None:
    """A tombstone that has ended leaves nothing; other people's objects are not ours to remove."""
    world = World(local_blobs, engine, new_job_id())
    await store_chunk(world.blobs, make_chunk(chunk_id(world.job_id, 0), [picture(0)]))
    others = ["jobs/README.txt", "datasets/my-own/file.zip", "lists/abc"]
    for name in others:
        await world.blobs.create(name, b"not ours")
    young = await everything(world)
    assert await sweeper(world).sweep_all() == Swept()
    assert await everything(world) == young
    assert (await sweeper(world, later=2 * HOUR).sweep_all()).jobs == 3
    assert sorted([*await everything(world), *await world.listed("lists/")]) == sorted(others)


async def test_lists_go_once_they_are_deleted(world: World) -> None:
    """Deleted ones at once, those without a row once they are not young, others never."""
    kept, deleted, unknown = (new_list_id() for _ in range(3))
    about = {"owner": "tests", "format": "csv", "columns": {}, "rejected_rows": [], "bytes": 1}
    counts = {"rows": 1, "repeated": 0, "rejected": 0}
    async with world.engine.begin() as connection:
        for list_id, gone in ((kept, None), (deleted, datetime.now(UTC))):
            await connection.execute(
                insert(url_lists).values(list_id=list_id, deleted_at=gone, **about, **counts)
            )
    for list_id in (kept, deleted, unknown):
        await world.blobs.create(names.list_rows(list_id), b"")
        await world.blobs.create(names.list_rows_index(list_id), b"")
    assert (await sweeper(world).sweep_all()).lists == 2
    left = {name.split("/")[1] for name in await world.listed(names.LISTS)}
    assert left == {kept, unknown}
    assert (await sweeper(world, later=2 * HOUR).sweep_all()).lists == 2
    left = {name.split("/")[1] for name in await world.listed(names.LISTS)}
    assert left == {kept}
