"""`chunk.planned` → `chunk.downloaded` with a real database, blob store and web."""

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql import func

from pixcrawler.common import names
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.tables import crawl_jobs
from pixcrawler.common.documents import Candidates, ChunkResult, Fetched, part_member
from pixcrawler.common.errors import GiveUp, Retry, Stopped
from pixcrawler.common.events import ChunkDownloaded, ChunkPlanned, Slice
from pixcrawler.common.ids import chunk_id, new_job_id
from pixcrawler.common.jobs import Options
from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader.handler import handle_chunk_planned
from pixcrawler.downloader.parts import read_outcomes
from pixcrawler.downloader.tools import Tools
from pixcrawler.miniweb.plans import good_plan
from pixcrawler.miniweb.site import hosting
from tests.integration.downloader.harness import NotingContext, settings, tools
from tests.integration.downloader.web import Web, hang, serving


@dataclass
class Bench:
    """A job with one chunk, and a replica that works on it."""

    job: str
    database: str
    engine: AsyncEngine
    blobs: LocalBlobs
    tools: Tools

    @property
    def chunk(self) -> str:
        return chunk_id(self.job, 0)

    async def run(
        self,
        *slices: Slice,
        context: NotingContext | None = None,
        attempt: int = 1,
    ) -> ChunkDownloaded:
        event = ChunkPlanned(chunk_id=self.chunk, attempt=attempt, slices=slices)
        context = context or NotingContext(attempt=attempt)
        events = await handle_chunk_planned(
            event,
            context,
            blobs=self.blobs,
            engine=self.engine,
            sources=self.tools.sources,
            parts=self.tools.parts,
        )
        assert len(events) == 1
        assert isinstance(events[0], ChunkDownloaded)
        return events[0]

    async def candidates(self) -> Candidates:
        return Candidates.parse(await self.blobs.read(names.candidates(self.chunk)))

    async def parts(self) -> dict[str, bytes]:
        prefix = names.staging_prefix(self.chunk)
        return {
            info.name.removeprefix(prefix): await self.blobs.read(info.name)
            async for info in self.blobs.list(prefix)
        }


@asynccontextmanager
async def bench(
    database: str, path: Path, urls: Sequence[str] | None = None, **others: object
) -> AsyncIterator[Bench]:
    engine = connect(database)
    job = new_job_id()
    row = {
        "job_id": job,
        "owner": "tests",
        "keywords": ["red panda"],
        "sources": ["urls"],
        "urls": None if urls is None else list(urls),
        "max_images": 500,
        "chunk_size": 500,
        "options": Options().model_dump(mode="json"),
        "round": 1,
    }
    async with engine.begin() as connection:
        await connection.execute(insert(crawl_jobs).values(row))
    blobs = LocalBlobs(path / "blobs")
    async with tools(settings(database, **others), blobs) as made:
        yield Bench(job, database, engine, blobs, made)
    await engine.dispose()


def listed(site: Web, number: int) -> list[str]:
    """So many different images."""
    for n in range(number):
        site.page(f"/{n}", b"\xff\xd8\xff" + str(n).encode() * 10)
    return [site.url(f"/{n}") for n in range(number)]


def whole(urls: Sequence[str]) -> Slice:
    return Slice(source="urls", keyword="", offset=0, limit=len(urls))


def opened(part: bytes) -> tuple[list[Fetched], dict[str, bytes], list[str]]:
    """A part's outcomes, its images by member, and all its members in order."""
    with tarfile.open(fileobj=io.BytesIO(part)) as tar:
        members = tar.getnames()
        data = {}
        for member in members:
            file = tar.extractfile(member)
            assert file is not None
            data[member] = file.read()
    lines = data.pop("outcomes.jsonl").splitlines()
    return [Fetched.model_validate_json(line) for line in lines], data, members


async def test_a_chunk_becomes_candidates_and_parts(module_database: str, tmp_path: Path) -> None:
    """120 candidates: three parts, every outcome and every byte at its position, counts agree."""
    async with serving() as site:
        urls = listed(site, 118)
        urls[7:7] = [site.url("/missing"), "http://10.0.0.1/x"]
        async with bench(module_database, tmp_path, urls) as one:
            context = NotingContext()
            answer = await one.run(whole(urls), context=context)
            parts = await one.parts()
            candidates = await one.candidates()
    assert list(parts) == ["part-0000.tar", "part-0001.tar", "part-0002.tar"]
    assert [candidate.url for candidate in candidates.items] == urls
    assert candidates.head.count == 120
    outcomes: list[Fetched] = []
    for number, part in enumerate(parts.values()):
        fetched, images, members = opened(part)
        assert members[0] == "outcomes.jsonl"
        assert members[1:] == sorted(members[1:])
        assert [f.position for f in fetched] == list(range(50 * number, min(120, 50 * number + 50)))
        for f in fetched:
            name = part_member(f.position)
            assert (f.outcome is None) == (name in images)
            if f.outcome is None:
                number_of = urls[f.position].rpartition("/")[2]
                assert images[name] == b"\xff\xd8\xff" + number_of.encode() * 10
                assert f.bytes == len(images[name])
        outcomes.extend(fetched)
    assert outcomes[7].outcome is Outcome.HTTP_ERROR
    assert outcomes[8].outcome is Outcome.BLOCKED
    assert (answer.candidates, answer.downloaded) == (120, 118)
    assert answer.bytes == sum(f.bytes for f in outcomes)
    done, total, images_ = context.reports[-1]
    assert (done, total, images_.downloaded) == (120, 120, 118)
    assert images_.dropped == {"http_error": 1, "blocked": 1}


