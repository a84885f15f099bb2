"""W3C trace context: the thread that leads from a request through every event it causes.

A job's first event starts a trace; every event published because of another is a child span of the
same trace (https://www.w3.org/TR/trace-context/, version 00).
"""

import re
import secrets
from typing import NamedTuple

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
