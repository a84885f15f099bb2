"""Whatever is in a topic: it is kept with where it stood and what was wrong, and nothing blocks."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError
from sqlalchemy import text

from pixcrawler.common import admin, dlq, events, ids, letters, topics
from pixcrawler.common.context import Context
from pixcrawler.common.db.engine import connect
from pixcrawler.common.errors import GiveUp
from pixcrawler.common.events import (
    ChunkDownloaded,
    ChunkEvent,
    ChunkFailed,
    ChunkPlanned,
    ChunkProgress,
    ChunkUploaded,
    ChunkValidated,
    Event,
    ImageTotals,
    JobCancelled,
    JobCreated,
    JobFinished,
    JobPlanned,
)
from pixcrawler.common.letters import Letter
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.topics import Topic
from tests.integration.common import bad
from tests.integration.common.bad import Bad
from tests.integration.common.bench import QUICK, Bench, Gate, new_event, soon, soon_there

NO_LIMIT = replace(QUICK, poison_run=1000, poison_ratio=1.0)


async def letters_of(servers: str, stage: str, group: str) -> list[Letter]:
    """A group's dead letters, as they were written."""
    found = [each async for each in letters.read(servers, stage)]
    return [each for each in found if each.provenance.group == group]


async def test_all_kinds_between_good_ones(bench: Bench) -> None:
    """Each bad record becomes a letter that tells everything; the good ones are done in order."""
    fact = bench.model(chunk_id=bench.chunk(0), attempt=1)
    table = bad.table(fact)
    offsets = []
    for number, each in enumerate(table):
        await bench.send(number, partition=0)
        offsets += await bad.produce(bench.bootstrap, bench.topic, [each])
    gate = Gate()
    stage = bench.stage(gate, limits=NO_LIMIT.with_in_flight(1))
    async with bench.running(stage):
        await bench.until_committed()
    assert gate.finished == [bench.chunk(number) for number in range(len(table))]
    found = await letters_of(bench.bootstrap, "downloader", bench.group)
    assert len(found) == len(table)
    for letter, each, offset in zip(found, table, offsets, strict=True):
        tells_everything(letter, each, bench.topic, offset)
        assert letter.provenance.worker == stage.worker
        assert letter.provenance.stage == "downloader"


def tells_everything(letter: Letter, each: Bad, topic: str, offset: int) -> None:
    """It is the original, as far as there is room, and says where that stands."""
    said = letter.provenance
    assert (said.topic, said.partition, said.offset) == (topic, 0, offset), each.name
    assert (said.exception, said.cut) == (each.exception, each.cut), each.name
    assert abs(datetime.now(UTC).timestamp() - said.timestamp_ms / 1000) < 300, each.name
    assert said.message, each.name
    assert letter.state == "open"
    if "key" not in each.cut:
        assert letter.key == each.key, each.name
    if "value" not in each.cut:
        assert letter.value == each.value, each.name
    if "headers" not in each.cut:
        ours = tuple(h for h in each.headers if not h[0].startswith(dlq.PREFIX))
        assert letter.headers == ours, each.name
    whole = (letter.key, letter.value, letter.headers)
    mine = (each.key, each.value, each.headers)
    for cut, (kept, original) in zip(
        ("key", "value", "headers"), zip(whole, mine, strict=True), strict=True
    ):
        if cut in each.cut:
            assert kept is not None
            assert original is not None
            assert 0 < len(kept) < len(original), each.name
            assert kept == original[: len(kept)], each.name


async def test_a_header_bomb_around_a_good_value_is_a_good_record(bench: Bench) -> None:
    """Nobody needs headers to read an event: it is handled."""
    gate = Gate()
    fact = bench.model(chunk_id=bench.chunk(1), attempt=1)
    key, value = fact.key.encode(), fact.model_dump_json().encode()
    bombs = (bad.bomb(5_000, 100), bad.bomb(3, 300_000), (("ce_id", b"\xff" * 1000),))
    await bad.produce(
        bench.bootstrap, bench.topic, [Bad("bomb", value, key, each) for each in bombs]
    )
    async with bench.running(bench.stage(gate, limits=QUICK.with_in_flight(1))):
        await bench.until_committed()
    assert gate.finished
    assert await letters_of(bench.bootstrap, "downloader", bench.group) == []


async def test_what_the_client_cannot_read_is_stepped_over(bench: Bench) -> None:
    """The header's name is not UTF-8: aiokafka fails at it, for ever, and forgets what it had in
    its hands. Its place becomes a letter; the records around it, in all partitions, are handled."""
    gate = Gate()
    await bench.send(0, partition=0)
    await bench.send(10, 11, partition=1)
    await bad.produce_unreadable(bench.bootstrap, bench.topic)
    await bench.send(1, partition=0)
    await bad.produce_unreadable(bench.bootstrap, bench.topic, partition=1)
    await bench.send(12, partition=1)
    async with bench.running(bench.stage(gate, limits=NO_LIMIT)):
        await bench.until_committed()
    assert sorted(gate.finished) == [bench.chunk(number) for number in (0, 1, 10, 11, 12)]
    found = await letters_of(bench.bootstrap, "downloader", bench.group)
    places = {(each.provenance.partition, each.provenance.offset): each for each in found}
    # The others of each batch are readable, and no events.
    assert sorted(places) == [(0, n) for n in range(1, 5)] + [(1, n) for n in range(2, 6)]
    for place in ((0, 2), (1, 3)):
        said = places[place].provenance
        assert said.cut == "key,value,headers"
        assert "UTF-8" in said.message
    assert {places[place].key for place in ((0, 1), (1, 2))} == {b"before"}


