"""Values that once were answered with 500, or meant something else than they said."""

import pytest

from tests.integration.api.conftest import BODY, World

LONE = b'"\\ud83d"'
"""JSON for half of a surrogate pair: no character, and no UTF-8 can hold it."""


@pytest.mark.parametrize("field", ["name", "project_id", "keywords", "urls", "webhook_url"])
async def test_half_a_character_is_a_wrong_value(world: World, field: str) -> None:
    """A lone surrogate, which no UTF-8 can hold, is a 422 that names the field."""
    value = b"[" + LONE + b"]" if field in {"keywords", "urls"} else LONE
    if field == "webhook_url":
        value = b'"https://example.org/\\ud83d"'
    other = b"" if field == "keywords" else b'"keywords": ["cat"], '
    body = b"{" + other + b'"max_images": 1, "' + field.encode() + b'": ' + value + b"}"
    response = await world.client.post(
        "/v1/jobs", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422, response.text
    assert field in response.json()["detail"]


async def test_urls_without_a_number_are_all_of_them_once(world: World) -> None:
    """A list that names a URL twice asks for one image of it, or the job could never complete."""
    urls = ["https://a.example/1", "https://a.example/2", " https://a.example/1"]
    job = await world.client.post("/v1/jobs", json={"urls": urls})
    assert job.json()["max_images"] == 2


async def test_a_chunk_far_beyond_is_not_found(world: World) -> None:
    """An index that no column can hold is 404, as any other that is not there."""
    job = await world.job()
    for path in (f"{job['job_id']}-99999999999", "999999999"):
        response = await world.client.get(f"/v1/jobs/{job['job_id']}/chunks/{path}")
        assert response.status_code == 404, response.text


async def test_numbers_that_no_column_can_hold(world: World) -> None:
    """They are 422, not 500."""
    response = await world.client.post("/v1/jobs", json={**BODY, "max_images": 10**30})
    assert response.status_code == 422, response.text
    job = await world.job()
    for images in (2**31, 10**30):
        response = await world.client.post(f"/v1/jobs/{job['job_id']}/chunks?max_images={images}")
        assert response.status_code == 422, response.text
    for number in (2**63, 10**30):
        response = await world.client.get(f"/v1/capacity?required_chunks={number}")
        assert response.status_code in {200, 422}, response.text
