"""What a chunk's searches could not be asked."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add one column; the previous version neither reads nor writes it."""
    op.add_column("job_chunks", sa.Column("unanswered", JSONB(), nullable=True))
