"""Delivers webhooks: from `job.finished` to a receiver's answer, or to giving up.

`handle_job_finished` turns the event into a row, once. `Courier` takes rows that are due, on every
replica, and posts them. A receiver has heard it when it answers 2xx; anything else is tried again,
less and less often, until `api_webhook_give_up_s` have passed. 410 says that nobody wants it, and
an address that must not be reached never gets a second try. Redirects are not followed, wherever
they lead: who may answer for a receiver would decide whom we post to, and with what signature. One
counts as any other answer that is not 2xx, and its owner is told where it leads.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple

import aiohttp
from sqlalchemy.ext.asyncio import AsyncEngine
from yarl import URL

from pixcrawler.api import deliveries, webhooks
from pixcrawler.api.deliveries import DeliveryStatus, Due
from pixcrawler.api.settings import Settings
from pixcrawler.common import logs, metrics
from pixcrawler.common.context import Context
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.events import Event, JobFinished
from pixcrawler.common.guard import Blocked, Guard, GuardedResolver
from pixcrawler.common.stage import Stage

log = logs.get(__name__)

A_TIME = 4
"""Deliveries of one owner under way at a time, about: a receiver that hangs holds up no other's."""
READ_AT_MOST = 2048
"""Bytes of an answer that are looked at."""
QUOTED = 200
LENT_BEYOND_S = 10.0
"""Seconds beyond the longest attempt after which a row counts as lost by its replica."""
STUCK_S = 120.0
_GONE = 410
_SUCCESS = 2  # 2xx
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_USER_AGENT = "PixCrawler-Webhook/1 (+https://www.standardwebhooks.com)"
_JITTER: Final = 0.1


async def handle_job_finished(
    event: JobFinished,
    context: Context,  # noqa: ARG001 - the handler's shape
    *,
    engine: AsyncEngine,
    hint: Callable[[], None],
) -> Sequence[Event]:
    """Store the delivery of a round's end, if somebody wants to hear of it; a repetition is none.

    Args:
        event: What happened.
        context: The piece of work.
        engine: As a role that may write `webhook_deliveries`.
        hint: Called when there is something to deliver.
    """
    async with transaction(engine, "webhook") as connection:
        to = await deliveries.receiver(connection, event.job_id)
        if to is None:
            return ()
        body = webhooks.body(event, name=to.name, project_id=to.project_id, now=datetime.now(UTC))
        added = await deliveries.add(
            connection, event.event_id, event.job_id, event.closed_round, body
        )
    if added:
        hint()
    return ()


class Aside:
    """A stage that the program's readiness does not depend on: the API works without webhooks.

    Args:
        stage: Reads `job.finished`.
    """

    name = "webhook-events"

    def __init__(self, stage: Stage) -> None:
        self.run = stage.run
        self.stop = stage.stop
        self.alive = stage.alive


class Outcome(NamedTuple):
    """What became of an attempt."""

    status: DeliveryStatus
    code: int | None = None
    error: str | None = None


