"""The consumer loop when partitions move between replicas."""

from pixcrawler.common.stage import Stage
from tests.integration.common.bench import DEADLINE_S, QUICK, Bench, Gate, soon


async def joined(*stages: Stage) -> None:
    """Wait until the stages share the two partitions of the topic, one each."""
    await soon(lambda: all(len(_partitions(stage)) == 1 for stage in stages))


async def test_what_moves_waits_for_its_work(bench: Bench) -> None:
    """A replica joins in the middle of all work: nothing is begun again, and the newcomer gets its
    share as soon as the work of a partition is done; meanwhile nothing more of that is begun."""
    await bench.send(0, 1, partition=0)
    await bench.send(10, 11, partition=1)
    gate, newcomer = Gate(shut=True), Gate()
    limits = QUICK.with_in_flight(10)
    old, new = bench.stage(gate, drain_s=DEADLINE_S, limits=limits), bench.stage(newcomer)
    async with bench.running(old):
        await soon(lambda: len(gate.calls) == 4 and len(old._busy()) == 2)
        async with bench.running(new):
            await soon(lambda: len(old._leaving) == 1)
            [leaving] = old._leaving
            await bench.send(2, partition=leaving.partition)
            await bench.send(12, partition=1 - leaving.partition)
            await soon(lambda: len(gate.calls) == 5)
            gate.open()
            await joined(old, new)
            await bench.until_committed()
    assert sorted(gate.finished) == [bench.chunk(index) for index in (0, 1, 10, 11, 12)]
    assert newcomer.finished == [bench.chunk(2)]
    assert (gate.cancelled, len(gate.calls)) == ([], 5)


async def test_what_takes_too_long_moves_all_the_same(bench: Bench) -> None:
    """A newcomer waits no longer than a stop would: then the work is begun again where its
    partition went; what stays is adopted, not started twice."""
    await bench.send(0, partition=0)
    await bench.send(1, partition=1)
    gate, newcomer = Gate(shut=True), Gate(shut=True)
    old, new = bench.stage(gate, drain_s=2.0), bench.stage(newcomer)
    async with bench.running(old):
        await soon(lambda: len(gate.calls) == 2 and len(old._busy()) == 2)
        async with bench.running(new):
            await joined(old, new)
            await soon(lambda: len(newcomer.calls) == 1 and len(gate.cancelled) == 1)
            [kept] = set(gate.calls) - set(gate.cancelled)
            await soon(lambda: not old._offsets.unresumed())
            gate.open()
            newcomer.open()
            await bench.until_committed()
    assert gate.calls.count(kept) == 1
    assert gate.finished == [kept]
    assert newcomer.finished == gate.cancelled


async def test_who_drains_commits_over_a_rebalance(bench: Bench) -> None:
    """A replica joins while another one drains, which polls no more: its work is not repeated."""
    await bench.send(0, 1, partition=0)
    await bench.send(10, 11, partition=1)
    gate, newcomer = Gate(), Gate()
    gate.shut(bench.chunk(0), bench.chunk(10))
    limits = QUICK.with_in_flight(10)
    old, new = bench.stage(gate, drain_s=DEADLINE_S, limits=limits), bench.stage(newcomer)
    async with bench.running(old):
        await soon(lambda: len(gate.finished) == 2 and len(old._busy()) == 2)
        await old.stop()
        async with bench.running(new):
            await soon(lambda: len(old._leaving) == 1)
            gate.open()
            await soon(lambda: len(_partitions(new)) == 2)
            await bench.until_committed()
    assert sorted(gate.finished) == [bench.chunk(index) for index in (0, 1, 10, 11)]
    assert newcomer.calls == []


async def test_what_is_done_is_committed_on_revoke(bench: Bench) -> None:
    """A rebalance right after work was done does not repeat it, although no second has passed."""
    gate, newcomer = Gate(), Gate()
    old = bench.stage(gate)
    async with bench.running(old):
        await soon(lambda: len(_partitions(old)) == 2)
        old._committed_at = old.clock() + 3600  # only a revoke commits from here on
        await bench.send(*range(10))
        await soon(lambda: len(gate.finished) == 10)
        new = bench.stage(newcomer)
        async with bench.running(new):
            await joined(old, new)
            assert await bench.lag() == 0
    assert newcomer.calls == []
    assert len(gate.calls) == 10


async def test_a_revoke_in_the_middle_keeps_order(bench: Bench) -> None:
    """Done records behind one in hand are delivered again after a rebalance, and none is lost."""
    gate, newcomer = Gate(), Gate()
    gate.shut(bench.chunk(0), bench.chunk(10))
    newcomer.shut(bench.chunk(0), bench.chunk(10))
    await bench.send(0, 1, 2, partition=0)
    await bench.send(10, 11, 12, partition=1)
    old = bench.stage(gate)
    async with bench.running(old):
        await soon(lambda: len(gate.finished) == 4)
        new = bench.stage(newcomer)
        async with bench.running(new):
            await joined(old, new)
            assert await bench.lag() == 6
            gate.open()
            newcomer.open()
            await bench.until_committed()
    everything = {bench.chunk(index) for index in (0, 1, 2, 10, 11, 12)}
    assert set(gate.finished) | set(newcomer.finished) == everything


async def test_a_replica_that_leaves_hands_over_at_once(bench: Bench) -> None:
    """After a stop the others take over without waiting for a session to time out."""
    gate, other = Gate(), Gate()
    one, two = bench.stage(gate), bench.stage(other, session_timeout_s=20.0)
    async with bench.running(two):
        async with bench.running(one):
            await joined(one, two)
        await soon(lambda: len(_partitions(two)) == 2, within_s=10)
        await bench.send(*range(10))
        await bench.until_committed()
    assert len(other.finished) == 10


async def test_three_replicas_share_a_busy_topic(bench: Bench) -> None:
    """Replicas come and go under load; every record is handled, and the group commits it all."""
    gates = [Gate() for _ in range(3)]
    stages = [bench.stage(gate) for gate in gates]
    async with bench.running(stages[0]):
        await bench.send(*range(100))
        async with bench.running(stages[1]):
            await bench.send(*range(100, 200))
            async with bench.running(stages[2]):
                await bench.send(*range(200, 300))
                await soon(lambda: sum(len(gate.finished) for gate in gates) > 100)
            await bench.send(*range(300, 400))
        await bench.until_committed()
    done = {chunk for gate in gates for chunk in gate.finished}
    assert done == {bench.chunk(index) for index in range(400)}


def _partitions(stage: Stage) -> set[object]:
    return set(stage._offsets._partitions)
