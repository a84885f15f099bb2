"""The tables, as SQLAlchemy Core metadata. One writer per table (see `OWNERS`); the others read.

Migrations under `migrations/` build exactly this (a test compares them). Everything that has a
`job_id` references `crawl_jobs` ON DELETE CASCADE, for the end of a deleted job's tombstone.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _moment(name: str) -> Column[object]:
    """As `_now`, but of the statement and not of the transaction."""
    return Column(
        name,
        DateTime(timezone=True),
        nullable=False,
        server_default=text("clock_timestamp()"),
    )


def _job_id(*, primary_key: bool = False) -> Column[object]:
    return Column(
        "job_id",
        Text,
        ForeignKey("crawl_jobs.job_id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),  # the public part, shown in lists
    Column("owner", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    _now("created_at"),
    Column("last_used_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("name", Text, nullable=False, server_default=""),  # what it is for, to people
    Column("requests_per_minute", Integer),  # null: as the settings say; 0: without limit
    Column("active_jobs", Integer),  # likewise
    Column("images_per_day", Integer),  # likewise
    CheckConstraint("scope in ('read', 'write', 'admin')", name="scope_valid"),
)

crawl_jobs = Table(
    "crawl_jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    Column("project_id", Text),
    Column("keywords", JSONB, nullable=False),  # [str]
    Column("sources", JSONB, nullable=False),  # [str]
    Column("urls", JSONB),  # [str] or null; for the source `urls`
    Column("url_list_id", Text, ForeignKey("url_lists.list_id")),  # instead of `urls`
    Column("max_images", Integer, nullable=False),  # grows with every extend
    Column("chunk_size", Integer, nullable=False),  # candidates; frozen at creation
    Column("priority", SmallInteger, nullable=False, server_default="5"),
    Column("options", JSONB, nullable=False),  # pixcrawler.common.jobs.Options
    Column("webhook_url", Text),
    Column("round", Integer, nullable=False, server_default="0"),  # 0: not started
    Column("idempotency_key", Text),
    Column("request_sha256", LargeBinary),  # of the request's body, to tell a repeat from a clash
    # Its first span, below the request's that made it; null: the trace is called like the job.
    Column("traceparent", Text),
    _now("created_at"),
    Column("started_at", DateTime(timezone=True)),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("deleted_at", DateTime(timezone=True)),
    UniqueConstraint("owner", "idempotency_key"),
    CheckConstraint("priority between 0 and 10", name="priority_range"),
    CheckConstraint("max_images > 0", name="max_images_positive"),
    CheckConstraint("chunk_size > 0", name="chunk_size_positive"),
    Index("ix_crawl_jobs_owner_created", "owner", text("job_id DESC")),
    Index(
        "ix_crawl_jobs_url_list_id",
        "url_list_id",
        postgresql_where=text("url_list_id IS NOT NULL"),
    ),
)

url_lists = Table(
    "url_lists",
    metadata,
    Column("list_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=""),  # of the file
    Column("format", Text, nullable=False),  # txt, csv, tsv, jsonl, parquet
    Column("columns", JSONB, nullable=False),  # {field of a row: the file's name for it}
    Column("rows", Integer, nullable=False),  # that can be asked for
    Column("repeated", Integer, nullable=False),  # of them: URLs of an earlier row
    Column("rejected", Integer, nullable=False),
    Column("rejected_rows", JSONB, nullable=False),  # the first few: [{line, reason, text}]
    Column("bytes", BigInteger, nullable=False),  # of the upload
    _now("created_at"),
    Column("deleted_at", DateTime(timezone=True)),
    CheckConstraint("rows > 0", name="rows_positive"),
    Index("ix_url_lists_owner_created", "owner", text("list_id DESC")),
)

job_requests = Table(
    "job_requests",
    metadata,
    _job_id(primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("images", Integer, nullable=False, server_default="0"),  # extend: by how many
    Column("chunk_ids", JSONB),  # retry: which failed chunks; null for all of them
    _now("created_at"),
    CheckConstraint("kind in ('start', 'extend', 'retry', 'cancel')", name="kind_valid"),
)

job_chunks = Table(
    "job_chunks",
    metadata,
    Column("chunk_id", Text, primary_key=True),
    _job_id(),
    Column("chunk_index", Integer, nullable=False),
    Column("status", Text, nullable=False, server_default="pending"),
    Column("stage", Text, nullable=False, server_default=""),  # the last one reached
    Column("priority", SmallInteger, nullable=False, server_default="5"),
    Column("image_range", JSONB, nullable=False),  # {start, end}, inclusive, counts candidates
    Column("slices", JSONB, nullable=False),  # [events.Slice]
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("retry_count", Integer, nullable=False, server_default="0"),
    Column("takebacks", Integer, nullable=False, server_default="0"),
    Column("retry_of", Text, unique=True),  # the chunk_id whose slices these are
    Column("error", Text),  # short word
    Column("error_message", Text),
    Column("task_id", Text),  # <chunk_id>/a<attempt>
    Column("not_before", DateTime(timezone=True)),
    Column("admitted_at", DateTime(timezone=True)),  # the last admission: releases are staggered
    Column("last_seen_at", DateTime(timezone=True)),  # the last sign of life, database's clock
    Column("images", JSONB),  # events.ImageTotals, once it has ended
    Column("archive", JSONB),  # documents.StoredFile
    Column("exhausted", JSONB),  # [documents.Stream]
    Column("unanswered", JSONB),  # [documents.Unanswered]; null: everything was answered
    Column("attempts", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("ended_at", DateTime(timezone=True)),
    _now("created_at"),
    _now("updated_at"),
    UniqueConstraint("job_id", "chunk_index"),
    CheckConstraint(
        "status in ('pending', 'processing', 'completed', 'failed')", name="status_valid"
    ),
    CheckConstraint("priority between 0 and 10", name="priority_range"),
    CheckConstraint("retry_count >= 0", name="retry_count_positive"),
    Index("ix_job_chunks_job_id", "job_id"),
    Index("ix_job_chunks_status", "status"),
    Index("ix_job_chunks_job_status", "job_id", "status"),
    Index("ix_job_chunks_priority_created", "priority", "created_at"),
    Index("ix_job_chunks_task_id", "task_id"),
    Index("ix_job_chunks_admitted_at", "admitted_at"),
)

job_rounds = Table(
    "job_rounds",
    metadata,
    _job_id(primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("cursors", JSONB, nullable=False),  # [planner.plan.Cursor]: where each search goes on
    Column("spent", Integer, nullable=False, server_default="0"),  # candidates planned so far
    Column("facts", JSONB),  # events.JobFacts; once closed they never change
    Column("closed_at", DateTime(timezone=True)),
    _now("created_at"),
)

image_claims = Table(
    "image_claims",
    metadata,
    _job_id(primary_key=True),
    Column("sha256", LargeBinary, primary_key=True),  # 32 bytes
    Column("phash", BigInteger, nullable=False),  # the 64 bits, as a signed integer
    Column("url", Text, nullable=False),
    Column("chunk_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Index("ix_image_claims_job_chunk", "job_id", "chunk_id"),
)

chunk_claims = Table(
    "chunk_claims",
    metadata,
    Column("chunk_id", Text, primary_key=True),
    _job_id(),
    _now("decided_at"),
    Index("ix_chunk_claims_job_id", "job_id"),
)

job_progress = Table(
    "job_progress",
    metadata,
    _job_id(primary_key=True),
    Column("revision", JSONB, nullable=False),  # events.Revision
    Column("progress", JSONB, nullable=False),  # events.ProgressView
    _now("updated_at"),
)

host_budgets = Table(
    "host_budgets",
    metadata,
    Column("host", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("tokens", Integer, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),  # database's clock
    CheckConstraint("tokens >= 0", name="tokens_positive"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("webhook_id", Text, primary_key=True),  # the event's id, <job>:<round>
    Column("job_id", Text, ForeignKey("crawl_jobs.job_id", ondelete="CASCADE"), nullable=False),
    Column("round", Integer, nullable=False),
    Column("body", Text, nullable=False),  # JSON: the same at every attempt
    Column("status", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),  # begun
    _now("not_before"),  # due then; while an attempt is under way, when it counts as lost
    Column("status_code", Integer),  # of the last answer
    Column("error", Text),  # why the last attempt failed
    _now("created_at"),
    Column("last_attempt_at", DateTime(timezone=True)),
    Column("delivered_at", DateTime(timezone=True)),
    CheckConstraint("status in ('pending', 'delivered', 'failed')", name="status_valid"),
    Index("ix_webhook_deliveries_job_id", "job_id", "round"),
    Index("ix_webhook_deliveries_due", "not_before", postgresql_where=text("status = 'pending'")),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("secret", LargeBinary, nullable=False),  # 32 bytes: signs the owner's webhooks
    _now("created_at"),
    Column("previous", LargeBinary),  # signs as well, for a while after a change
    Column("previous_until", DateTime(timezone=True)),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),  # as the request's header had it
    Column("request_sha256", LargeBinary, nullable=False),  # to tell a repeat from a clash
    Column("job_id", Text, ForeignKey("crawl_jobs.job_id", ondelete="CASCADE")),
    Column("list_id", Text, ForeignKey("url_lists.list_id", ondelete="CASCADE")),
    Column("answer", Text),  # JSON, to be said again; null: as things stand then
    _now("created_at"),
    Index("ix_idempotency_keys_job_id", "job_id"),
    Index("ix_idempotency_keys_list_id", "list_id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("topic", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("headers", JSONB, nullable=False),  # [[name, text]]
    Column("sent", Boolean, nullable=False, server_default=text("false")),
    _now("created_at"),
    Index("ix_outbox_unsent", "id", postgresql_where=text("NOT sent")),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _moment("at"),
    Column("owner", Text, nullable=False),  # whose thing it was done to; empty: the whole system's
    Column("actor", Text, nullable=False),  # whose key it was done with; empty: at the desk
    Column("key_id", Text, nullable=False),
    Column("action", Text, nullable=False),  # pixcrawler.common.audit.Action
    Column("subject", Text, nullable=False),
    Column("job_id", Text),  # no reference: a line outlives its job
    Column("details", JSONB, nullable=False),
    Column("reason", Text, nullable=False),
    Index("ix_audit_log_at", "at"),
    Index("ix_audit_log_owner_id", "owner", "id"),
    Index("ix_audit_log_job_id", "job_id", "id"),
)

controls = Table(
    "controls",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("instance", Text, nullable=False, server_default=""),  # of a replica: which start of it
    Column("reason", Text, nullable=False, server_default=""),
    _moment("since"),
    Column("ended_at", DateTime(timezone=True)),  # null: in force
    CheckConstraint("kind in ('stage', 'source', 'replica')", name="kind_valid"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("stage", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("instance", Text, nullable=False),  # another one after each start
    Column("state", Text, nullable=False),  # pixcrawler.common.steering.State
    Column("in_hand", Integer, nullable=False),  # pieces of work
    _moment("started_at"),
    _moment("seen_at"),
)

given_up_chunks = Table(
    "given_up_chunks",
    metadata,
    Column("chunk_id", Text, primary_key=True),
    _job_id(),
    Column("reason", Text, nullable=False),
    _moment("created_at"),
    Index("ix_given_up_chunks_job_id", "job_id"),
)

OWNERS: dict[str, tuple[str, ...]] = {
    "api": (
        *("crawl_jobs", "job_requests", "api_keys", "url_lists", "idempotency_keys"),
        *("webhook_deliveries", "webhook_secrets", "audit_log", "controls", "given_up_chunks"),
    ),
    "planner": ("job_chunks", "job_rounds"),
    "validator": ("image_claims", "chunk_claims"),
    "tracker": ("job_progress",),
    "downloader": ("host_budgets",),
    "uploader": (),
}
"""Which service writes which table. The outbox is written by api and planner, relayed by both."""

OUTBOX_WRITERS = ("api", "planner")

REPLICA_WRITERS = ("planner", "downloader", "validator", "uploader")
"""Each replica of these writes its own row of `replicas`, and nobody else does."""


SECRET = ("webhook_secrets",)
"""Tables that only their owner reads."""
