"""Live progress on a real broker and a real server: what a client that watches a job is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from pixcrawler.api.app import create_app
from pixcrawler.api.feed import Feed, News, Watcher
from pixcrawler.api.parts import make_parts
from pixcrawler.api.server import WebServer
from pixcrawler.api.settings import Settings
from pixcrawler.common import events, topics
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.db.engine import connect
from pixcrawler.common.events import JobProgress, JobStatus, ProgressView, Revision
from pixcrawler.common.health import Health
from tests.integration.api.conftest import World

HEARTBEAT_S = 1.0
SOON_S = 30.0
CLIENTS = 500


class Sent(NamedTuple):
    """An event of a stream, or a comment."""

    name: str
    id: str
    data: Any


@dataclass
class Live:
    """A served api with its feed, and the tracker's part in it."""

    world: World
    url: str
    feed: Feed
    producer: AIOKafkaProducer
    restart: Callable[[], Any]

    async def told(
        self,
        job_id: str,
        revision: Revision,
        status: JobStatus = "running",
        valid: int = 0,
        *,
        requested: int = 9,
        quietly: bool = False,
    ) -> None:
        """Progress as the tracker shows it: the database first, then the topic."""
        await self.world.show(job_id, status, finished=revision[0], valid=valid, revision=revision)
        if quietly:
            return
        view = ProgressView.model_validate(
            {
                "job_id": job_id,
                "status": status,
                "images": {"requested": requested, "valid": valid},
            }
        )
        event = JobProgress(job_id=job_id, revision=revision, progress=view)
        record = events.encode(event, source="/tracker/test", traceparent="")
        await self.producer.send_and_wait(
            record.topic, record.value, record.key, headers=list(record.headers)
        )

    @asynccontextmanager
    async def stream(self, job_id: str, last: str = "") -> AsyncIterator[AsyncIterator[Sent]]:
        """What is sent to one who watches."""
        headers = {**self.world.client.headers, **({"Last-Event-ID": last} if last else {})}
        path = f"{self.url}/v1/jobs/{job_id}/events"
        async with (
            httpx.AsyncClient(timeout=SOON_S, headers=headers) as client,
            client.stream("GET", path) as response,
        ):
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"].startswith("text/event-stream")
            yield _sent(response)


