"""The trace of a job: that of the request that made it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add one column; the previous version neither reads nor writes it."""
    op.add_column("crawl_jobs", sa.Column("traceparent", sa.Text(), nullable=True))
