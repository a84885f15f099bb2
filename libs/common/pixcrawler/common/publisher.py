"""Publishing events: an idempotent producer, and a deadline for every acknowledgement."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordTooLargeError,
)

from pixcrawler.common import events, failpoints, logs, telemetry
from pixcrawler.common.errors import Fatal, Retry
from pixcrawler.common.events import Event, Record
from pixcrawler.common.kafka import Servers, options
from pixcrawler.common.watchdog import Watchdog

log = logs.get(__name__)

TOO_LARGE = (MessageSizeTooLargeError, RecordTooLargeError)
"""A record that no broker here takes: it does not help to send it again."""
_CHECK_S = 5.0
_STOP_S = 10.0
_POSTS_AT_MOST = 100


class Publisher:
    """Publishes events of one program.

    Args:
        bootstrap_servers: `host:port`, comma-separated, or a cluster.
        source: `ce_source` of everything that is published here, such as `/downloader/<worker>`.
        watchdog: Asked before each publication, if given.
        timeout_s: How long an acknowledgement may take.
    """

    def __init__(
        self,
        bootstrap_servers: Servers,
        *,
        source: str,
        watchdog: Watchdog | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.source = source
        self._bootstrap_servers = bootstrap_servers
        self._watchdog = watchdog
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._posts: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect. Does nothing if it is connected.

        Raises:
            Retry: the broker cannot be reached.
        """
        if self._producer is not None:
            return
        producer = AIOKafkaProducer(
            **options(self._bootstrap_servers),
            client_id=self.source.strip("/").replace("/", "-"),
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=round(self._timeout_s * 1000),
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await _stop(producer)
            raise Retry(f"Kafka at {self._bootstrap_servers}: {error}", error="kafka") from error
        except BaseException:
            await _stop(producer)
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Let go of the broker; may be called at any time, also twice."""
        posts = list(self._posts)
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def check(self) -> None:
        """Raise `Retry` if the broker cannot be reached (readiness)."""
        producer = self._connected()
        try:
            async with asyncio.timeout(_CHECK_S):
                await producer.client.fetch_all_metadata()
        except (KafkaError, OSError) as error:
            message = f"Kafka at {self._bootstrap_servers}: {str(error) or repr(error)}"
            raise Retry(message, error="kafka") from error

    async def publish(self, facts: Sequence[Event], *, traceparent: str = "") -> None:
        """Publish events, and return when all of them are acknowledged.

        Args:
            facts: What happened.
            traceparent: The trace that they belong to, as they carry it; a new one if empty.

        Raises:
            Retry: no acknowledgement in time; publishing again makes duplicates at worst.
            Fatal: this producer will never publish again.
        """
        trace = traceparent or str(telemetry.new_trace())
        encoded = [events.encode(fact, source=self.source, traceparent=trace) for fact in facts]
        await self.send(encoded)

    async def send(self, records: Sequence[Record]) -> None:
        """The same for records as they are."""
        if not records:
            return
        producer = self._connected()
        if self._watchdog is not None:
            self._watchdog.ensure_fresh()
        try:
            async with asyncio.timeout(self._timeout_s):
                acks = [await _enqueue(producer, record) for record in records]
                await asyncio.gather(*acks)
            for record in records:
                failpoints.hit(f"after:{record.topic}")
        except TOO_LARGE:
            raise
        except (KafkaError, OSError) as error:
            raise _next_step(error) from error

    def post(self, fact: Event, *, traceparent: str = "") -> bool:
        """Publish in the background and forget: never waits, never fails.

        Returns:
            False if too much is on its way already, so that this one was dropped.
        """
        if self._producer is None or len(self._posts) >= _POSTS_AT_MOST:
            return False
        task = asyncio.create_task(self._post(fact, traceparent))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)
        return True

    async def _post(self, fact: Event, traceparent: str) -> None:
        try:
            await self.publish([fact], traceparent=traceparent)
        except Exception as error:  # noqa: BLE001 - whoever needs to know publishes for itself
            log.debug("not published", action="post", event_id=fact.event_id, error=str(error))

    def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise Retry("not connected to Kafka yet", error="kafka")
        return self._producer


async def _enqueue(producer: AIOKafkaProducer, record: Record) -> asyncio.Future[object]:
    failpoints.hit(f"before:{record.topic}")
    ack: asyncio.Future[object] = await producer.send(
        record.topic, value=record.value, key=record.key, headers=list(record.headers)
    )
    return ack


def _next_step(error: Exception) -> Exception:
    """Whether it may help to try again with the same producer."""
    if isinstance(error, OSError | KafkaTimeoutError) or getattr(error, "retriable", False):
        return Retry(f"publishing: {str(error) or repr(error)}", error="kafka")
    return Fatal(f"the producer is broken: {error!r}")


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer; without a broker its flush would wait for ever."""
    try:
        async with asyncio.timeout(_STOP_S):
            await producer.stop()
    except (TimeoutError, KafkaError) as error:
        log.warning("the producer did not stop cleanly", action="stop", error=repr(error))
        await producer.client.close()