async def _sent(response: httpx.Response) -> AsyncIterator[Sent]:
    """Events and comments, as they come."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            yield Sent("", "", None)
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Sent(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
            fields = {}


async def following(stream: AsyncIterator[Sent]) -> Sent:
    """The next event, comments left out."""
    async with asyncio.timeout(SOON_S):
        while (sent := await anext(stream)).name == "":
            pass
    return sent


async def rest(stream: AsyncIterator[Sent]) -> list[Sent]:
    """All that follows until the stream ends."""
    async with asyncio.timeout(SOON_S):
        return [sent async for sent in stream if sent.name]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(fresh_kafka: str) -> str:
    """A broker with the topics."""
    await apply_topics(fresh_kafka, partitions=2)
    return fresh_kafka


@pytest_asyncio.fixture
async def live(world: World, api_url: str, broker: str, tmp_path: Path) -> AsyncIterator[Live]:
    """An api that listens, with what the tracker does played by the test."""
    engine, blobs = connect(api_url), LocalBlobs(tmp_path / "others")
    settings = Settings(database_url=api_url, api_heartbeat_s=HEARTBEAT_S)
    feed = Feed(broker, client_id="api-test")
    parts = make_parts(
        settings, engine, blobs, Health(), feed, source="/api/test", hint=lambda: None
    )
    server = WebServer(create_app(parts), "127.0.0.1", 0, drain_s=5)
    server.listen()
    serving, reading = asyncio.create_task(server.run()), asyncio.create_task(feed.run())
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()

    async def restart() -> None:
        nonlocal reading
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        reading = asyncio.create_task(feed.run())

    try:
        yield Live(world, f"http://127.0.0.1:{server.port}", feed, producer, restart)
    finally:
        await producer.stop()
        await asyncio.gather(server.stop(), feed.stop())
        await asyncio.gather(serving, reading)
        await engine.dispose()
        await blobs.close()


async def test_a_job_from_its_beginning_to_its_end(live: Live) -> None:
    """First how it stands, then every change, the end once, and the stream ends."""
    job_id = (await live.world.job())["job_id"]
    async with live.stream(job_id) as stream:
        first = await following(stream)
        assert (first.name, first.data["status"]) == ("progress", "pending")
        assert first.data["images"]["requested"] == 2500
        for valid in (1, 2):
            await live.told(job_id, (0, 1, 0, 5, valid), valid=valid)
            sent = await following(stream)
            assert (sent.name, sent.id) == ("progress", f"0.1.0.5.{valid}")
            assert sent.data["images"]["valid"] == valid
        await live.told(job_id, (0, 1, 0, 5, 1), valid=1)  # an old one, once more
        await live.told(job_id, (1, 1, 1, 5, 9), "completed", 9)
        [last] = await rest(stream)
        assert (last.name, last.id, last.data["status"]) == ("finished", "1.1.1.5.9", "completed")
    assert live.feed.watched == 0


async def test_what_the_tracker_does_not_know_yet(live: Live) -> None:
    """Before the planner has spoken the tracker knows neither the number nor the start: a stream
    never takes back what it has said of them."""
    job_id = (await live.world.job())["job_id"]
    async with live.stream(job_id) as stream:
        first = (await following(stream)).data
        await live.told(job_id, (0, 1, 0, 0, 0), "pending", requested=0)
        second = (await following(stream)).data
    assert first["started_at"]
    for field in ("status", "images", "started_at", "progress"):
        assert second[field] == first[field]


async def test_resuming(live: Live) -> None:
    """Only what is newer than the last event; after the end there is nothing to come back for."""
    job_id = (await live.world.job())["job_id"]
    await live.told(job_id, (0, 1, 0, 5, 0), valid=3)
    async with live.stream(job_id) as stream:
        seen = await following(stream)
    await until(lambda: live.feed.watched == 0)
    async with live.stream(job_id, last=seen.id) as stream:
        assert (await anext(stream)).name == ""  # a heartbeat, and no event before it
        await live.told(job_id, (1, 1, 1, 5, 0), "completed", 3)
        [end] = await rest(stream)
        assert end.name == "finished"
    async with live.stream(job_id) as stream:
        assert [sent.name for sent in await rest(stream)] == ["finished"]
    async with httpx.AsyncClient(headers=live.world.client.headers) as client:
        path = f"{live.url}/v1/jobs/{job_id}/events"
        again = await client.get(path, headers={"Last-Event-ID": end.id})
        assert again.status_code == 204
        await live.world.client.post(f"/v1/jobs/{job_id}/chunks", params={"max_images": 5})
        async with live.stream(job_id, last=end.id) as stream:
            await live.told(job_id, (1, 2, 1, 6, 0), valid=3)
            assert (await following(stream)).data["status"] == "running"


async def test_an_id_that_is_none_of_ours(live: Live) -> None:
    """It is as if nothing had been received."""
    job_id = (await live.world.job())["job_id"]
    async with live.stream(job_id, last="1.2.x.-4") as stream:
        assert (await following(stream)).name == "progress"


async def test_an_earlier_rounds_end_is_no_end(live: Live) -> None:
    """A job that was extended goes on, even if the end of its first round is told once more."""
    job_id = (await live.world.job())["job_id"]
    await live.told(job_id, (1, 1, 1, 5, 0), "completed", 9, quietly=True)
    await live.world.client.post(f"/v1/jobs/{job_id}/chunks", params={"max_images": 5})
    async with live.stream(job_id) as stream:
        assert (await following(stream)).data["status"] == "pending"
        await live.told(job_id, (1, 1, 1, 5, 1), "completed", 9)
        await live.told(job_id, (1, 2, 1, 6, 0), valid=9)
        assert (await following(stream)).data["status"] == "running"


async def test_what_was_told_while_the_feed_began_anew(live: Live) -> None:
    """The database knows it, and the watchers look there."""
    job_id = (await live.world.job())["job_id"]
    async with live.stream(job_id) as stream:
        await following(stream)
        await live.told(job_id, (1, 1, 1, 5, 0), "completed", 9, quietly=True)
        await live.restart()
        assert [sent.name for sent in await rest(stream)] == ["finished"]


async def test_a_job_that_is_deleted(live: Live) -> None:
    """Its stream says so and ends; afterwards there is none."""
    job_id = (await live.world.job())["job_id"]
    async with live.stream(job_id) as stream:
        await following(stream)
        await live.world.client.delete(f"/v1/jobs/{job_id}")
        await live.producer.send_and_wait(topics.JOB_PROGRESS, None, job_id.encode())
        assert [sent.name for sent in await rest(stream)] == ["deleted"]
    async with httpx.AsyncClient(headers=live.world.client.headers) as client:
        assert (await client.get(f"{live.url}/v1/jobs/{job_id}/events")).status_code == 404


async def test_only_its_owner_watches_a_job(live: Live) -> None:
    """For another owner there is no such job; without a key there is nothing."""
    path = f"{live.url}/v1/jobs/{(await live.world.job())['job_id']}/events"
    async with httpx.AsyncClient() as client:
        assert (await client.get(path, headers=await live.world.key("other"))).status_code == 404
        assert (await client.get(path)).status_code == 401


async def test_stopping_ends_the_streams(live: Live) -> None:
    """Clients come back to another replica instead of waiting for this one."""
    job_id = (await live.world.job())["job_id"]
    async with live.stream(job_id) as stream:
        await following(stream)
        await live.feed.stop()
        assert await rest(stream) == []


async def test_five_hundred_clients(live: Live) -> None:
    """One process tells all of them every end."""
    jobs = [(await live.world.job())["job_id"] for _ in range(5)]
    key = live.world.client.headers["authorization"]

    async def watch(job_id: str) -> bytes:
        """Without a client library: five hundred of those would measure the library."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(live.url.split(":")[-1]))
        writer.write(
            f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: api\r\n"
            f"Authorization: {key}\r\nConnection: close\r\n\r\n".encode()
        )
        try:
            return await reader.read()
        finally:
            writer.close()

    watching = [asyncio.create_task(watch(jobs[n % len(jobs)])) for n in range(CLIENTS)]
    async with asyncio.timeout(120):
        while live.feed.watched < CLIENTS:
            await asyncio.sleep(0.05)
        for job_id in jobs:
            await live.told(job_id, (1, 1, 1, 5, 0), "completed", 9)
        answers = await asyncio.gather(*watching)
    assert [answer.count(b"event: finished") for answer in answers] == [1] * CLIENTS


