"""Webhooks on their way, what signs them, and what a key is called and may do."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables, and columns that may be null; the previous version knows none of them."""
    op.create_table(
        "webhook_deliveries",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"),
                  nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"),
                  nullable=False),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status in ('pending', 'delivered', 'failed')",
                           name=op.f("ck_webhook_deliveries_status_valid")),
        sa.ForeignKeyConstraint(["job_id"], ["crawl_jobs.job_id"], ondelete="CASCADE",
                                name=op.f("fk_webhook_deliveries_job_id_crawl_jobs")),
        sa.PrimaryKeyConstraint("webhook_id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index("ix_webhook_deliveries_job_id", "webhook_deliveries", ["job_id", "round"])
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["not_before"],
                    postgresql_where=sa.text("status = 'pending'"))
    op.create_table(
        "webhook_secrets",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"),
                  nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_webhook_secrets")),
    )
    op.add_column("api_keys", sa.Column("name", sa.Text(), server_default="", nullable=False))
    for limit in ("requests_per_minute", "active_jobs", "images_per_day"):
        op.add_column("api_keys", sa.Column(limit, sa.Integer(), nullable=True))
