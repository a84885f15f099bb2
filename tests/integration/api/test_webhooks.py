"""Webhooks: from the end of a round to a receiver, on a real database with a real receiver."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from pixcrawler.api import webhooks
from pixcrawler.api.courier import Courier, handle_job_finished
from pixcrawler.api.settings import Settings
from pixcrawler.common.context import Context
from pixcrawler.common.db.engine import connect
from pixcrawler.common.events import ImageTotals, JobFinished
from tests.integration.api.conftest import World

DEADLINE_S = 30.0
HANGS = -1
FAST = {"api_webhook_backoff_s": 0.05, "api_webhook_poll_s": 0.05, "api_webhook_timeout_s": 20.0}
HERE = "127.0.0.1/32"


class Receiver:
    """A web server that answers as it was told, and remembers what it got."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.location = ""
        self.got: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
        self.released = asyncio.Event()
        self.url = ""

    async def next(self) -> tuple[dict[str, str], bytes]:
        """The headers and the body of the next request."""
        return await asyncio.wait_for(self.got.get(), DEADLINE_S)

    async def _take(self, request: web.Request) -> web.Response:
        self.got.put_nowait((dict(request.headers), await request.read()))
        answer = self.answers.pop(0) if self.answers else 200
        if answer == HANGS:
            await self.released.wait()
        location = self.location or f"{self.url}/elsewhere"
        headers = {"Location": location} if answer // 100 == 3 else {}
        return web.Response(status=200 if answer == HANGS else answer, text="no!", headers=headers)

    @asynccontextmanager
    async def running(self, host: str = "127.0.0.1") -> AsyncIterator["Receiver"]:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, host, 0)
        await site.start()
        self.url = f"http://{host}:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.released.set()
            await runner.cleanup()


def settings_for(url: str, **told: Any) -> Settings:
    """An api's settings, with receivers on this machine allowed."""
    return Settings(**{"database_url": url, "fetch_allow_networks": HERE, **FAST, **told})


@asynccontextmanager
async def courier(url: str, **told: Any) -> AsyncIterator[Courier]:
    """A replica that delivers."""
    engine = connect(url)
    made = Courier(engine, settings_for(url, **told))
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        await made.stop()
        await asyncio.wait_for(running, DEADLINE_S)
        await engine.dispose()


def ended(job_id: str, number: int = 1) -> JobFinished:
    """The event of a round's end."""
    images = ImageTotals(candidates=9, downloaded=8, valid=7, dropped={"timeout": 2}, bytes=70)
    return JobFinished(
        job_id=job_id,
        round=number,
        closed_round=number,
        status="incomplete",
        reason="exhausted",
        total_chunks=4,
        completed="0,2-3",
        failed="1",
        superseded="1",
        requested=10,
        kept=7,
        images=images,
        dataset="jobs/x/rounds/1/dataset.json",
    )


async def finish(world: World, *events: JobFinished) -> int:
    """Hand these to the handler, as the consumer loop would; how often it hinted."""
    hints: list[None] = []
    context: Context = None  # type: ignore[assignment]  # it is not looked at
    engine = world.app.state.parts.engine
    for event in events:
        await handle_job_finished(event, context, engine=engine, hint=lambda: hints.append(None))
    return len(hints)


async def owned_job(world: World, url: str, **body: Any) -> str:
    """A job whose receiver is at this URL."""
    parts = world.app.state.parts
    allowed = parts.settings.model_copy(
        update={
            "fetch_allow_networks": settings_for(
                "postgresql+asyncpg://other/other"
            ).fetch_allow_networks
        }
    )
    jobs = type(parts.jobs)(parts.engine, allowed, source="/api/test", hint=lambda: None)
    object.__setattr__(parts, "jobs", jobs)
    return str((await world.job(webhook_url=url, **body))["job_id"])


