"""Migrations against a real PostgreSQL."""

import asyncio
import shutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from pixcrawler.common import audit
from pixcrawler.common.db import migrate
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.tables import metadata


def head() -> str | None:
    return ScriptDirectory.from_config(migrate.config()).get_current_head()


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True}
    )
    return list(compare_metadata(context, metadata))


def checks(connection: Connection) -> set[tuple[str, str]]:
    """Check constraints, which Alembic does not compare."""
    found = connection.execute(
        text("SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c'")
    )
    return {(str(table), str(name)) for table, name in found}


async def test_migrated_schema_is_the_declared_one(empty_database: str) -> None:
    """The migrations build exactly `tables.metadata`, check constraints included."""
    assert await migrate.current(empty_database) is None
    await migrate.upgrade(empty_database)
    assert await migrate.current(empty_database) == head()
    engine = connect(empty_database)
    async with engine.begin() as connection:
        assert await connection.run_sync(differences) == []
        migrated = await connection.run_sync(checks)
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
        await connection.run_sync(metadata.create_all)
        assert migrated == await connection.run_sync(checks)
    await engine.dispose()


async def test_an_upgrade_is_written_down(empty_database: str) -> None:
    """The audit log has a line for each upgrade of a schema that was there, and none for making
    it, or where nothing was to be done."""
    scripts = ScriptDirectory.from_config(migrate.config())
    before = scripts.get_revision("head").down_revision
    await migrate.upgrade(empty_database, str(before))
    for _ in range(2):
        await migrate.upgrade(empty_database)
    engine = connect(empty_database)
    async with engine.connect() as connection:
        lines = await audit.lines(connection, owner=None, limit=10)
    await engine.dispose()
    assert [(line.action, line.subject) for line in lines] == [("schema.upgrade", head())]
    assert lines[0].details == {"revision": {"before": before, "after": head()}}


async def test_upgrades_at_the_same_time(empty_database: str) -> None:
    """Eight programs that upgrade one empty database at once all succeed."""
    await asyncio.gather(*(migrate.upgrade(empty_database) for _ in range(8)))
    assert await migrate.current(empty_database) == head()


TWO_TABLES = """
from alembic import op

revision = "9001"
down_revision = "{head}"


def upgrade() -> None:
    op.execute("ALTER TABLE job_chunks ADD COLUMN one text")
    op.execute("ALTER TABLE crawl_jobs ADD COLUMN two text")
"""


WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database ON database = pg_database.oid
WHERE locktype = 'relation' AND NOT granted AND datname = current_database()
"""


async def test_an_upgrade_that_the_database_ended_is_tried_again(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction has read one table and wants the other, which the migration holds."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, folder)
    (folder / "versions" / "v9001_two.py").write_text(TWO_TABLES.format(head=head()))
    monkeypatch.setattr(migrate, "MIGRATIONS", folder)
    engine = connect(database)
    async with engine.connect() as reader, engine.connect() as watch:
        await reader.execute(text("SET LOCAL deadlock_timeout = '1h'"))  # the migration notices it
        await reader.execute(text("SELECT FROM crawl_jobs"))
        upgrading = asyncio.create_task(migrate.upgrade(database))
        async with asyncio.timeout(30):
            while not await watch.scalar(text(WAITING)):
                await asyncio.sleep(0.01)
            await reader.execute(text("SELECT FROM job_chunks"))
        await reader.rollback()
        await upgrading
        await watch.rollback()
        ended = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert await watch.scalar(ended) == 1
    await engine.dispose()
    assert await migrate.current(database) == "9001"


async def test_upgrade_again_changes_nothing(database: str) -> None:
    """An upgraded database can be upgraded again, with its rows untouched."""
    engine = connect(database)
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO host_budgets VALUES ('h', 'w', 1, now())"))
    await migrate.upgrade(database)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM host_budgets")) == 1
    await engine.dispose()


async def test_chunks_are_as_in_the_original_system(module_database: str) -> None:
    """Its names of columns, constraints and indexes, for whoever looks into the table."""
    engine = connect(module_database)
    async with engine.connect() as connection:
        columns, constraints, indexes = [
            set((await connection.execute(text(query))).scalars())
            for query in (
                "SELECT attname FROM pg_attribute WHERE attrelid = 'job_chunks'::regclass",
                "SELECT conname FROM pg_constraint WHERE conrelid = 'job_chunks'::regclass",
                "SELECT indexname FROM pg_indexes WHERE tablename = 'job_chunks'",
            )
        ]
        defaults = await connection.execute(
            text(
                "SELECT column_name, column_default FROM information_schema.columns"
                " WHERE table_name = 'job_chunks' AND column_name IN ('priority', 'status')"
            )
        )
        assert dict(defaults.all()) == {"priority": "'5'::smallint", "status": "'pending'::text"}
        free = await connection.execute(
            text(
                "SELECT conrelid::regclass::text FROM pg_constraint"
                " WHERE contype = 'f' AND confrelid = 'crawl_jobs'::regclass"
                "   AND confdeltype <> 'c'"
            )
        )
        assert free.scalars().all() == [], "they outlive the job that they name"
    await engine.dispose()
    assert columns >= {
        *("job_id", "chunk_index", "status", "priority", "image_range", "error_message"),
        *("retry_count", "task_id", "created_at", "updated_at"),
    }
    assert constraints >= {
        *("ck_job_chunks_status_valid", "ck_job_chunks_priority_range"),
        *("ck_job_chunks_retry_count_positive", "uq_job_chunks_job_id_chunk_index"),
    }
    assert indexes >= {
        f"ix_job_chunks_{name}"
        for name in ("job_id", "status", "job_status", "priority_created", "task_id")
    }
