"""`pixcrawler keys …`, `db …`: the database itself, without the API."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.client import output
from pixcrawler.client.connection import blob_store, database_url, kafka
from pixcrawler.client.errors import FAILED, USAGE, CommandError
from pixcrawler.common import keys
from pixcrawler.common.db import migrate
from pixcrawler.common.db.engine import connect

T = TypeVar("T")


def keys_create(
    owner: str,
    scope: str,
    *,
    name: str,
    limits: keys.KeyLimits,
    reason: str | None,
    json: bool,
) -> int:
    """Make a key."""

    async def make(connection: AsyncConnection) -> keys.CreatedKey:
        return await keys.create(
            connection, owner, scope, name=name, limits=limits, reason=reason or ""
        )

    try:
        created = _database(make)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    if json:
        output.document({**created.key.model_dump(mode="json"), "api_key": created.text})
    else:
        output.note("keep it: it is shown this once")
        output.result.print(created.text, markup=False, soft_wrap=True)
    return 0


def keys_list(*, json: bool) -> int:
    """The keys, without their secrets."""
    found = _database(keys.list_keys)
    if json:
        output.document({"items": [key.model_dump(mode="json") for key in found]})
    else:
        output.table(
            ("key", "owner", "name", "scope", "created", "last used", "revoked"),
            [
                (k.key_id, k.owner, k.name, k.scope, k.created_at, k.last_used_at, k.revoked_at)
                for k in found
            ],
        )
    return 0


def keys_revoke(key_id: str, reason: str | None, *, json: bool) -> int:
    """End a key."""

    async def end(connection: AsyncConnection) -> bool:
        return await keys.revoke(connection, key_id, reason=reason or "")

    if not _database(end):
        raise CommandError(f"there is no key {key_id}: see `pixcrawler keys list`")
    if json:
        output.document({"key_id": key_id, "revoked": True})
    else:
        output.note(f"revoked {key_id}")
    return 0


def db_upgrade(*, json: bool) -> int:
    """Bring the schema up to date."""
    url = database_url()
    _run(migrate.upgrade(url))
    return db_current(json=json)


def db_current(*, json: bool) -> int:
    """The version of the schema."""
    revision = _run(migrate.current(database_url()))
    if json:
        output.document({"revision": revision})
    elif revision is None:
        output.note("no schema yet: pixcrawler db upgrade")
    else:
        output.result.print(revision, markup=False)
    return 0 if revision else FAILED


def db_repair(*, dry_run: bool, without_topics: bool, json: bool) -> int:
    """Bring the database up to what the blob store and the topics say."""
    from pixcrawler.planner.repair import evidence, repairing

    url, blobs = database_url(), blob_store()
    servers = None if without_topics else kafka()
    if _run(migrate.current(url)) in {None, *migrate.older_revisions()}:
        raise CommandError("the schema is not this version's: pixcrawler db upgrade")

    async def work() -> list[repairing.JobRepair]:
        engine = connect(url, pool_size=2, application="pixcrawler-repair")
        try:
            told = {} if servers is None else await evidence.told(servers)
            return await repairing.repair(engine, blobs, told, dry_run=dry_run)
        finally:
            await engine.dispose()
            await blobs.close()

    jobs = _run(work())
    if json:
        output.document({"dry_run": dry_run, "jobs": [job.model_dump(mode="json") for job in jobs]})
    else:
        rows = [job for job in jobs if job.mended]
        if rows:
            done = "would be mended" if dry_run else "mended"
            output.table(("job", done), [(job.job_id, job.words) for job in rows])
        for job in jobs:
            for problem in job.problems:
                output.note(f"{job.job_id}: {problem}")
        if not jobs:
            output.note("nothing to repair: the database says what the blob store says")
    return FAILED if any(job.problems for job in jobs) else 0


def _database(ask: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    url = database_url()

    async def answer() -> T:
        engine = connect(url, pool_size=1)
        try:
            async with engine.begin() as connection:
                return await ask(connection)
        finally:
            await engine.dispose()

    return _run(answer())


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what cannot be reached is one line."""
    from aiokafka.errors import KafkaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return asyncio.run(work)
    except KafkaError as error:
        raise CommandError(f"Kafka: {str(error) or type(error).__name__}") from error
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        raise CommandError(f"the database does not answer: {reason}") from error
