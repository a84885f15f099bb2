"""Budgets of hosts over several replicas, with a real PostgreSQL and a server that counts."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.db.engine import connect
from pixcrawler.downloader.budgets import Budgets, Terms
from tests.integration.downloader.harness import HOME

DEADLINE_S = 30.0


@dataclass
class CountingServer:
    """Counts connections that are open at a time, idle ones included, in all and by client."""

    port: int = 0
    open: int = 0
    busiest: int = 0
    answered: Counter[str] = field(default_factory=Counter)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.busiest = max(self.busiest, self.open)
        try:
            while line := await reader.readline():
                await asyncio.sleep(0.02)
                self.answered[line.decode().strip()] += 1
                writer.write(b"ok\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()


@dataclass
class Line:
    """A connection of the client side, opened when it is first used."""

    port: int
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, name: str) -> None:
        if self.streams is None:
            self.streams = await asyncio.open_connection(HOME, self.port)
        reader, writer = self.streams
        writer.write(f"{name}\n".encode())
        await writer.drain()
        assert await reader.readline() == b"ok\n"

    async def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            await self.streams[1].wait_closed()
            self.streams = None


@asynccontextmanager
async def counting_server() -> AsyncIterator[CountingServer]:
    counting = CountingServer()
    server = await asyncio.start_server(counting.handle, HOME, 0)
    counting.port = server.sockets[0].getsockname()[1]
    async with server:
        yield counting


Replica = Budgets[Line]
MakeReplica = Callable[[str, Terms], Replica]


@asynccontextmanager
async def replicas(database: str, port: int) -> AsyncIterator[MakeReplica]:
    """Makes replicas with connections to the database of their own."""
    async with AsyncExitStack() as stack:

        def make(name: str, terms: Terms) -> Replica:
            engine = connect(database, pool_size=2)
            budgets = Budgets(engine, name, terms, lambda: Line(port))
            stack.push_async_callback(engine.dispose)
            stack.push_async_callback(budgets.close)
            return budgets

        yield make


async def work(replica: Replica, name: str, host: str, requests: int) -> None:
    """So many requests, as many at a time as the budget lets."""

    async def once() -> None:
        async with replica.connection(host) as line:
            await line.ask(name)

    await asyncio.gather(*(once() for _ in range(requests)))


async def endless(replica: Replica, name: str) -> None:
    """More requests at a time than any budget has, for ever."""

    async def again_and_again() -> None:
        while True:
            async with replica.connection("host") as line:
                await line.ask(name)

    await asyncio.gather(*(again_and_again() for _ in range(20)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


QUICK = Terms(per_host=8, renew_s=0.5, poll_s=0.05, idle_s=0.5, turn_s=0.5, rest_s=0.2)


@pytest.mark.parametrize("limit", [8, 3, 2])
async def test_three_replicas_never_exceed_a_host_together(database: str, limit: int) -> None:
    """The server never sees more connections than the budget, and everyone's requests are done."""
    terms = Terms(
        per_host=8,
        hosts={"host": limit},
        renew_s=0.5,
        poll_s=0.05,
        idle_s=0.5,
        turn_s=0.3,
        rest_s=0.2,
    )
    async with counting_server() as server, replicas(database, server.port) as make:
        names = ("a", "b", "c")
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(work(make(name, terms), name, "host", 150) for name in names))
        assert server.answered == dict.fromkeys(names, 150)
        assert 1 < server.busiest <= limit


async def test_one_replica_alone_uses_the_whole_budget(database: str) -> None:
    """Politeness costs nothing where nobody else is."""
    async with counting_server() as server, replicas(database, server.port) as make:
        async with asyncio.timeout(DEADLINE_S):
            await work(make("a", QUICK), "a", "host", 200)
        assert server.busiest == 8


async def test_a_newcomer_gets_its_share_of_a_busy_host(database: str) -> None:
    """While one replica has endless work, another is served soon, and about as much."""
    async with counting_server() as server, replicas(database, server.port) as make:
        greedy = asyncio.create_task(endless(make("greedy", QUICK), "greedy"))
        try:
            await until(lambda: server.answered["greedy"] > 50)
            before = server.answered["greedy"]
            async with asyncio.timeout(DEADLINE_S):
                await work(make("late", QUICK), "late", "host", 300)
            meanwhile = server.answered["greedy"] - before
            assert server.busiest <= 8
            assert meanwhile < 6 * 300
        finally:
            greedy.cancel()
            await asyncio.gather(greedy, return_exceptions=True)


