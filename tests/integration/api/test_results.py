"""Outcomes, dataset and files over HTTP, on a real folder."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest

from pixcrawler.common import names
from pixcrawler.common.documents import (
    Candidate,
    Candidates,
    CandidatesHead,
    ChunkResult,
    DatasetFile,
    DatasetIndex,
    Verdict,
    Verdicts,
    VerdictsHead,
)
from pixcrawler.common.events import ImageTotals, JobFacts
from pixcrawler.common.outcomes import Outcome
from tests.integration.api.conftest import World


async def decide(
    world: World, chunk: str, outcomes: Mapping[str, Outcome], result: ChunkResult | None = None
) -> None:
    """A chunk's candidates with these verdicts, as the stages would have written them."""
    candidates = Candidates(
        head=CandidatesHead(chunk_id=chunk, count=len(outcomes)),
        items=tuple(
            Candidate(position=position, url=url, source="commons", keyword="cat")
            for position, url in enumerate(outcomes)
        ),
    )
    verdicts = Verdicts(
        head=VerdictsHead(chunk_id=chunk, images=ImageTotals(), valid_images=0),
        items=tuple(
            Verdict(position=position, url=url, outcome=outcome)
            for position, (url, outcome) in enumerate(outcomes.items())
        ),
    )
    await world.blobs.create(names.candidates(chunk), candidates.dump())
    await world.blobs.create(names.verdicts(chunk), verdicts.dump())
    if result is not None:
        await world.blobs.create(names.result(chunk), result.model_dump_json().encode())


async def listed(world: World, job_id: str, **params: Any) -> list[tuple[str, str]]:
    """All pages of outcomes: URL and outcome."""
    found: list[tuple[str, str]] = []
    cursor: dict[str, str] = {}
    for _ in range(100):
        page = await world.get(f"/v1/jobs/{job_id}/outcomes", **params, **cursor)
        found += [(item["url"], item["outcome"]) for item in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}
    raise AssertionError("pages without an end")


@pytest.mark.parametrize("limit", [1, 2, 500])
async def test_outcomes_while_it_runs(world: World, limit: int) -> None:
    """What is decided is listed at once, page by page; a URL that is tried again is there once."""
    job_id = (await world.job())["job_id"]
    made = await world.plan(job_id, "completed", "processing", "processing", "pending")
    await decide(
        world,
        made[0],
        {"http://a": Outcome.KEPT, "http://b": Outcome.HTTP_ERROR, "http://c": Outcome.TIMEOUT},
        ChunkResult(chunk_id=made[0], status="completed"),
    )
    await world.change_chunk(made[1], stage="uploader")
    await world.change_chunk(made[2], stage="downloader")
    await decide(world, made[1], {"http://b": Outcome.KEPT, "http://d": Outcome.CORRUPT})
    expected = [
        ("http://a", "kept"),
        ("http://c", "timeout"),
        ("http://b", "kept"),
        ("http://d", "corrupt"),
    ]
    assert await listed(world, job_id, limit=limit) == expected
    kept = [item for item in expected if item[1] == "kept"]
    assert await listed(world, job_id, limit=limit, outcome="kept") == kept
    assert await listed(world, job_id, outcome="bomb") == []


async def test_outcomes_of_failed_chunks(world: World) -> None:
    """Verdicts of a failed chunk stand but what was kept; without any, all have failed."""
    job_id = (await world.job())["job_id"]
    made = await world.plan(job_id, "failed", "failed")
    failed = ChunkResult(chunk_id=made[0], status="failed", error="deadline", message="too slow")
    await decide(world, made[0], {"http://a": Outcome.KEPT, "http://b": Outcome.HTTP_ERROR}, failed)
    await world.blobs.create(
        names.candidates(made[1]),
        Candidates(
            head=CandidatesHead(chunk_id=made[1], count=1),
            items=(Candidate(position=0, url="http://c", source="commons"),),
        ).dump(),
    )
    cancelled = ChunkResult(chunk_id=made[1], status="failed", error="cancelled")
    await world.blobs.create(names.result(made[1]), cancelled.model_dump_json().encode())
    assert await listed(world, job_id) == [
        ("http://a", "failed"),
        ("http://b", "http_error"),
        ("http://c", "cancelled"),
    ]
    page = await world.get(f"/v1/jobs/{job_id}/outcomes", outcome="failed")
    assert page["items"][0]["detail"] == "too slow"


async def test_outcomes_follow_the_job(world: World) -> None:
    """What was remembered of ended chunks stays right when later chunks end."""
    job_id = (await world.job())["job_id"]
    made = await world.plan(job_id, "failed", "pending")
    failed = ChunkResult(chunk_id=made[0], status="failed", error="deadline")
    await decide(world, made[0], {"http://a": Outcome.KEPT}, failed)
    assert await listed(world, job_id) == [("http://a", "failed")]
    await decide(
        world,
        made[1],
        {"http://a": Outcome.TIMEOUT},
        ChunkResult(chunk_id=made[1], status="completed"),
    )
    await world.change_chunk(made[1], status="completed", retry_of=made[0])
    assert await listed(world, job_id) == [("http://a", "timeout")]