class Courier:
    """Delivers what is due until it is stopped.

    Args:
        engine: As a role that may write `webhook_deliveries` and `webhook_secrets`.
        settings: Timeouts, patience, and private networks that may be reached all the same.
        clock: Seconds since 1970, for signatures.
    """

    name = "webhooks"

    def __init__(
        self, engine: AsyncEngine, settings: Settings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._guard = Guard(settings.fetch_allow_networks)
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._woken = asyncio.Event()
        self._stopping = False
        self._advanced_at = time.monotonic()

    def hint(self) -> None:
        """Something is due: look now."""
        self._woken.set()

    def alive(self) -> bool:
        """Whether the loop advanced lately."""
        return time.monotonic() - self._advanced_at < self._settings.api_webhook_poll_s + STUCK_S

    async def run(self) -> None:
        """Deliver until stopped; what is under way then has its timeout to end."""
        resolver = GuardedResolver(self._guard, threads=4)
        try:
            async with self._session(resolver) as session:
                while not self._stopping:
                    self._woken.clear()
                    self._advanced_at = time.monotonic()
                    await self._look(session)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._settings.api_webhook_poll_s):
                            await self._woken.wait()
                if self._under_way:
                    await asyncio.wait(self._under_way)
        finally:
            for task in self._under_way:
                task.cancel()
            await resolver.close()

    async def stop(self) -> None:
        """Take nothing more; also before it runs, and twice."""
        self._stopping = True
        self._woken.set()

    def _session(self, resolver: GuardedResolver) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=resolver,
            use_dns_cache=False,
            socket_factory=self._guard.socket,
            force_close=True,
            limit=0,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=self._settings.api_webhook_timeout_s),
            auto_decompress=False,
        )

    async def _look(self, session: aiohttp.ClientSession) -> None:
        """Begin what is due, as long as there is room; what fails is tried at the next look."""
        try:
            while (free := self._settings.api_webhook_concurrency - len(self._under_way)) > 0:
                if not await self._begin(session, min(free, A_TIME)):
                    return
        except Exception as error:  # noqa: BLE001 - the rows stay: the next look finds them
            log.warning("cannot look", action="webhooks", error=str(error) or repr(error))

    async def _begin(self, session: aiohttp.ClientSession, number: int) -> int:
        of_owner = Counter(self._under_way.values())
        busy = [owner for owner, count in of_owner.items() if count >= A_TIME]
        lend_s = self._settings.api_webhook_timeout_s + LENT_BEYOND_S
        async with transaction(self._engine, "lend") as connection:
            taken = await deliveries.take(connection, at_most=number, busy=busy, lend_s=lend_s)
        for due in taken:
            task = asyncio.create_task(self._deliver(session, due))
            self._under_way[task] = due.owner
            task.add_done_callback(self._ended)
        return len(taken)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._woken.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a delivery is lost", action="webhooks", error=str(error) or repr(error))

    async def _deliver(self, session: aiohttp.ClientSession, due: Due) -> None:
        """One attempt; whatever is raised leaves the row lent, so that it is due again later."""
        async with transaction(self._engine, "secret") as connection:
            secret = await deliveries.secret(connection, due.owner)
        body = due.body.encode()
        headers = webhooks.headers(due.webhook_id, body, secret.keys, int(self._clock()))
        outcome = await self._post(session, due.url, body, headers)
        again_s = self._pause(due.attempts)
        if outcome.status == "pending" and due.age_s + again_s > self._give_up_s:
            outcome = outcome._replace(status="failed")
        async with transaction(self._engine, "settle") as connection:
            await deliveries.settle(
                connection,
                due,
                outcome.status,
                code=outcome.code,
                error=outcome.error,
                again_s=again_s,
            )
        self._tell(due, outcome)

    async def _post(
        self, session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]
    ) -> Outcome:
        """What a receiver answers."""
        try:
            target = URL(url)
            self._guard.check_url(target)
            async with session.post(
                target, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status // 100 == _SUCCESS:
                    return Outcome("delivered", response.status)
                said = await response.content.read(READ_AT_MOST)
                status: DeliveryStatus = "failed" if response.status == _GONE else "pending"
                to = response.headers.get("Location", "")
                return Outcome(status, response.status, _answered(response.status, said, to))
        except TimeoutError:
            return Outcome(
                "pending", None, f"no answer in {self._settings.api_webhook_timeout_s:g} s"
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = getattr(error, "os_error", None) or error
            if isinstance(cause, Blocked):
                return Outcome("failed", None, f"not allowed: {cause}"[:QUOTED])
            return Outcome("pending", None, f"{type(error).__name__}: {error}"[:QUOTED])

    @property
    def _give_up_s(self) -> float:
        return self._settings.api_webhook_give_up_s

    def _pause(self, attempts: int) -> float:
        """Seconds before the next attempt: doubling, with jitter so that not all come at once."""
        settings = self._settings
        doubled = settings.api_webhook_backoff_s * 2.0 ** min(attempts - 1, 32)
        pause = min(doubled, settings.api_webhook_backoff_max_s)
        return pause * random.uniform(1 - _JITTER, 1 + _JITTER)

    def _tell(self, due: Due, outcome: Outcome) -> None:
        metrics.WEBHOOKS.labels(outcome.status).inc()
        log.info(
            "webhook",
            action="webhook",
            job=due.job_id,
            webhook_id=due.webhook_id,
            attempt=due.attempts,
            status=outcome.status,
            code=outcome.code,
            error=outcome.error,
        )


def _answered(status: int, said: bytes, to: str) -> str:
    """What an answer said, in one line that a person can act upon.

    Args:
        status: The answer's, not 2xx.
        said: How its body begins.
        to: Where it redirects to, if it does.
    """
    if status in _REDIRECTS:
        where = f" to {_quoted(to)}" if to else ""
        return f"answered {status}, a redirect{where}: redirects are not followed"
    quoted = _quoted(said.decode("utf-8", "replace"))
    return f"answered {status}: {quoted}" if quoted else f"answered {status}"


def _quoted(text: str) -> str:
    printable = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(printable.split())[:QUOTED]
