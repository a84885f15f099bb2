"""Webhooks on their way: the SQL of `webhook_deliveries` and `webhook_secrets`.

A delivery is a row, made once by the id of its event. Whoever takes it, on whichever replica, lends
it for as long as an attempt may last: if the replica dies, the row is due again.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.api import webhooks
from pixcrawler.common.events import Value

PREVIOUS_FOR_S = 86_400
"""Seconds for which a secret that was replaced signs as well."""

DeliveryStatus = Literal["pending", "delivered", "failed"]


class Receiver(Value):
    """Who wants to hear of a job."""

    name: str
    project_id: str | None


class Due(Value):
    """A delivery that was taken; `attempts` counts this one."""

    webhook_id: str
    job_id: str
    owner: str
    url: str
    body: str
    attempts: int
    age_s: float


class Delivery(Value):
    """A delivery as its job's owner sees it.

    Attributes:
        webhook_id: As in the header of that name.
        round: Whose end it tells.
        url: Where it goes.
        status: `failed`: no further attempt will be made.
        attempts: How many have begun.
        status_code: Of the last answer; null if there was none.
        error: Why the last attempt failed.
        created_at: When the round ended.
        last_attempt_at: When the last attempt began.
        next_attempt_at: When it is tried again, at the earliest; null once it has ended.
        delivered_at: When it was taken; null before.
    """

    webhook_id: str
    round: int
    url: str
    status: DeliveryStatus
    attempts: int
    status_code: int | None
    error: str | None
    created_at: datetime
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None


class Secret(Value):
    """What signs an owner's webhooks; `previous` signs as well until it is forgotten."""

    secret: bytes
    created_at: datetime
    previous: bytes | None
    previous_until: datetime | None

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The newest first."""
        return (self.secret,) if self.previous is None else (self.secret, self.previous)


async def receiver(connection: AsyncConnection, job_id: str) -> Receiver | None:
    """Who is told of this job; None: nobody, or the job is deleted."""
    found = await connection.execute(
        text("""
            SELECT name, project_id FROM crawl_jobs
            WHERE job_id = :job_id AND webhook_url IS NOT NULL AND deleted_at IS NULL"""),
        {"job_id": job_id},
    )
    row = found.mappings().one_or_none()
    return None if row is None else Receiver.model_validate(dict(row))


async def add(
    connection: AsyncConnection, webhook_id: str, job_id: str, number: int, body: str
) -> bool:
    """Store a delivery; False if it was stored before."""
    made = await connection.execute(
        text("""
            INSERT INTO webhook_deliveries (webhook_id, job_id, round, body)
            VALUES (:webhook_id, :job_id, :round, :body)
            ON CONFLICT (webhook_id) DO NOTHING"""),
        {"webhook_id": webhook_id, "job_id": job_id, "round": number, "body": body},
    )
    return bool(made.rowcount)


async def take(
    connection: AsyncConnection, *, at_most: int, busy: Collection[str], lend_s: float
) -> list[Due]:
    """Deliveries that are due, lent to the caller; nobody else takes them meanwhile.

    Args:
        connection: In a transaction of its own.
        at_most: How many.
        busy: Owners who have to wait.
        lend_s: Seconds after which they are due again, if nothing was heard of them.
    """
    found = await connection.execute(
        text("""
            WITH due AS (
                SELECT delivery.webhook_id, job.owner, job.webhook_url AS url
                FROM webhook_deliveries AS delivery JOIN crawl_jobs AS job USING (job_id)
                WHERE delivery.status = 'pending' AND delivery.not_before <= now()
                  AND job.deleted_at IS NULL AND job.webhook_url IS NOT NULL
                  AND NOT job.owner = ANY(CAST(:busy AS text[]))
                ORDER BY delivery.not_before LIMIT :at_most
                FOR UPDATE OF delivery SKIP LOCKED)
            UPDATE webhook_deliveries AS delivery
            SET attempts = attempts + 1, last_attempt_at = now(),
                not_before = now() + make_interval(secs => :lend_s)
            FROM due WHERE delivery.webhook_id = due.webhook_id
            RETURNING delivery.webhook_id, job_id, owner, url, body, attempts,
                      CAST(extract(epoch FROM now() - created_at) AS float) AS age_s"""),
        {"at_most": at_most, "busy": list(busy), "lend_s": lend_s},
    )
    return [Due.model_validate(dict(row)) for row in found.mappings()]


async def settle(
    connection: AsyncConnection,
    due: Due,
    status: DeliveryStatus,
    *,
    code: int | None,
    error: str | None,
    again_s: float = 0.0,
) -> None:
    """What became of an attempt, unless a later one has begun meanwhile.

    Args:
        connection: In a transaction of its own.
        due: As it was taken.
        status: `pending`: it is tried again.
        code: The answer's status, if there was one.
        error: Why it failed.
        again_s: Seconds until it is tried again.
    """
    await connection.execute(
        text("""
            UPDATE webhook_deliveries
            SET status = :status, status_code = :code, error = :error,
                not_before = now() + make_interval(secs => :again_s),
                delivered_at = CASE WHEN :status = 'delivered' THEN now() END
            WHERE webhook_id = :webhook_id AND attempts = :attempts AND status = 'pending'"""),
        {
            "webhook_id": due.webhook_id,
            "attempts": due.attempts,
            "status": status,
            "code": code,
            "error": error,
            "again_s": again_s,
        },
    )


async def of_job(
    connection: AsyncConnection, job_id: str, *, after: int, limit: int
) -> list[Delivery]:
    """The deliveries of a job by round, those after `after`."""
    found = await connection.execute(
        text("""
            SELECT webhook_id, delivery.round, job.webhook_url AS url, status, attempts,
                   status_code, error, delivery.created_at, last_attempt_at, delivered_at,
                   CASE WHEN status = 'pending' THEN not_before END AS next_attempt_at
            FROM webhook_deliveries AS delivery JOIN crawl_jobs AS job USING (job_id)
            WHERE job_id = :job_id AND delivery.round > :after
            ORDER BY delivery.round LIMIT :limit"""),
        {"job_id": job_id, "after": after, "limit": limit},
    )
    return [Delivery.model_validate(dict(row)) for row in found.mappings()]


async def forget(connection: AsyncConnection, job_id: str) -> None:
    """Remove the deliveries of a job."""
    await connection.execute(
        text("DELETE FROM webhook_deliveries WHERE job_id = :job_id"), {"job_id": job_id}
    )


async def secret(connection: AsyncConnection, owner: str) -> Secret:
    """What signs this owner's webhooks; made when it is first asked for."""
    await connection.execute(
        text("""
            INSERT INTO webhook_secrets (owner, secret) VALUES (:owner, :secret)
            ON CONFLICT (owner) DO NOTHING"""),
        {"owner": owner, "secret": webhooks.new_secret()},
    )
    found = await connection.execute(
        text("""
            SELECT secret, created_at,
                   CASE WHEN previous_until > now() THEN previous END AS previous,
                   CASE WHEN previous_until > now() THEN previous_until END AS previous_until
            FROM webhook_secrets WHERE owner = :owner"""),
        {"owner": owner},
    )
    return Secret.model_validate(dict(found.mappings().one()))


async def change_secret(connection: AsyncConnection, owner: str) -> Secret:
    """Another secret; the one before signs as well for a day."""
    await connection.execute(
        text("""
            INSERT INTO webhook_secrets AS kept (owner, secret) VALUES (:owner, :secret)
            ON CONFLICT (owner) DO UPDATE
            SET secret = excluded.secret, created_at = now(), previous = kept.secret,
                previous_until = now() + make_interval(secs => :previous_s)"""),
        {"owner": owner, "secret": webhooks.new_secret(), "previous_s": float(PREVIOUS_FOR_S)},
    )
    return await secret(connection, owner)
