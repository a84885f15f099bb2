"""Become a program of this Python, with its database behind another port: `through.py PORT ARGV…`.

The supervisor tells every service its role and password in one address, and this is where the port
of the pooler takes the place of the server's.
"""

import os
import runpy
import sys
from urllib.parse import urlsplit, urlunsplit

VARIABLE = "PIXCRAWLER_DATABASE_URL"

if __name__ == "__main__":
    port, _python, kind, program = sys.argv[1:5]
    url = urlsplit(os.environ[VARIABLE])
    address = f"{url.netloc.rpartition(':')[0]}:{port}"
    os.environ[VARIABLE] = urlunsplit(url._replace(netloc=address))
    sys.argv = sys.argv[4:]
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")
