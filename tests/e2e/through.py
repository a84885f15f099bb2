"""Become a program of this Python, with its database behind another port: `through.py PORT ARGV…`.

The supervisor tells every service its role and password in one address, and this is where the port
of the pooler takes the place of the server's.
"""

import os
import sys
from urllib.parse import urlsplit, urlunsplit

from pixcrawler.standalone.forks import run

VARIABLE = "PIXCRAWLER_DATABASE_URL"


def behind(port: int, address: str) -> str:
    """The same database, at another port."""
    url = urlsplit(address)
    return urlunsplit(url._replace(netloc=f"{url.netloc.rpartition(':')[0]}:{port}"))


if __name__ == "__main__":
    told_port, *argv = sys.argv[1:]
    os.environ[VARIABLE] = behind(int(told_port), os.environ[VARIABLE])
    run(argv)
