"""A service in its next version: `nextversion.py SERVICE FOLDER`.

It is the service's own `main`, and as it is today, unless FOLDER has a file `<worker>.next`. Then
it is what a release later could be:

- its events have a field more;
- what the planner lets through says so in a column that today's version does not know,
  `job_chunks.admitted_by`;
- it calls the column `crawl_jobs.project_id` by another name, `project`.

Of its two migrations the first one adds what is new, and keeps both names of the renamed column
equal for as long as both versions serve; the second one takes the old name away once nobody uses
it.
"""

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))

from tests.chaos import suffering

NEXT = "next"

EXPAND = '''"""Add a column, and another name for one."""

from alembic import op

revision = "9001"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What serves today goes on: it writes its column, and a trigger the other."""
    op.execute("ALTER TABLE job_chunks ADD COLUMN admitted_by text")
    op.execute("ALTER TABLE crawl_jobs ADD COLUMN project text")
    op.execute("""
        CREATE FUNCTION both_names() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                NEW.project := coalesce(NEW.project, NEW.project_id);
                NEW.project_id := NEW.project;
            ELSIF NEW.project IS DISTINCT FROM OLD.project THEN
                NEW.project_id := NEW.project;
            ELSE
                NEW.project := NEW.project_id;
            END IF;
            RETURN NEW;
        END $$""")
    op.execute("""
        CREATE TRIGGER both_names BEFORE INSERT OR UPDATE ON crawl_jobs
        FOR EACH ROW EXECUTE FUNCTION both_names()""")
    op.execute("UPDATE crawl_jobs SET project = project_id WHERE project IS NULL")
'''

CONTRACT = '''"""Take the old name away."""

from alembic import op

revision = "9002"
down_revision = "9001"
branch_labels = None
depends_on = None

lint_allows = {{"ban-drop-column": "nobody reads it since 9001's version serves alone"}}


def upgrade() -> None:
    """Nobody writes the old name any more."""
    op.execute("DROP TRIGGER both_names ON crawl_jobs")
    op.execute("DROP FUNCTION both_names")
    op.execute("ALTER TABLE crawl_jobs DROP COLUMN project_id")
'''

_ADMITTED = re.compile(r"(UPDATE job_chunks AS chunk\s+SET) (status = 'processing',)")
_SHOWN = re.compile(r"(?<=\bname, )project\b")
_NAMED = re.compile(r"\bproject_id\b")


def write_migrations(folder: Path, head: str) -> None:
    """The next version's two, beside those that are there."""
    for name, text in (("v9001_expand", EXPAND), ("v9002_contract", CONTRACT)):
        (folder / "versions" / f"{name}.py").write_text(text.format(head=head))


def translated(statement: str) -> str:
    """A statement of today's version as the next one writes it."""
    statement = _ADMITTED.sub(r"\1 admitted_by = 'next', \2", statement)
    if "crawl_jobs" not in statement:
        return statement
    statement = _NAMED.sub("project", statement)
    if statement.lstrip().startswith("SELECT"):  # what is shown keeps its name for the code
        statement = _SHOWN.sub("project AS project_id", statement)
    return statement


def main(service: str, folder: Path) -> None:
    """Run the service until it is stopped."""
    worker = os.environ["PIXCRAWLER_WORKER"]
    if (folder / f"{worker}.{NEXT}").exists():
        _become_next()
    importlib.import_module(f"pixcrawler.{service}.__main__").main()


def _become_next() -> None:
    suffering.add_a_field()

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def translate(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any
    ) -> tuple[str, Any]:
        return translated(statement), parameters


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
