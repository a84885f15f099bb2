"""The Faust app: one agent that merges events into the table, each in its job's partition.

Faust has edges that were measured, and each setting below stands for one: agents with concurrency
lose events in a crash, so there is one actor; an exception in an agent acknowledges and skips the
event, so everything is caught and goes to the dead letters; `exactly_once` crashes when a second
worker joins; a killed worker's partitions rest for the session timeout, 60 s by default. At least
once is enough, because the table is a join-semilattice. Several topics in one app lost events when
a worker was killed, so the app reads one topic, and `handler.repartition` fills it.
"""

import asyncio
from typing import Any

import faust
from faust.auth import SASLCredentials, SSLCredentials
from faust.types import StreamT
from faust.types.auth import CredentialsT

from pixcrawler.common import dlq, logs, metrics, topics
from pixcrawler.common.context import RecordRef
from pixcrawler.common.events import Headers
from pixcrawler.common.kafka import METADATA_MS, Cluster
from pixcrawler.tracker import handler
from pixcrawler.tracker.rewind import RewindingTransport
from pixcrawler.tracker.settings import Settings
from pixcrawler.tracker.shown import Shown

APP_ID = topics.TABLE_GROUP
"""Also the consumer group."""

log = logs.get(__name__)


class Tracker:
    """The app with its agents and its table.

    Args:
        settings: Addresses and times.
        shown: Where changed states go.

    Attributes:
        halted: Why nothing more is taken, once too much has died; else empty.
    """

    def __init__(self, settings: Settings, shown: Shown) -> None:
        self.app = _app(settings)
        self.halted = ""
        self._shown = shown
        self._worker = settings.worker
        limits = settings.limits()
        self._limiter = dlq.Limiter(
            run=limits.poison_run, ratio=limits.poison_ratio, window=limits.poison_window
        )
        self._repeats = dlq.Repeats(limits.repeat_s)
        raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "allow_empty": True}
        self._by_job = self.app.topic(topics.TRACKER_EVENTS, **raw)
        self._dead = self.app.topic(topics.dead_letters("tracker"), **raw)
        self._table = self.app.Table(
            "jobs",
            partitions=settings.tracker_partitions,
            key_type=bytes,
            value_type=bytes,
            changelog_topic=self.app.topic(
                topics.TRACKER_CHANGELOG, compacting=True, internal=True, **raw
            ),
            on_recover=self._recovered,
        )
        self.app.agent(self._by_job, name="merge")(self._merge)

    async def _merge(self, stream: StreamT[bytes]) -> None:
        """Merge every record into its job's state."""
        async for event in stream.events():
            message = event.message
            try:
                fact = handler.read(message.key, message.value, _headers(message.headers))
                before = self._table.get(message.key)
                after = handler.apply(before, fact)
            except Exception as error:  # noqa: BLE001 - what gets out of here is skipped silently
                await self._bury(message, error)
                continue
            self._limiter.good()
            state = handler.parse(after)
            if state.deleted:
                self._table.pop(message.key, None)
            elif after != before:
                self._table[message.key] = after
            self._shown.changed(handler.job_of(fact), state)

    async def _recovered(self) -> None:
        """Show every job of the table again: the last worker may have died before it did."""
        for key, stored in list(self._table.items()):
            self._shown.changed(key.decode(), handler.parse(stored))
        log.info("table recovered", action="recover", jobs=len(self._table))

    async def _bury(self, message: Any, error: Exception) -> None:
        """To the dead letters; when they are too many, this one is the last that is taken."""
        place = RecordRef(
            message.topic, message.partition, message.offset, round(message.timestamp * 1000)
        )
        headers = _headers(message.headers)
        letter_id = dlq.letter_id(place, message.key, message.value, headers)
        cause = error.__cause__ or error
        log.error("dead letter", action="dead-letter", letters=letter_id, reason=str(error)[:500])
        if self._repeats.lately(letter_id) and not dlq.is_replayed(headers):
            return
        said = dlq.blame(
            place,
            cause,
            group=APP_ID,
            stage="tracker",
            worker=self._worker,
            letter_id=letter_id,
        )
        letter = dlq.letter(message.key, message.value, headers, said)
        await _acknowledged(
            self._dead, key=letter.key, value=letter.value, headers=list(letter.headers)
        )
        self._repeats.written(letter_id)
        metrics.DEAD_LETTERS.labels("tracker", type(cause).__name__).inc()
        if reason := self._limiter.dead():
            self.halted = f"{APP_ID} has stopped: {reason}"
            log.error("stopped taking records", action="halt", reason=reason)
            await asyncio.Event().wait()  # until the worker has seen it, and stops the app


class _App(faust.App):
    def _create_directories(self) -> None:
        """A table in memory needs none; Faust would make them where the process was started."""


def _app(settings: Settings) -> faust.App:
    app = _App(
        APP_ID,
        broker=[f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings.kafka),
        store="memory://",
        processing_guarantee="at_least_once",
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.tracker_partitions,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_rebalance_timeout=settings.session_timeout_s * 2,
        broker_commit_interval=1.0,
        consumer_metadata_max_age_ms=METADATA_MS,
        producer_metadata_max_age_ms=METADATA_MS,
        producer_acks=-1,
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        key_serializer="raw",
        value_serializer="raw",
    )
    app.transport = RewindingTransport(app.conf.broker_consumer, app=app, loop=app.loop)
    return app


def _credentials(kafka: Cluster) -> CredentialsT | None:
    """The cluster's wishes as Faust takes them."""
    tls = kafka.tls()
    if kafka.wants_user:
        return SASLCredentials(
            username=kafka.username,
            password=kafka.password,
            mechanism=kafka.sasl_mechanism,
            ssl_context=tls,
        )
    return None if tls is None else SSLCredentials(tls)


def _headers(headers: Any) -> Headers:
    """Faust hands headers over as a list of pairs, a mapping or None."""
    return tuple(headers.items() if hasattr(headers, "items") else headers or ())


async def _acknowledged(topic: Any, **record: Any) -> None:
    """Send, and wait for the broker's acknowledgement: an event is acknowledged only after."""
    await (await topic.send(**record))