async def test_a_second_run_asks_the_web_for_nothing(module_database: str, tmp_path: Path) -> None:
    """With everything there the answer is published again, with the attempt that asked."""
    async with serving() as site:
        urls = listed(site, 60)
        async with bench(module_database, tmp_path, urls) as one:
            first = await one.run(whole(urls))
            before = await one.parts()
            hits = site.hits.total()
            site.pages.clear()
            second = await one.run(whole(urls), attempt=2)
            assert site.hits.total() == hits
            assert await one.parts() == before
    assert second == first.model_copy(update={"attempt": 2})


async def test_a_killed_run_is_taken_up_where_it_stopped(
    module_database: str, tmp_path: Path
) -> None:
    """Parts that are there stay as they are; only what is missing is fetched; nobody is asked
    twice what the candidates are, though the list has changed meanwhile."""
    async with serving() as site:
        urls = listed(site, 150)
        site.pages["/60"] = hang
        told = {"fetch_timeout_s": 20, "fetch_deadline_s": 30}
        async with bench(module_database, tmp_path, urls, **told) as one:
            run = asyncio.create_task(one.run(whole(urls)))
            async with asyncio.timeout(20):
                while len(await one.parts()) < 2:
                    await asyncio.sleep(0.02)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            stored = await one.parts()
            assert list(stored) == ["part-0000.tar", "part-0002.tar"]
            hits = site.hits.copy()
            listed(site, 150)
            async with one.engine.begin() as connection:
                await connection.execute(
                    update(crawl_jobs).where(crawl_jobs.c.job_id == one.job).values(urls=[])
                )
            answer = await one.run(whole(urls), attempt=2)
            after = await one.parts()
    assert (answer.candidates, answer.downloaded) == (150, 150)
    assert {name: after[name] for name in stored} == stored
    again = site.hits - hits
    assert {path for path in again if path != "/robots.txt"} <= {f"/{n}" for n in range(50, 100)}


async def test_two_runs_at_once_agree(module_database: str, tmp_path: Path) -> None:
    """Whoever comes second adopts: both say the same, and every part is what one of them made."""
    async with serving() as site:
        urls = listed(site, 130)
        flaky = 0

        async def unsteady(_: web.BaseRequest) -> web.StreamResponse:
            nonlocal flaky
            flaky += 1
            return web.Response(status=404 if flaky % 2 else 200, body=b"\xff\xd8\xff" * flaky)

        site.pages |= {f"/{n}": unsteady for n in range(0, 130, 3)}
        async with (
            bench(module_database, tmp_path, urls) as one,
            tools(settings(module_database), one.blobs, "second") as others,
        ):
            two = Bench(one.job, one.database, one.engine, one.blobs, others)
            first, second = await asyncio.gather(one.run(whole(urls)), two.run(whole(urls)))
            third = await one.run(whole(urls))
    assert first == second == third


async def test_a_slow_candidate_holds_up_its_own_part_only(
    module_database: str, tmp_path: Path
) -> None:
    """All other parts are stored while it still hangs."""
    async with serving() as site:
        urls = listed(site, 400)
        site.pages["/3"] = hang
        told = {"fetch_timeout_s": 20, "fetch_deadline_s": 30}
        async with bench(module_database, tmp_path, urls, **told) as one:
            run = asyncio.create_task(one.run(whole(urls)))
            async with asyncio.timeout(20):
                while len(await one.parts()) < 7:
                    await asyncio.sleep(0.02)
            assert "part-0000.tar" not in await one.parts()
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)


async def test_a_cancelled_job_gets_no_further_object(module_database: str, tmp_path: Path) -> None:
    """Before the work: nothing is fetched. In the middle of it: nothing is created."""
    async with serving() as site:
        urls = listed(site, 10)
        async with bench(module_database, tmp_path, urls) as one:
            with pytest.raises(Stopped):
                await one.run(whole(urls), context=NotingContext(wanted=False))
            assert [info async for info in one.blobs.list("")] == []
            async with one.engine.begin() as connection:
                await connection.execute(
                    update(crawl_jobs)
                    .where(crawl_jobs.c.job_id == one.job)
                    .values(cancelled_at=func.now())
                )
            with pytest.raises(Stopped):
                await one.run(whole(urls))
            assert not site.hits


async def test_a_chunk_that_has_ended_is_left_alone(module_database: str, tmp_path: Path) -> None:
    """A replayed event makes no staging anew."""
    async with serving() as site:
        urls = listed(site, 5)
        async with bench(module_database, tmp_path, urls) as one:
            result = ChunkResult(chunk_id=one.chunk, status="failed", error="deadline")
            await one.blobs.create(names.result(one.chunk), result.model_dump_json().encode())
            with pytest.raises(Stopped):
                await one.run(whole(urls))
            assert await one.parts() == {}


