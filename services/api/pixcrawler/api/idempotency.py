"""Requests that may come twice: what an `Idempotency-Key` was used for, and what was answered.

A client whose answer got lost asks again with the same key. The first request stores its answer in
the transaction that does the work; a repetition finds it, does nothing, and says it again. Keys are
an owner's, over all routes: one that has done something else is a conflict. A request that was
refused has stored nothing, so its key is free.
"""

import hashlib
import json
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.api.problems import conflict
from pixcrawler.common.events import Value

_OTHER = "this Idempotency-Key was used with another request"


class Said(Value):
    """What a key was used for; `answer`: JSON, None where it is what stands now.

    `gone`: the job or the list that it is about was deleted.
    """

    request_sha256: bytes
    job_id: str | None
    list_id: str | None
    answer: str | None
    gone: bool


class Once(NamedTuple):
    """A request that is to happen once.

    Attributes:
        owner: Who asks.
        key: The `Idempotency-Key`; None: it happens however often it comes.
        digest: What tells it from another request.
    """

    owner: str
    key: str | None
    digest: bytes

    async def said(self, connection: AsyncConnection) -> Said | None:
        """What the same request was answered before; None if it comes for the first time.

        Raises:
            Problem: 409, the key was used for another request, or for what is deleted by now.
        """
        found = None if self.key is None else await _find(connection, self.owner, self.key)
        if found is None:
            return None
        if found.request_sha256 != self.digest:
            raise conflict(_OTHER)
        if found.gone:
            raise conflict("what this Idempotency-Key has made was deleted")
        return found

    async def keep(
        self,
        connection: AsyncConnection,
        answer: str | None,
        *,
        job_id: str | None = None,
        list_id: str | None = None,
    ) -> None:
        """Keep the answer, in the transaction that does the work.

        The same request cannot have been faster: whoever calls this holds a lock, since before
        `said`, that the same request takes as well.

        Args:
            connection: In that transaction.
            answer: JSON; None if a repetition is answered as things stand then.
            job_id: The job that it is about.
            list_id: The list that it is about.

        Raises:
            Problem: 409, another request with this key was faster.
        """
        if self.key is None:
            return
        kept = await connection.execute(
            text("""
                INSERT INTO idempotency_keys (owner, key, request_sha256, job_id, list_id, answer)
                VALUES (:owner, :key, :digest, :job_id, :list_id, :answer)
                ON CONFLICT DO NOTHING"""),
            {
                "owner": self.owner,
                "key": self.key,
                "digest": self.digest,
                "job_id": job_id,
                "list_id": list_id,
                "answer": answer,
            },
        )
        if not kept.rowcount:
            raise conflict(_OTHER)


def digest(action: str, *asked: object) -> bytes:
    """Of a request: what it does, and with which values."""
    return hashlib.sha256(json.dumps([action, *asked]).encode()).digest()


async def _find(connection: AsyncConnection, owner: str, key: str) -> Said | None:
    """Jobs that the version before this one has made have their key in their own row only."""
    found = await connection.execute(
        text("""
            SELECT request_sha256, job_id, list_id, answer,
                   EXISTS (SELECT FROM crawl_jobs AS job
                           WHERE job.job_id = used.job_id AND job.deleted_at IS NOT NULL)
                   OR EXISTS (SELECT FROM url_lists AS list
                              WHERE list.list_id = used.list_id AND list.deleted_at IS NOT NULL)
                   AS gone
            FROM (
                SELECT request_sha256, job_id, list_id, answer, 1 AS place FROM idempotency_keys
                WHERE owner = :owner AND key = :key
                UNION ALL
                SELECT request_sha256, job_id, NULL, NULL, 2 FROM crawl_jobs
                WHERE owner = :owner AND idempotency_key = :key
            ) AS used
            ORDER BY place LIMIT 1"""),
        {"owner": owner, "key": key},
    )
    row = found.mappings().one_or_none()
    return None if row is None else Said.model_validate(dict(row))


async def forget(connection: AsyncConnection, days: int) -> None:
    """Remove the keys of requests about neither a job nor a list, after so many days."""
    await connection.execute(
        text("""
            DELETE FROM idempotency_keys
            WHERE job_id IS NULL AND list_id IS NULL
              AND created_at < now() - make_interval(days => :days)"""),
        {"days": days},
    )
