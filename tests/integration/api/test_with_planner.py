"""The api and the planner as programs, over a real broker and database: they agree."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from pixcrawler.common import keys
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.roles import ensure_roles, service_url
from tests.integration.api.conftest import BODY
from tests.integration.api.test_program import (
    DEADLINE_S,
    environment,
    free_port,
    program,
    wait_ready,
)

SERVICES = ("api", "planner")


async def until(
    look: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool], *, deadline_s: float
) -> Any:
    """What `look` sees as soon as it holds."""
    async with asyncio.timeout(deadline_s):
        while not holds(seen := await look()):
            await asyncio.sleep(0.1)
        return seen


async def test_from_start_to_cancelled(
    fresh_kafka: str, module_database: str, tmp_path: Path
) -> None:
    """`start` names the chunks that the planner makes; cancelling ends them and closes the round,
    also of a job that was never started; what is over cannot be cancelled again."""
    await apply_topics(fresh_kafka, partitions=2)
    await ensure_roles(module_database, dict.fromkeys(SERVICES, "pw"))
    engine = connect(module_database)
    async with engine.begin() as connection:
        key = (await keys.create(connection, "ann", "write")).text
    await engine.dispose()
    ports = {service: free_port() for service in SERVICES}
    told = {
        service: environment(
            fresh_kafka, service_url(module_database, service, "pw"), ports[service], tmp_path
        )
        for service in SERVICES
    }
    async with (
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{ports['api']}", headers={"X-API-Key": key}, timeout=30
        ) as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['planner']}") as planner_client,
        program(told["api"]) as api,
        program(told["planner"], "pixcrawler.planner") as planner,
    ):
        await wait_ready(client, api)
        await wait_ready(planner_client, planner)

        async def get(path: str) -> dict[str, Any]:
            return dict((await client.get(path)).raise_for_status().json())

        job = (await client.post("/v1/jobs", json={**BODY, "start": False})).json()
        path = f"/v1/jobs/{job['job_id']}"
        started = (await client.post(f"{path}/start")).json()
        chunks = await until(
            lambda: get(f"{path}/chunks"),
            lambda page: [c["status"] for c in page["items"]] == ["processing"] * 5,
            deadline_s=DEADLINE_S,
        )
        assert [chunk["chunk_id"] for chunk in chunks["items"]] == started["chunk_ids"]
        spans = [(c["image_range"]["start"], c["image_range"]["end"]) for c in chunks["items"]]
        assert spans == [(0, 499), (500, 999), (1000, 1499), (1500, 1999), (2000, 2499)]
        assert chunks["items"][0]["attempts"][0]["stage"] == "downloader"
        assert (await get("/v1/capacity"))["active_chunks"] == 5

        unstarted = (await client.post("/v1/jobs", json={**BODY, "start": False})).json()
        for job_id in (job["job_id"], unstarted["job_id"]):
            cancel = f"/v1/jobs/{job_id}/cancel"
            assert (await client.post(cancel)).status_code == 202

            async def again(cancel: str = cancel) -> int:
                return (await client.post(cancel)).status_code

            await until(again, lambda status: status == 409, deadline_s=DEADLINE_S)
        ended = (await get(f"{path}/chunks"))["items"]
        assert {(c["status"], c["error_message"]) for c in ended} == {("failed", "cancelled")}
        assert (await get(path))["failed_chunks"] == 5
