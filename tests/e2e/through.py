"""Become a program whose database is behind another port: `through.py PORT PROGRAM ARGUMENTS…`.

The supervisor tells every service its role and password in one address, and this is where the port
of the pooler takes the place of the server's.
"""

import os
import sys
from urllib.parse import urlsplit, urlunsplit

VARIABLE = "PIXCRAWLER_DATABASE_URL"

if __name__ == "__main__":
    port, *argv = sys.argv[1:]
    url = urlsplit(os.environ[VARIABLE])
    address = f"{url.netloc.rpartition(':')[0]}:{port}"
    os.environ[VARIABLE] = urlunsplit(url._replace(netloc=address))
    os.execv(argv[0], argv)
