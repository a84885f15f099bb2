"""What operators have stopped: stages and sources that are paused, replicas that are drained.

A control is a row, not a command: whoever it concerns reads it every second, so it holds for
replicas that are started later as well, survives all restarts, and asking for it twice is harmless.
The api writes it, and a line of the audit log with it. A row stays when it has ended: that is when
the deadlines of chunks that waited in front of a paused stage begin again.

A replica's control holds for one start of it: a replica that is restarted works again.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common.events import Value

Kind = Literal["stage", "source", "replica"]

STAGES = ("downloader", "validator", "uploader")
"""What can be paused: the stages that have chunks in hand."""
SOURCES = ("openverse", "commons", "urls")
"""Likewise."""
SOURCE_PAUSED = "source_paused"
"""The error of an attempt all of whose searches are paused. It is no failure: the chunk waits."""
PAUSED_MARK = "paused by an operator: "
"""How the reason begins why such a search was not asked: it does not rest, as one that failed."""
ALIVE_S = 30.0
"""Seconds after its last sign of life within which a replica counts as there."""

PAUSED_SOURCES = "SELECT name FROM controls WHERE kind = 'source' AND ended_at IS NULL"
"""SQL: the names of sources that are paused."""

RESUMED = """(
    SELECT coalesce(ended_at, 'infinity') FROM controls
    WHERE kind = 'stage' AND name = stage)"""
"""SQL within a query over `job_chunks`: since when the chunk's stage works again; `infinity` while
it is paused, null if it never was."""


class Control(Value):
    """A stage or a source that is paused, or a replica that is drained.

    Attributes:
        kind: What it is.
        name: Which.
        reason: Why, in the words of whoever did it.
        since: Since when.
    """

    kind: Kind
    name: str
    reason: str
    since: datetime

    def __str__(self) -> str:
        what = "drained" if self.kind == "replica" else "paused"
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.name} is {what} since {self.since:%Y-%m-%d %H:%M:%SZ}{why}"


class Replica(Value):
    """A replica of a stage, as it told of itself last.

    Attributes:
        stage: Which stage.
        worker: Its name.
        instance: Which start of it.
        state: `working`, `paused`, `draining`, `drained` or `halted`.
        in_hand: Pieces of work that it has in hand.
        started_at: When it was started.
        seen_at: When it told so.
        alive: Whether that was lately.
    """

    stage: str
    worker: str
    instance: str
    state: str
    in_hand: int
    started_at: datetime
    seen_at: datetime
    alive: bool


_CONTROL = """
    SELECT kind, name, reason, since FROM controls
    WHERE ended_at IS NULL
      AND (kind <> 'replica' OR EXISTS (
          SELECT FROM replicas AS replica
          WHERE replica.worker = name AND replica.instance = controls.instance))"""


async def in_force(connection: AsyncConnection) -> tuple[Control, ...]:
    """Everything that is paused or drained, by kind and name."""
    found = await connection.execute(text(f"{_CONTROL} ORDER BY kind, name"))
    return tuple(Control.model_validate(dict(row)) for row in found.mappings())


async def find(connection: AsyncConnection, kind: Kind, name: str) -> Control | None:
    """The control over this, if one is in force."""
    found = await connection.execute(
        text(f"{_CONTROL} AND kind = :kind AND name = :name"), {"kind": kind, "name": name}
    )
    row = found.mappings().one_or_none()
    return None if row is None else Control.model_validate(dict(row))


async def over(
    connection: AsyncConnection, *, stage: str, worker: str, instance: str
) -> tuple[Control, ...]:
    """What concerns a replica: itself, its stage, all sources."""
    found = await connection.execute(
        text("""
            SELECT kind, name, reason, since FROM controls
            WHERE ended_at IS NULL AND (
                kind = 'source' OR kind = 'stage' AND name = :stage
                OR kind = 'replica' AND name = :worker AND instance = :instance)"""),
        {"stage": stage, "worker": worker, "instance": instance},
    )
    return tuple(Control.model_validate(dict(row)) for row in found.mappings())


async def paused_sources(connection: AsyncConnection) -> frozenset[str]:
    """The names of sources that are paused."""
    return frozenset((await connection.execute(text(PAUSED_SOURCES))).scalars())


async def begin(
    connection: AsyncConnection, kind: Kind, name: str, reason: str, *, instance: str = ""
) -> bool:
    """Pause or drain; False if it is so already.

    Args:
        connection: Of a role that may write `controls`.
        kind: What.
        name: Which.
        reason: Why.
        instance: Of a replica: which start of it.
    """
    made = await connection.execute(
        text("""
            INSERT INTO controls (kind, name, instance, reason)
            VALUES (:kind, :name, :instance, :reason)
            ON CONFLICT (kind, name) DO UPDATE
            SET instance = excluded.instance, reason = excluded.reason,
                since = clock_timestamp(), ended_at = NULL
            WHERE controls.ended_at IS NOT NULL OR controls.instance <> excluded.instance"""),
        {"kind": kind, "name": name, "reason": reason, "instance": instance},
    )
    return bool(made.rowcount)


async def end(connection: AsyncConnection, kind: Kind, name: str) -> bool:
    """Let it work again; False if nothing was in its way."""
    ended = await connection.execute(
        text("""
            UPDATE controls SET ended_at = clock_timestamp()
            WHERE kind = :kind AND name = :name AND ended_at IS NULL"""),
        {"kind": kind, "name": name},
    )
    return bool(ended.rowcount)


async def replicas(connection: AsyncConnection) -> tuple[Replica, ...]:
    """The replicas that told of themselves within a day, by stage and name."""
    found = await connection.execute(
        text("""
            SELECT stage, worker, instance, state, in_hand, started_at, seen_at,
                   seen_at > clock_timestamp() - make_interval(secs => :alive_s) AS alive
            FROM replicas WHERE seen_at > clock_timestamp() - interval '1 day'
            ORDER BY stage, worker"""),
        {"alive_s": ALIVE_S},
    )
    return tuple(Replica.model_validate(dict(row)) for row in found.mappings())


def named(found: Iterable[Replica], worker: str) -> tuple[Replica, ...]:
    """Those of the replicas that are there and have this name."""
    return tuple(each for each in found if each.worker == worker and each.alive)
