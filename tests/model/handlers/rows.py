"""The rows that downloader, validator and uploader ask for, with the locks of transactions.

Stands in for the engine and its connections. It knows each statement that they send by the object
that it is, and refuses any other: a statement that changes its meaning has to change here as well.
Transactions are READ COMMITTED: others see what they write when they commit; a process that dies
in one leaves nothing.
"""

import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.selectable import Select

from pixcrawler.common.db import locks
from pixcrawler.common.errors import Retry
from pixcrawler.common.jobs import Job
from pixcrawler.validator import claims
from tests.model.handlers.process import current, effect


class Claim(NamedTuple):
    """A row of `image_claims`."""

    sha256: bytes
    phash: int
    url: str
    chunk_id: str
    position: int


@dataclass(frozen=True)
class Rules:
    """What can be switched off here."""

    job_locked: bool = True
    claims_released: bool = True


@dataclass
class Rows:
    """What is committed, and who holds which lock."""

    rules: Rules = field(default_factory=Rules)
    jobs: dict[str, Job] = field(default_factory=dict)
    chunks: dict[str, str] = field(default_factory=dict)
    claims: dict[tuple[str, bytes], Claim] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    held: dict[str, "Transaction"] = field(default_factory=dict)

    @property
    def engine(self) -> AsyncEngine:
        """As handlers know it."""
        return cast("AsyncEngine", self)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator["Transaction"]:
        """A transaction that is committed at its end."""
        transaction = Transaction(self)
        try:
            yield transaction
            await effect()
            transaction.commit()
        finally:
            transaction.end()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["Transaction"]:
        """A transaction that only reads."""
        yield Transaction(self)

    def end_paused(self) -> bool:
        """The server ends transactions of processes that are paused; whether there were any."""
        paused = [tx for tx in self.held.values() if tx.loop is not None and tx.loop.asleep]
        for transaction in paused:
            transaction.broken = True
            transaction.end()
        return bool(paused)

    def live(self, claim: Claim) -> bool:
        """Whether a claim counts."""
        return not self.rules.claims_released or self.chunks.get(claim.chunk_id) != "failed"


class Answer:
    """What a statement found.

    Args:
        rows: As attributes, mappings or single values are asked of them.
        rowcount: Rows that were written.
    """

    def __init__(self, rows: list[Any], rowcount: int = 0) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def all(self) -> list[Any]:
        """Every row."""
        return self._rows

    def one(self) -> Any:
        """The only row."""
        (row,) = self._rows
        return row

    def one_or_none(self) -> Any:
        """The only row, if there is one."""
        return self.one() if self._rows else None

    def scalars(self) -> list[Any]:
        """Rows of one column."""
        return self._rows

    def mappings(self) -> "Answer":
        """Rows that are mappings already."""
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