async def finish(world: World, job_id: str, number: int, content: bytes) -> None:
    """A round's dataset of one archive and a README, as the uploader would have stored it."""
    archive = f"datasets/{job_id}/chunk_{job_id}-{number:05d}.zip"
    readme = f"{names.round_prefix(job_id, number)}README.md"
    await world.blobs.create(archive, content)
    await world.blobs.create(readme, b"# card")
    index = DatasetIndex(
        job_id=job_id,
        round=number,
        facts=JobFacts(
            round=number,
            closed_round=number,
            status="completed",
            total_chunks=1,
            requested=1,
            kept=1,
        ),
        images=ImageTotals(candidates=1, valid=1),
        files=(
            DatasetFile(path="README.md", object=readme, size=6, sha256="r"),
            DatasetFile(
                path=archive.rpartition("/")[2],
                object=archive,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            ),
        ),
    )
    await world.blobs.create(names.dataset_index(job_id, number), index.model_dump_json().encode())


async def test_dataset(world: World) -> None:
    """Files of the latest finished round, the index last; their links work without a key."""
    job_id = (await world.job())["job_id"]
    path = f"/v1/jobs/{job_id}/dataset"
    assert (await world.client.get(path)).status_code == 404
    content = bytes(range(256)) * 20_000
    await finish(world, job_id, 1, content)
    await world.client.post(f"/v1/jobs/{job_id}/chunks?max_images=1")
    dataset = await world.get(path)
    assert (dataset["round"], dataset["status"], dataset["images"]["valid"]) == (1, "completed", 1)
    by_path = {file["path"]: file for file in dataset["files"]}
    assert list(by_path) == ["README.md", f"chunk_{job_id}-00001.zip", "dataset.json"]
    assert all(file["expires_at"].startswith("2026-01-02T04:04:05") for file in by_path.values())
    for file, expected in (("README.md", b"# card"), (f"chunk_{job_id}-00001.zip", content)):
        response = await world.client.get(by_path[file]["url"], headers={"Authorization": ""})
        assert response.status_code == 200
        assert response.content == expected
        assert response.headers["content-length"] == str(len(expected))
        assert file in response.headers["content-disposition"]
    itself = await world.client.get(by_path["dataset.json"]["url"])
    assert hashlib.sha256(itself.content).hexdigest() == by_path["dataset.json"]["sha256"]
    assert len(itself.content) == by_path["dataset.json"]["size"]
    assert itself.json()["job_id"] == job_id
    assert itself.headers["content-type"] == "application/json"


async def test_ranges_of_files(world: World) -> None:
    """A download that broke off goes on where it stopped."""
    job_id = (await world.job())["job_id"]
    content = bytes(range(256)) * 10
    await finish(world, job_id, 1, content)
    files = (await world.get(f"/v1/jobs/{job_id}/dataset"))["files"]
    url = files[1]["url"]
    for header, part in (
        ("bytes=0-9", content[:10]),
        ("bytes=2000-", content[2000:]),
        ("bytes=-5", content[-5:]),
        ("bytes=100-99999", content[100:]),
    ):
        response = await world.client.get(url, headers={"Range": header})
        assert (response.status_code, response.content) == (206, part)
        assert response.headers["content-range"].endswith(f"/{len(content)}")
    beyond = await world.client.get(url, headers={"Range": f"bytes={len(content)}-"})
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(content)}"
    for ignored in ("bytes=0-1,5-6", "lines=0-1", "bytes=-", "bytes=5-1"):
        response = await world.client.get(url, headers={"Range": ignored})
        assert (response.status_code, response.content) == (200, content)
    head = await world.client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(content))


async def test_links_hold_for_what_they_were_given_for(world: World) -> None:
    """A changed, expired or foreign link opens nothing; a deleted job's opens nothing at once."""
    job_id = (await world.job())["job_id"]
    await finish(world, job_id, 1, b"zip")
    url = (await world.get(f"/v1/jobs/{job_id}/dataset"))["files"][1]["url"]
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))

    async def status(path: str, changed: Mapping[str, str]) -> int:
        wrong = urlunsplit(parts._replace(path=path, query=urlencode({**query, **changed})))
        return (await world.client.get(wrong)).status_code

    assert await status(parts.path, {}) == 200
    assert await status(parts.path.replace("00001.zip", "00002.zip"), {}) == 403
    assert await status(f"/v1/files/jobs/{job_id}/x", {}) == 403
    assert await status(parts.path, {"filename": "x.exe"}) == 403
    assert await status(parts.path, {"expires": "9999999999"}) == 403
    assert await status(parts.path, {"signature": "0" * 64}) == 403
    assert await status(parts.path, {"signature": "ä"}) == 403
    assert (await world.client.get(parts.path)).status_code == 422
    world.clock.time += timedelta(hours=1)
    assert await status(parts.path, {}) == 403
    world.clock.time -= timedelta(hours=1)
    await world.client.delete(f"/v1/jobs/{job_id}")
    assert await status(parts.path, {}) == 404
