"""Webhooks of the running program: a real broker, a real database, and a death in between."""

import asyncio
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks import Webhook

from pixcrawler.common import events, keys
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.db.engine import connect
from pixcrawler.common.events import JobFinished
from tests.integration.api.conftest import BODY
from tests.integration.api.test_program import DEADLINE_S, environment, free_port, program
from tests.integration.api.test_program import wait_ready as until_ready
from tests.integration.api.test_webhooks import HERE, Receiver, ended


async def _publish(kafka: str, event: JobFinished, times: int) -> None:
    record = events.encode(event, source="/test", traceparent="")
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for _ in range(times):
            await producer.send_and_wait(
                record.topic, record.value, key=record.key, headers=list(record.headers)
            )


async def _once(db: AsyncEngine, query: str) -> None:
    """Until the database says yes."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with db.connect() as connection:
                if await connection.scalar(text(query)):
                    return
            await asyncio.sleep(0.1)


async def test_a_webhook_outlives_its_api(
    fresh_kafka: str, module_database: str, api_url: str, tmp_path: Path
) -> None:
    """`job.finished`, three times over, is one delivery; the api dies after a refused attempt, and
    the next one, to which the event is replayed as well, delivers it."""
    await apply_topics(fresh_kafka, partitions=2)
    db = connect(module_database)
    async with db.begin() as connection:
        key = (await keys.create(connection, "ann", "write")).text
    port = free_port()
    told = {
        **environment(fresh_kafka, api_url, port, tmp_path),
        "PIXCRAWLER_FETCH_ALLOW_NETWORKS": HERE,
        "PIXCRAWLER_API_WEBHOOK_BACKOFF_S": "0.2",
        "PIXCRAWLER_API_WEBHOOK_TIMEOUT_S": "3",
        "PIXCRAWLER_SESSION_TIMEOUT_S": "6",
        "PIXCRAWLER_WORKER": "api-1",
    }
    base = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=30, headers={"X-API-Key": key}
    )
    async with base as client, Receiver().running() as receiver:
        receiver.answers = [500] * 1000
        async with program(told) as first:
            await until_ready(client, first)
            made = await client.post("/v1/jobs", json={**BODY, "webhook_url": receiver.url})
            job_id = made.json()["job_id"]
            await _publish(fresh_kafka, ended(job_id), 2)
            await receiver.next()
            first.kill()
            await first.wait()
        await _publish(fresh_kafka, ended(job_id), 1)
        receiver.answers = []
        while not receiver.got.empty():
            receiver.got.get_nowait()
        async with program(told) as second:
            await until_ready(client, second)
            headers, body = await receiver.next()
            secret = (await client.get("/v1/webhook-secret")).json()["secret"]
            assert Webhook(secret).verify(body, headers)["data"]["job_id"] == job_id
            await _once(db, "SELECT status = 'delivered' FROM webhook_deliveries")
            path = f"/v1/jobs/{job_id}/webhook-deliveries"
            (shown,) = (await client.get(path)).json()["items"]
            assert shown["attempts"] >= 2
            assert receiver.got.empty()
            second.terminate()
            assert await asyncio.wait_for(second.wait(), DEADLINE_S) == 0
    await db.dispose()