async def test_five_megabytes_do_not_come_in(bench: Bench) -> None:
    """Our topics keep Kafka's limit of 1 MiB a record: the broker refuses whoever writes more."""
    with pytest.raises(MessageSizeTooLargeError):
        await bad.produce(bench.bootstrap, bench.topic, [Bad("huge", b"x" * 5_000_000, b"k")])


@pytest.fixture
async def roomy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench on a topic whose limit somebody has raised to 6 MB."""
    return await roomy_bench(bench, monkeypatch)


async def roomy_bench(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The same bench on another topic."""
    name = f"{bench.topic}.roomy"
    await admin.apply_topics(
        bench.bootstrap, wanted=[Topic(name, "chunk_id", 2, topics.DAY_MS, (), (), "of a test")]
    )
    async with admin.open_admin(bench.bootstrap) as client:
        await client.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": "6000000"})]
        )
    model = new_event(name)
    monkeypatch.setitem(events.BY_TOPIC, name, model)
    return replace(bench, topic=name, model=model)


async def test_five_megabytes_where_the_limit_was_raised(roomy: Bench) -> None:
    """They come, they are larger than a letter may be, and the letter says where the rest is."""
    huge = Bad("huge", b"x" * 5_000_000, b"k")
    await roomy.send(1, partition=0)
    [offset] = await bad.produce(roomy.bootstrap, roomy.topic, [huge])
    await roomy.send(2, partition=0)
    gate = Gate()
    async with roomy.running(roomy.stage(gate)):
        await roomy.until_committed()
    assert sorted(gate.finished) == [roomy.chunk(1), roomy.chunk(2)]
    [letter] = await letters_of(roomy.bootstrap, "downloader", roomy.group)
    tells_everything(letter, huge._replace(cut="value"), roomy.topic, offset)


async def test_an_answer_that_is_too_large_fails_the_attempt(bench: Bench) -> None:
    """It can never be published; the planner hears of it instead of waiting for the deadline."""

    async def handle(event: ChunkEvent, _context: Context) -> Sequence[Event]:
        return [ChunkUploaded(chunk_id=event.chunk_id, attempt=1, images=ImageTotals(),
                              archive="x" * 2_000_000)]  # fmt: skip

    await bench.send(1)
    async with bench.running(bench.stage(handle)):
        [failed] = await bench.records(topics.CHUNK_FAILED, 1)
        await bench.until_committed()
    assert isinstance(failed.event, ChunkFailed)
    assert (failed.event.error, failed.event.retriable) == ("too_large", False)


