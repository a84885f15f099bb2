"""What is told over all jobs: who uses the capacity, what became of a URL, what was dropped."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pixcrawler.common import names
from pixcrawler.common.documents import (
    Candidate,
    Candidates,
    CandidatesHead,
    ChunkResult,
    Verdict,
    Verdicts,
    VerdictsHead,
)
from pixcrawler.common.events import ImageTotals
from pixcrawler.common.outcomes import Outcome
from tests.integration.api.conftest import BODY, World
from tests.integration.api.test_explanations import in_hand, opened, step


async def owned(world: World, owner: str, *statuses: str, **columns: Any) -> tuple[str, list[str]]:
    """A job of this owner with chunks like these."""
    headers = await world.key(owner)
    made = await world.client.post("/v1/jobs", json=dict(BODY), headers=headers)
    job_id = str(made.json()["job_id"])
    await opened(world, job_id)
    return job_id, await world.plan(job_id, *statuses, **columns)


async def asked(world: World, path: str, headers: dict[str, str], **params: Any) -> dict[str, Any]:
    """What somebody is told."""
    answer = await world.client.get(path, params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def verdict(position: int, url: str, outcome: Outcome, **more: Any) -> Verdict:
    """Of a URL; where it is told as something else, that."""
    return Verdict(position=position, url=url, outcome=outcome, **more)


async def decided(world: World, chunk: str, *verdicts: Verdict, **result: Any) -> ImageTotals:
    """A chunk with these verdicts, as the stages would have left it."""
    dropped: dict[str, int] = {}
    for each in verdicts:
        if each.outcome is not Outcome.KEPT:
            dropped[each.outcome] = dropped.get(each.outcome, 0) + 1
    kept = len(verdicts) - sum(dropped.values())
    images = ImageTotals(candidates=len(verdicts), valid=kept, dropped=dropped)
    await pinned(world, chunk, *(each.url for each in verdicts))
    content = Verdicts(
        head=VerdictsHead(chunk_id=chunk, images=images, valid_images=kept), items=verdicts
    )
    await world.blobs.create(names.verdicts(chunk), content.dump())
    if result:
        ended = ChunkResult(chunk_id=chunk, images=images, **result)
        await world.blobs.create(names.result(chunk), ended.model_dump_json().encode())
        now = datetime.now(UTC)
        await world.change_chunk(
            chunk, ended_at=now, attempt=1, images=images.model_dump(mode="json")
        )
    return images


async def pinned(world: World, chunk: str, *urls: str) -> None:
    """A chunk's candidates."""
    content = Candidates(
        head=CandidatesHead(chunk_id=chunk, count=len(urls)),
        items=tuple(
            Candidate(position=place, url=url, source="commons", keyword="cat")
            for place, url in enumerate(urls)
        ),
    )
    await world.blobs.create(names.candidates(chunk), content.dump())


async def test_who_uses_the_capacity(world: World) -> None:
    """Slots, the line, chunks that rest and open jobs, by owner; others only for an admin."""
    now = datetime.now(UTC)
    job_id, (_, _, resting) = await owned(world, "cap-a", "processing", "pending", "pending")
    await world.change_chunk(f"{job_id}-00000", **in_hand())
    await world.change_chunk(resting, not_before=now + timedelta(hours=1))
    await owned(world, "cap-b", "pending", created_at=now - timedelta(seconds=90))
    admin, other = await world.key("cap-admin", "admin"), await world.key("cap-a", "read")

    told = await asked(world, "/v1/capacity", admin, by_owner=True)
    shares = {each["owner"]: each for each in told["owners"]}
    first, second = shares["cap-a"], shares["cap-b"]
    assert (first["active_chunks"], first["waiting_chunks"], first["resting_chunks"]) == (1, 1, 1)
    assert first["share"] == round(100 / told["max_chunks"], 1)
    assert (second["active_chunks"], second["waiting_chunks"], second["open_jobs"]) == (0, 1, 1)
    assert second["next_place"] < first["next_place"]
    assert second["oldest_wait_s"] >= 90
    assert [each["owner"] for each in told["owners"]].index("cap-a") < len(shares)
    own = await asked(world, "/v1/capacity", other, by_owner=True)
    assert [each["owner"] for each in own["owners"]] == ["cap-a"]
    assert "owners" not in await asked(world, "/v1/capacity", other)


