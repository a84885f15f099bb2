"""`pixcrawler topics …`, `keys …`, `db …`: Kafka and the database themselves, without the API."""

import asyncio
import json as jsonlib
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.client import moments, output
from pixcrawler.client.connection import blob_store, database_url, kafka
from pixcrawler.client.errors import FAILED, USAGE, CommandError
from pixcrawler.common import admin, keys, topics
from pixcrawler.common.admin import Tailed
from pixcrawler.common.db import migrate
from pixcrawler.common.db.engine import connect
from pixcrawler.common.kafka import Servers

T = TypeVar("T")
Start = Literal["beginning", "end"] | int | datetime


def topics_list(*, json: bool) -> int:
    """The registry's topics as the cluster has them."""
    found = _kafka(admin.describe_topics)
    there = {state.name: state for state in found}
    rows = [
        {
            "name": topic.name,
            "key": topic.key,
            "partitions": there[topic.name].partitions if topic.name in there else 0,
            "cleanup": "compact" if topic.compacted else "delete",
            "writers": list(topic.writers),
            "readers": list(topic.readers),
            "description": topic.description,
        }
        for topic in topics.registry()
    ]
    if json:
        output.document({"items": rows})
    else:
        missing = [row["name"] for row in rows if not row["partitions"]]
        if missing:
            output.note(f"{len(missing)} topics are missing: pixcrawler topics apply")
        output.table(
            ("topic", "key", "partitions", "cleanup", "what"),
            [
                [row[k] for k in ("name", "key", "partitions", "cleanup", "description")]
                for row in rows
            ],
        )
    return 0


def topics_describe(name: str, *, json: bool) -> int:
    """One topic."""
    found = _kafka(lambda servers: admin.describe_topics(servers, [name]))
    if not found:
        raise CommandError(f"there is no topic {name}: see `pixcrawler topics list`")
    state = found[0]
    known = next((topic for topic in topics.registry() if topic.name == name), None)
    answer = {
        "name": state.name,
        "partitions": state.partitions,
        "replication": state.replication,
        "configs": dict(state.configs),
        "writers": list(known.writers) if known else [],
        "readers": list(known.readers) if known else [],
        "description": known.description if known else "",
    }
    if json:
        output.document(answer)
    else:
        output.fields(answer)
    return 0


def topics_apply(partitions: int, replication: int, *, json: bool) -> int:
    """Create what is missing."""
    applied = _kafka(lambda servers: admin.apply_topics(servers, partitions, replication))
    answer = {"created": list(applied.created), "unchanged": list(applied.unchanged)}
    if json:
        output.document(answer)
    else:
        output.note(f"{len(applied.created)} created, {len(applied.unchanged)} as they should be")
    return 0


def topics_lag(*, json: bool) -> int:
    """How far behind each group is, topic by topic."""
    found = _kafka(admin.lag)
    behind: dict[tuple[str, str], int] = {}
    for each in found:
        behind[each.group, each.topic] = behind.get((each.group, each.topic), 0) + each.lag
    rows = [{"group": g, "topic": t, "lag": lag} for (g, t), lag in sorted(behind.items())]
    if json:
        output.document({"items": rows})
    else:
        output.table(("group", "topic", "records behind"), [list(row.values()) for row in rows])
    return 0


def topics_tail(
    topic: str,
    job: str | None,
    chunk: str | None,
    start: str,
    number: int | None,
    *,
    follow: bool,
    json: bool,
) -> int:
    """The records of a topic."""
    begin = parse_start(start)
    servers = kafka()

    async def show() -> None:
        shown = 0
        records = admin.tail(servers, topic, start=begin, job_id=job, chunk_id=chunk, follow=follow)
        async for record in records:
            _show_record(record, json=json)
            shown += 1
            if shown == number:
                return
        if not shown:
            output.note("no such record")

    _run(show())
    return 0


def parse_start(text: str) -> Start:
    """`beginning`, `end`, an offset, or a time (ISO 8601; UTC where it names no zone)."""
    if text == "beginning":
        return "beginning"
    if text == "end":
        return "end"
    if text.isdecimal():
        return int(text)
    when = moments.iso(text)
    if when is None:
        message = (
            f"--from takes beginning, end, an offset or a time such as 2026-01-31T12:00, not {text}"
        )
        raise CommandError(message, USAGE)
    return when


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


def _show_record(record: Tailed, *, json: bool) -> None:
    value = _value(record)
    key = (record.key or b"").decode("utf-8", "replace")
    when = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    if json:
        output.document(
            {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "timestamp": when,
                "key": key,
                "headers": {name: raw.decode("utf-8", "replace") for name, raw in record.headers},
                "value": value,
                "problem": record.problem,
            }
        )
        return
    text = value if isinstance(value, str) else jsonlib.dumps(value, ensure_ascii=False)
    problem = f"  ({record.problem})" if record.problem else ""
    place = f"{when:%H:%M:%S} {record.partition}@{record.offset}"
    output.result.print(f"{place} {key} {text}{problem}", markup=False, soft_wrap=True)


def _value(record: Tailed) -> Any:
    if record.event is not None:
        return record.event.model_dump(mode="json")
    if record.value is None:
        return None
    try:
        return jsonlib.loads(record.value)
    except ValueError:
        return record.value.decode("utf-8", "replace")


def _kafka(ask: Callable[[Servers], Coroutine[Any, Any, T]]) -> T:
    return _run(ask(kafka()))


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