async def delivery(world: World, job_id: str, *statuses: str) -> dict[str, Any]:
    """The job's first delivery, once it has one of these statuses."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            items = (await world.get(f"/v1/jobs/{job_id}/webhook-deliveries"))["items"]
            if items and (not statuses or items[0]["status"] in statuses):
                return dict(items[0])
            await asyncio.sleep(0.05)


@pytest.fixture(autouse=True)
async def _nothing_left(world: World) -> AsyncIterator[None]:
    """No test finds the deliveries of another."""
    yield
    async with world.db.begin() as connection:
        await connection.execute(text("DELETE FROM webhook_deliveries"))


async def test_a_round_that_ended_is_told(world: World, api_url: str) -> None:
    """The receiver gets what happened, once and signed as specified, and the owner sees it."""
    async with Receiver().running() as receiver, courier(api_url) as replica:
        job_id = await owned_job(world, f"{receiver.url}/hook?a=b", name="pandas", project_id="7")
        secret = (await world.get("/v1/webhook-secret"))["secret"]
        assert await finish(world, ended(job_id), ended(job_id), ended(job_id)) == 1
        replica.hint()
        headers, body = await receiver.next()
        told = Webhook(secret).verify(body, headers)
        assert told == json.loads(body)
        assert (told["type"], told["data"]["job_id"]) == ("job.finished", job_id)
        assert told["data"]["images"] == {
            "requested": 10,
            "candidates": 9,
            "downloaded": 8,
            "valid": 7,
            "dropped": {"timeout": 2},
            "bytes": 70,
        }
        assert (told["data"]["name"], told["data"]["project_id"]) == ("pandas", "7")
        assert (told["data"]["status"], told["data"]["round"]) == ("incomplete", 1)
        chunks = [told["data"][f"{which}_chunks"] for which in ("total", "completed", "failed")]
        assert chunks == [3, 3, 0]
        lower = {name.lower(): value for name, value in headers.items()}
        assert lower["webhook-id"] == f"{job_id}:1"
        assert lower["content-type"] == "application/json"
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body + b" ", headers)
        shown = await delivery(world, job_id, "delivered")
        assert (shown["attempts"], shown["status_code"], shown["error"]) == (1, 200, None)
        assert shown["delivered_at"] is not None
        assert shown["next_attempt_at"] is None
        assert await finish(world, ended(job_id), ended(job_id, 2)) == 1  # a replay, and a new one
        again, _ = await receiver.next()
        assert {n.lower(): v for n, v in again.items()}["webhook-id"] == f"{job_id}:2"
        assert receiver.got.empty()


async def test_who_answers_with_an_error_is_told_again(world: World, api_url: str) -> None:
    """500, then 503, then 200: the same id and body each time."""
    async with Receiver().running() as receiver, courier(api_url):
        receiver.answers = [500, 503, 200]
        job_id = await owned_job(world, receiver.url)
        await finish(world, ended(job_id))
        tries = [await receiver.next() for _ in range(3)]
        assert len({body for _, body in tries}) == 1
        secret = (await world.get("/v1/webhook-secret"))["secret"]
        for headers, body in tries:
            Webhook(secret).verify(body, headers)
        shown = await delivery(world, job_id, "delivered")
        assert (shown["attempts"], shown["status_code"]) == (3, 200)


@pytest.mark.parametrize("may_be_reached", [False, True], ids=["private", "public"])
async def test_redirects_are_not_followed(
    world: World, api_url: str, *, may_be_reached: bool
) -> None:
    """Not to an address that must not be asked, and not to one that may be: each attempt goes to
    the receiver itself, and the owner is told why it is not done."""
    away = Receiver()
    allowed = f"{HERE},127.0.0.2/32" if may_be_reached else HERE
    async with away.running("127.0.0.2"), Receiver().running() as receiver:
        receiver.answers, receiver.location = [301, 302, 303, 307, 308], f"{away.url}/a?b=c"
        job_id = await owned_job(world, receiver.url)
        await finish(world, ended(job_id))
        async with courier(api_url, fetch_allow_networks=allowed, api_webhook_backoff_max_s=0.05):
            tries = [await receiver.next() for _ in range(6)]
            assert (await delivery(world, job_id, "delivered"))["attempts"] == 6
        assert len({body for _, body in tries}) == 1
        receiver.answers = [308]
        other = await owned_job(world, receiver.url)
        await finish(world, ended(other))
        async with courier(api_url, fetch_allow_networks=allowed, api_webhook_give_up_s=0.0):
            shown = await delivery(world, other, "failed")
        assert shown["status_code"] == 308
        assert shown["error"] == (
            f"answered 308, a redirect to {away.url}/a?b=c: redirects are not followed"
        )
        assert away.got.empty()


@pytest.mark.parametrize(
    ("answer", "patience_s", "attempts"), [(410, 86_400.0, 1), (500, 0.3, None), (500, 0.0, 1)]
)
async def test_when_it_ends(
    world: World, api_url: str, answer: int, patience_s: float, attempts: int | None
) -> None:
    """410 is the receiver's last word; otherwise the patience ends at some time."""
    told = {"api_webhook_give_up_s": patience_s}
    async with Receiver().running() as receiver, courier(api_url, **told):
        receiver.answers = [answer] * 100
        job_id = await owned_job(world, receiver.url)
        await finish(world, ended(job_id))
        shown = await delivery(world, job_id, "failed")
        assert shown["error"] == f"answered {answer}: no!"
        assert (shown["status_code"], shown["next_attempt_at"]) == (answer, None)
        assert attempts in {None, shown["attempts"]}


async def test_a_receiver_that_hangs_holds_up_no_other(world: World, api_url: str) -> None:
    """While one owner's receivers hang another's are told; then it is tried again."""
    hanging = Receiver()
    hanging.answers = [HANGS] * 50
    told = {"api_webhook_timeout_s": 2.0, "api_webhook_concurrency": 8}
    async with hanging.running(), Receiver().running() as good, courier(api_url, **told):
        stuck = [await owned_job(world, hanging.url) for _ in range(12)]
        await finish(world, *map(ended, stuck))
        for _ in range(4):
            await hanging.next()
        mine = dict(world.client.headers)
        world.client.headers.update(await world.key(f"other-{uuid.uuid4().hex}"))
        job_id = await owned_job(world, good.url)
        await finish(world, ended(job_id))
        await good.next()
        await delivery(world, job_id, "delivered")
        world.client.headers.update(mine)
        hanging.answers = []
        for each in stuck:
            await delivery(world, each, "delivered")
        shown = await delivery(world, stuck[0])
        assert shown["attempts"] >= 1


