"""W3C trace context: the thread that leads from a request through every event it causes.

A job has one trace from its request to its dataset; every event published because of another is
told by a child span of it (https://www.w3.org/TR/trace-context/, version 00). The request that
makes the job is the root (`first_of`), what the clock or a later request causes is a child of it
(`sending`), and each piece of work is a child of the span that its record names (`begin`).

Spans always have ids, since events and log lines carry them. They are recorded where
OTEL_EXPORTER_OTLP_ENDPOINT says who collects them (`export`), and cost next to nothing elsewhere.
"""

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple
from uuid import UUID

_TRACEPARENT = re.compile(
    r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)
_SAMPLED = "01"

EXPORT_S = 5.0
"""Seconds that a collector has for one batch, with all tries."""

Kind = Literal["server", "producer", "consumer"]


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
        return self._replace(span_id=_new_span_id())

    @property
    def sampled(self) -> bool:
        """Whether whoever began the trace wants it recorded."""
        return bool(int(self.flags, 16) & 1)


class Span(NamedTuple):
    """Something that takes time; recorded when it ends.

    Attributes:
        trace: Its ids.
        parent: The span that caused it; None for a trace's first.
        name: What is done, and to what: few different ones.
        kind: As OpenTelemetry has them.
        attributes: What else is known.
        began_ns: When, in ns since the epoch.
    """

    trace: Trace
    parent: Trace | None
    name: str
    kind: Kind
    attributes: Mapping[str, str | int]
    began_ns: int

    def end(self, error: str = "", **attributes: str | int) -> None:
        """Record it.

        Args:
            error: Why it failed; empty if it did not.
            attributes: What is known by now.
        """
        if _record is not None and self.trace.sampled:
            _record(self._replace(attributes={**self.attributes, **_named(attributes)}), error)


_record: Callable[[Span, str], None] | None = None
_close: Callable[[], None] | None = None


def new_trace() -> Trace:
    """The first span of a trace of its own."""
    return Trace(secrets.token_hex(16), _new_span_id())


def parse(traceparent: str) -> Trace | None:
    """The span that the header names; None if it names none (all zeros names none)."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or not match["trace"].strip("0") or not match["span"].strip("0"):
        return None
    return Trace(match["trace"], match["span"], match["flags"])


def begin(name: str, traceparent: str, kind: Kind, **attributes: str | int) -> Span:
    """A span below the one that the header names, or the first of a new trace.

    Args:
        name: What is done.
        traceparent: What caused it, as the record or the request carries it.
        kind: `consumer` for a piece of work.
        attributes: `pixcrawler.` is put before their names.
    """
    parent = parse(traceparent)
    trace = new_trace() if parent is None else parent.child()
    return Span(trace, parent, name, kind, _named(attributes), time.time_ns())


def first_of(job_id: str, traceparent: str | None, name: str) -> Span:
    """A job's first span: below that of the request that makes it, where the request names one.

    Args:
        job_id: Which job. If the request names no trace, the job's is called like the job.
        traceparent: What the request has sent.
        name: The request.
    """
    parent = parse(traceparent or "")
    trace = Trace(UUID(job_id).hex, _new_span_id()) if parent is None else parent.child()
    return Span(trace, parent, name, "server", _named({"job": job_id}), time.time_ns())


def sending(topic: str, job_id: str, traceparent: str | None, *, chunk: str = "") -> Trace:
    """A new span of a job's trace for an event that the clock or a request causes, and no event.

    Args:
        topic: Where it is published.
        job_id: Its job.
        traceparent: The job's first span (`crawl_jobs.traceparent`). Jobs that were made by a
            version that kept none have none; their trace is called like the job.
        chunk: The chunk that it is about, if it is about one.
    """
    parent = parse(traceparent or "")
    trace = Trace(UUID(job_id).hex, _new_span_id()) if parent is None else parent.child()
    about = {"job": job_id, **({"chunk": chunk} if chunk else {})}
    span = Span(trace, parent, f"send {topic}", "producer", _named(about), time.time_ns())
    span.end()
    return trace


def export(service: str, worker: str) -> None:
    """Send what is recorded from now on to a collector, by OTLP over HTTP.

    Where to, and with which headers, is told as for every program that speaks OTLP: by the
    variables OTEL_EXPORTER_OTLP_* (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
    Batches are sent by a thread; while nobody takes them they are dropped, and nothing waits.

    Args:
        service: Name of the program: `service.name`.
        worker: This replica's name: `service.instance.id`.
    """
    global _record, _close
    # Here, since without a collector nobody needs their memory.
    from opentelemetry import trace as api
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    said = {"service.name": f"pixcrawler-{service}", "service.instance.id": worker}
    resource, scope = Resource.create(said), InstrumentationScope("pixcrawler")
    processor = BatchSpanProcessor(OTLPSpanExporter(timeout=EXPORT_S), schedule_delay_millis=1000)

    def context(trace: Trace, *, is_remote: bool) -> Any:
        flags = api.TraceFlags(int(trace.flags, 16))
        ids = int(trace.trace_id, 16), int(trace.span_id, 16)
        return api.SpanContext(*ids, is_remote=is_remote, trace_flags=flags)

    def record(span: Span, error: str) -> None:
        status = api.StatusCode.ERROR if error else api.StatusCode.UNSET
        processor.on_end(
            ReadableSpan(
                span.name,
                context=context(span.trace, is_remote=False),
                parent=None if span.parent is None else context(span.parent, is_remote=True),
                resource=resource,
                attributes=span.attributes,
                kind=api.SpanKind[span.kind.upper()],
                status=api.Status(status, error or None),
                start_time=span.began_ns,
                end_time=time.time_ns(),
                instrumentation_scope=scope,
            )
        )

    _record, _close = record, processor.shutdown


def close(within_s: float) -> None:
    """Send what is recorded, unless nobody takes it within so many seconds; then record no more."""
    global _record, _close
    closing, _record, _close = _close, None, None
    if closing is not None:
        thread = threading.Thread(target=_quietly, args=(closing,), daemon=True)
        thread.start()
        thread.join(within_s)


def _quietly(do: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):  # the program ends, whatever becomes of its spans
        do()


def _new_span_id() -> str:
    return secrets.token_hex(8)


def _named(attributes: Mapping[str, str | int]) -> dict[str, str | int]:
    return {f"pixcrawler.{name}": value for name, value in attributes.items()}
