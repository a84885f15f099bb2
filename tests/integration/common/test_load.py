"""The consumer loop under load: memory, slow handlers, what it says of its backlog, restarts."""

import asyncio
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer

from bench import rolling_restart
from bench.rolling_restart import Options
from pixcrawler.common import events, metrics
from pixcrawler.common.context import Context
from pixcrawler.common.events import ChunkEvent, Event
from tests.integration.common.bad import Bad, produce
from tests.integration.common.bench import QUICK, Bench, Gate, soon
from tests.integration.common.test_bad_records import roomy_bench

HOUR_S = 3600.0

AGAIN = 0.10
"""The share of work done again. The aim is 5 %, and `bench/rolling_restart.py` measures 0.0 % on a
quiet machine; here a drain may outlast the rebalance that waits for it."""


async def send_old(bench: Bench, partition: int, *indices: int) -> None:
    """Publish records that were written an hour ago."""
    async with AIOKafkaProducer(bootstrap_servers=bench.bootstrap) as producer:
        for index in indices:
            fact = bench.model(chunk_id=bench.chunk(index), attempt=1)
            record = events.encode(fact, source="/test", traceparent="")
            await producer.send_and_wait(
                bench.topic,
                record.value,
                key=record.key,
                partition=partition,
                timestamp_ms=round((time.time() - HOUR_S) * 1000),
            )


def lag_s(bench: Bench) -> float:
    """`pixcrawler_consumer_lag_seconds` of the bench's topic."""
    return float(metrics.CONSUMER_LAG_SECONDS.labels(bench.topic)._value.get())


def lag(bench: Bench) -> float:
    """`pixcrawler_consumer_lag` of the bench's topic."""
    return float(metrics.CONSUMER_LAG.labels(bench.topic)._value.get())


async def test_the_lag_counts_what_was_not_fetched(bench: Bench) -> None:
    """With its hands full of a new record, the stage knows how many old ones wait elsewhere, and
    since when; when all is done, the lag is zero."""
    gate = Gate(shut=True)
    limits = replace(QUICK, in_flight=1, backlog_s=0.2)
    async with bench.running(bench.stage(gate, limits=limits)):
        await bench.send(0, partition=0)
        await soon(lambda: len(gate.calls) == 1)
        await send_old(bench, 1, 1, 2, 3)
        await soon(lambda: lag_s(bench) > HOUR_S - 60)
        await soon(lambda: lag(bench) == 4)
        assert lag_s(bench) < HOUR_S + 600
        gate.open()
        await bench.until_committed()
        await soon(lambda: lag(bench) == 0 and lag_s(bench) == 0)


async def test_the_lag_counts_what_waited_before_the_start(bench: Bench) -> None:
    """A replica that begins in the middle of a partition and has not come to it yet, too."""
    await send_old(bench, 0, *range(10))
    await send_old(bench, 1, *range(10, 20))
    gate = Gate(shut=True)
    async with bench.running(bench.stage(gate, limits=replace(QUICK, in_flight=1, backlog_s=0.2))):
        await soon(lambda: lag(bench) == 20)
        assert lag_s(bench) > HOUR_S - 60
        gate.open()


async def test_memory_in_flight_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred megabytes of events in values of 5 MB, two are in hand, some fetched."""
    roomy = await roomy_bench(bench, monkeypatch)
    facts = [roomy.model(chunk_id=roomy.chunk(number), attempt=1) for number in range(20)]
    padding = b', "more": "' + b"x" * 5_000_000 + b'"}'
    for fact in facts:
        value = fact.model_dump_json().encode()[:-1] + padding
        record = Bad("large", value, fact.key.encode())
        await produce(roomy.bootstrap, roomy.topic, [record], partition=fact.index % 2)
    gate = Gate()
    tracemalloc.start()
    async with roomy.running(roomy.stage(gate, limits=QUICK.with_in_flight(2))):
        await roomy.until_committed()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(gate.finished) == 20
    assert peak < 60_000_000


async def test_bytes_in_flight_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pieces of work are allowed: above so many bytes nothing more is taken."""
    roomy = await roomy_bench(bench, monkeypatch)
    for number in range(8):
        fact = roomy.model(chunk_id=roomy.chunk(number), attempt=1)
        value = fact.model_dump_json().encode()[:-1] + b', "more": "' + b"x" * 2_000_000 + b'"}'
        await produce(roomy.bootstrap, roomy.topic, [Bad("large", value, fact.key.encode())])
    gate = Gate(shut=True)
    limits = replace(QUICK, in_flight=100, in_flight_bytes=5_000_000)
    stage = roomy.stage(gate, limits=limits)
    async with roomy.running(stage):
        await soon(lambda: len(gate.calls) >= 3)
        await soon(lambda: stage._free() == 0)
        assert len(gate.calls) <= 4
        gate.open()
        await roomy.until_committed()
    assert len(gate.finished) == 8


async def test_records_that_join_are_bounded(bench: Bench) -> None:
    """A thousand repetitions of a chunk in hand do not all come into memory."""
    gate = Gate(shut=True)
    stage = bench.stage(gate, limits=replace(QUICK, in_flight=2, joined=10))
    async with bench.running(stage):
        await bench.send(*[1] * 50)
        await soon(lambda: stage._free() == 0)
        held = sum(len(work.held) for work in stage._works.values())
        assert 10 <= held <= 14
        gate.open()
        await bench.until_committed()


async def test_a_slow_handler_never_leaves_the_group(bench: Bench) -> None:
    """It takes three times as long as a session: the loop polls and beats on, nothing moves."""

    async def slow(event: ChunkEvent, _context: Context) -> Sequence[Event]:
        begun.append(event.chunk_id)
        await asyncio.sleep(18)
        return ()

    begun: list[str] = []
    rebalances = metrics.REBALANCES.labels("downloader")._value
    stage = bench.stage(slow, limits=QUICK.with_in_flight(1))
    await bench.send(1)
    async with bench.running(stage):
        await soon(lambda: len(begun) == 1)
        before = rebalances.get()
        await bench.until_committed()
        assert rebalances.get() == before
        assert stage.alive()
    assert begun == [bench.chunk(1)]


@pytest.mark.parametrize("named", [True, False])
async def test_a_rolling_restart_does_little_again(kafka: str, named: bool) -> None:
    """Four replicas, forty chunks in flight: where names come back nothing moves; where each
    restart brings a new name, the newcomer's share waits for its work."""
    found = await rolling_restart.measure(kafka, Options(named=named, work_s=2.0, pause_s=0.5))
    assert found.chunks > 40
    assert found.share < AGAIN, found