async def test_with_more_replicas_than_tokens_all_have_their_turn(database: str) -> None:
    """Two tokens, four replicas with endless work: nobody starves."""
    terms = Terms(per_host=2, renew_s=0.3, poll_s=0.05, idle_s=0.5, turn_s=0.2, rest_s=0.2)
    async with counting_server() as server, replicas(database, server.port) as make:
        names = ("a", "b", "c", "d")
        tasks = [asyncio.create_task(endless(make(name, terms), name)) for name in names]
        try:
            await until(lambda: all(server.answered[name] >= 20 for name in names))
            assert server.busiest <= 2
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_a_killed_replica_held_is_free_after_its_lease(database: str) -> None:
    """A replica that ends without a word delays others by its lease, no longer."""
    terms = Terms(per_host=8, lease_s=1.5, renew_s=0.3, poll_s=0.05, idle_s=0.5)
    async with counting_server() as server, replicas(database, server.port) as make:
        dead = make("dead", terms)
        async with dead.connection("host") as line:
            await line.ask("dead")
            await hold_all(dead)
            assert dead._keeper is not None
            dead._keeper.cancel()
            async with asyncio.timeout(DEADLINE_S):
                await work(make("heir", terms), "heir", "host", 100)
            assert server.answered["heir"] == 100


async def hold_all(replica: Replica) -> None:
    """Lease all eight tokens."""
    async with asyncio.timeout(DEADLINE_S):
        await work(replica, "dead", "host", 40)


async def test_an_outage_of_the_database_delays_and_fails_nothing(database: str) -> None:
    """Requests wait while leases cannot be renewed, and go on afterwards."""
    terms = Terms(per_host=4, lease_s=1.0, renew_s=0.2, poll_s=0.05, idle_s=0.5)
    async with counting_server() as server, replicas(database, server.port) as make:
        replica = make("a", terms)
        task = asyncio.create_task(work(replica, "a", "host", 400))
        await until(lambda: server.answered["a"] > 20)
        engine = replica._engine
        replica._engine = connect("postgresql+asyncpg://nobody:x@127.0.0.1:9/none")
        await until(lambda: replica._hosts["host"].used == 0)
        stopped_at = server.answered["a"]
        assert stopped_at < 400
        await replica._engine.dispose()
        replica._engine = engine
        async with asyncio.timeout(DEADLINE_S):
            await task
        assert server.answered["a"] == 400
        assert server.busiest <= 4


async def test_idle_hosts_are_given_back(database: str) -> None:
    """Nothing is held, open or remembered of a host that is no longer used."""
    async with counting_server() as server, replicas(database, server.port) as make:
        replica = make("a", QUICK)
        await work(replica, "a", "host", 20)
        await until(lambda: server.open == 0 and not replica._hosts)
        assert await rows(replica._engine) == 0


async def test_many_hosts_are_settled_together(database: str) -> None:
    """A list with a host of its own for every image costs few statements, not one each."""
    async with counting_server() as server, replicas(database, server.port) as make:
        replica = make("a", QUICK)
        statements = 0

        def count(*_executed: object) -> None:
            nonlocal statements
            statements += 1

        event.listen(replica._engine.sync_engine, "after_cursor_execute", count)
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(work(replica, "a", f"host-{n}", 1) for n in range(200)))
        assert server.answered["a"] == 200
        assert statements < 4 * 20


async def test_whoever_stops_waiting_leaves_no_trace(database: str) -> None:
    """Cancelled waiters neither hold a token nor block those behind them."""
    async with counting_server() as server, replicas(database, server.port) as make:
        replica = make("a", Terms(per_host=1, renew_s=0.3, poll_s=0.05))
        async with replica.connection("host") as line:
            await line.ask("a")
            waiting = [asyncio.create_task(work(replica, "b", "host", 1)) for _ in range(5)]
            await until(lambda: len(replica._hosts["host"].waiting) == 5)
            for task in waiting[:4]:
                task.cancel()
            await asyncio.gather(*waiting[:4], return_exceptions=True)
        async with asyncio.timeout(DEADLINE_S):
            await waiting[4]
        assert server.answered == {"a": 1, "b": 1}


async def rows(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT count(*) FROM host_budgets"))
        return int(found.scalar_one())
