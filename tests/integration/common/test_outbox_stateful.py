"""The outbox against a model, on the real PostgreSQL: transactions, deaths, two relays at once.

Everything committed is sent at least once, nothing rolled back ever is, and of one key nothing is
sent before what was committed before it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pixcrawler.common import ids, outbox
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.tables import outbox as table
from pixcrawler.common.errors import Retry
from pixcrawler.common.events import ChunkPlanned, Record
from pixcrawler.common.outbox import Relay
from pixcrawler.common.publisher import Publisher
from tests.e2e.background import Background

JOB = "01234567-89ab-7def-8123-456789abcdef"
KEYS = tuple(range(4))
OPEN_AT_MOST = 3


some_keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=5)


@dataclass(eq=False)
class Transaction:
    """One that is open, and the (key, number) of its events."""

    connection: AsyncConnection
    added: list[tuple[int, int]] = field(default_factory=list)


class Died(BaseException):
    """The process of a relay is gone; its connection, too."""


class Kafka(Publisher):
    """What Kafka has acknowledged, in its order; it can be away, and whoever sends can die."""

    def __init__(self) -> None:
        super().__init__("nowhere", source="/test")
        self.log: list[tuple[int, int]] = []
        self.dies = ""
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def check(self) -> None:
        """Answers unless it is away."""
        if self.dies == "away":
            raise Retry("away", error="kafka")

    async def send(self, records: Sequence[Record]) -> None:
        """Acknowledge, or die before or after."""
        self.entered.set()
        await self.gate.wait()
        if self.dies == "before":
            raise Died
        for record in records if self.dies != "between" else records[: len(records) // 2]:
            event = ChunkPlanned.model_validate_json(record.value or b"")
            self.log.append((event.index, event.attempt))
        if self.dies:
            raise Died


class Outbox(RuleBasedStateMachine):
    """Transactions that overlap, and relays that come and go.

    Transactions that are about one key wait for each other, as those of one job do for its lock.
    """

    engine: AsyncEngine
    background: Background

    def __init__(self) -> None:
        super().__init__()
        self.kafka = Kafka()
        self.open: list[Transaction] = []
        self.next: dict[int, int] = defaultdict(int)
        self.committed: list[tuple[int, int]] = []
        self.background.run(self._empty())

    async def _empty(self) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(delete(table))

    def _facts(self, keys: Sequence[int], mine: Transaction) -> list[ChunkPlanned]:
        """One more fact for each key that no other transaction holds."""
        taken = {key for each in self.open if each is not mine for key, _ in each.added}
        facts = []
        for key in keys:
            if key not in taken:
                self.next[key] += 1
                mine.added.append((key, self.next[key]))
                chunk = ids.chunk_id(JOB, key)
                facts.append(ChunkPlanned(chunk_id=chunk, attempt=self.next[key], slices=()))
        return facts

    @precondition(lambda self: len(self.open) < OPEN_AT_MOST)
    @rule(keys=some_keys)
    def begin(self, keys: list[int]) -> None:
        """A transaction that stays open, with some events in it."""
        mine = Transaction(self.background.run(self._connect()))
        self.open.append(mine)
        self._add(mine, keys)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), keys=some_keys)
    def add(self, data: st.DataObject, keys: list[int]) -> None:
        """More events in one of the open transactions."""
        self._add(data.draw(st.sampled_from(self.open)), keys)

    def _add(self, mine: Transaction, keys: Sequence[int]) -> None:
        facts = self._facts(keys, mine)
        self.background.run(outbox.add_all(mine.connection, facts, source="/test", traceparent=""))

    async def _connect(self) -> AsyncConnection:
        return await self.engine.connect()

    @rule(keys=some_keys)
    def whole(self, keys: list[int]) -> None:
        """A transaction from its beginning to its commit."""
        mine = Transaction(self.background.run(self._connect()))
        self._add(mine, keys)
        self.background.run(self._end(mine.connection, commits=True))
        self.committed += mine.added

    @precondition(lambda self: self.open)
    @rule(data=st.data(), commits=st.sampled_from([True, True, False]))
    def end(self, data: st.DataObject, commits: bool) -> None:
        """One of the open transactions is committed, or rolled back."""
        mine = data.draw(st.sampled_from(self.open))
        self.open.remove(mine)
        self.background.run(self._end(mine.connection, commits=commits))
        if commits:
            self.committed += mine.added

    async def _end(self, connection: AsyncConnection, *, commits: bool) -> None:
        await (connection.commit() if commits else connection.rollback())
        await connection.close()

    @precondition(lambda self: self.waits)
    @rule(dies=st.sampled_from(["", "", "away", "before", "between", "after"]))
    def relay(self, dies: str) -> None:
        """One pass; its process may die before, in the middle of, or after what it sends."""
        self.kafka.dies = dies
        with suppress(Died, Retry):
            self.background.run(self._pass())
        self.kafka.dies = ""
        self._look()

    async def _pass(self) -> int:
        return await Relay(self.engine, self.kafka).relay_once()

    @precondition(lambda self: self.waits)
    @rule(dies=st.booleans())
    def two_relays(self, dies: bool) -> None:
        """While one waits for Kafka another finds it locked; then the first goes on, or dies."""
        self.kafka.dies = "after" if dies else ""
        self.background.run(self._two())
        self.kafka.dies = ""
        self._look()

    async def _two(self) -> None:
        self.kafka.gate.clear()
        self.kafka.entered.clear()
        first = asyncio.create_task(self._pass())
        entered = asyncio.create_task(self.kafka.entered.wait())
        await asyncio.wait([first, entered], return_when=asyncio.FIRST_COMPLETED)
        busy = not first.done()
        if busy:
            assert await self._pass() == 0
        entered.cancel()
        self.kafka.gate.set()
        with suppress(Died):
            await first

    @property
    def waits(self) -> bool:
        """Whether something was committed and not sent yet."""
        return bool(set(self.committed) - set(self.kafka.log))

    def _look(self) -> None:
        """What was sent just now was committed, and nothing of its key is left out before it."""
        reached: dict[int, int] = defaultdict(int)
        order = {key: [n for k, n in self.committed if k == key] for key in KEYS}
        for key, number in self.kafka.log:
            assert (key, number) in self.committed
            at = order[key].index(number)
            assert at <= reached[key], f"{number} of {key} was sent before one that came before it"
            reached[key] = max(reached[key], at + 1)

    def teardown(self) -> None:
        """In the end everything that was committed has been sent."""
        for each in self.open:
            self.background.run(self._end(each.connection, commits=False))
        self.background.run(Relay(self.engine, self.kafka).relay_all())
        self._look()
        assert set(self.kafka.log) == set(self.committed)
        assert self.background.run(self._unsent()) == 0

    async def _unsent(self) -> int:
        async with self.engine.connect() as connection:
            rows = select(func.count()).select_from(table).where(~table.c.sent)
            return await connection.scalar(rows) or 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_outbox_keeps_its_promise(database: str) -> None:
    """Whatever transactions and relays do: at least once, never what was rolled back, in order."""
    with Background() as background:
        engine = connect(database, pool_size=12)
        made = type("Bound", (Outbox,), {"engine": engine, "background": background})
        try:
            run_state_machine_as_test(
                made,
                settings=settings(
                    deadline=None,
                    max_examples=25,
                    stateful_step_count=25,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            background.run(engine.dispose())
