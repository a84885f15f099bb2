"""A bench to run consumer loops on: a topic of the test's own on the real broker."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from aiokafka import AIOKafkaProducer

from pixcrawler.common import admin, events, ids, topics
from pixcrawler.common.admin import Tailed
from pixcrawler.common.context import Context
from pixcrawler.common.events import ChunkEvent, Event
from pixcrawler.common.limits import Limits
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.stage import Route, Stage
from pixcrawler.common.topics import Topic
from pixcrawler.common.watchdog import Watchdog

DEADLINE_S = 120.0
QUICK = Limits(first_wait_s=0.01, max_wait_s=0.05, watch_s=0.1, outage_s=5.0)


def new_event(topic: str) -> type[ChunkEvent]:
    """A chunk event that lives on a topic of its own."""
    name = topic

    class Ping(ChunkEvent):
        topic: ClassVar[str] = name

    return Ping


async def soon(condition: Callable[[], bool], *, within_s: float = DEADLINE_S) -> None:
    """Wait until something is so, with a deadline."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


async def soon_there(ask: Callable[[], Awaitable[bool]], *, within_s: float = DEADLINE_S) -> None:
    """The same for something that has to be asked for outside."""
    async with asyncio.timeout(within_s):
        while not await ask():
            await asyncio.sleep(0.05)


class Gate:
    """A handler that tells what it is given, and waits where the test says so."""

    def __init__(self, *, shut: bool = False) -> None:
        self.calls: list[str] = []
        self.finished: list[str] = []
        self.cancelled: list[str] = []
        self.attempts: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self._shut: set[str] = set()
        self._all_shut = shut
        self._opened = asyncio.Event()

    def shut(self, *chunks: str) -> None:
        """Hold these chunks."""
        self._shut |= set(chunks)

    def open(self) -> None:
        """Let everything through."""
        self._all_shut = False
        self._opened.set()

    async def __call__(self, event: ChunkEvent, context: Context) -> Sequence[Event]:
        """The handler."""
        self.calls.append(event.chunk_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self._all_shut or event.chunk_id in self._shut:
                await self._opened.wait()
            self.finished.append(event.chunk_id)
            self.attempts.append(context.attempt)
        except asyncio.CancelledError:
            self.cancelled.append(event.chunk_id)
            raise
        finally:
            self.at_once -= 1
        return ()


@dataclass
class Bench:
    """A topic, and what a test does with it."""

    bootstrap: str
    topic: str
    model: type[ChunkEvent]
    publisher: Publisher
    job_id: str = field(default_factory=ids.new_job_id)
    group: str = field(default_factory=lambda: f"group-{uuid.uuid4().hex[:12]}")

    def chunk(self, index: int) -> str:
        """The id of a chunk of the bench's job."""
        return ids.chunk_id(self.job_id, index)

    async def send(self, *indices: int, attempt: int = 1, partition: int | None = None) -> None:
        """Publish one event per chunk, if need be to one partition."""
        facts = [self.model(chunk_id=self.chunk(index), attempt=attempt) for index in indices]
        if partition is None:
            await self.publisher.publish(facts)
            return
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            for fact in facts:
                record = events.encode(fact, source="/test", traceparent="")
                await producer.send_and_wait(
                    self.topic, record.value, key=record.key, partition=partition
                )

    def stage(self, handler: Any, name: str = "downloader", **given: Any) -> Stage:
        """A stage of the bench's group."""
        return Stage(
            name,
            [Route(self.model, handler)],
            **{
                "bootstrap_servers": self.bootstrap,
                "worker": f"worker-{uuid.uuid4().hex[:6]}",
                "publisher": self.publisher,
                "engine": None,
                "watchdog": Watchdog(60.0),
                "session_timeout_s": 6.0,
                "drain_s": 5.0,
                "limits": QUICK,
                "group": self.group,
                **given,
            },
        )

    @asynccontextmanager
    async def running(self, *stages: Stage) -> AsyncIterator[None]:
        """Stages that run, and are stopped in the end; what they raise is raised."""
        tasks = [asyncio.create_task(stage.run()) for stage in stages]
        try:
            yield
        finally:
            await asyncio.gather(*(stage.stop() for stage in stages))
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.gather(*tasks)

    async def committed(self) -> Mapping[int, int]:
        """Where the group goes on, by partition; without those it never committed."""
        found = await admin.lag_of_group(self.bootstrap, self.group, [self.topic])
        return {each.partition: each.committed for each in found if each.committed is not None}

    async def lag(self) -> int:
        """Records that are not committed yet."""
        found = await admin.lag_of_group(self.bootstrap, self.group, [self.topic])
        return sum(each.lag for each in found)

    async def until_committed(self) -> None:
        """Wait until the group has committed everything."""

        async def is_all() -> bool:
            return await self.lag() == 0

        await soon_there(is_all)

    async def records(self, topic: str, count: int) -> list[Tailed]:
        """The first records of a topic about the bench's job, as soon as they are there."""
        found: list[Tailed] = []
        async with asyncio.timeout(DEADLINE_S):
            async for record in admin.tail(self.bootstrap, topic, job_id=self.job_id, follow=True):
                found.append(record)
                if len(found) == count:
                    break
        return found


async def new_bench(
    kafka: str, monkeypatch: pytest.MonkeyPatch, *, partitions: int = 2
) -> tuple[Bench, Publisher]:
    """A bench with a topic of its own, whose event every stage can read."""
    await admin.apply_topics(kafka)
    name = f"test.{uuid.uuid4().hex[:12]}"
    topic = Topic(name, "chunk_id", partitions, topics.DAY_MS, (), (), "of a test")
    await admin.apply_topics(kafka, wanted=[topic])
    model = new_event(name)
    monkeypatch.setitem(events.BY_TOPIC, name, model)
    publisher = Publisher(kafka, source="/test/bench")
    await publisher.start()
    return Bench(kafka, name, model, publisher), publisher
