"""Why a try at a URL brought no bytes, and whether another try may."""

import asyncio
import errno
import os
import socket
import ssl
from dataclasses import dataclass

import aiohttp

from pixcrawler.common.errors import Retry
from pixcrawler.common.guard import Blocked
from pixcrawler.common.outcomes import Outcome

SERVER_ERRORS = 500
CLIENT_ERRORS = 400
TOO_MANY = 429
PASSING = frozenset({408, 425, TOO_MANY})
"""4xx answers that may be different later: Request Timeout, Too Early, Too Many Requests."""

_LOCAL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""This machine's trouble, which decides nothing about a candidate."""
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


@dataclass(eq=False)
class Failure(Exception):
    """A try failed.

    Attributes:
        outcome: What becomes of the candidate if no other try succeeds.
        detail: Why, for people.
        status: Of the last answer; 0 for none.
        again: Whether another try may help.
        wait_s: Seconds that the host asked to wait before it; None if it did not.
        hops: Redirects that were followed before.
    """

    outcome: Outcome
    detail: str
    status: int = 0
    again: bool = False
    wait_s: float | None = None
    hops: int = 0


def from_error(error: Exception) -> Failure:
    """What an exception of a request means.

    Raises:
        Retry: it is this machine's trouble, not the candidate's.
    """
    cause: BaseException = getattr(error, "os_error", None) or error
    if isinstance(cause, Blocked):
        return Failure(Outcome.BLOCKED, str(cause))
    if isinstance(cause, OSError) and cause.errno in _LOCAL:
        raise Retry(f"no connection can be made: {cause}", error="connections") from error
    if isinstance(error, asyncio.TimeoutError):
        return Failure(Outcome.TIMEOUT, "no byte in time", again=True)
    return Failure(Outcome.NETWORK_ERROR, words(error)[:300], again=_passing(error, cause))


def words(error: BaseException) -> str:
    """Why there was no answer, for people."""
    cause = getattr(error, "os_error", None) or error
    host = str(getattr(error, "host", None) or "the host")
    if isinstance(cause, socket.gaierror) or isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"no DNS answer for {host}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not valid: {cause.verify_message}"
    for kinds, said in _WORDS:
        if isinstance(cause, kinds):
            return said
    if isinstance(cause, ssl.SSLError):
        return f"{host} does not speak TLS as it should: {cause.reason or cause}"
    if isinstance(cause, OSError) and cause.errno:
        return f"{host} cannot be connected to: {os.strerror(cause.errno).lower()}"
    return f"{type(cause).__name__}: {cause}".removesuffix(": ")


_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "the connection was refused"),
    (ConnectionResetError, "the connection was reset"),
    (BrokenPipeError, "the connection was reset"),
    (aiohttp.ServerDisconnectedError, "the connection was closed before an answer"),
    (aiohttp.ClientPayloadError, "the connection broke before the answer was complete"),
)
"""More special kinds first."""


def _passing(error: Exception, cause: BaseException) -> bool:
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return False
    if isinstance(cause, socket.gaierror):
        return cause.errno not in _NO_SUCH_NAME
    return not isinstance(cause, ssl.SSLCertVerificationError)