async def test_a_silent_receiver_is_said_to_be(world: World, api_url: str) -> None:
    """The owner sees that there was no answer, and when it is tried again."""
    told = {"api_webhook_timeout_s": 0.3, "api_webhook_backoff_s": 600.0}
    async with Receiver().running() as receiver, courier(api_url, **told):
        receiver.answers = [HANGS]
        job_id = await owned_job(world, receiver.url)
        await finish(world, ended(job_id))
        await receiver.next()
        async with asyncio.timeout(DEADLINE_S):
            while (shown := await delivery(world, job_id))["error"] is None:
                await asyncio.sleep(0.05)
        assert (shown["status"], shown["error"]) == ("pending", "no answer in 0.3 s")
        assert shown["next_attempt_at"] > shown["last_attempt_at"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_private_addresses_are_never_asked(world: World, api_url: str, host: str) -> None:
    """Neither as a literal nor behind a name, though the row is there: it fails at once."""
    async with Receiver().running() as receiver:
        job_id = await owned_job(world, receiver.url.replace("127.0.0.1", host))
        await finish(world, ended(job_id))
        async with courier(api_url, fetch_allow_networks=""):
            shown = await delivery(world, job_id, "failed")
        assert shown["error"].startswith("not allowed")
        assert shown["attempts"] == 1
        assert receiver.got.empty()


async def test_only_who_wants_to_hear(world: World, api_url: str) -> None:
    """No delivery for a job without a URL, one that is deleted, or one that nobody knows."""
    async with Receiver().running() as receiver:
        plain = (await world.job())["job_id"]
        gone, kept = [await owned_job(world, receiver.url) for _ in range(2)]
        assert await finish(world, ended(gone), ended(kept)) == 2
        await world.client.delete(f"/v1/jobs/{gone}")
        unknown = "0198c5a0-0000-7000-8000-000000000000"
        assert await finish(world, ended(gone), ended(plain), ended(unknown)) == 0
        async with courier(api_url):
            headers, _ = await receiver.next()
            await delivery(world, kept, "delivered")
        assert {n.lower(): v for n, v in headers.items()}["webhook-id"] == f"{kept}:1"
        assert receiver.got.empty()
        assert (await world.get(f"/v1/jobs/{plain}/webhook-deliveries"))["items"] == []


async def test_replicas_share_the_work(world: World, api_url: str) -> None:
    """Three replicas at once deliver each of 30 once."""
    async with Receiver().running() as receiver:
        jobs = [await owned_job(world, receiver.url) for _ in range(30)]
        await finish(world, *map(ended, jobs))
        async with courier(api_url), courier(api_url), courier(api_url):
            got = [await receiver.next() for _ in jobs]
            for job_id in jobs:
                shown = await delivery(world, job_id, "delivered")
                assert shown["attempts"] == 1
        ids = [{n.lower(): v for n, v in headers.items()}["webhook-id"] for headers, _ in got]
        assert sorted(ids) == sorted(f"{job_id}:1" for job_id in jobs)
        assert receiver.got.empty()


async def test_what_a_dead_replica_had_in_hand(world: World, api_url: str) -> None:
    """A row that was lent, and of which nothing was heard, is due again."""
    async with Receiver().running() as receiver:
        job_id = await owned_job(world, receiver.url)
        await finish(world, ended(job_id))
        async with world.db.begin() as connection:
            await connection.execute(
                text("""
                    UPDATE webhook_deliveries
                    SET attempts = 1, not_before = now() + interval '1 second'""")
            )
        async with courier(api_url):
            await receiver.next()
            assert (await delivery(world, job_id, "delivered"))["attempts"] == 2


async def test_secrets(world: World) -> None:
    """One per owner, the same until it is changed; then both sign for a day."""
    first = await world.client.get("/v1/webhook-secret")
    assert first.headers["cache-control"] == "no-store"
    before = first.json()
    assert await world.get("/v1/webhook-secret") == before
    changed = (await world.client.post("/v1/webhook-secret")).json()
    assert changed["secret"] != before["secret"]
    assert changed["previous_until"] is not None
    assert await world.get("/v1/webhook-secret") == changed
    stranger = await world.key(f"other-{uuid.uuid4().hex}")
    other = (await world.client.get("/v1/webhook-secret", headers=stranger)).json()
    assert other["secret"] not in {before["secret"], changed["secret"]}
    async with world.db.connect() as connection:
        rows = await connection.execute(
            text("SELECT secret, previous FROM webhook_secrets WHERE previous IS NOT NULL")
        )
        keys: Sequence[Sequence[bytes]] = [tuple(row) for row in rows]
    signed = next(pair for pair in keys if webhooks.shown(pair[0]) == changed["secret"])
    headers = webhooks.headers("a:1", b"{}", signed, int(time.time()))
    for each in (before, changed):
        assert Webhook(each["secret"]).verify(b"{}", headers) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(other["secret"]).verify(b"{}", headers)
