"""Stages that are paused and replicas that are drained, on a real broker and a real database."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import controls
from pixcrawler.common.controls import Kind
from pixcrawler.common.db.engine import connect
from pixcrawler.common.errors import Fatal
from pixcrawler.common.stage import Stage
from pixcrawler.common.steering import Steering
from tests.integration.common.bench import Bench, Gate, soon, soon_there


@pytest_asyncio.fixture
async def engine(module_database: str) -> AsyncIterator[AsyncEngine]:
    made = connect(module_database)
    async with made.begin() as connection:
        await connection.execute(text("TRUNCATE controls, replicas"))
    yield made
    await made.dispose()


async def begin(engine: AsyncEngine, kind: Kind, name: str, reason: str = "") -> None:
    """As the api does it."""
    async with engine.begin() as connection:
        there = controls.named(await controls.replicas(connection), name)
        instance = there[0].instance if there else ""
        assert await controls.begin(connection, kind, name, reason, instance=instance)
        assert not await controls.begin(connection, kind, name, reason, instance=instance)


async def end(engine: AsyncEngine, kind: Kind, name: str) -> None:
    """Likewise."""
    async with engine.begin() as connection:
        assert await controls.end(connection, kind, name)


async def states(engine: AsyncEngine) -> dict[str, str]:
    """How the replicas say they are."""
    async with engine.connect() as connection:
        return {each.worker: each.state for each in await controls.replicas(connection)}


def partitions(stage: Stage) -> int:
    return len(stage._consumer.assignment()) if stage._consumer else 0


def _rests(stage: Stage) -> bool:
    """Whether it has polled since it was told: the poll before may take a record still."""
    return stage._consumer is not None and bool(stage._consumer.paused())


def steered(
    bench: Bench, engine: AsyncEngine, gate: Gate, worker: str, instance: str = ""
) -> Stage:
    """A replica of the downloader."""
    return bench.stage(
        gate,
        worker=worker,
        instance=instance,
        session_timeout_s=30.0,  # so that nobody gets anything by its passing
        steering=Steering(engine, "downloader", worker),
    )


async def test_a_paused_stage(bench: Bench, engine: AsyncEngine) -> None:
    """What is in hand is finished, nothing more is taken, it stays in its group, and is ready; a
    replica that starts meanwhile takes nothing either; resumed, it goes on."""
    gate, late = Gate(shut=True), Gate()
    stage = steered(bench, engine, gate, "paused-1")
    await bench.send(0)
    async with bench.running(stage):
        await soon(lambda: len(gate.calls) == 1)
        await begin(engine, "stage", "downloader", "the proxy")
        await soon(lambda: "the proxy" in stage.note() and _rests(stage))
        await bench.send(1, 2, 3)
        gate.open()
        await soon(lambda: len(gate.finished) == 1)
        async with bench.running(steered(bench, engine, late, "paused-2")):
            await soon_there(lambda: _are(engine, {"paused-1": "paused", "paused-2": "paused"}))
            assert partitions(stage) > 0
            await stage.check()
            assert (len(gate.calls), late.calls) == (1, [])
            await end(engine, "stage", "downloader")
            await bench.until_committed()
    assert sorted(gate.finished + late.finished) == [bench.chunk(index) for index in range(4)]
    assert stage.note() == ""
    assert await states(engine) == {}


@pytest.mark.parametrize("static", [False, True])
async def test_a_drained_replica(bench: Bench, engine: AsyncEngine, static: bool) -> None:
    """It finishes what it has and leaves its group at once, also as a static member; the other one
    gets its partitions. It is alive and not ready, until it is resumed: then it has its share."""
    names = [f"drained-{static}-1", f"drained-{static}-2"]
    gates = [Gate(shut=True), Gate()]
    one, two = (
        steered(bench, engine, gate, name, instance=name if static else "")
        for gate, name in zip(gates, names, strict=True)
    )
    await bench.send(0, partition=0)
    async with bench.running(one):
        await soon(lambda: len(gates[0].calls) == 1)
        async with bench.running(two):
            await soon(lambda: partitions(one) == partitions(two) == 1)
            await begin(engine, "replica", names[0], "odd disk")
            await soon_there(lambda: _are(engine, {names[0]: "draining", names[1]: "working"}))
            gates[0].open()
            await soon(lambda: partitions(two) == 2, within_s=25.0)
            await soon_there(lambda: _are(engine, {names[0]: "drained", names[1]: "working"}))
            await bench.send(1, partition=0)
            await bench.send(2, partition=1)
            await bench.until_committed()
            assert one.alive()
            with pytest.raises(
                Fatal, match=rf"drained: {names[0]} .*\(odd disk\).* resume replica"
            ):
                await one.check()
            await end(engine, "replica", names[0])
            await soon(lambda: partitions(one) == partitions(two) == 1)
            await one.check()
    assert gates[0].finished == [bench.chunk(0)]
    assert sorted(gates[1].finished) == [bench.chunk(1), bench.chunk(2)]


async def test_a_restart_ends_a_drain(bench: Bench, engine: AsyncEngine) -> None:
    """A replica of the same name that is started anew works: the drain was of the one before it."""
    before, after = Gate(), Gate()
    first = steered(bench, engine, before, "restarted")
    async with bench.running(first):
        await soon_there(lambda: _are(engine, {"restarted": "working"}))
        await begin(engine, "replica", "restarted")
        await soon_there(lambda: _are(engine, {"restarted": "drained"}))
    async with bench.running(steered(bench, engine, after, "restarted")):
        await bench.send(0)
        await bench.until_committed()
        async with engine.connect() as connection:
            assert await controls.in_force(connection) == ()
    assert (before.calls, after.finished) == ([], [bench.chunk(0)])


async def _are(engine: AsyncEngine, wanted: dict[str, str]) -> bool:
    return await states(engine) == wanted