async def test_what_happened_to_a_url(world: World) -> None:
    """In every job that had it, the latest first: kept and where, a duplicate and of what, not
    decided yet; also by what redirects led to; of everybody only for an admin who asks for it."""
    url = 'http://a.example/"odd" ü.jpg'
    kept, (one,) = await owned(world, "url-a", "completed", attempt=1)
    await decided(
        world,
        one,
        verdict(0, url, Outcome.KEPT, sha256="ab" * 32, http_status=200),
        verdict(1, "http://b", Outcome.DUPLICATE, duplicate_of=url, final_url="http://c"),
        status="completed",
    )
    failed, (two,) = await owned(world, "url-a", "failed", attempt=1)
    await decided(
        world,
        two,
        verdict(0, url, Outcome.KEPT),
        status="failed",
        error="deadline",
        message="too slow",
    )
    working, (three,) = await owned(world, "url-a", "processing", **in_hand())
    await pinned(world, three, "http://z", url)
    await owned(world, "url-b", "pending")
    reader, admin = await world.key("url-a", "read"), await world.key("url-admin", "admin")

    told = await asked(world, "/v1/urls", reader, url=url)
    found = [(each["job_id"], each["outcome"], each["detail"]) for each in told["items"]]
    assert found == [
        (working, None, ""),
        (failed, "failed", "too slow"),
        (kept, "kept", ""),
    ]
    assert (told["searched_chunks"], told["next_cursor"]) == (3, None)
    assert told["items"][2]["owner"] == "url-a"
    only = await asked(world, "/v1/urls", reader, url=url, job_id=kept)
    assert [each["chunk_id"] for each in only["items"]] == [one]
    [led] = (await asked(world, "/v1/urls", reader, url="http://c"))["items"]
    assert (led["url"], led["outcome"], led["duplicate_of"]) == ("http://b", "duplicate", url)
    assert (await asked(world, "/v1/urls", admin, url=url))["items"] == []
    everybody = await asked(world, "/v1/urls", admin, url=url, all=True)
    assert len(everybody["items"]) == 3
    refused = await world.client.get("/v1/urls", params={"url": url, "all": True}, headers=reader)
    assert refused.status_code == 403


async def test_looking_for_a_url_goes_on(world: World) -> None:
    """An answer looks through so many chunks, and the next one goes on where it stopped."""
    world.app.state.parts.findings.at_most = 2
    _, made = await owned(world, "url-pages", *["processing"] * 5, **in_hand())
    for chunk in made:
        await pinned(world, chunk, "http://everywhere")
    reader = await world.key("url-pages", "read")
    found: list[str] = []
    cursor: dict[str, str] = {}
    pages = 0
    while True:
        told = await asked(world, "/v1/urls", reader, url="http://everywhere", **cursor)
        found += [each["chunk_id"] for each in told["items"]]
        pages += 1
        if told["next_cursor"] is None:
            break
        cursor = {"cursor": told["next_cursor"]}
    assert (found, pages) == (made[::-1], 3)


