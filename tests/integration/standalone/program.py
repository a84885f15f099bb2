"""A tiny real program that keeps the contract of a service: what standalone mode runs in tests.

``GET /env`` answers its environment. With ``ignore`` as argument it does not end on SIGTERM; with
``broken`` it says which setting is wrong, with ``dying`` it just ends.
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(dict(os.environ)).encode() if self.path == "/env" else b"ok"
        self.send_response(200 if self.path in {"/env", "/healthz", "/readyz"} else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(mode: str) -> None:
    if mode == "broken":
        sys.stderr.write("PIXCRAWLER_SOMETHING is wrong: set it and start again\n")
        sys.exit(2)
    if mode == "dying":
        sys.exit("something failed")
    if mode == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ["PIXCRAWLER_HTTP_PORT"])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
