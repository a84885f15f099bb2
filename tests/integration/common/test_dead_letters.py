"""Records that no code can read: to the dead letters, with limits."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer

from pixcrawler.common import admin, dlq, metrics, topics
from pixcrawler.common.admin import Tailed
from pixcrawler.common.context import Context
from pixcrawler.common.errors import Fatal, Poison
from pixcrawler.common.events import ChunkEvent, Event
from tests.integration.common.bench import QUICK, Bench, Gate, soon

KEY = b"some key"
REASONS = ("ValidationError", "Poison")
"""Of a value that is no event, and of one that is not there."""


async def spoil(bench: Bench, *values: bytes | None) -> None:
    """Publish records that nobody can read, to partition 0."""
    async with AIOKafkaProducer(bootstrap_servers=bench.bootstrap) as producer:
        for value in values:
            await producer.send_and_wait(
                bench.topic, value, key=KEY, partition=0, headers=[("origin", b"here")]
            )


async def letters(bench: Bench, stage: str = "downloader") -> list[tuple[Tailed, dlq.Provenance]]:
    """The dead letters of the bench's group."""
    ours = (f"{dlq.PREFIX}group", bench.group.encode())
    return [
        (record, dlq.provenance(record.headers))
        async for record in admin.tail(bench.bootstrap, topics.dead_letters(stage))
        if ours in record.headers  # other tests leave there what is no letter
    ]


async def test_poison_goes_to_the_dead_letters_while_others_flow(bench: Bench) -> None:
    """The letter is the original with its provenance, and counted by its reason; the records around
    it are handled."""
    gate = Gate()
    unread, empty = (metrics.DEAD_LETTERS.labels("downloader", why) for why in REASONS)
    before = unread._value.get(), empty._value.get()
    await bench.send(1, partition=0)
    await spoil(bench, b"{not json", None, b'{"chunk_id": "x", "attempt": 1}')
    await bench.send(2, partition=0)
    async with bench.running(bench.stage(gate)):
        await bench.until_committed()
    assert sorted(gate.finished) == [bench.chunk(1), bench.chunk(2)]
    found = await letters(bench)
    assert [each.value for each, _ in found] == [
        b"{not json",
        None,
        b'{"chunk_id": "x", "attempt": 1}',
    ]
    record, provenance = found[0]
    assert record.key == KEY
    assert dlq.original_headers(record.headers) == (("origin", b"here"),)
    assert (provenance.topic, provenance.partition, provenance.offset) == (bench.topic, 0, 1)
    assert (provenance.stage, provenance.group) == ("downloader", bench.group)
    assert provenance.exception == "ValidationError"
    assert provenance.timestamp_ms > 0
    assert provenance.message
    assert (unread._value.get() - before[0], empty._value.get() - before[1]) == (2, 1)


async def test_a_handler_can_call_it_poison(bench: Bench) -> None:
    """`Poison` from a handler is the same as from the decoder."""

    async def handle(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
        raise Poison("what is this?")

    await bench.send(1)
    async with bench.running(bench.stage(handle)):
        await bench.until_committed()
    [(_, provenance)] = await letters(bench)
    assert provenance.message == "what is this?"


async def test_a_bug_of_the_planner_is_a_dead_letter(bench: Bench) -> None:
    """A stage that may not fail chunks keeps the record of an unforeseen error for people."""
    calls = 0

    async def handle(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
        nonlocal calls
        calls += 1
        raise KeyError("bug")

    await bench.send(1)
    async with bench.running(bench.stage(handle, name="planner")):
        await bench.until_committed()
    [(_, provenance)] = await letters(bench, "planner")
    assert (provenance.exception, calls) == ("KeyError", QUICK.error_tries)


async def test_too_many_in_a_row_stop_the_stage(bench: Bench) -> None:
    """Past the limit nothing more is moved: unready, alive, and the rest is still in the topic."""
    await spoil(bench, *[b"?"] * 10)
    limits = replace(QUICK, poison_run=3, in_flight=1)
    stage = bench.stage(Gate(), limits=limits)
    async with bench.running(stage):
        await soon(lambda: bool(stage._halted))
        with pytest.raises(Fatal, match="more than 3 dead letters in a row"):
            await stage.check()
        assert stage.alive()
    assert len(await letters(bench)) == 3
    assert await bench.committed() == {0: 3}
