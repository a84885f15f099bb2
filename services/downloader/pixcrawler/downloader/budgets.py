"""Politeness over all replicas: how many connections each of them may have to a host.

A token is a connection. A host has `limit` tokens; replicas lease them in the table `host_budgets`,
where the sum over living leases never exceeds the limit. The rules:

- All hosts that need something are settled in one transaction of four statements; the hosts' locks
  are taken first, in one order, by a statement of its own.
- A lease ends by the database's clock, so a killed replica's tokens are free again soon. It is
  renewed while it is used, and nothing is handed out shortly before its end: while the database is
  away, candidates wait, and nothing is decided about them. (Only a replica that is cut off from the
  database in the middle of a request can exceed a budget, for the rest of that request.)
- A row says "I need this host", also with no token. With n rows, no replica keeps more than
  ceil(limit / n) tokens: whoever has more gives back as its connections come free. Where there are
  more replicas than tokens, whoever had one for a while lets the others go first.
- A token that is given back is closed first: an idle connection counts as one.
"""

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import transaction

logger = logging.getLogger(__name__)

_LEASES = text(
    """
    SELECT host, count(*) AS others, coalesce(sum(tokens), 0) AS tokens,
           count(*) FILTER (WHERE tokens = 0) AS without
    FROM host_budgets
    WHERE host = ANY(:hosts) AND worker <> :worker AND expires_at > clock_timestamp()
    GROUP BY host
    """
)
_LEAVE = text(
    """
    DELETE FROM host_budgets
    WHERE (host = ANY(:hosts) AND expires_at <= clock_timestamp())
       OR (host = ANY(:left) AND worker = :worker)
    """
)
_LEASE = text(
    """
    INSERT INTO host_budgets (host, worker, tokens, expires_at)
    SELECT host, :worker, tokens, clock_timestamp() + make_interval(secs => seconds)
    FROM unnest(CAST(:hosts AS text[]), CAST(:tokens AS integer[]),
                CAST(:seconds AS double precision[])) AS wanted (host, tokens, seconds)
    ON CONFLICT (host, worker)
    DO UPDATE SET tokens = excluded.tokens, expires_at = excluded.expires_at
    """
)
_QUIT = text("DELETE FROM host_budgets WHERE worker = :worker")


class Closable(Protocol):
    """A connection."""

    async def close(self) -> None:
        """End it."""
        ...


C = TypeVar("C", bound=Closable)


@dataclass(frozen=True, slots=True)
class Terms:
    """How budgets are kept; all times in seconds.

    Attributes:
        per_host: Connections to a host at a time, over all replicas.
        hosts: Hosts that allow fewer.
        lease_s: How long a lease lasts that is not renewed.
        renew_s: Between two looks at a lease that is in use; also the margin before its end.
        poll_s: Between two tries to lease what others have.
        idle_s: Without use before a lease is given back.
        turn_s: How long a token may be kept while another replica has none and none is free.
        rest_s: How long whoever kept one for that long lets the others go first.
    """

    per_host: int
    hosts: Mapping[str, int] = field(default_factory=dict)
    lease_s: float = 10.0
    renew_s: float = 2.0
    poll_s: float = 0.25
    idle_s: float = 2.0
    turn_s: float = 2.0
    rest_s: float = 1.0

    @property
    def presence_s(self) -> float:
        """How long a row without tokens stands for a replica that waits."""
        return 3 * self.renew_s

    def limit(self, host: str) -> int:
        """The tokens of a host."""
        return min(self.per_host, self.hosts.get(host, self.per_host))


class Others(NamedTuple):
    """The other replicas at a host: how many, their tokens, how many of them have none."""

    replicas: int = 0
    tokens: int = 0
    without: int = 0


NOBODY = Others()


@dataclass(slots=True, eq=False)
class Host(Generic[C]):
    """What this replica has of a host. Times are the event loop's.

    Always `used + len(idle) <= held`, and the database knows of `held` tokens at least.
    """

    name: str
    limit: int
    share: int  # tokens at most, as long as the same number of replicas want this host
    held: int = 0  # tokens leased
    used: int = 0  # of them handed out
    idle: list[C] = field(default_factory=list)  # open connections of tokens not in use
    waiting: OrderedDict[asyncio.Future[None], None] = field(default_factory=OrderedDict)
    alone: bool = True
    polling: bool = False  # asked, and got less than it could use
    yields: bool = False  # gives everything back, so that others have their turn
    ends_at: float = 0.0  # of the lease
    due_at: float = 0.0  # the next look at the database
    used_at: float = 0.0
    since: float = 0.0  # has had tokens
    rests_until: float = 0.0

    @property
    def demand(self) -> int:
        """Tokens that could be used right now."""
        return self.used + len(self.waiting)

    @property
    def cap(self) -> int:
        """Tokens to have at most."""
        return min(self.limit, self.share)


