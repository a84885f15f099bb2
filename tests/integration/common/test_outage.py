"""The consumer loop when the broker goes away, and when replicas crash again and again."""

import asyncio
import random
from collections.abc import Awaitable

import pytest

from pixcrawler.common.errors import Retry
from tests.integration.common.bench import DEADLINE_S, Gate, new_bench, soon, soon_there
from tests.stack import ProcessStack


@pytest.mark.timeout(600)
async def test_a_stage_outlives_its_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker is killed with work in hand: nothing is lost, and the process goes on."""
    async with ProcessStack().cluster() as cluster:
        bench, publisher = await new_bench(cluster.bootstrap_servers, monkeypatch)
        gate = Gate()
        gate.shut(bench.chunk(1))
        stage = bench.stage(gate)
        await bench.send(0, 1)
        async with bench.running(stage):
            await soon(lambda: gate.finished == [bench.chunk(0)] and len(gate.calls) == 2)
            [broker] = cluster.brokers
            await broker.kill()
            gate.open()
            await broker.start()
            await soon_there(lambda: _sent(bench.send(2)), within_s=4 * DEADLINE_S)
            await soon(lambda: bench.chunk(2) in gate.finished, within_s=4 * DEADLINE_S)
            await bench.until_committed()
        await publisher.stop()
    assert set(gate.finished) == {bench.chunk(index) for index in range(3)}


async def test_crashes_again_and_again(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three replicas, of which one or the other crashes all the time: every record is handled."""
    bench, publisher = await new_bench(kafka, monkeypatch, partitions=6)
    dice = random.Random(1)
    gate = Gate()
    running = [asyncio.create_task(bench.stage(gate).run()) for _ in range(3)]
    for turn in range(6):
        await bench.send(*range(turn * 50, turn * 50 + 50))
        handled = len(gate.finished)
        await soon(lambda: len(gate.finished) > handled)  # noqa: B023 - awaited within the turn
        number = dice.randrange(3)
        running[number].cancel()
        await asyncio.wait([running[number]])
        running[number] = asyncio.create_task(bench.stage(gate).run())
    await bench.until_committed()
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    await publisher.stop()
    assert set(gate.finished) == {bench.chunk(index) for index in range(300)}


async def _sent(sending: Awaitable[None]) -> bool:
    """Whether it could be published."""
    try:
        await sending
    except Retry:
        return False
    return True
