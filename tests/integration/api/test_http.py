"""What HTTP itself offers: tags of answers, other origins, where a new job is."""

import httpx
import pytest
from pydantic import ValidationError

from pixcrawler.api import etags
from pixcrawler.api.app import create_app
from pixcrawler.api.settings import Settings
from tests.integration.api.conftest import BODY, World

PAGE = "https://lab.example"


@pytest.mark.parametrize("what", ["", "/progress"])
async def test_nothing_new_is_304(world: World, what: str) -> None:
    """With the tag of the last answer only news is sent; a change gives another tag."""
    job_id = (await world.job())["job_id"]
    path = f"/v1/jobs/{job_id}{what}"
    first = await world.client.get(path)
    tag = first.headers["etag"]
    assert first.status_code == 200
    assert first.headers["cache-control"] == "private, no-cache"
    for asked in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        same = await world.client.get(path, headers={"If-None-Match": asked})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag), asked
    assert (await world.client.get(path, headers={"If-None-Match": '"x"'})).content == first.content
    await world.show(job_id, "running", finished=0, valid=7)
    changed = await world.client.get(path, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.headers["etag"] != tag) == (200, True)
    stranger = await world.key("a stranger")
    hidden = await world.client.get(path, headers={**stranger, "If-None-Match": "*"})
    assert hidden.status_code == 404


def test_tags_are_compared_whole() -> None:
    """A part of a tag is no tag."""
    assert not etags.matches(["abc"], '"abc"')
    assert not etags.matches([], '"abc"')
    assert etags.matches(['"x"', 'W/"abc"'], '"abc"')


async def test_a_new_job_says_where_it_is(world: World) -> None:
    """`Location` leads to the job."""
    made = await world.client.post("/v1/jobs", json=dict(BODY))
    assert await world.get(made.headers["location"]) == made.json()


async def _asked_from(world: World, origin: str, *origins: str) -> tuple[httpx.Response, ...]:
    """A preflight and a request from a page of this origin, where these may ask."""
    parts = world.app.state.parts
    settings = parts.settings.model_copy(update={"api_cors_origins": origins})
    app = create_app(type(parts)(**{**vars(parts), "settings": settings}))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {**world.client.headers, "Origin": origin}
    asking = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, idempotency-key, content-type",
    }
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        return (
            await client.options("/v1/jobs", headers=asking),
            await client.get("/v1/jobs/none", headers=headers),
        )


async def test_pages_of_origins_that_are_set(world: World) -> None:
    """They may ask, and read what they need of the answer, errors too; cookies play no part."""
    preflight, request = await _asked_from(world, PAGE, PAGE, "https://other.example")
    assert preflight.status_code == 200
    assert request.status_code == 404
    for answer in (preflight, request):
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in answer.headers
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in ("authorization", "idempotency-key", "x-api-key"))
    exposed = request.headers["access-control-expose-headers"].lower()
    assert all(name in exposed for name in ("etag", "retry-after", "location", "x-request-id"))


@pytest.mark.parametrize("origins", [(), ("https://other.example",)])
async def test_pages_of_other_origins(world: World, origins: tuple[str, ...]) -> None:
    """Nothing tells a browser that they may, and by default that holds for all."""
    for answer in await _asked_from(world, PAGE, *origins):
        assert "access-control-allow-origin" not in answer.headers
        assert answer.status_code >= 400


def test_origins_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that is no origin stops the program."""
    monkeypatch.setenv("PIXCRAWLER_DATABASE_URL", "postgresql+asyncpg://a@b/c")
    monkeypatch.setenv("PIXCRAWLER_API_CORS_ORIGINS", "https://a.example, http://localhost:3000")
    assert Settings().api_cors_origins == ("https://a.example", "http://localhost:3000")
    for wrong in ("a.example", "https://a.example/path", "ftp://a.example"):
        monkeypatch.setenv("PIXCRAWLER_API_CORS_ORIGINS", wrong)
        with pytest.raises(ValidationError, match="no origin"):
            Settings()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{bad", "Expecting property name enclosed in double quotes at character 1"),
        ('{"max_images" 1}', "Expecting ':' delimiter at character 14"),
        ("", "Field required"),
    ],
)
async def test_a_body_that_is_no_json(world: World, body: str, said: str) -> None:
    """What is wrong with it, and where."""
    headers = {"Content-Type": "application/json"}
    response = await world.client.post("/v1/jobs", content=body, headers=headers)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "body"
    assert said in response.json()["detail"]
