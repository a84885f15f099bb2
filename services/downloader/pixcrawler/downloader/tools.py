"""Everything that the handler works with, made from the settings, and put away at the end."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Literal

import aiohttp
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import metrics
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.controls import Control
from pixcrawler.common.guard import Guard
from pixcrawler.common.jobs import Job, ListedUrls, StoredList, listed_urls, stored_list
from pixcrawler.common.stage import Stage
from pixcrawler.downloader import breakers
from pixcrawler.downloader.budgets import Budgets, Terms
from pixcrawler.downloader.candidates import Sources
from pixcrawler.downloader.fetch import Connections, Fetcher, Limits
from pixcrawler.downloader.parts import Parts
from pixcrawler.downloader.settings import PRODUCT, Settings
from pixcrawler.downloader.sources import Pausable
from pixcrawler.downloader.sources.commons import Commons
from pixcrawler.downloader.sources.openverse import Openverse
from pixcrawler.downloader.sources.urls import UploadedList, UrlList
from pixcrawler.downloader.sources.web import Asker
from pixcrawler.downloader.spool import Spooler

_STATES: Final[tuple[Literal["leased", "used", "waiting"], ...]] = ("leased", "used", "waiting")


class Tools:
    """The tools of one process; made within its event loop, they connect when they are used.

    Args:
        settings: The downloader's.
        engine: The database, for the budgets of hosts and jobs' lists of URLs.
        blobs: Where parts go.
        worker: This replica's name.
        paused: The sources that operators have paused, by name.
    """

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        blobs: BlobStore,
        worker: str,
        paused: Callable[[], Mapping[str, Control]] = dict,
    ) -> None:
        self._engine = engine
        self._paused = paused
        self._blobs = blobs
        limits = limits_from(settings)
        guard = Guard(settings.fetch_allow_networks)
        self._connections = Connections(guard, settings.user_agent, limits)
        self._spooler = Spooler(settings.fetch_memory_bytes, settings.spool_dir)
        terms = Terms(
            per_host=settings.fetch_per_host,
            hosts=dict(settings.fetch_host_limits),
            lease_s=settings.fetch_lease_s,
            renew_s=settings.fetch_lease_s / 5,
        )
        rests = breakers.Terms(settings.breaker_failures, settings.breaker_recovery_s)
        self.budgets = Budgets(engine, worker, terms, self._connections.make)
        for state in _STATES:
            metrics.HOST_CONNECTIONS.labels(state).set_function(partial(self.budgets.total, state))
        self.fetcher = Fetcher(
            self.budgets,
            guard,
            self._spooler,
            limits,
            product=PRODUCT,
            robots_ttl_s=settings.robots_ttl_s,
            robots_failure_ttl_s=settings.robots_failure_ttl_s,
            rests=rests,
        )
        self.parts = Parts(blobs, self.fetcher, self._spooler, settings.fetch_open_parts)
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": settings.user_agent},
            connector=aiohttp.TCPConnector(force_close=True),  # an idle connection is one, too
        )
        asker = partial(
            Asker,
            session=self._session,
            slot=self.budgets.connection,
            wait_s=settings.source_wait_s,
            deadline_s=settings.fetch_deadline_s,
            patience=settings.retry_tries,
            rests=rests,
        )
        self._searches: Sources = {
            "openverse": Openverse(asker("openverse"), settings.source_openverse_url),
            "commons": Commons(asker("commons"), settings.source_commons_url),
        }

    def sources(self, job: Job) -> Sources:
        """What a chunk of this job may be made of; a source that is paused is not asked."""
        listed = UrlList(partial(self._listed, job.job_id))
        find = partial(self._stored_list, job.job_id)
        found: Sources = {**self._searches, "urls": UploadedList(find, self._blobs, listed)}
        return {name: Pausable(name, source, self._paused) for name, source in found.items()}

    async def _stored_list(self, job_id: str) -> StoredList | None:
        async with self._engine.connect() as connection:
            return await stored_list(connection, job_id)

    async def _listed(self, job_id: str, offset: int, limit: int) -> ListedUrls:
        async with self._engine.connect() as connection:
            return await listed_urls(connection, job_id, offset, limit)

    async def close(self) -> None:
        """End connections, give budgets back, let go of threads."""
        await self._session.close()
        await self.fetcher.close()
        await self.budgets.close()
        await self._connections.close()
        self._spooler.close()


class Working:
    """A stage with its tools: they are put away when it has ended, drained or not.

    Args:
        stage: The consumer loop.
        tools: What its handlers use.
    """

    def __init__(self, stage: Stage, tools: Tools) -> None:
        self._stage = stage
        self._tools = tools
        self.name = stage.name

    async def run(self) -> None:
        """Work until stopped."""
        try:
            await self._stage.run()
        finally:
            await self._tools.close()

    async def stop(self) -> None:
        """Let `run` return soon."""
        await self._stage.stop()

    def alive(self) -> bool:
        """Whether the consumer loop advanced lately."""
        return self._stage.alive()

    async def check(self) -> None:
        """Raise if the consumer loop is not ready."""
        await self._stage.check()


def limits_from(settings: Settings) -> Limits:
    """What bounds a fetch, as the settings say."""
    return Limits(
        timeout_s=settings.fetch_timeout_s,
        deadline_s=settings.fetch_deadline_s,
        max_bytes=settings.fetch_max_bytes,
        tries=settings.fetch_tries,
        backoff_s=settings.fetch_backoff_s,
        backoff_max_s=settings.fetch_backoff_max_s,
        retry_after_max_s=settings.fetch_retry_after_max_s,
        concurrency=settings.fetch_concurrency,
    )
