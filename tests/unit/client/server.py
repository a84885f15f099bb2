"""A small real HTTP server in the API's place: it answers as told and keeps what it was asked.

Not a copy of the API: what the real one answers is proved end to end.
"""

import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

JOB = "0199a000-0000-7000-8000-000000000000"
ARCHIVE = f"chunk_{JOB}-00000.zip"


class Asked(NamedTuple):
    """A request; the names of its headers are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """An answer. `cut`: the connection breaks after that many bytes of the body."""

    status: int = 200
    body: bytes = b"{}"
    cut: int | None = None
    kind: str = "application/json"


def reply(value: object, status: int = 200) -> Reply:
    """A JSON document."""
    return Reply(status, json.dumps(value).encode())


class FakeApi:
    """What is there and what shall go wrong.

    Attributes:
        documents: Answers to `METHOD path`; a list gives its items in turn, its last for ever.
        files: What `/files/<name>` serves, with ranges.
        faults: Answers for the next requests of a path, before anything else.
        asked: All requests so far.
    """

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, deque[Reply]] = {}
        self.asked: list[Asked] = []
        self.url = ""
        self.lock = threading.Lock()

    def serve_dataset(self, files: dict[str, bytes]) -> None:
        """List these files as the job's dataset, and serve them."""
        self.files.update(files)
        self.documents[f"GET /v1/jobs/{JOB}/dataset"] = {
            "files": [
                {
                    "path": name,
                    "size": len(body),
                    "sha256": hashlib.sha256(body).hexdigest(),
                    "url": f"{self.url}/files/{name}",
                }
                for name, body in files.items()
            ]
        }

    def fail(self, path: str, *replies: Reply) -> None:
        """Answer the next requests of a path so."""
        self.faults.setdefault(path, deque()).extend(replies)

    def requests(self, path: str) -> list[Asked]:
        """Those of a path."""
        return [asked for asked in self.asked if asked.path == path]

    def answer(self, asked: Asked) -> Reply:
        """What to answer now."""
        with self.lock:
            self.asked.append(asked)
            if waiting := self.faults.get(asked.path):
                return waiting.popleft()
            name = asked.path.removeprefix("/files/")
            if name in self.files:
                return self._file(asked, self.files[name])
            found = self.documents.get(f"{asked.method} {asked.path}")
            if isinstance(found, list):
                found = found.pop(0) if len(found) > 1 else found[0]
            if found is None:
                return reply({"title": "Not Found", "detail": f"{asked.path} was not found"}, 404)
            return found if isinstance(found, Reply) else reply(found)

    @staticmethod
    def _file(asked: Asked, body: bytes) -> Reply:
        match = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
        if not match:
            return Reply(200, body)
        start = int(match[1])
        return Reply(206, body[start:]) if start < len(body) else Reply(416, b"")


@contextmanager
def running() -> Iterator[FakeApi]:
    """The server, on a free port."""
    fake = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = fake.answer(Asked(self.command, parts.path, parts.query, headers, body))
            self.send_response(answer.status)
            self.send_header("content-type", answer.kind)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            if answer.cut is not None:
                self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Clients that go away are no matter here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        fake.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
