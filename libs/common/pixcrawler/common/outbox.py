"""The outbox: an event that leaves a database transaction leaves through here.

`add` writes a row in the same transaction as the change that it tells of. A `Relay` publishes the
rows in their order; of all relays in the cluster one is active at a time. A crash between
publishing and marking publishes again, and duplicates are harmless.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import RowMapping, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pixcrawler.common import events, failpoints, logs, metrics
from pixcrawler.common.db import locks
from pixcrawler.common.db.tables import outbox
from pixcrawler.common.errors import Retry
from pixcrawler.common.events import Event, Record
from pixcrawler.common.periodic import Periodic, beat
from pixcrawler.common.publisher import Publisher

log = logs.get(__name__)

BATCH = 200
"""Rows in one transaction."""
PUBLISH_S = 5.0
"""How long one batch may take to be acknowledged. Every role's idle_in_transaction_session_timeout
is 10 s, and while the relay waits for Kafka its transaction is idle."""
KEEP = timedelta(hours=1)
"""How long a sent row stays, for people who look."""
_BESIDE_S = 0.1
"""How soon a relay looks again after another that is active: that one may have read its rows before
the last of them was committed, and then leaves it to the next."""
_PRUNE_EVERY_S = 600.0
_COUNT_EVERY_S = 5.0
_PRUNE_AT_MOST = 10_000
_ANYTHING = select(exists().where(~outbox.c.sent))


async def add(connection: AsyncConnection, event: Event, *, source: str, traceparent: str) -> None:
    """Put an event into the outbox, within the caller's transaction.

    Args:
        connection: In the transaction of the change that the event tells of.
        event: What happened.
        source: `ce_source`, such as `/planner/<worker>`.
        traceparent: W3C trace context.
    """
    await add_all(connection, [event], source=source, traceparent=traceparent)


async def add_all(
    connection: AsyncConnection, facts: Sequence[Event], *, source: str, traceparent: str
) -> None:
    """The same for several events, in one statement and in their order."""
    if facts:
        rows = [_row(event, source, traceparent) for event in facts]
        await connection.execute(insert(outbox).values(rows))


class Relay:
    """Moves rows of the outbox to Kafka; one of the runnables of the api and the planner.

    Args:
        engine: Where the outbox is.
        publisher: Started by whoever made it.
        interval_s: How often it looks without being told to: for what somebody left who died.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        publisher: Publisher,
        *,
        interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._publisher = publisher
        self._clock = clock
        self._passes = Periodic("relay", self.relay_all, interval_s=interval_s, clock=clock)
        self._stopping = False
        self._beside = False
        self._pruned_at = clock()
        self._counted_at = -_COUNT_EVERY_S

    def hint(self) -> None:
        """Say that there is something new, once its transaction has been committed."""
        self._passes.hint()

    def alive(self) -> bool:
        """Whether the relay advanced lately."""
        return self._passes.alive()

    async def run(self) -> None:
        """Relay until stopped. Trouble with Kafka or the database is waited out."""
        await self._passes.run()

    async def stop(self) -> None:
        """Let `run` return after the batch in hand."""
        self._stopping = True
        await self._passes.stop()

    async def relay_all(self) -> None:
        """Publish batch after batch until nothing is left, by this relay or another."""
        await self.measure()  # first: when nothing can be published it has to show
        while not self._stopping:
            relayed = await self.relay_once()
            if self._beside:
                await asyncio.sleep(_BESIDE_S)
            elif relayed < BATCH:
                break
            beat()
            await self.measure()
        await self._prune_now_and_then()

    async def relay_once(self) -> int:
        """Publish one batch and mark it sent, in one transaction.

        Returns:
            How many rows it was; 0 also if another relay is active.

        Raises:
            Retry: Kafka did not acknowledge in time; nothing is marked.
        """
        self._beside = False
        if not await self._anything():
            return 0
        await self._publisher.check()  # before the transaction, so that an outage opens none
        async with self._engine.begin() as connection:
            if not await locks.try_relay_lock(connection):
                self._beside = True
                return 0
            unsent = select(outbox).where(~outbox.c.sent).order_by(outbox.c.id).limit(BATCH)
            rows = (await connection.execute(unsent)).mappings().all()
            if not rows:
                return 0
            await self._publish(rows)
            failpoints.hit("before:relay")
            ids = [row["id"] for row in rows]
            await connection.execute(update(outbox).where(outbox.c.id.in_(ids)).values(sent=True))
        failpoints.hit("after:relay")
        log.debug("relayed", action="relay", records=len(rows))
        return len(rows)

    async def prune(self) -> int:
        """Delete rows that were sent long ago; how many there were."""
        async with self._engine.begin() as connection:
            old = (
                select(outbox.c.id)
                .where(outbox.c.sent, outbox.c.created_at < func.now() - KEEP)
                .limit(_PRUNE_AT_MOST)
            )
            return (await connection.execute(delete(outbox).where(outbox.c.id.in_(old)))).rowcount

    async def _anything(self) -> bool:
        async with self._engine.connect() as connection:
            return bool(await connection.scalar(_ANYTHING))

    async def _publish(self, rows: Sequence[RowMapping]) -> None:
        try:
            async with asyncio.timeout(PUBLISH_S):
                await self._publisher.send([_record(row) for row in rows])
        except TimeoutError as error:
            raise Retry(f"Kafka took more than {PUBLISH_S:g} s", error="kafka") from error

    async def measure(self) -> None:
        """The gauges of what waits, at most every few seconds."""
        now = self._clock()
        if now - self._counted_at < _COUNT_EVERY_S:
            return
        self._counted_at = now
        age = func.extract("epoch", func.clock_timestamp() - func.min(outbox.c.created_at))
        async with self._engine.connect() as connection:
            waiting = select(func.count(), age).where(~outbox.c.sent)
            number, age_s = (await connection.execute(waiting)).one()
        metrics.OUTBOX_PENDING.set(number)
        metrics.OUTBOX_AGE.set(max(0.0, float(age_s or 0.0)))

    async def _prune_now_and_then(self) -> None:
        now = self._clock()
        if now - self._pruned_at >= _PRUNE_EVERY_S:
            self._pruned_at = now
            await self.prune()


def _row(event: Event, source: str, traceparent: str) -> dict[str, object]:
    record = events.encode(event, source=source, traceparent=traceparent, at=datetime.now(UTC))
    return {
        "topic": record.topic,
        "key": record.key,
        "value": record.value,
        "headers": [[name, value.decode()] for name, value in record.headers],
    }


def _record(row: RowMapping) -> Record:
    headers = tuple((name, text.encode()) for name, text in row["headers"])
    return Record(row["topic"], row["key"], row["value"], headers)
