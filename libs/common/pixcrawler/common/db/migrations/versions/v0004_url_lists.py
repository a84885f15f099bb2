"""Lists of URLs that were uploaded, and the jobs that take their candidates from them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NEW = "the column is new: no row has a value to look at"
lint_allows = {
    "constraint-missing-not-valid": _NEW,
    "adding-foreign-key-constraint": _NEW,
    "require-concurrent-index-creation": "a partial index over a new column has no rows",
}


def upgrade() -> None:
    """Add a table and a column that may be null; the previous version knows neither."""
    op.create_table(
        "url_lists",
        sa.Column("list_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("columns", JSONB(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("repeated", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("rejected_rows", JSONB(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("rows > 0", name=op.f("ck_url_lists_rows_positive")),
        sa.PrimaryKeyConstraint("list_id", name=op.f("pk_url_lists")),
    )
    op.create_index("ix_url_lists_owner_created", "url_lists", ["owner", sa.text("list_id DESC")])
    op.add_column("crawl_jobs", sa.Column("url_list_id", sa.Text(), nullable=True))
    op.create_foreign_key(
        op.f("fk_crawl_jobs_url_list_id_url_lists"),
        "crawl_jobs",
        "url_lists",
        ["url_list_id"],
        ["list_id"],
    )
    op.create_index(
        "ix_crawl_jobs_url_list_id",
        "crawl_jobs",
        ["url_list_id"],
        postgresql_where=sa.text("url_list_id IS NOT NULL"),
    )
