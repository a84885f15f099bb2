"""Become a program of this Python, with its database behind another port: `through.py PORT ARGV…`.

The supervisor tells every service its role and password in one address, and this is where the port
of the pooler takes the place of the server's.
"""

import os
import runpy
import sys
from urllib.parse import urlsplit, urlunsplit

VARIABLE = "PIXCRAWLER_DATABASE_URL"


def behind(port: int, address: str) -> str:
    """The same database, at another port."""
    url = urlsplit(address)
    return urlunsplit(url._replace(netloc=f"{url.netloc.rpartition(':')[0]}:{port}"))


if __name__ == "__main__":
    told_port, _python, kind, program = sys.argv[1:5]
    os.environ[VARIABLE] = behind(int(told_port), os.environ[VARIABLE])
    sys.argv = sys.argv[4:]
    if kind == "-m":
        sys.modules.pop(f"{program}.__main__", None)  # imported by whoever forked us
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")