async def test_the_slow_get_the_latest() -> None:
    """A watcher that does not fetch holds one piece of news, whatever comes."""
    watcher = Watcher()

    def progress(count: int) -> JobProgress:
        view = ProgressView(job_id="j", status="running")
        return JobProgress(job_id="j", revision=(0, 1, 0, 1, count), progress=view)

    watcher.tell(progress(1))
    assert await watcher.next(1) is News.LOOK  # which finds the first as well
    for count in (2, 4, 3):
        watcher.tell(progress(count))
    assert await watcher.next(1) == progress(4)
    assert await watcher.next(0.01) is News.NOTHING
    watcher.tell(News.GONE)
    watcher.tell(progress(5))
    assert [await watcher.next(1), await watcher.next(1)] == [News.GONE, News.GONE]


@pytest.mark.parametrize("value", [b"[1]", b"{}", b"\xff"])
async def test_a_record_that_nobody_can_read(live: Live, value: bytes) -> None:
    """It is passed over."""
    job_id = (await live.world.job())["job_id"]
    async with live.stream(job_id) as stream:
        await following(stream)
        await live.producer.send_and_wait(topics.JOB_PROGRESS, value, job_id.encode())
        await live.told(job_id, (0, 1, 0, 5, 1), valid=1)
        assert (await following(stream)).data["images"]["valid"] == 1
