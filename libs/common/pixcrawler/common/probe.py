"""`python -m pixcrawler.common.probe`: whether the program in this container is alive.

A container's health check, asked every few seconds: it needs nothing but Python, and imports
nothing else. Exit code 1, with the reason, if the program is not well.
"""

import http.client
import os
import sys

OK = 200


def probe(port: int, path: str = "/healthz", timeout_s: float = 4.0) -> str:
    """Why the program on this port is not well; empty if it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(1000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return str(error) or repr(error)
    finally:
        connection.close()
    return "" if answer.status == OK else body or f"HTTP {answer.status}"


if __name__ == "__main__":
    sys.exit(probe(int(os.environ["PIXCRAWLER_HTTP_PORT"])) or 0)
