"""The audit log: a line for what was done, in the transaction that does it."""

from typing import Any

from sqlalchemy import text

from pixcrawler.common import audit, keys
from tests.integration.api.conftest import World

Json = dict[str, Any]


async def lines(world: World, **params: str) -> list[Json]:
    """The caller's lines, the first first."""
    found = await world.get("/v1/audit", **params)
    return list(reversed(found["items"]))


async def test_what_is_done_to_a_job(world: World) -> None:
    """One line each: who, what changed, why. What comes twice, or is refused, leaves none."""
    job_id = (await world.job(name="pandas"))["job_id"]
    (chunk_id,) = await world.plan(job_id, "failed", error="deadline")
    path = f"/v1/jobs/{job_id}"
    why, once = {"reason": "more is better"}, {"Idempotency-Key": f"extend {job_id}"}
    for _ in range(2):
        asked = {"max_images": "10", "priority": "9", **why}
        await world.client.post(f"{path}/chunks", params=asked, headers=once)
    await world.client.post(f"{path}/chunks/0/retry")
    await world.client.post(f"{path}/chunks/7/retry", params=why)
    await world.client.post(f"{path}/cancel", params=why)
    await world.client.post(f"{path}/cancel", params=why)
    await world.client.post(f"{path}/retry", params=why)
    await world.client.delete(path)
    told = await lines(world, job_id=job_id)
    assert [(line["action"], line["subject"], line["reason"]) for line in told] == [
        ("job.extend", job_id, "more is better"),
        ("chunk.retry", chunk_id, ""),
        ("job.cancel", job_id, "more is better"),
        ("job.delete", job_id, ""),
    ]
    assert [line["details"] for line in told] == [
        {
            "max_images": {"before": 2500, "after": 2510},
            "priority": {"before": 5, "after": 9},
        },
        {"round": 3, "error": "deadline"},
        {"round": 3},
        {"name": "pandas"},
    ]
    key = world.client.headers["Authorization"].split("_")[1]
    assert {line["key_id"] for line in told} == {key}
    assert {(line["actor"], line["owner"]) for line in told} == {(told[0]["owner"],) * 2}


async def test_a_retry_of_all_failed_chunks(world: World) -> None:
    """Asked for again while it waits it is the same retry, and has the same line."""
    job_id = (await world.job())["job_id"]
    await world.plan(job_id, "failed")
    for _ in range(2):
        await world.client.post(f"/v1/jobs/{job_id}/retry")
    assert [line["action"] for line in await lines(world, job_id=job_id)] == ["job.retry"]


async def test_who_sees_what(world: World) -> None:
    """Each what is their own; a key with the scope admin everything."""
    mine = (await world.job())["job_id"]
    await world.client.post(f"/v1/jobs/{mine}/cancel")
    stranger, admin = await world.key("stranger"), await world.key("boss", "admin")
    theirs = (await world.client.get("/v1/audit", headers=stranger)).json()["items"]
    assert {line["owner"] for line in theirs} == {"stranger"}
    all_ = (await world.client.get("/v1/audit", headers=admin, params={"limit": 200})).json()
    assert {"stranger", "boss"} <= {line["owner"] for line in all_["items"]}
    assert mine in {line["subject"] for line in all_["items"]}


async def test_its_filters_and_pages(world: World) -> None:
    """By time, by action or kind of it, page by page; what is no action is said."""
    job_id = (await world.job())["job_id"]
    for images in range(1, 6):
        await world.client.post(f"/v1/jobs/{job_id}/chunks", params={"max_images": images})
    told = await lines(world, job_id=job_id)
    later = await lines(world, job_id=job_id, since=told[3]["at"])
    assert later == told[3:]
    assert await lines(world, action="job") == told
    assert await lines(world, action="job.extend") == told
    assert await lines(world, action="job.cancel") == []
    page, seen = await world.get("/v1/audit", action="job", limit=2), list[Json]()
    while True:
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        page = await world.get("/v1/audit", action="job", limit=2, cursor=page["next_cursor"])
    assert seen == told[::-1]
    refused = await world.client.get("/v1/audit", params={"action": "job.stop"})
    assert refused.status_code == 422
    assert "choose from" in refused.json()["detail"]
    for wrong in ("x", "0.5", "1700000000"):
        since = await world.client.get("/v1/audit", params={"since": wrong})
        assert (since.status_code, "2026-01-31" in since.json()["detail"]) == (422, True)
    assert await lines(world, job_id=job_id, since="2020-01-01") == told
    long = await world.client.delete(f"/v1/jobs/{job_id}", params={"reason": "a\nb"})
    assert long.status_code == 422


async def test_keys_and_secrets(world: World) -> None:
    """Keys are made and revoked at the desk; no line has a secret."""
    async with world.db.begin() as connection:
        limits = keys.KeyLimits(active_jobs=3)
        made = await keys.create(
            connection, "ann", "read", name="for ann", limits=limits, reason="she asked"
        )
        assert await keys.revoke(connection, made.key.key_id, reason="she left")
        assert await keys.revoke(connection, made.key.key_id)
        assert not await keys.revoke(connection, "nobody")
        found = await audit.lines(connection, owner="ann", limit=9)
    changed = (await world.client.post("/v1/webhook-secret")).json()["secret"]
    assert [(line.action, line.subject, line.actor, line.reason) for line in found] == [
        ("key.revoke", made.key.key_id, "", "she left"),
        ("key.create", made.key.key_id, "", "she asked"),
    ]
    assert found[1].details == {"scope": "read", "name": "for ann", "active_jobs": 3}
    (last,) = await lines(world, action="webhook_secret")
    assert last["details"] == {}
    async with world.db.connect() as connection:
        everything = str(await connection.scalar(text("SELECT json_agg(a) FROM audit_log AS a")))
    assert made.text.rpartition("_")[2] not in everything
    assert changed.removeprefix("whsec_") not in everything


async def test_it_forgets(world: World) -> None:
    """Lines go after a while; younger ones stay."""
    async with world.db.begin() as connection:
        await keys.create(connection, "old", "read")
        await keys.create(connection, "young", "read")
        await connection.execute(
            text("UPDATE audit_log SET at = at - interval '401 days' WHERE owner = 'old'")
        )
        await audit.forget(connection, 400)
        assert not await audit.lines(connection, owner="old", limit=9)
        assert len(await audit.lines(connection, owner="young", limit=9)) == 1