async def test_a_chunk_without_candidates_is_empty_and_done(
    module_database: str, tmp_path: Path
) -> None:
    """Beyond the end of a list there is nothing, and the list is known to have ended."""
    async with bench(module_database, tmp_path, ["http://a.example/1"]) as one:
        answer = await one.run(Slice(source="urls", keyword="", offset=5, limit=10))
        head = (await one.candidates()).head
    assert (answer.candidates, answer.downloaded) == (0, 0)
    assert [stream.source for stream in head.exhausted] == ["urls"]


async def test_large_images_pass_through_little_memory(
    module_database: str, tmp_path: Path
) -> None:
    """80 MB of images with 1 MiB of memory: every byte arrives, at its place."""
    async with serving() as site:
        bodies = {f"/{n}": bytes([n]) * (1_500_000 if n % 3 else 900) for n in range(80)}
        for path, body in bodies.items():
            site.page(path, body)
        urls = [site.url(path) for path in bodies]
        told = {"fetch_memory_bytes": 1 << 20, "fetch_timeout_s": 10, "fetch_deadline_s": 20}
        async with bench(module_database, tmp_path, urls, **told) as one:
            answer = await one.run(whole(urls))
            assert answer.bytes == sum(map(len, bodies.values()))
            for part in (await one.parts()).values():
                fetched, images, _ = opened(part)
                for f in fetched:
                    assert images[part_member(f.position)] == bodies[f"/{f.position}"]
            assert one.tools.parts._spooler.memory.left == 1 << 20


async def test_where_bytes_waited_makes_no_difference(module_database: str, tmp_path: Path) -> None:
    """The same images in the same order, whether they waited in memory or in files."""
    async with serving() as site:
        urls = listed(site, 50)
        made = []
        for n, memory in enumerate((1 << 20, 64 << 20)):
            path = tmp_path / str(n)
            path.mkdir()
            async with bench(module_database, path, urls, fetch_memory_bytes=memory) as one:
                await one.run(whole(urls))
                part = (await one.parts())["part-0000.tar"]
                _, images, members = opened(part)
                made.append((images, members))
                assert len(await read_outcomes(one.blobs, names.part(one.chunk, 0))) == 50
    assert made[0] == made[1]


async def test_candidates_of_two_searches_take_turns(module_database: str, tmp_path: Path) -> None:
    """With real searches: in turn, each URL once, with licence and creator, the end noted."""
    async with hosting(good_plan(50)) as (site, _):
        told = {
            "source_openverse_url": site.env["PIXCRAWLER_SOURCE_OPENVERSE_URL"],
            "source_commons_url": site.env["PIXCRAWLER_SOURCE_COMMONS_URL"],
        }
        keyword = site.keywords[0]
        slices = [
            Slice(source=source, keyword=keyword, offset=0, limit=30) for source in site.sources
        ]
        async with bench(module_database, tmp_path, **told) as one:
            answer = await one.run(*slices)
            candidates = await one.candidates()
    assert {candidate.url for candidate in candidates.items} == set(site.truth)
    sources = [candidate.source for candidate in candidates.items]
    assert sources[:6] == list(site.sources) * 3
    assert len(candidates.head.exhausted) == 2
    assert answer.downloaded == len(site.truth)
    for candidate in candidates.items:
        listing = site.truth[candidate.url].listing(candidate.source, keyword)
        assert listing is not None
        assert candidate.license == listing.license
        assert candidate.license_url == listing.license_url
        assert candidate.creator == listing.creator
        assert candidate.title == listing.title
        assert candidate.landing_url == listing.landing_url


async def test_a_search_that_is_down_pins_nothing(module_database: str, tmp_path: Path) -> None:
    """Neither an empty list nor an exhausted search: the chunk is tried again."""
    async with serving() as site:
        site.page("/v1/images/", b"busy", status=503, Retry_After="3600")
        told = {"source_openverse_url": site.url("")}
        async with bench(module_database, tmp_path, **told) as one:
            with pytest.raises(Retry) as raised:
                await one.run(Slice(source="openverse", keyword="x", offset=0, limit=20))
            assert raised.value.error == "source_unavailable"
            assert [info async for info in one.blobs.list("")] == []


async def test_a_search_that_refuses_fails_the_attempt(
    module_database: str, tmp_path: Path
) -> None:
    """And a source that nobody knows fails for good."""
    async with serving() as site:
        site.page("/v1/images/", json.dumps({"detail": "no"}).encode(), status=401)
        told = {"source_openverse_url": site.url("")}
        async with bench(module_database, tmp_path, **told) as one:
            with pytest.raises(GiveUp) as refused:
                await one.run(Slice(source="openverse", keyword="x", offset=0, limit=20))
            with pytest.raises(GiveUp) as unknown:
                await one.run(Slice(source="altavista", keyword="x", offset=0, limit=20))
    assert (refused.value.error, refused.value.retriable) == ("source_refused", True)
    assert (unknown.value.error, unknown.value.retriable) == ("unknown_source", False)
