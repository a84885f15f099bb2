"""Migrations that lock or break the version that serves, found in their SQL by squawk.

`python -m deploy.migrations` looks at all of them; `make lint` runs it. A finding that is
meant is allowed in the migration itself, by rule, with the reason:

    lint_allows = {"ban-drop-column": "nothing reads it since 0.4"}

Whether nothing reads it is looked up: a column that `tables.py` still has is never dropped.
"""

import io
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData

from pixcrawler.common.db import migrate
from pixcrawler.common.db.tables import metadata

EXCLUDED = (
    "prefer-bigint-over-int",  # taste, not safety; the same of the others that prefer
    "prefer-identity",
    "prefer-robust-stmts",  # a migration is one transaction: there is nothing half done
    "prefer-text-field",
    "prefer-timestamp-tz",
    "require-lock-timeout",  # `migrate.upgrade` sets it for all of them
    "require-statement-timeout",  # building an index takes long
)
DROP = "ban-drop-column"
FIRST = "0001"
"""It makes the tables: there is no version before it that could be serving."""

_DROPPED = re.compile(r'ALTER TABLE "?(\w+)"? DROP COLUMN (?:IF EXISTS )?"?(\w+)"?', re.IGNORECASE)


def findings(module: ModuleType, tables: MetaData = metadata) -> Iterator[str]:
    """What is wrong with a migration, one line each: the rule, what it says, the statement.

    Args:
        module: The migration, with `revision`, `upgrade`, and `lint_allows` if it allows anything.
        tables: What the version that comes with it uses.
    """
    sql = render(module)
    allowed: dict[str, str] = getattr(module, "lint_allows", {})
    found = list(_squawk(sql))
    for rule, message, line in found:
        if rule not in allowed:
            statement = _statement(sql, line)
            yield f"{module.revision}: {rule}: {message} ({statement})"
    for table, column in _DROPPED.findall(sql):
        if table in tables.tables and column in tables.tables[table].columns:
            yield f"{module.revision}: {DROP}: {table}.{column} is still in tables.py"
    for rule in sorted(allowed.keys() - {rule for rule, _, _ in found}):
        yield f"{module.revision}: lint_allows names {rule}, which finds nothing: remove it"


def migrations() -> Iterator[ModuleType]:
    """Every one but the first, oldest first."""
    scripts = ScriptDirectory.from_config(migrate.config()).walk_revisions()
    yield from (each.module for each in reversed(list(scripts)) if each.revision != FIRST)


def render(module: ModuleType) -> str:
    """The SQL that a migration runs."""
    written = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": written}
    )
    with Operations.context(context):
        module.upgrade()
    return written.getvalue()


def _squawk(sql: str) -> Iterator[tuple[str, str, int]]:
    """Rule, message and line (from 0) of everything that squawk reports."""
    program = Path(sysconfig.get_path("scripts")) / "squawk"
    result = subprocess.run(  # noqa: S603 - a program of the lock, and our own SQL
        [
            program, "--reporter=json", "--pg-version=18", "--assume-in-transaction",
            f"--exclude={','.join(EXCLUDED)}",
            "--stdin-filepath=migration.sql",
        ],
        input=sql, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    try:
        answer = json.loads(result.stdout or "[]")
    except ValueError as error:
        raise RuntimeError(f"squawk: {result.stderr or result.stdout}") from error
    if result.returncode not in {0, 1} or (result.returncode and not answer):
        raise RuntimeError(f"squawk: {result.stderr or result.stdout}")
    for each in answer:
        yield each["rule_name"], each["message"], int(each["line"])


def _statement(sql: str, line: int) -> str:
    """The statement that begins at a line, or goes on there."""
    said = " ".join(sql.splitlines()[line:]).partition(";")[0]
    return " ".join(said.split())[:120]


def main() -> int:
    """Print what is found; how many."""
    found = [line for module in migrations() for line in findings(module)]
    for line in found:
        print(line, file=sys.stderr)  # noqa: T201 - a program
    return len(found)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
