"""An api on a real database and a real folder; tests play the services around it."""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import insert, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.api.app import create_app
from pixcrawler.api.feed import Feed
from pixcrawler.api.parts import Parts, make_parts
from pixcrawler.api.settings import Settings
from pixcrawler.common import ids, keys
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.roles import ensure_roles, service_url
from pixcrawler.common.db.tables import job_chunks, job_progress, job_rounds
from pixcrawler.common.events import Event, ProgressImages, ProgressView, Revision, decode
from pixcrawler.common.health import Health

PASSWORD = "api's own"
BODY: Mapping[str, Any] = {"keywords": ["red panda"], "max_images": 2500}


class Clock:
    """A wall clock that a test can move."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@dataclass
class World:
    """The api, and everything around it as the superuser."""

    app: FastAPI
    client: httpx.AsyncClient
    db: AsyncEngine
    blobs: LocalBlobs
    clock: Clock
    hints: list[None] = field(default_factory=list)

    async def key(self, owner: str, scope: str = "write") -> dict[str, str]:
        """Headers with a new key of this owner."""
        async with self.db.begin() as connection:
            created = await keys.create(connection, owner, scope)
        return {"Authorization": f"Bearer {created.text}"}

    async def job(self, **body: Any) -> dict[str, Any]:
        """A new job, as the api answers."""
        response = await self.client.post("/v1/jobs", json={**BODY, **body})
        assert response.status_code == 202, response.text
        return dict(response.json())

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """A document."""
        response = await self.client.get(path, params=params)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def events(self, job_id: str) -> list[Event]:
        """What the outbox has about a job, in order."""
        async with self.db.connect() as connection:
            rows = await connection.execute(
                text("SELECT topic, key, value, headers FROM outbox WHERE key = :key ORDER BY id"),
                {"key": job_id.encode()},
            )
            return [
                decode(row.topic, row.key, row.value, [(n, v.encode()) for n, v in row.headers])
                for row in rows
            ]

    async def requests(self, job_id: str) -> list[tuple[int, str, int, object]]:
        """The job's requests: round, kind, images, chunk ids."""
        async with self.db.connect() as connection:
            rows = await connection.execute(
                text("""
                    SELECT round, kind, images, chunk_ids FROM job_requests
                    WHERE job_id = :job_id ORDER BY round"""),
                {"job_id": job_id},
            )
            return [tuple(row) for row in rows]

    async def plan(self, job_id: str, *statuses: str, **columns: Any) -> list[str]:
        """Chunks with these statuses, as the planner would have made them."""
        made = [ids.chunk_id(job_id, index) for index in range(len(statuses))]
        async with self.db.begin() as connection:
            for index, status in enumerate(statuses):
                await connection.execute(
                    insert(job_chunks).values(
                        chunk_id=made[index],
                        job_id=job_id,
                        chunk_index=index,
                        status=status,
                        image_range={"start": index * 500, "end": index * 500 + 499},
                        slices=[],
                        **columns,
                    )
                )
        return made

    async def change_chunk(self, chunk_id: str, **columns: Any) -> None:
        """A chunk's row, as the planner would change it."""
        async with self.db.begin() as connection:
            await connection.execute(
                update(job_chunks).where(job_chunks.c.chunk_id == chunk_id).values(**columns)
            )

    async def close_round(self, job_id: str, number: int) -> None:
        """A round is over, as the planner decides."""
        async with self.db.begin() as connection:
            await connection.execute(
                insert(job_rounds).values(
                    job_id=job_id, round=number, cursors=[], closed_at=self.clock()
                )
            )

    async def show(
        self,
        job_id: str,
        status: str,
        *,
        finished: int,
        valid: int = 0,
        revision: Revision | None = None,
    ) -> None:
        """A job's progress, as the tracker would write it."""
        view = ProgressView.model_validate(
            {
                "job_id": job_id,
                "status": status,
                "progress": 100.0 if finished else 50.0,
                "images": ProgressImages(requested=2500, candidates=2500, valid=valid),
                "finished_at": self.clock() if finished else None,
                "updated_at": self.clock(),
            }
        )
        row = {
            "revision": list(revision or (finished, max(finished, 1), finished, 5, 0)),
            "progress": view.model_dump(mode="json"),
        }
        async with self.db.begin() as connection:
            await connection.execute(
                text("DELETE FROM job_progress WHERE job_id = :job_id"), {"job_id": job_id}
            )
            await connection.execute(insert(job_progress).values(job_id=job_id, **row))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api_url(module_database: str) -> str:
    """The module's database, as the api's role."""
    await ensure_roles(module_database, {"api": PASSWORD})
    return service_url(module_database, "api", PASSWORD)


@pytest.fixture(scope="session")
def app_over() -> Callable[[Parts], FastAPI]:
    """The application over a test's parts. It is one: before its first answer it works out what
    all of its routes depend on, which takes 50 ms of a core."""
    made: list[FastAPI] = []

    def over(parts: Parts) -> FastAPI:
        if not made:
            made.append(create_app(parts))
        made[0].state.parts = parts
        return made[0]

    return over


@pytest_asyncio.fixture
async def world(
    module_database: str, api_url: str, tmp_path: Path, app_over: Callable[[Parts], FastAPI]
) -> AsyncIterator[World]:
    """The api as its own role; the client has the key of an owner of the test's own."""
    engine, db = connect(api_url), connect(module_database)
    blobs, clock, hints = LocalBlobs(tmp_path / "blobs"), Clock(), list[None]()
    settings = Settings(database_url=api_url, api_body_limit_bytes=1 << 20)
    parts = make_parts(
        settings,
        engine,
        blobs,
        Health(),
        Feed("", client_id="never runs"),
        source="/api/test",
        hint=lambda: hints.append(None),
        now=clock,
    )
    app = app_over(parts)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        made = World(app, client, db, blobs, clock, hints)
        client.headers.update(await made.key(f"owner-{uuid.uuid4().hex}"))
        yield made
    await blobs.close()
    await engine.dispose()
    await db.dispose()