async def test_a_long_reason_is_cut(bench: Bench) -> None:
    """An error that quotes megabytes must not make `chunk.failed` too large to be published."""

    async def handle(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
        raise GiveUp("x" * 2_000_000, error="odd", retriable=False)

    await bench.send(1)
    async with bench.running(bench.stage(handle)):
        [failed] = await bench.records(topics.CHUNK_FAILED, 1)
        await bench.until_committed()
    assert isinstance(failed.event, ChunkFailed)
    assert failed.event.error == "odd"


async def test_a_fact_that_is_repeated_has_one_letter(bench: Bench) -> None:
    """A bug at `job.planned` meets its repetition every 30 s: the dead letters do not grow, and the
    stage does not halt because of it. A replayed one has its letter again, with the same id."""
    calls = 0

    async def handle(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
        nonlocal calls
        calls += 1
        raise KeyError("bug")

    fact = bench.model(chunk_id=bench.chunk(1), attempt=1)
    limits = replace(QUICK, poison_run=2, error_tries=1)
    stage = bench.stage(handle, name="planner", limits=limits)
    async with bench.running(stage):
        for time in range(1, 7):
            await bench.publisher.publish([fact])
            await bench.until_committed()
            assert calls == time
        await stage.check()
        [letter] = await letters_of(bench.bootstrap, "planner", bench.group)
        assert letter.letters == 1
        async with letters.open_desk(bench.bootstrap, "planner") as desk:
            await desk.replay(letter)
        await soon(lambda: calls == 7)
        await bench.until_committed()
    [again] = await letters_of(bench.bootstrap, "planner", bench.group)
    assert (again.id, again.letters, again.state) == (letter.id, 2, "open")
    assert again.provenance.offset != letter.provenance.offset


# ---- the programs

STAGES = ("planner", "downloader", "validator", "uploader", "tracker")


def good(job_id: str, chunk: str) -> tuple[Event, ...]:
    """One event for each topic, of a job and a chunk."""
    facts = {"round": 1, "closed_round": 1, "status": "completed", "total_chunks": 1,
             "requested": 1, "kept": 1}  # fmt: skip
    return (
        JobCreated(job_id=job_id, round=1, reason="start"),
        JobCancelled(job_id=job_id),
        JobPlanned.model_validate({"job_id": job_id, **facts}),
        JobFinished.model_validate({"job_id": job_id, "dataset": "d", **facts}),
        ChunkPlanned(chunk_id=chunk, attempt=1, slices=()),
        ChunkDownloaded(chunk_id=chunk, attempt=1, candidates=1, downloaded=1, bytes=1),
        ChunkValidated(chunk_id=chunk, attempt=1, images=ImageTotals()),
        ChunkUploaded(chunk_id=chunk, attempt=1, images=ImageTotals()),
        ChunkFailed(chunk_id=chunk, attempt=1, stage="uploader", retriable=True, error="odd"),
        ChunkProgress(chunk_id=chunk, attempt=1, stage="uploader", done=1, total=2),
    )


def events_of(job_id: str) -> tuple[Event, ...]:
    """The same for the first chunk of a job."""
    return good(job_id, ids.chunk_id(job_id, 0))


@asynccontextmanager
async def stages(servers: str, database: str, folder: Path) -> AsyncIterator[None]:
    """Every stage as a program."""
    environment = {
        **{name: value for name, value in os.environ.items() if "PIXCRAWLER" not in name},
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": servers,
        "PIXCRAWLER_DATABASE_URL": database,
        "PIXCRAWLER_BLOB_URL": f"file://{folder}",
        "PIXCRAWLER_SESSION_TIMEOUT_S": "6",
        "PIXCRAWLER_DEAD_LETTERS_IN_A_ROW": "10000",
        "PIXCRAWLER_DEAD_LETTERS_RATIO": "1",
        "PIXCRAWLER_TRACKER_PARTITIONS": "2",
    }
    async with AsyncExitStack() as stack:
        for stage in STAGES:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"pixcrawler.{stage}", env=environment
            )
            stack.push_async_callback(_end, process)
        yield


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def deleted_job(database: str) -> str:
    """The id of a job of which only the tombstone is left."""
    job_id = ids.new_job_id()
    engine = connect(database)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO crawl_jobs (job_id, owner, keywords, sources, max_images, chunk_size,"
                " options, round, deleted_at) VALUES (:job, 'o', '[]', '[]', 9, 9, '{}', 1, now())"
            ),
            {"job": job_id},
        )
    await engine.dispose()
    return job_id


async def test_every_program_keeps_what_it_cannot_read_and_ignores_what_is_gone(
    fresh_kafka: str, module_database: str, tmp_path: Path
) -> None:
    """Each kind of bad record in each topic of each stage is one letter of each of its readers;
    events of jobs that are unknown or deleted are none, and nobody answers them."""
    await admin.apply_topics(fresh_kafka, partitions=2)
    unknown, gone = ids.new_job_id(), await deleted_job(module_database)
    written: dict[str, int] = {}
    for fact in events_of(unknown):
        table = [each for each in bad.table(fact) if each.name != "many headers"]
        await bad.produce(fresh_kafka, fact.topic, table)
        await bad.produce_unreadable(fresh_kafka, fact.topic, partition=1)
        written[fact.topic] = len(table) + bad.IN_BATCH
    publisher = Publisher(fresh_kafka, source="/test")
    await publisher.start()
    await publisher.publish([*events_of(unknown), *events_of(gone)])
    await publisher.stop()
    before = await _ends(fresh_kafka)
    async with stages(fresh_kafka, module_database, tmp_path):
        await soon_there(lambda: _nobody_is_behind(fresh_kafka))
    expected = {
        stage: sum(number for topic, number in written.items() if stage in _readers(topic))
        for stage in STAGES
    }
    counted = {stage: len(await letters_of(fresh_kafka, stage, stage)) for stage in STAGES}
    assert counted == expected
    after = await _ends(fresh_kafka)
    quiet = {name: end for name, end in after.items() if name in written}
    assert quiet == {name: end for name, end in before.items() if name in written}


def _readers(topic: str) -> tuple[str, ...]:
    return next(each.readers for each in topics.registry() if each.name == topic)


async def _nobody_is_behind(servers: str) -> bool:
    found = await admin.lag(servers, [*STAGES, topics.TABLE_GROUP])
    return not any(each.lag for each in found)


async def _ends(servers: str) -> Mapping[str, int]:
    """Records of each topic, as all its readers' ends."""
    async with admin.open_reader(servers) as reader:
        found: dict[str, int] = {}
        for topic in await admin.list_topics(servers):
            ends = await reader.end_offsets(await admin._partitions(reader, topic))
            found[topic] = sum(ends.values())
    return found
