"""What operators have stopped, which replicas there are, and chunks that were given up by hand."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.text("clock_timestamp()")
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def upgrade() -> None:
    """Add three tables; the previous version knows nothing of them, and is not steered."""
    op.create_table(
        "controls",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        _time("since"),
        _time("ended_at", nullable=True),
        sa.CheckConstraint("kind in ('stage', 'source', 'replica')",
                           name=op.f("ck_controls_kind_valid")),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_controls")),
    )
    op.create_table(
        "replicas",
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("in_hand", sa.Integer(), nullable=False),
        _time("started_at"),
        _time("seen_at"),
        sa.PrimaryKeyConstraint("stage", "worker", name=op.f("pk_replicas")),
    )
    op.create_table(
        "given_up_chunks",
        sa.Column("chunk_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        _time("created_at"),
        sa.ForeignKeyConstraint(["job_id"], ["crawl_jobs.job_id"], ondelete="CASCADE",
                                name=op.f("fk_given_up_chunks_job_id_crawl_jobs")),
        sa.PrimaryKeyConstraint("chunk_id", name=op.f("pk_given_up_chunks")),
    )
    op.create_index("ix_given_up_chunks_job_id", "given_up_chunks", ["job_id"])
