"""Live progress: what the tracker publishes on `job.progress`, passed on to whoever watches a job.

Every replica reads the whole topic from where it stands when it begins, in no consumer group, and
remembers nothing. What was shown before is in the database, since the tracker writes there first:
so a watcher looks there at its beginning, and again whenever the feed had to begin anew. A watcher
that is slow gets the latest only.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from pixcrawler.common import events, logs, topics
from pixcrawler.common.errors import Poison
from pixcrawler.common.events import JobProgress
from pixcrawler.common.kafka import Servers, options

log = logs.get(__name__)

POLL_S = 1.0
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
STUCK_S = 60.0


class News(Enum):
    """What a watcher is told that is not a progress."""

    LOOK = "the database knows more than was told"
    GONE = "the job was deleted"
    NOTHING = "nothing has changed"
    CLOSED = "this replica stops"


class Watcher:
    """What one client has not been told yet."""

    def __init__(self) -> None:
        self._news: JobProgress | News = News.LOOK
        self._told = asyncio.Event()
        self._told.set()

    def tell(self, news: JobProgress | News) -> None:
        """Something new; it replaces what nobody has fetched yet, unless that weighs more."""
        before = self._news
        if before is News.GONE or before is News.CLOSED:
            return
        if isinstance(news, JobProgress):
            if before is News.LOOK and self._told.is_set():
                return
            if isinstance(before, JobProgress) and before.revision >= news.revision:
                return
        self._news = news
        self._told.set()

    async def next(self, within_s: float) -> JobProgress | News:
        """The latest news, `NOTHING` after so many seconds without any."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._told.wait()
        if not self._told.is_set():
            return News.NOTHING
        if self._news is not News.GONE and self._news is not News.CLOSED:
            self._told.clear()
        return self._news


class Feed:
    """Reads `job.progress` and tells the watchers.

    Args:
        bootstrap_servers: `host:port`, comma-separated, or a cluster.
        client_id: As brokers know this replica.
    """

    name = "feed"

    def __init__(self, bootstrap_servers: Servers, *, client_id: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._client_id = client_id
        self._watchers: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._stopping = asyncio.Event()
        self._advanced_at = time.monotonic()

    @property
    def watched(self) -> int:
        """How many watch."""
        return sum(map(len, self._watchers.values()))

    @contextmanager
    def watching(self, job_id: str) -> Iterator[Watcher]:
        """Be told of a job as long as the context lasts; the first news is to look."""
        watcher = Watcher()
        if self._stopping.is_set():
            watcher.tell(News.CLOSED)
        self._watchers[job_id].add(watcher)
        try:
            yield watcher
        finally:
            self._watchers[job_id].discard(watcher)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    async def run(self) -> None:
        """Read until stopped; what is away is waited for."""
        attempt = 0
        while not self._stopping.is_set():
            self._advanced_at = time.monotonic()
            try:
                await self._read()
            except (KafkaError, OSError) as error:
                log.warning("cannot read", action="feed", error=str(error) or repr(error))
                backoff_s = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
                attempt += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff_s):
                        await self._stopping.wait()

    async def stop(self) -> None:
        """Tell every watcher that this replica stops, and let `run` return."""
        self._stopping.set()
        self._tell_all(News.CLOSED)

    def alive(self) -> bool:
        """Whether the loop advanced lately."""
        return time.monotonic() - self._advanced_at < STUCK_S

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            topics.JOB_PROGRESS,
            **options(self._bootstrap_servers),
            client_id=self._client_id,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
        )
        try:
            await consumer.start()
            await consumer.seek_to_end()
            # Whatever was published before this place was in the database before.
            self._tell_all(News.LOOK)
            while not self._stopping.is_set():
                self._advanced_at = time.monotonic()
                batches = await consumer.getmany(timeout_ms=round(POLL_S * 1000))
                for batch in batches.values():
                    for record in batch:
                        self._pass_on(record)
        finally:
            await consumer.stop()

    def _pass_on(self, record: ConsumerRecord[bytes, bytes]) -> None:
        watchers = self._watchers.get((record.key or b"").decode(errors="replace"))
        if not watchers:
            return
        news: JobProgress | News = News.GONE
        if record.value is not None:
            try:
                event = events.decode(record.topic, record.key, record.value, record.headers)
            except Poison as poison:
                log.warning("cannot read a record", action="feed", reason=str(poison))
                return
            assert isinstance(event, JobProgress)
            news = event
        for watcher in watchers:
            watcher.tell(news)

    def _tell_all(self, news: News) -> None:
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.tell(news)
