"""The SQL of `url_lists`, which is the api's."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common.db.tables import url_lists
from pixcrawler.common.events import Value


class RejectedView(Value):
    """A row that was left out.

    Attributes:
        line: Its line, from 1; of Parquet its row.
        reason: Why.
        text: How it begins.
    """

    line: int
    reason: str
    text: str = ""


class ListRecord(Value):
    """A row of `url_lists`."""

    list_id: str
    name: str
    format: str
    columns: Mapping[str, str]
    rows: int
    repeated: int
    rejected: int
    rejected_rows: tuple[RejectedView, ...]
    bytes: int
    created_at: datetime

    @property
    def urls(self) -> int:
        """How many different URLs it has."""
        return self.rows - self.repeated


_COLUMNS = ", ".join(ListRecord.model_fields)


async def add(connection: AsyncConnection, owner: str, row: Mapping[str, object]) -> ListRecord:
    """Store a list whose objects are there."""
    made = await connection.execute(
        insert(url_lists)
        .values(owner=owner, **row)
        .returning(*(url_lists.c[name] for name in ListRecord.model_fields))
    )
    return ListRecord.model_validate(dict(made.mappings().one()))


async def one(connection: AsyncConnection, owner: str, list_id: str) -> ListRecord | None:
    """The owner's list; None if there is none such, or it is deleted."""
    return await _one(connection, owner, list_id, "")


async def hold(connection: AsyncConnection, owner: str, list_id: str) -> ListRecord | None:
    """Likewise; until the transaction ends it is not deleted."""
    return await _one(connection, owner, list_id, "FOR KEY SHARE")


async def lock(connection: AsyncConnection, owner: str, list_id: str) -> ListRecord | None:
    """Likewise; until the transaction ends no job begins to use it."""
    return await _one(connection, owner, list_id, "FOR UPDATE")


async def _one(
    connection: AsyncConnection, owner: str, list_id: str, locking: str
) -> ListRecord | None:
    found = await connection.execute(
        text(f"""
            SELECT {_COLUMNS} FROM url_lists
            WHERE list_id = :list_id AND owner = :owner AND deleted_at IS NULL {locking}"""),  # noqa: S608 - constants
        {"owner": owner, "list_id": list_id},
    )
    row = found.mappings().one_or_none()
    return None if row is None else ListRecord.model_validate(dict(row))


async def page(
    connection: AsyncConnection, owner: str, *, before: str | None, limit: int
) -> list[ListRecord]:
    """The owner's lists, the latest first, those made before one of them."""
    found = await connection.execute(
        text(f"""
            SELECT {_COLUMNS} FROM url_lists
            WHERE owner = :owner AND deleted_at IS NULL
              AND (CAST(:before AS text) IS NULL OR list_id < :before)
            ORDER BY list_id DESC LIMIT :limit"""),  # noqa: S608 - constants
        {"owner": owner, "before": before, "limit": limit},
    )
    return [ListRecord.model_validate(dict(row)) for row in found.mappings()]


async def unfinished_job(connection: AsyncConnection, list_id: str) -> str | None:
    """A job that may still read the list: not started, or with a round that is not closed."""
    found = await connection.scalar(
        text("""
            SELECT job_id FROM crawl_jobs AS job
            WHERE url_list_id = :list_id AND deleted_at IS NULL
              AND NOT EXISTS (
                  SELECT FROM job_rounds AS closed
                  WHERE closed.job_id = job.job_id AND closed.round >= job.round
                    AND job.round > 0 AND closed.closed_at IS NOT NULL)
            ORDER BY job_id LIMIT 1"""),
        {"list_id": list_id},
    )
    return None if found is None else str(found)


async def mark_deleted(connection: AsyncConnection, list_id: str) -> None:
    """Forget a list; its row stays for the jobs that were made with it."""
    await connection.execute(
        text("UPDATE url_lists SET deleted_at = now() WHERE list_id = :list_id"),
        {"list_id": list_id},
    )


async def bury(connection: AsyncConnection, days: int) -> int:
    """Remove rows of lists that were deleted longer ago, and that no job names; how many."""
    gone = await connection.execute(
        text("""
            DELETE FROM url_lists AS list
            WHERE deleted_at < now() - make_interval(days => :days)
              AND NOT EXISTS (SELECT FROM crawl_jobs AS j WHERE j.url_list_id = list.list_id)"""),
        {"days": days},
    )
    return gone.rowcount
