"""The web server's socket."""

import socket
from contextlib import closing

from starlette.applications import Starlette

from pixcrawler.api.server import WebServer


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """A body, which is sent after its head, leaves at once: not when the client has acknowledged
    the head, which it does after 40 ms."""
    server = WebServer(Starlette(), "127.0.0.1", 0, drain_s=1)
    server.listen()
    listener = server._socket
    assert listener is not None
    with closing(listener), socket.create_connection(("127.0.0.1", server.port)):
        accepted, _ = listener.accept()
        with closing(accepted):
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
