"""A database's address as libpq spells it, taken apart for asyncpg.

`sslmode` and `sslrootcert` stand in the URL: they belong to the address as host and port do, and
whoever passes a URL on passes them on. asyncpg takes them only in a DSN, which SQLAlchemy never
gives it.
"""

import ssl
from typing import Any

from sqlalchemy import URL, make_url

MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""libpq's modes, but for `allow`. Without one it is `prefer`."""


def arguments(url: str) -> tuple[URL, dict[str, Any]]:
    """The URL as SQLAlchemy takes it, and what asyncpg takes besides.

    Raises:
        ValueError: the mode is unknown, or `verify-…` lacks its file of authorities.
        OSError: that file cannot be read, or holds none.
    """
    parsed = make_url(url)
    tls = tls_of(parsed)
    bare = parsed.difference_update_query(("sslmode", "sslrootcert"))
    return bare, {} if tls is None else {"ssl": tls}


def tls_of(url: URL) -> ssl.SSLContext | str | None:
    """What asyncpg takes as `ssl`: a context, the name of a mode that checks nothing, or None.

    Raises:
        ValueError, OSError: as `arguments`.
    """
    mode, authorities = _one(url, "sslmode"), _one(url, "sslrootcert")
    if not mode:
        if authorities:
            raise ValueError("sslrootcert needs sslmode=verify-full or verify-ca beside it")
        return None
    if mode not in MODES:
        raise ValueError(f"sslmode is one of {', '.join(MODES)}, not {mode!r}")
    if not mode.startswith("verify"):
        return mode
    if not authorities:
        raise ValueError(f"sslmode={mode} needs sslrootcert=<file of the server's authorities>")
    try:
        context = ssl.create_default_context(cafile=authorities)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"sslrootcert: there is no file {authorities}") from error
    context.check_hostname = mode == "verify-full"
    return context


def _one(url: URL, name: str) -> str:
    value = url.query.get(name, "")
    return value if isinstance(value, str) else value[-1]