class Budgets(Generic[C]):
    """Hands out connections within each host's budget; every connection belongs to one token.

    Args:
        engine: The database of `host_budgets`.
        worker: This replica's name.
        terms: How budgets are kept.
        connect: Makes a connection for a token; it opens nothing before it is used.
    """

    def __init__(
        self, engine: AsyncEngine, worker: str, terms: Terms, connect: Callable[[], C]
    ) -> None:
        self._engine = engine
        self._worker = f"{worker}/{uuid.uuid4().hex[:8]}"  # a successor does not inherit
        self._terms = terms
        self._connect = connect
        self._hosts: dict[str, Host[C]] = {}
        self._wake = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def connection(self, name: str) -> AsyncIterator[C]:
        """A connection to a host, once one is free: whoever waits longest comes first."""
        host = await self._acquire(name)
        connection = host.idle.pop() if host.idle else self._connect()
        try:
            yield connection
        finally:
            await self._release(host, connection)

    def total(self, state: Literal["leased", "used", "waiting"]) -> int:
        """Over all hosts: tokens leased, of them handed out; tasks that wait for one."""
        hosts = self._hosts.values()
        if state == "leased":
            return sum(host.held for host in hosts)
        return sum(host.used if state == "used" else len(host.waiting) for host in hosts)

    async def _acquire(self, name: str) -> Host[C]:
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="host budgets")
        host = self._hosts.get(name)
        if host is None:
            limit = self._terms.limit(name)
            host = self._hosts[name] = Host(name, limit, share=limit)
        if not host.waiting and self._free(host) > 0:
            host.used += 1
            return host
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        host.waiting[turn] = None
        if host.held < host.cap and not host.polling:
            self._hurry(host)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # served, and cancelled in the same moment
                host.used -= 1
                self._serve(host)
            else:
                host.waiting.pop(turn, None)
            raise
        return host

    async def _release(self, host: Host[C], connection: C) -> None:
        surplus = host.yields or host.used > min(host.held, host.cap)
        try:
            if surplus:
                await connection.close()  # still counted while it closes
        finally:
            host.used -= 1
            host.used_at = _now()
            if surplus:
                self._hurry(host)
            else:
                host.idle.append(connection)
                self._serve(host)

    def _free(self, host: Host[C]) -> int:
        """Tokens that may be handed out now."""
        if host.yields or host.ends_at - _now() < self._terms.renew_s:
            return 0
        return min(host.held, host.cap) - host.used

    def _serve(self, host: Host[C]) -> None:
        """Hand out what is free to those who wait, in order."""
        free = self._free(host)
        while free > 0 and host.waiting:
            turn, _ = host.waiting.popitem(last=False)
            if not turn.done():  # else its task was cancelled
                turn.set_result(None)
                host.used += 1
                free -= 1

    def _hurry(self, host: Host[C]) -> None:
        host.due_at = 0.0
        self._wake.set()

    async def close(self) -> None:
        """Close what is idle and give everything back; harmless when repeated."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
            with suppress(SQLAlchemyError, OSError, TimeoutError):
                async with asyncio.timeout(self._terms.renew_s), self._engine.begin() as link:
                    await link.execute(_QUIT, {"worker": self._worker})
        for host in self._hosts.values():
            while host.idle:
                await host.idle.pop().close()
        self._hosts.clear()

    # --- what goes on with the database ---------------------------------------------------------

    async def _keep(self) -> None:
        pause = self._terms.poll_s
        while True:
            now = _now()
            hosts = [host for host in self._hosts.values() if host.due_at <= now]
            if not hosts:
                await self._sleep()
                continue
            try:
                await self._settle(hosts)
                pause = self._terms.poll_s
            except Exception as error:  # noqa: BLE001 - whatever it is, candidates wait and live
                logger.warning("host budgets wait for the database: %r", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._terms.renew_s)

    async def _sleep(self) -> None:
        self._wake.clear()
        now = _now()
        due_at = min((host.due_at for host in self._hosts.values()), default=now + 60)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due_at - now)):
                await self._wake.wait()

    async def _settle(self, hosts: Collection[Host[C]]) -> None:
        """One exchange with the database about these hosts."""
        for host in hosts:
            await self._shrink(host)
        asked_at = _now()
        wanted = {host.name: self._wanted(host) for host in hosts}
        others, tokens = await self._exchange(hosts, wanted)
        for host in hosts:
            host.ends_at = asked_at + self._terms.lease_s
            self._note(host, others.get(host.name, NOBODY), tokens.get(host.name, 0))
            self._plan(host, wanted[host.name])
            self._serve(host)
            if not (host.held or host.demand):
                del self._hosts[host.name]

    async def _shrink(self, host: Host[C]) -> None:
        """Close what is to be given back, before anyone else can have it."""
        now = _now()
        useful = host.demand
        if host.alone and (host.used or now - host.used_at < self._terms.idle_s):
            useful = max(useful, host.held)
        if host.yields or now >= host.ends_at:
            useful = 0
        host.held = min(host.held, max(host.used, min(useful, host.cap)))
        while host.idle and host.used + len(host.idle) > host.held:
            await host.idle.pop().close()

    def _wanted(self, host: Host[C]) -> int:
        if host.yields or _now() < host.rests_until:
            return host.held
        return max(host.held, host.demand)

    async def _exchange(
        self, hosts: Collection[Host[C]], wanted: Mapping[str, int]
    ) -> tuple[dict[str, Others], dict[str, int]]:
        names = [host.name for host in hosts]
        left = [host.name for host in hosts if not wanted[host.name] and not host.waiting]
        async with transaction(self._engine, "budgets") as connection:
            await locks.host_locks(connection, names)
            found = await connection.execute(_LEASES, {"hosts": names, "worker": self._worker})
            others = {row.host: Others(row.others, row.tokens, row.without) for row in found}
            tokens = {
                host.name: grant(host, wanted[host.name], others.get(host.name, NOBODY))
                for host in hosts
                if host.name not in left
            }
            await connection.execute(_LEAVE, {"hosts": names, "left": left, "worker": self._worker})
            if tokens:
                await connection.execute(_LEASE, self._lease(tokens))
        return others, tokens

    def _lease(self, tokens: Mapping[str, int]) -> dict[str, object]:
        terms = self._terms
        return {
            "worker": self._worker,
            "hosts": list(tokens),
            "tokens": list(tokens.values()),
            "seconds": [terms.lease_s if held else terms.presence_s for held in tokens.values()],
        }

    def _note(self, host: Host[C], others: Others, tokens: int) -> None:
        """Take over what the exchange brought."""
        now = _now()
        if tokens and not host.held:
            host.since = now
        host.held = tokens
        host.alone = others.replicas == 0
        host.share = share(host.limit, others)
        host.polling = host.demand > tokens and tokens < host.cap
        if host.yields and not tokens:
            host.yields = False
            host.rests_until = now + self._terms.rest_s
        crowded = others.replicas + 1 > host.limit and tokens + others.tokens >= host.limit
        if tokens and crowded and others.without and now - host.since >= self._terms.turn_s:
            host.yields = True

    def _plan(self, host: Host[C], wanted: int) -> None:
        """When to look again."""
        now = _now()
        if host.held > max(host.used, 0 if host.yields else host.cap):
            host.due_at = now  # too much
        elif host.polling and host.held == wanted and now >= host.rests_until:
            host.due_at = now  # got all that was asked for, and more is wanted meanwhile
        elif host.polling:
            host.due_at = now + self._terms.poll_s
        else:
            host.due_at = now + self._terms.renew_s


def share(limit: int, others: Others) -> int:
    """Tokens that one of these replicas may have: so many that nobody stays without."""
    replicas = others.replicas + 1
    return max(1, limit // replicas if others.without else -(-limit // replicas))


def grant(host: Host[C], wanted: int, others: Others) -> int:
    """Tokens to lease: what is held anyway, and more as far as there are some."""
    return max(host.held, min(wanted, host.limit - others.tokens, share(host.limit, others)))


def _now() -> float:
    return asyncio.get_running_loop().time()
