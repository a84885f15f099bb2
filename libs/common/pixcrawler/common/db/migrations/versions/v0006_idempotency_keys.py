"""What was answered to requests that may come twice."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table; the previous version knows nothing of it.

    A job's own key stays in its row, where both versions look for it.
    """
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("list_id", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"),
                  nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["crawl_jobs.job_id"], ondelete="CASCADE",
                                name=op.f("fk_idempotency_keys_job_id_crawl_jobs")),
        sa.ForeignKeyConstraint(["list_id"], ["url_lists.list_id"], ondelete="CASCADE",
                                name=op.f("fk_idempotency_keys_list_id_url_lists")),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_job_id", "idempotency_keys", ["job_id"])
    op.create_index("ix_idempotency_keys_list_id", "idempotency_keys", ["list_id"])
