"""What a webhook says, and its signature (https://www.standardwebhooks.com, version 1).

A receiver checks `webhook-signature`: for one of the signatures in it, base64 of the HMAC-SHA256 of
`<webhook-id>.<webhook-timestamp>.<body>`, keyed with what follows `whsec_` in its secret, decoded.
It refuses an old `webhook-timestamp`, and knows a repetition by its `webhook-id`.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal

from pydantic import ConfigDict

from pixcrawler.common import bitmaps
from pixcrawler.common.events import JobFinished, JobStatus, ProgressImages, Value

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
_SECRET_BYTES = 32
_VERSION = "v1"


class Round(Value):
    """How a round ended."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    job_id: str
    """The job."""
    project_id: str | None
    """As it was given."""
    name: str
    """Of the job, for people."""
    round: int
    """Which round: 1 from the start on, every extend and retry adds one."""
    status: JobStatus
    """`completed` (everything asked for), `incomplete` (some), `failed` (nothing), `cancelled`."""
    reason: str
    """Why: `reached`, `exhausted` (the sources), `budget` (of candidates), `unavailable` (the
    sources did not answer) or `cancelled`."""
    total_chunks: int
    """Chunks; failed ones that were retried as others do not count."""
    completed_chunks: int
    """Of them, those that ended well."""
    failed_chunks: int
    """Of them, those that were given up."""
    images: ProgressImages
    """What became of all candidates of the job."""
    finished_at: datetime
    """When it ended."""


class Finished(Value):
    """A round is over, and its dataset is there."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: Literal["job.finished"] = "job.finished"
    """What happened."""
    timestamp: datetime
    """When."""
    data: Round
    """To what, and how."""


def new_secret() -> bytes:
    """Something that nobody can guess."""
    return secrets.token_bytes(_SECRET_BYTES)


def shown(secret: bytes) -> str:
    """A secret as its owner gets it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def headers(webhook_id: str, body: bytes, keys: Iterable[bytes], at: int) -> dict[str, str]:
    """What goes with a body, signed with each key.

    Args:
        webhook_id: The same at every attempt.
        body: What is sent, byte for byte.
        keys: Secrets; any one of them opens it.
        at: Seconds since 1970.
    """
    content = f"{webhook_id}.{at}.".encode() + body
    signatures = (hmac.digest(key, content, hashlib.sha256) for key in keys)
    return {
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(
            f"{_VERSION},{base64.b64encode(each).decode()}" for each in signatures
        ),
    }


def body(event: JobFinished, *, name: str, project_id: str | None, now: datetime) -> str:
    """What a receiver is told of the end of a round, as JSON."""
    superseded = bitmaps.from_ranges(event.superseded)
    failed = bitmaps.from_ranges(event.failed) & ~superseded
    completed = bitmaps.from_ranges(event.completed)
    finished = event.closed_at or now
    told = Finished(
        timestamp=finished,
        data=Round(
            job_id=event.job_id,
            project_id=project_id,
            name=name,
            round=event.closed_round,
            status=event.status,
            reason=event.reason,
            total_chunks=(completed | failed).bit_count(),
            completed_chunks=completed.bit_count(),
            failed_chunks=failed.bit_count(),
            images=ProgressImages(requested=event.requested, **event.images.model_dump()),
            finished_at=finished,
        ),
    )
    return told.model_dump_json()