class Row:
    """A row with attributes."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class Transaction:
    """A connection in a transaction.

    Args:
        rows: What is committed.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._claims: dict[tuple[str, bytes], Claim] = {}
        self._marks: dict[str, str] = {}
        self.loop = current()
        self.broken = False

    def commit(self) -> None:
        """Let others see it, unless the job is gone: its rows reference the job's."""
        self._ensure_whole()
        known = self._rows.jobs
        self._rows.claims |= {key: c for key, c in self._claims.items() if key[0] in known}
        self._rows.marks |= {chunk: job for chunk, job in self._marks.items() if job in known}

    def end(self) -> None:
        """Let go of locks."""
        held = self._rows.held
        for name in [name for name, holder in held.items() if holder is self]:
            del held[name]

    def _ensure_whole(self) -> None:
        if self.broken:
            raise Retry("the server has ended this transaction", error="database")

    async def execute(self, statement: Any, values: Mapping[str, Any] | None = None) -> Answer:
        """One statement: it waits for locks, then it is done at once."""
        await effect()
        self._ensure_whole()
        if statement is locks._LOCK:
            assert values is not None
            return await self._lock(f"{values['kind']}/{values['name']}")
        if isinstance(statement, Select):
            return Answer(_selected(self._rows, statement))
        return _STATEMENTS[statement](self, values or {})

    async def _lock(self, name: str) -> Answer:
        while self._rows.rules.job_locked and self._rows.held.get(name, self) is not self:
            await effect()
        self._rows.held[name] = self
        return Answer([])

    def live_claims(self, job: str) -> list[Claim]:
        """A job's claims that count."""
        found = self._rows.claims.items()
        return [claim for (owner, _), claim in found if owner == job and self._rows.live(claim)]

    # ---- the validator's statements

    def _others(self, values: Mapping[str, Any]) -> list[Claim]:
        """The job's claims of other chunks."""
        found = self._rows.claims | self._claims
        job, chunk = values["job"], values["chunk"]
        return [c for (owner, _), c in found.items() if owner == job and c.chunk_id != chunk]

    def state(self, values: Mapping[str, Any]) -> Answer:
        """`_STATE`."""
        job = self._rows.jobs.get(values["job"])
        chunk = values["chunk"]
        if job is None:
            return Answer([])
        return Answer(
            [
                Row(
                    max_images=job.max_images,
                    unwanted=not job.wanted,
                    status=self._rows.chunks.get(chunk),
                    decided=chunk in self._rows.marks,
                )
            ]
        )

    def own(self, values: Mapping[str, Any]) -> Answer:
        """`_OWN`."""
        chunk = values["chunk"]
        return Answer([c.sha256 for c in self._rows.claims.values() if c.chunk_id == chunk])

    def crowd(self, values: Mapping[str, Any]) -> Answer:
        """`_CROWD`."""
        others = self._others(values)
        live = [claim for claim in others if self._rows.live(claim)]
        dead = [claim for claim in others if not self._rows.live(claim)]
        return Answer([Row(live=_packed(live), dead=_packed(dead), live_count=len(live))])

    def alike(self, values: Mapping[str, Any]) -> Answer:
        """`_ALIKE`."""
        digests, urls, hashes = set(values["digests"]), set(values["urls"]), set(values["hashes"])
        found = [
            Row(sha256=c.sha256, phash=c.phash, url=c.url, equal=c.sha256 in digests)
            for c in sorted(self._others(values), key=lambda c: (c.chunk_id, c.position))
            if self._rows.live(c) != values["failed"]
            and (c.sha256 in digests or c.phash in hashes or c.url in urls)
        ]
        return Answer(found)

    def claim(self, values: Mapping[str, Any]) -> Answer:
        """`_CLAIM`: new rows, or those of failed chunks taken over."""
        columns = ("digests", "hashes", "urls", "positions")
        written = 0
        for sha256, phash, url, position in zip(*(values[c] for c in columns), strict=True):
            key = (values["job"], sha256)
            before = self._rows.claims.get(key)
            if before is None or self._rows.chunks.get(before.chunk_id) == "failed":
                self._claims[key] = Claim(sha256, phash, url, values["chunk"], position)
                written += 1
        return Answer([], written)

    def mark(self, values: Mapping[str, Any]) -> Answer:
        """`_MARK`."""
        self._marks[values["chunk"]] = values["job"]
        return Answer([], 1)


_STATEMENTS: dict[Any, Callable[[Transaction, Mapping[str, Any]], Answer]] = {
    claims._STATE: Transaction.state,
    claims._OWN: Transaction.own,
    claims._CROWD: Transaction.crowd,
    claims._ALIKE: Transaction.alike,
    claims._CLAIM: Transaction.claim,
    claims._MARK: Transaction.mark,
}


def _packed(some: list[Claim]) -> bytes | None:
    """As `string_agg(int8send(phash))` gives them."""
    return b"".join(struct.pack(">q", claim.phash) for claim in some) or None


def _selected(rows: Rows, statement: Any) -> list[Any]:
    """What a query of jobs or chunks finds, told apart by its columns."""
    columns = [column.name for column in statement.selected_columns]
    if columns == ["chunk_id"]:  # the sweep: failed chunks
        asked = statement.whereclause.clauses[0].right.value
        return [chunk for chunk in asked if rows.chunks.get(chunk) == "failed"]
    if columns == ["key", "deleted_at"]:  # the sweep: which jobs there are
        return [Row(key=j.job_id, deleted_at=j.deleted or None) for j in rows.jobs.values()]
    if columns == ["job_id"]:  # the sweep: jobs that were deleted lately
        return [job.job_id for job in rows.jobs.values() if job.deleted]
    job = rows.jobs.get(statement.whereclause.right.value)
    if job is None:
        return []
    gone: dict[str, Any] = {
        "cancelled_at": job.cancelled or None,
        "deleted_at": job.deleted or None,
    }
    kept = {name: value for name, value in job if name not in {"cancelled", "deleted"}}
    return [kept | gone]
