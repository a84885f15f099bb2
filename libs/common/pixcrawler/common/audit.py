"""The audit log: one line for each thing that somebody did to the system, and why.

A line is written in the transaction of what it tells of, so that neither is there without the
other. What changed nothing (a request that came twice, a pause of what is paused) leaves no line.
A line has ids, numbers and the words of whoever acted: no key, no secret, no content.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common.db.tables import audit_log
from pixcrawler.common.events import Value

Action = Literal[
    "chunk.give_up",
    "chunk.retry",
    "job.cancel",
    "job.delete",
    "job.extend",
    "job.priority",
    "job.retry",
    "key.create",
    "key.revoke",
    "replica.drain",
    "replica.resume",
    "schema.upgrade",
    "source.pause",
    "source.resume",
    "stage.pause",
    "stage.resume",
    "webhook_secret.change",
]
"""What can be done, and before the dot to what."""

REASON_AT_MOST = 500
"""Characters of a reason."""


class Actor(NamedTuple):
    """Who acts: whose key, which one, and why, in their own words.

    Without a key it is the desk: a command that works on the database itself.
    """

    owner: str = ""
    key_id: str = ""
    reason: str = ""


DESK = Actor()


class Line(Value):
    """A line of the log.

    Attributes:
        id: Of the line; a later one has a greater id.
        at: When, by the database's clock.
        owner: Whose thing it was done to; empty: the whole system's.
        actor: Whose key it was done with; empty: at the desk, on the database itself.
        key_id: The public part of that key.
        action: What was done.
        subject: To what: the id of a job, chunk or key, or a name.
        job_id: The job that it is about, if it is about one.
        details: What changed, as values before and after.
        reason: Why, in the words of whoever did it.
    """

    id: int
    at: datetime
    owner: str
    actor: str
    key_id: str
    action: str
    subject: str
    job_id: str | None
    details: Mapping[str, Any]
    reason: str


async def write(
    connection: AsyncConnection,
    actor: Actor,
    action: Action,
    subject: str,
    details: Mapping[str, object] = MappingProxyType({}),
    *,
    owner: str | None = None,
    job_id: str | None = None,
) -> None:
    """Write a line, in the transaction of what it tells of.

    Args:
        connection: In that transaction, of a role that may write `audit_log`.
        actor: Who.
        action: What.
        subject: To what.
        details: What changed: a pair is before and after.
        owner: Whose that is; the actor's own if not given, empty for the whole system's.
        job_id: The job that it is about.
    """
    await connection.execute(
        insert(audit_log).values(
            owner=actor.owner if owner is None else owner,
            actor=actor.owner,
            key_id=actor.key_id,
            action=action,
            subject=subject,
            job_id=job_id,
            details={name: _told(value) for name, value in details.items()},
            reason=actor.reason[:REASON_AT_MOST],
        )
    )


def _told(value: object) -> object:
    if isinstance(value, tuple):
        before, after = value
        return {"before": before, "after": after}
    return value


async def lines(
    connection: AsyncConnection,
    *,
    owner: str | None,
    limit: int,
    since: datetime | None = None,
    action: str | None = None,
    job_id: str | None = None,
    before: int | None = None,
) -> list[Line]:
    """Lines, the latest first.

    Args:
        connection: To read with.
        owner: Only of what is this one's; None: all.
        limit: How many at most.
        since: Only those of then and later.
        action: Only those of this action; one that ends with a dot means all that begin so.
        job_id: Only those about this job.
        before: Only those with a smaller id.
    """
    query = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
    if owner is not None:
        query = query.where(audit_log.c.owner == owner)
    if since is not None:
        query = query.where(audit_log.c.at >= since)
    if action is not None:
        exactly = audit_log.c.action == action
        query = query.where(
            audit_log.c.action.startswith(action, autoescape=True)
            if action.endswith(".")
            else exactly
        )
    if job_id is not None:
        query = query.where(audit_log.c.job_id == job_id)
    if before is not None:
        query = query.where(audit_log.c.id < before)
    found = await connection.execute(query)
    return [Line.model_validate(dict(row)) for row in found.mappings()]


async def forget(connection: AsyncConnection, days: int) -> None:
    """Remove lines that are older than so many days."""
    await connection.execute(
        delete(audit_log).where(audit_log.c.at < func.now() - timedelta(days=days))
    )
