"""Links to objects that the api serves itself: signed, expiring, good for one object.

Where the blob store can sign, its own links are given out instead.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, urlencode

from pixcrawler.api.problems import Problem


class FileLink(NamedTuple):
    """What a link says: which object, under which file name, until when (seconds since 1970)."""

    name: str
    filename: str
    expires: int


class Links:
    """Signs links, and checks them.

    Args:
        key: Of the signature; every replica has the same.
        clock: Seconds since 1970.
    """

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock

    def path(self, name: str, *, filename: str, expires_s: int) -> str:
        """Path and query of a link that works for `expires_s` seconds."""
        link = FileLink(name, filename, int(self._clock()) + expires_s)
        query = urlencode(
            {"filename": filename, "expires": link.expires, "signature": self._sign(link)}
        )
        return f"/v1/files/{quote(name)}?{query}"

    def check(self, link: FileLink, signature: str) -> None:
        """Nothing, if the link was signed here and has not expired.

        Raises:
            Problem: 403.
        """
        if not hmac.compare_digest(self._sign(link).encode(), signature.encode()):
            raise Problem(403, "the link is not valid")
        if link.expires <= self._clock():
            raise Problem(403, "the link has expired; ask for the dataset again")

    def _sign(self, link: FileLink) -> str:
        # No part can hold a NUL: the separator cannot be moved.
        message = "\0".join(str(part) for part in link).encode()
        return hmac.digest(self._key, message, hashlib.sha256).hex()
