"""Owners see only what is their own, on every route there is."""

import pytest
from starlette.routing import Route

from tests.integration.api.conftest import World
from tests.integration.api.shown import NO_JOB, ROUTES, THEIRS, Shown, declared, filled


async def test_every_route_has_its_entry(world: World) -> None:
    """What the application serves is what is walked below, and the table says what to expect."""
    served = set()
    for route in world.app.routes:
        if isinstance(route, Route):
            served |= {f"{method} {route.path}" for method in route.methods or ()}
    served |= set(declared())
    assert not served - ROUTES.keys(), "enter it in ROUTES, with what another owner gets to see"


@pytest.mark.parametrize("route", sorted(declared()))
async def test_another_owner(world: World, route: str) -> None:
    """A second owner's key, whatever its scope, shows and changes nothing of the first one's."""
    job_id = (await world.job())["job_id"]
    await world.plan(job_id, "failed")
    await world.show(job_id, "running", finished=0)
    before, events = await world.get(f"/v1/jobs/{job_id}"), await world.events(job_id)
    for scope in ("read", "admin"):
        stranger = await world.key(f"a stranger to {job_id[-12:]}", scope)
        await _ask(world, route, job_id, stranger, may_write=scope == "admin")
    assert await world.get(f"/v1/jobs/{job_id}") == before
    assert await world.events(job_id) == events


async def _ask(
    world: World, route: str, job_id: str, stranger: dict[str, str], *, may_write: bool
) -> None:
    """One request of somebody else, and what it must come to."""
    method, _, path = route.partition(" ")
    entry = ROUTES[route]
    asked = filled(path, job_id) + entry.query
    got = await world.client.request(method, asked, headers=stranger, json=entry.body)
    if entry.shown is Shown.HIDDEN and (may_write or method == "GET"):
        assert got.status_code == 404, got.text
        if "{job_id}" in path:
            assert got.json()["detail"] == f"job {job_id} was not found"
        nothing = filled(path, NO_JOB) + entry.query
        other = await world.client.request(method, nothing, headers=stranger, json=entry.body)
        assert got.text.replace(job_id, NO_JOB) == other.text
        assert got.headers.keys() == other.headers.keys()
    elif entry.shown is Shown.HIDDEN or entry.shown is Shown.SIGNED:
        assert got.status_code == 403
    else:
        assert got.status_code < 500, got.text
        assert method == "HEAD" or job_id not in got.text


@pytest.mark.parametrize("route", [each for each in sorted(declared()) if ROUTES[each] is THEIRS])
async def test_lists_are_of_ones_own(world: World, route: str) -> None:
    """Lists of a new owner are empty, whatever others have; filters open nothing."""
    job = await world.job(project_id="shared")
    stranger = await world.key(f"a stranger to {job['job_id']}")
    method, _, path = route.partition(" ")
    if method == "GET":
        for query in ("", "?project_id=shared", "?status=pending"):
            got = await world.client.get(path + query, headers=stranger)
            assert (got.status_code, got.json()["items"]) == (200, [])