async def test_what_changed(world: World) -> None:
    """Jobs and rounds, chunks by how they ended, attempts that failed, lines of the audit log; of
    everybody only for an admin."""
    now = datetime.now(UTC)
    job_id, (done, failed, waiting) = await owned(
        world, "change-a", "completed", "failed", "pending", ended_at=now
    )
    lost = step("lost", error="silent", ended_at=now.isoformat())
    bad = step("failed", error="source_unavailable", ended_at=now.isoformat())
    old = bad | {"ended_at": (now - timedelta(days=3)).isoformat()}
    await world.change_chunk(failed, error="deadline", stage="validator", attempts=[lost, bad])
    await world.change_chunk(waiting, ended_at=None, attempts=[bad, old])
    await world.change_chunk(done, ended_at=now - timedelta(days=3))
    writer, admin = await world.key("change-a"), await world.key("change-admin", "admin")
    await world.client.post(f"/v1/jobs/{job_id}/cancel?reason=enough", headers=writer)

    since = (now - timedelta(hours=1)).isoformat()
    told = await asked(world, "/v1/changes", writer, since=since)
    assert told["jobs"] == {"created": 1, "ended": {}, "cancelled": 1}
    assert told["chunks"] == {
        "completed": 0,
        "given_up": 1,
        "failures": [{"stage": "validator", "error": "deadline", "count": 1}],
        "failed_attempts": 2,
        "lost_attempts": 1,
        "attempts": [{"stage": "downloader", "error": "source_unavailable", "count": 2}],
    }
    assert told["acts"] == {"job.cancel": 1, "key.create": 2}
    latest, *_ = told["lines"]
    assert (latest["action"], latest["subject"], latest["reason"]) == (
        "job.cancel",
        job_id,
        "enough",
    )
    assert (await asked(world, "/v1/changes", admin, since=since))["jobs"]["created"] == 0
    everybody = await asked(world, "/v1/changes", admin, since=since, all=True)
    assert everybody["jobs"]["created"] >= 1


@pytest.mark.parametrize("since", ["yesterday", "0.5", "2026-01-31", "9999-12-31T23:59:59-01:00"])
async def test_a_time_that_is_none(world: World, since: str) -> None:
    """It is refused, and the field is named."""
    answer = await world.client.get("/v1/changes", params={"since": since})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "since")


async def test_what_was_dropped(world: World) -> None:
    """By outcome, the most frequent first, with the usual reason, source and host; failed chunks
    that were retried, and what ended earlier, do not count."""
    _, (old, retried, one, two) = await owned(world, "drop-a", *["completed"] * 4)
    gone = "404 Not Found"
    for chunk, retry_of in ((old, None), (retried, None), (one, None), (two, retried)):
        await decided(
            world,
            chunk,
            verdict(0, f"http://x.example/{chunk}", Outcome.HTTP_ERROR, detail=gone),
            verdict(1, f"http://y.example/{chunk}", Outcome.HTTP_ERROR, detail=gone),
            verdict(2, f"http://x.example/{chunk}?", Outcome.CORRUPT, detail="cut"),
            verdict(3, f"http://x.example/{chunk}!", Outcome.KEPT),
            status="completed",
        )
        await world.change_chunk(chunk, retry_of=retry_of)
    await world.change_chunk(old, ended_at=datetime.now(UTC) - timedelta(days=2))
    reader, admin = await world.key("drop-a", "read"), await world.key("drop-admin", "admin")
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()

    told = await asked(world, "/v1/drops", reader, since=since)
    assert (told["chunks"], told["candidates"], told["kept"], told["dropped"]) == (2, 8, 2, 6)
    first, second = told["outcomes"]
    assert (first["outcome"], first["count"], first["share"]) == ("http_error", 4, 50.0)
    assert first["reasons"] == [{"name": gone, "count": 4}]
    assert first["sources"] == [{"name": "commons", "count": 4}]
    assert {each["name"]: each["count"] for each in first["hosts"]} == {
        "x.example": 2,
        "y.example": 2,
    }
    assert (second["outcome"], second["count"]) == ("corrupt", 2)
    assert (told["read_chunks"], told["read_dropped"]) == (2, 6)
    assert (await asked(world, "/v1/drops", admin, since=since))["candidates"] == 0
    everybody = await asked(world, "/v1/drops", admin, since=since, all=True)
    assert everybody["candidates"] >= 8
    refused = await world.client.get("/v1/drops?all=true", headers=reader)
    assert refused.status_code == 403
