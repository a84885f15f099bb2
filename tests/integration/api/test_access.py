"""Who may do what, and how errors look: walked over every route there is."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from pixcrawler.api.app import create_app
from pixcrawler.common import keys
from pixcrawler.common.db.engine import connect
from tests.integration.api.conftest import BODY, World
from tests.integration.api.shown import NO_JOB, ROUTES, Entry, Shown, declared, filled


def needing_a_key() -> Iterator[tuple[str, str, Entry]]:
    """Method, path and entry of every route that asks for a key."""
    for route in declared():
        method, _, path = route.partition(" ")
        if ROUTES[route].shown not in {Shown.OPEN, Shown.SIGNED}:
            yield method, path, ROUTES[route]


def is_problem(response: httpx.Response, status: int) -> bool:
    """Whether the answer is a problem document of this status."""
    if response.headers["content-type"] != "application/problem+json":
        return False
    problem = response.json()
    return bool(
        response.status_code == problem["status"] == status
        and problem["title"]
        and problem["detail"]
        and problem["type"] == "about:blank"
        and problem["instance"].startswith("/")
    )


async def test_no_route_without_a_key(world: World) -> None:
    """Without a key, or with one that is not valid, every route is 401."""
    job_id = (await world.job())["job_id"]
    revoked = await world.key("gone")
    async with world.db.begin() as connection:
        await keys.revoke(connection, revoked["Authorization"].split("_")[1])
    wrong = (
        {"Authorization": ""},
        {"Authorization": "Bearer pxc_1_2"},
        {"Authorization": "Basic eDp5"},
        revoked,
    )
    for method, path, entry in needing_a_key():
        asked = filled(path, job_id) + entry.query
        for headers in wrong:
            response = await world.client.request(method, asked, headers=headers)
            assert is_problem(response, 401), (method, path, headers, response.text)
            assert response.headers["www-authenticate"].startswith("Bearer")


async def test_scopes(world: World) -> None:
    """A key that may read cannot change anything; X-API-Key is as good as Authorization."""
    job_id = (await world.job())["job_id"]
    async with world.db.connect() as connection:
        owner = await connection.scalar(
            text("SELECT owner FROM crawl_jobs WHERE job_id = :id"), {"id": job_id}
        )
    reader = (await world.key(str(owner), "read"))["Authorization"].removeprefix("Bearer ")
    headers = {"Authorization": "", "X-API-Key": reader}
    await world.show(job_id, "completed", finished=1)  # so that a stream of events ends
    for method, path, entry in needing_a_key():
        response = await world.client.request(
            method,
            filled(path, job_id) + entry.query,
            headers=headers,
            json=dict(BODY) if (method, path) == ("POST", "/v1/jobs") else entry.body,
        )
        if method == "GET" and not entry.secret:
            assert response.status_code in {200, 404}, (path, response.text)
        else:
            assert is_problem(response, 403), (method, path, response.text)


async def test_a_key_is_remembered_as_used(world: World) -> None:
    """The time of the last use is kept, to the minute."""
    await world.get("/v1/sources")
    key_id = world.client.headers["Authorization"].split("_")[1]
    async with world.db.connect() as connection:
        used = await connection.scalar(
            text("SELECT last_used_at FROM api_keys WHERE key_id = :id"), {"id": key_id}
        )
    assert used is not None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 404),
        ("POST", "/", 405),
        ("GET", "/v2/jobs", 404),
        ("GET", "/v1/jobs/", 404),
        ("GET", "/v1/jobs/unknown", 404),
        ("GET", "/v1/jobs/%00", 404),
        ("GET", "/v1/jobs/0198c5a0-0000-7000-8000-000000000000", 404),
        ("PUT", "/v1/jobs", 405),
        ("DELETE", "/v1/sources", 405),
        ("GET", "/v1/jobs?limit=x", 422),
        ("GET", "/v1/capacity?required_chunks=-1", 422),
    ],
)
async def test_every_error_is_a_problem(world: World, method: str, path: str, status: int) -> None:
    """Unknown paths, wrong methods and wrong values answer as problems."""
    response = await world.client.request(method, path)
    assert is_problem(response, status), response.text
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'"x"', b"", b'{"keywords": ["\\ud800"]}'])
async def test_bodies_that_are_none(world: World, body: bytes) -> None:
    """What is not a JSON object is a problem too."""
    response = await world.client.post(
        "/v1/jobs", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code in {400, 422}
    assert is_problem(response, response.status_code), response.text


@pytest.mark.parametrize("declared", [True, False])
async def test_too_large_a_body(world: World, declared: bool) -> None:
    """A body above the limit is refused, whether its length was declared or not."""
    urls = [f"http://host/{'x' * 1000}/{index}" for index in range(2000)]
    request = world.client.build_request("POST", "/v1/jobs", json={"urls": urls})

    async def pieces() -> Any:
        for start in range(0, len(request.content), 1 << 16):
            yield request.content[start : start + (1 << 16)]

    response = await world.client.post(
        "/v1/jobs",
        content=request.content if declared else pieces(),
        headers={"Content-Type": "application/json"},
    )
    assert is_problem(response, 413), response.text


async def test_an_unexpected_error_is_a_problem(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug answers 500 without telling what is inside, and the log says what."""

    app = create_app(world.app.state.parts)

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("secret")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with caplog.at_level(logging.ERROR):
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            response = await client.get("/broken", headers=world.client.headers)
    assert is_problem(response, 500)
    assert "secret" not in response.text
    assert response.headers["x-request-id"]


async def test_a_database_that_is_away_is_503(world: World) -> None:
    """While the database is away the answer is: try again."""
    parts = world.app.state.parts
    nowhere = connect("postgresql+asyncpg://nobody@127.0.0.1:9/none")
    app = create_app(type(parts)(**{**vars(parts), "engine": nowhere}))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        client.headers.update(world.client.headers)
        response = await asyncio.wait_for(client.get("/v1/sources"), 20)
    await nowhere.dispose()
    assert is_problem(response, 503)
    assert response.headers["retry-after"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/jobs", "GET, POST"),
        (f"/v1/jobs/{NO_JOB}", "DELETE, GET, PATCH"),
        (f"/v1/jobs/{NO_JOB}/chunks", "GET, POST"),
        ("/v1/webhook-secret", "GET, POST"),
        ("/v1/files/a/b", "GET, HEAD"),
        ("/", "GET, HEAD"),
    ],
)
async def test_what_may_be_done_instead(world: World, path: str, methods: str) -> None:
    """405 names every method of the path, whichever route has it."""
    for method in ("PUT", "OPTIONS"):
        response = await world.client.request(method, path)
        assert is_problem(response, 405)
        assert response.headers["allow"] == methods


async def test_the_instance_is_a_uri(world: World) -> None:
    """Whatever was asked for: RFC 9457 wants a URI reference."""
    response = await world.client.get("/v1/jobs/%F3%8A%95%95%02 x/start%3F")
    assert is_problem(response, 404)
    assert response.json()["instance"] == "/v1/jobs/%F3%8A%95%95%02%20x/start%3F"


async def test_request_ids(world: World) -> None:
    """A sane id of the caller's is kept, anything else is replaced; no cross-origin headers."""
    kept = await world.client.get("/healthz", headers={"X-Request-ID": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    replaced = await world.client.get(
        "/healthz", headers={"X-Request-ID": "a b", "Origin": "https://evil.example"}
    )
    assert len(replaced.headers["x-request-id"]) == 32
    assert not [name for name in replaced.headers if name.startswith("access-control")]
