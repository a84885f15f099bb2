"""Fetching a dataset, from a server that counts what it is told."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pixcrawler.client.api import Api
from pixcrawler.client.download import fetch

JOB = "0190b2a5-0000-7000-8000-000000000000"
CONTENT = bytes(range(256)) * 50


class Served:
    """A dataset of one file and its index, and the headers of every request for a file."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, str]] = []

    def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        """As the api does."""
        if request.path.endswith("/dataset"):
            return 200, json.dumps({"files": self.files()}).encode()
        self.asked.append(dict(request.headers))
        content = self.contents()[request.path.rpartition("/")[2]]
        asked = request.headers.get("Range")
        if asked is None:
            return 200, content
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        return (206, content[start:]) if start < len(content) else (416, b"{}")

    def contents(self) -> dict[str, bytes]:
        return {"README.md": CONTENT, "dataset.json": json.dumps({"job_id": JOB}).encode()}

    def files(self) -> list[dict[str, object]]:
        return [
            {
                "path": path,
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "url": f"{self.url}/files/{path}",
            }
            for path, data in self.contents().items()
        ]


@contextmanager
def serving() -> Iterator[Served]:
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = served.answer(self)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.mark.parametrize(
    "left",
    [b"", CONTENT[:100], CONTENT, CONTENT + b"of an earlier, longer round"],
    ids=["nothing", "some", "all", "more"],
)
def test_resumed_from_whatever_was_left(tmp_path: Path, left: bytes) -> None:
    """Also where all bytes were there, only not yet under their name, or bytes of an old round."""
    (tmp_path / "README.md.part").write_bytes(left)
    with serving() as served, Api(served.url, "secret", patience_s=2) as api:
        fetch(api, JOB, tmp_path)
    assert (tmp_path / "README.md").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "dataset.json"]


def test_the_key_is_not_told_to_whoever_serves_the_files(tmp_path: Path) -> None:
    """A link carries its own permission, and may lead to somebody else's host."""
    with serving() as served, Api(served.url, "secret", patience_s=2) as api:
        fetch(api, JOB, tmp_path)
    assert served.asked
    assert not any("authorization" in map(str.lower, headers) for headers in served.asked)
