"""A collector of spans: what speaks OTLP over HTTP can send them here."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Spanned(NamedTuple):
    """A span as it was received; ids are hex digits, times seconds since the epoch."""

    service: str
    worker: str
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    attributes: Mapping[str, str]
    began: float
    ended: float

    @property
    def chunk(self) -> str:
        """The chunk that it is about; empty if it is about none."""
        return self.attributes.get("pixcrawler.chunk", "")


class Collector:
    """What was received.

    Args:
        url: Where to send it: `OTEL_EXPORTER_OTLP_ENDPOINT`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._spans: list[Spanned] = []
        self._lock = threading.Lock()

    def take(self, body: bytes) -> None:
        """One request's spans."""
        received = ExportTraceServiceRequest.FromString(body)
        found = [
            Spanned(
                resource["service.name"],
                resource["service.instance.id"],
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                {each.key: _text(each.value) for each in span.attributes},
                span.start_time_unix_nano / 1e9,
                span.end_time_unix_nano / 1e9,
            )
            for group in received.resource_spans
            for resource in [
                {each.key: each.value.string_value for each in group.resource.attributes}
            ]
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += found

    def all(self) -> list[Spanned]:
        """Everything so far."""
        with self._lock:
            return list(self._spans)

    def of(self, trace_id: str) -> list[Spanned]:
        """The spans of a trace so far."""
        return [each for each in self.all() if each.trace_id == trace_id]


def _text(value: object) -> str:
    kind = value.WhichOneof("value")  # type: ignore[attr-defined]
    return str(getattr(value, kind))


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers.get("Content-Encoding") is None
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            said = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            """Not to the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
