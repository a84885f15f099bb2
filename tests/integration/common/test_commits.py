"""No commit ever passes an unfinished record: a model against the real broker.

Members of a group are processes that join, leave, and are killed, by a seeded schedule, while
their handlers end in random order. What is finished is in a ledger that outlives them. The
committed offsets are read again and again: first the broker's, then the ledger, so that whatever
is committed must be in it.
"""

import asyncio
import random
import signal
import sys
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from pixcrawler.common import ids
from tests.integration.common.bench import DEADLINE_S, Bench, new_bench, soon, soon_there

PARTITIONS = 4
STEPS = 10
RECORDS = 60
"""Published with each step."""
MEMBERS = 3
ROOT = Path(__file__).parents[3]


@pytest_asyncio.fixture
async def wide(kafka: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A topic of the test's own with more partitions than members."""
    made, publisher = await new_bench(kafka, monkeypatch, partitions=PARTITIONS)
    yield made
    await publisher.stop()


class Group:
    """A consumer group whose members are processes, and what they have done."""

    def __init__(self, bench: Bench, ledger: Path, choose: random.Random) -> None:
        self.members: list[Process] = []
        self.killed = self.left = self.joined = 0
        self._bench = bench
        self._ledger = ledger
        self._choose = choose
        ledger.touch()

    async def join(self) -> None:
        """One more member."""
        bench = self._bench
        told = (bench.bootstrap, bench.topic, bench.group, self._ledger, self._choose.random())
        with self._ledger.with_name("members.log").open("ab") as output:
            member = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.integration.common.member", *map(str, told)),
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )
        self.members.append(member)
        self.joined += 1

    async def leave(self) -> None:
        """One member less, by SIGTERM: it ends as it should."""
        member = self._any()
        member.terminate()
        async with asyncio.timeout(DEADLINE_S):
            assert await member.wait() in (0, -signal.SIGTERM)  # it may not have begun yet
        self.left += 1

    async def kill(self) -> None:
        """One member less, by SIGKILL."""
        member = self._any()
        member.kill()
        await member.wait()
        self.killed += 1

    def _any(self) -> Process:
        return self.members.pop(self._choose.randrange(len(self.members)))

    def done(self) -> set[str]:
        """The chunks that a handler has finished."""
        return set(self._ledger.read_text().split())

    async def end(self) -> None:
        """All of them, at once."""
        for member in self.members:
            with suppress(ProcessLookupError):
                member.kill()
        await asyncio.gather(*(member.wait() for member in self.members))


class Watcher:
    """Compares what is committed with what is done, as often as the broker answers."""

    def __init__(self, bench: Bench, group: Group) -> None:
        self.looks = 0
        self.committed: dict[int, int] = {}
        self.log: dict[int, list[str]] = defaultdict(list)
        self.pending_at_most = 0
        self._bench = bench
        self._group = group

    async def run(self) -> None:
        """Until cancelled."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bench.bootstrap)
        reader = AIOKafkaConsumer(
            bootstrap_servers=self._bench.bootstrap, auto_offset_reset="earliest"
        )
        await admin.start()
        await reader.start()
        reader.assign([TopicPartition(self._bench.topic, n) for n in range(PARTITIONS)])
        try:
            while True:
                try:
                    found = await admin.list_consumer_group_offsets(self._bench.group)
                except GroupCoordinatorNotAvailableError:
                    continue  # nobody has joined a group yet
                done = self._group.done()
                await self._read(reader)
                self._compare({tp.partition: at.offset for tp, at in found.items()}, done)
                await asyncio.sleep(0)
        finally:
            await reader.stop()
            await admin.close()

    async def _read(self, reader: AIOKafkaConsumer) -> None:
        """What the log holds by now."""
        for tp, batch in (await reader.getmany(timeout_ms=5)).items():
            for record in batch:
                assert record.offset == len(self.log[tp.partition])
                self.log[tp.partition].append(record.key.decode())

    def _compare(self, committed: Mapping[int, int], done: set[str]) -> None:
        self.looks += 1
        for partition, position in committed.items():
            if position < 0 or position > len(self.log[partition]):
                continue  # never committed; or the log is read a moment later
            unfinished = [key for key in self.log[partition][:position] if key not in done]
            assert not unfinished, f"committed {position} of {partition} before {unfinished}"
            assert position >= self.committed.get(partition, 0), "a commit went back"
            self.committed[partition] = position
            beyond = [key for key in self.log[partition][position:] if key in done]
            self.pending_at_most = max(self.pending_at_most, len(beyond))


@pytest.mark.parametrize("seed", [11])
async def test_no_commit_passes_an_unfinished_record(
    wide: Bench, tmp_path: Path, seed: int
) -> None:
    """Joins, leaves and kills, handlers in any order: committed is never past what is done."""
    choose = random.Random(seed)
    group = Group(wide, tmp_path / "ledger", choose)
    watcher = Watcher(wide, group)
    watching = asyncio.create_task(watcher.run())
    try:
        await group.join()
        for step in range(STEPS):
            some = (
                len(group.done()) + RECORDS // 2
            )  # before the step: it may take until all is done
            await wide.send(*range(step * RECORDS, (step + 1) * RECORDS))
            await _step(group, choose)
            await soon(lambda some=some: watching.done() or len(group.done()) >= some)  # type: ignore[misc]
            if watching.done():
                break
        await soon_there(lambda: _over(wide, watching))
        if watching.done():
            await watching
        await soon(lambda: watching.done() or sum(watcher.committed.values()) == STEPS * RECORDS)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await group.end()
    if not watching.cancelled():
        watching.result()
    assert group.done() == {ids.chunk_id(wide.job_id, n) for n in range(STEPS * RECORDS)}
    assert watcher.looks > STEPS
    assert watcher.pending_at_most > 0  # or nothing was ever done out of order
    assert min(group.killed, group.left, group.joined) > 0


async def _step(group: Group, choose: random.Random) -> None:
    """A member joins, leaves, or is killed; one at least stays."""
    acts = [group.join] if len(group.members) < MEMBERS else []
    if len(group.members) > 1:
        acts += [group.leave, group.kill]
    await choose.choice(acts)()


async def _over(bench: Bench, watching: asyncio.Task[None]) -> bool:
    return watching.done() or await bench.lag() == 0
