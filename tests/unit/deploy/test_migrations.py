"""The linter of migrations: passes ours, and refuses what locks or breaks the serving version."""

from collections.abc import Callable
from types import ModuleType

import pytest
import sqlalchemy as sa
from alembic import op

from deploy.migrations import findings, migrations
from pixcrawler.common.db.tables import metadata


def migration(upgrade: Callable[[], object], **allows: str) -> ModuleType:
    """One that does this."""
    module = ModuleType("v9999_next")
    rules = {rule.replace("_", "-"): reason for rule, reason in allows.items()}
    vars(module).update(revision="9999", upgrade=upgrade, lint_allows=rules)
    return module


def required_column() -> None:
    op.add_column("crawl_jobs", sa.Column("color", sa.Text(), nullable=False))


def optional_column() -> None:
    op.add_column("crawl_jobs", sa.Column("color", sa.Text(), nullable=True))


def volatile_default() -> None:
    default = sa.text("gen_random_uuid()")
    op.add_column("crawl_jobs", sa.Column("color", sa.Uuid(), server_default=default))


def renamed_column() -> None:
    op.alter_column("crawl_jobs", "name", new_column_name="title")


def renamed_table() -> None:
    op.rename_table("crawl_jobs", "jobs")


def dropped_column() -> None:
    op.drop_column("crawl_jobs", "name")


def dropped_old_column() -> None:
    op.drop_column("crawl_jobs", "nobody_reads_it")


def dropped_table() -> None:
    op.drop_table("url_lists")


def locking_index() -> None:
    op.create_index("ix_job_chunks_x", "job_chunks", ["worker"])


def other_type() -> None:
    op.alter_column("job_chunks", "index", type_=sa.BigInteger())


def no_more_null() -> None:
    op.alter_column("crawl_jobs", "project_id", nullable=False)


def scanning_check() -> None:
    op.create_check_constraint("ck_crawl_jobs_x", "crawl_jobs", "round > 0")


def new_table() -> None:
    op.create_table("colors", sa.Column("name", sa.Text(), primary_key=True))
    op.create_index("ix_colors_name", "colors", ["name"])


@pytest.mark.parametrize(
    ("upgrade", "rule"),
    [
        (required_column, "adding-required-field"),
        (volatile_default, "adding-field-with-default"),
        (renamed_column, "renaming-column"),
        (renamed_table, "renaming-table"),
        (dropped_column, "ban-drop-column"),
        (dropped_table, "ban-drop-table"),
        (locking_index, "require-concurrent-index-creation"),
        (other_type, "changing-column-type"),
        (no_more_null, "adding-not-nullable-field"),
        (scanning_check, "constraint-missing-not-valid"),
    ],
)
def test_what_locks_or_breaks_is_refused(upgrade: Callable[[], None], rule: str) -> None:
    """Each by its rule, with the statement."""
    found = list(findings(migration(upgrade)))
    assert any(line.startswith(f"9999: {rule}: ") for line in found), found


@pytest.mark.parametrize("upgrade", [optional_column, new_table])
def test_what_only_adds_passes(upgrade: Callable[[], None]) -> None:
    """Expanding is free."""
    assert list(findings(migration(upgrade))) == []


def test_contracting_is_allowed_once_nothing_uses_it() -> None:
    """A drop needs a reason, and the column must be gone from the code's tables before."""
    allows = {"ban_drop_column": "nothing reads it since 0.4"}
    assert list(findings(migration(dropped_old_column, **allows))) == []
    [found] = findings(migration(dropped_column, **allows))
    assert found == "9999: ban-drop-column: crawl_jobs.name is still in tables.py"
    assert "name" in metadata.tables["crawl_jobs"].columns


def test_a_reason_without_a_finding_is_refused() -> None:
    """What is allowed does happen."""
    [found] = findings(migration(optional_column, ban_drop_column="once"))
    assert found == "9999: lint_allows names ban-drop-column, which finds nothing: remove it"


def test_our_own_pass() -> None:
    """Every migration after the first release's."""
    assert [line for module in migrations() for line in findings(module)] == []
