"""The api dies at each point that no job gets to, by its own hand: who asks again gets it once."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks import Webhook

from pixcrawler.common import events, ids, keys, names
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.db.engine import connect
from pixcrawler.common.events import JobFinished
from pixcrawler.common.failpoints import DIED, UNKNOWN
from pixcrawler.common.url_lists import ListedRow, read_rows
from pixcrawler.uploader.sweep import Sweeper
from tests.integration.api.conftest import BODY
from tests.integration.api.forked import DEADLINE_S, ended, forked, ready
from tests.integration.api.test_program import environment, free_port
from tests.integration.api.test_webhooks import HERE, Receiver
from tests.integration.api.test_webhooks import ended as round_ended

LIST = b"url\nhttp://a/1\nftp://a/2\nhttp://a/3\n"
ROWS = (ListedRow("http://a/1"), ListedRow("http://a/3"))


def around(*effects: str) -> tuple[str, ...]:
    """Before and after these."""
    return tuple(f"api.{when}:{effect}" for effect in effects for when in ("before", "after"))


UPLOAD = around("rows", "rejected", "upload")
"""The objects of a list, the row that stands for them."""
REPEATED = around("erase")
"""What a repetition has brought goes away again."""
DELETE = around("delete_list")
DELIVERY = around("webhook", "lend", "secret", "settle")
"""A webhook is stored, taken, signed for the first time, and what became of it is noted."""
CHANGE = around("change_secret")
USE = around("used")
"""When a key was used is noted."""
WISHES = around("control", "prioritize", "give_up_chunk")
"""What operators want is a row, and a line in the audit log."""
START = around("bury")
"""What is done at a start: tombstones go."""

ALONE = frozenset((*UPLOAD, *REPEATED, *DELETE, *DELIVERY, *CHANGE, *USE, *WISHES, *START))
"""All of them: the api has them alone."""


class Api(NamedTuple):
    """An api that is started again and again, and what is around it."""

    told: Mapping[str, str]
    client: httpx.AsyncClient
    kafka: str
    db: AsyncEngine
    blobs: LocalBlobs
    points: Path

    @property
    def log(self) -> Path:
        """Where it writes."""
        return self.points.with_name("api.log")

    async def dies(self, point: str, do: Callable[[], Awaitable[object]] | None = None) -> None:
        """Start it, do something, and it is gone at this point."""
        armed = self.points / point
        armed.touch()
        async with forked(self.told, self.log) as process:
            if do is not None:
                await ready(self.client, process)
                with suppress(httpx.TransportError):  # nobody answers
                    await do()
            assert await ended(process) == -signal.SIGKILL, point
        assert (self.points / f"{point}{DIED}").exists(), point

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[httpx.AsyncClient]:
        """Start it; it is killed at the end, as always."""
        async with forked(self.told, self.log) as process:
            await ready(self.client, process)
            yield self.client

    async def value(self, query: str) -> Any:
        """What the database says."""
        async with self.db.connect() as connection:
            return await connection.scalar(text(query))

    async def until(self, query: str) -> None:
        """Wait until the database says yes."""
        async with asyncio.timeout(DEADLINE_S):
            while not await self.value(query):
                await asyncio.sleep(0.05)

    async def change(self, statement: str) -> None:
        """As time would."""
        async with self.db.begin() as connection:
            await connection.execute(text(statement))

    async def finish(self, event: JobFinished, times: int = 1) -> None:
        """Say that a round is over."""
        record = events.encode(event, source="/test", traceparent="")
        async with AIOKafkaProducer(bootstrap_servers=self.kafka) as producer:
            for _ in range(times):
                await producer.send_and_wait(
                    record.topic, record.value, key=record.key, headers=list(record.headers)
                )

    async def objects(self) -> list[str]:
        """Those of lists that are there after the uploader has swept."""
        sweeper = Sweeper(
            self.blobs,
            self.db,
            deleted_for=timedelta(days=1),
            unknown_for=timedelta(0),
            now=lambda: datetime.now(UTC) + timedelta(minutes=1),
        )
        await sweeper.sweep_all()
        return [found.name async for found in self.blobs.list(names.LISTS)]


@pytest_asyncio.fixture
async def api(
    fresh_kafka: str, module_database: str, api_url: str, tmp_path: Path
) -> AsyncIterator[Api]:
    """An api that nobody has started, and a key that nobody has used."""
    await apply_topics(fresh_kafka, partitions=2)
    db, blobs, points = connect(module_database), LocalBlobs(tmp_path / "blobs"), tmp_path / "die"
    points.mkdir()
    async with db.begin() as connection:
        key = (await keys.create(connection, tmp_path.name, "admin")).text
    port = free_port()
    told = {
        **environment(fresh_kafka, api_url, port, tmp_path / "blobs"),
        "PIXCRAWLER_FETCH_ALLOW_NETWORKS": HERE,
        "PIXCRAWLER_API_WEBHOOK_BACKOFF_S": "0.2",
        "PIXCRAWLER_API_WEBHOOK_POLL_S": "0.2",
        "PIXCRAWLER_API_WEBHOOK_TIMEOUT_S": "3",
        "PIXCRAWLER_SESSION_TIMEOUT_S": "6",
        "PIXCRAWLER_WORKER": "api-1",  # a static member: who comes back need not wait for itself
        "PIXCRAWLER_FAILPOINTS": str(points),
    }
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, timeout=30, headers={"X-API-Key": key}) as client:
        yield Api(told, client, fresh_kafka, db, blobs, points)
    assert list(points.glob(f"*{UNKNOWN}")) == []
    await blobs.close()
    await db.dispose()


async def test_an_upload_that_dies_is_one_list(api: Api) -> None:
    """Sent again and again with its key, it is there once, whole; and deleted it is gone."""

    async def upload() -> httpx.Response:
        return await api.client.post(
            "/v1/url-lists",
            content=LIST,
            params={"name": "list.csv"},
            headers={"Idempotency-Key": "one"},
        )

    for point in (*USE, *UPLOAD, *REPEATED):
        await api.dies(point, upload)
    async with api.alive() as client:
        made = await upload()
        assert made.status_code == 201, made.text
        shown = (await client.get("/v1/url-lists")).json()["items"]
        assert shown == [made.json()]
    found = str(made.json()["id"])
    assert {name.split("/")[1] for name in await api.objects()} == {found}
    assert await read_rows(api.blobs, found, 0, 9) == ROWS

    for point in DELETE:
        await api.dies(point, lambda: api.client.delete(f"/v1/url-lists/{found}"))
    async with api.alive() as client:
        assert (await client.delete(f"/v1/url-lists/{found}")).status_code == 404  # it is gone
        assert (await client.get("/v1/url-lists")).json()["items"] == []
    assert await api.objects() == []


async def test_a_webhook_outlives_its_api(api: Api) -> None:
    """`job.finished`, three times over, is one delivery with one id, however often the api dies; a
    receiver hears of it again where the api was dead before its answer was noted."""
    async with Receiver().running() as receiver:
        async with api.alive() as client:
            made = await client.post("/v1/jobs", json={**BODY, "webhook_url": receiver.url})
            job_id = made.json()["job_id"]
        await api.finish(round_ended(job_id), 2)
        receiver.answers = [200, 500]  # the first is never noted
        for point in DELIVERY:
            await api.dies(point)  # by itself, perhaps before it is ready
            await api.change("UPDATE webhook_deliveries SET not_before = now()")  # no longer lent
        await api.finish(round_ended(job_id))
        async with api.alive() as client:
            await api.until("SELECT status = 'delivered' FROM webhook_deliveries")
            secret = (await client.get("/v1/webhook-secret")).json()["secret"]
            path = f"/v1/jobs/{job_id}/webhook-deliveries"
            (shown,) = (await client.get(path)).json()["items"]
        heard = [receiver.got.get_nowait() for _ in range(receiver.got.qsize())]
    told = [Webhook(secret).verify(body, headers)["data"]["job_id"] for headers, body in heard]
    assert told == [job_id] * 3
    assert {headers["webhook-id"] for headers, _ in heard} == {shown["webhook_id"]}
    assert shown["attempts"] == 6  # three of which nobody heard: lent, and then gone


async def test_a_secret_is_changed_once(api: Api) -> None:
    """Asked again with its key: the secret before it signs as well, and is the first one."""

    async def change() -> httpx.Response:
        return await api.client.post("/v1/webhook-secret", headers={"Idempotency-Key": "one"})

    async with api.alive() as client:
        first = (await client.get("/v1/webhook-secret")).json()["secret"]
    for point in CHANGE:
        await api.dies(point, change)
    async with api.alive() as client:
        second = (await change()).json()["secret"]
        assert (await client.get("/v1/webhook-secret")).json()["secret"] == second
    assert second != first
    previous = await api.value(
        "SELECT 'whsec_' || encode(previous, 'base64') FROM webhook_secrets "
        "ORDER BY created_at DESC LIMIT 1"
    )
    assert previous == first


async def test_a_wish_is_written_once(api: Api) -> None:
    """However often it is asked for: what is wanted is so, and the audit log has one line of it."""
    async with api.alive() as client:
        job_id = (await client.post("/v1/jobs", json=dict(BODY))).json()["job_id"]
    chunk = ids.chunk_id(job_id, 0)
    await api.change(
        "INSERT INTO job_chunks (chunk_id, job_id, chunk_index, status, image_range, slices) "
        f"VALUES ('{chunk}', '{job_id}', 0, 'pending', "
        "jsonb_build_object('start', 0, 'end', 9), '[]')"
    )
    wishes = {
        "control": partial(api.client.post, "/v1/stages/downloader/pause"),
        "prioritize": partial(api.client.patch, f"/v1/jobs/{job_id}", json={"priority": 9}),
        "give_up_chunk": partial(api.client.post, f"/v1/jobs/{job_id}/chunks/0/give-up"),
    }
    for point in WISHES:
        await api.dies(point, wishes[point.rpartition(":")[2]])
    async with api.alive() as client:
        for wish in wishes.values():
            assert (await wish()).status_code in {200, 202}
        lines = (await client.get("/v1/audit")).json()["items"]
    wished = ("stage.pause", "job.priority", "chunk.give_up")
    done = Counter(line["action"] for line in lines if line["action"] in wished)
    assert done == Counter(wished)
    assert await api.value("SELECT count(*) FROM controls WHERE name = 'downloader'") == 1
    assert await api.value(f"SELECT priority FROM crawl_jobs WHERE job_id = '{job_id}'") == 9
    assert await api.value(f"SELECT count(*) FROM given_up_chunks WHERE job_id = '{job_id}'") == 1


async def test_tombstones_go(api: Api) -> None:
    """Whoever died while it removed them, the next one does."""
    async with api.alive() as client:
        job_id = (await client.post("/v1/jobs", json=dict(BODY))).json()["job_id"]
    await api.change(
        f"UPDATE crawl_jobs SET deleted_at = now() - interval '99 days' WHERE job_id = '{job_id}'"
    )
    there = f"SELECT count(*) FROM crawl_jobs WHERE job_id = '{job_id}'"
    before, after = START
    await api.dies(before)
    assert await api.value(there) == 1
    await api.dies(after)
    assert await api.value(there) == 0
