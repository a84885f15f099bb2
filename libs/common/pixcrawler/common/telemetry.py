"""W3C trace context: the thread that leads from a request through every event it causes.

A job has one trace from its request to its dataset (`trace_of`); every event published because of
another is a child span of it (https://www.w3.org/TR/trace-context/, version 00).
"""

import re
import secrets
from typing import NamedTuple
from uuid import UUID

_TRACEPARENT = re.compile(
    r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)
_SAMPLED = "01"


class Trace(NamedTuple):
    """One span of one trace: 32 and 16 hex digits, and the flags as 2."""

    trace_id: str
    span_id: str
    flags: str = _SAMPLED

    def __str__(self) -> str:
        """The header's text."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def child(self) -> "Trace":
        """A new span of the same trace."""
        return self._replace(span_id=secrets.token_hex(8))


def new_trace() -> Trace:
    """The first span of a trace of its own."""
    return Trace(secrets.token_hex(16), secrets.token_hex(8))


def parse(traceparent: str) -> Trace | None:
    """The span that the header names; None if it names none (all zeros names none)."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or not match["trace"].strip("0") or not match["span"].strip("0"):
        return None
    return Trace(match["trace"], match["span"], match["flags"])


def continued(traceparent: str) -> Trace:
    """A child span of the header's trace, or the first of a new one where there is none."""
    parent = parse(traceparent)
    return new_trace() if parent is None else parent.child()


def trace_of(job_id: str, traceparent: str | None) -> Trace:
    """A new span of a job's trace, also where the clock and no event started the work.

    Args:
        job_id: Which job.
        traceparent: What the request that made it has sent (`crawl_jobs.traceparent`). If it named
            no trace, the job's is called like the job.
    """
    given = parse(traceparent or "")
    return Trace(UUID(job_id).hex, secrets.token_hex(8)) if given is None else given.child()
