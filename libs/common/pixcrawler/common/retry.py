"""Trying again: what is tried again, how often, and after which pause (tenacity).

Three kinds of trouble, each with a patience of its own: something transient, an outage of what
everything stands on, and errors that nobody foresaw.
"""

import errno
import socket
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TypeVar

import tenacity
from aiokafka.errors import KafkaError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from tenacity import RetryCallState

from pixcrawler.common.db.sqlstate import sqlstate
from pixcrawler.common.errors import Fatal, GiveUp, Poison, Retry, Stopped
from pixcrawler.common.limits import Limits

T = TypeVar("T")

OUTAGES = frozenset({"kafka", "blob_store", "database"})
"""Words of `Retry.error` that mean: it is not the work that fails."""
_PASSING_STATES = frozenset(
    {
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
        "40001",  # serialization failure
        "40P01",  # deadlock
        "53300",  # too many connections
        "55P03",  # lock not available
        "57014",  # statement timeout
        "57P01",  # shutting down
        "57P02",  # crashed
        "57P03",  # starting up
    }
)
"""SQLSTATEs of what passes by itself; class 08, connections, is added."""
_LOST_CONNECTION = "InternalClientError"
"""What asyncpg says when the server died at a moment at which its protocol did not expect it."""
_PASSING_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOSPC,
    }
)


_ANSWERS = (GiveUp, Poison, Stopped, Fatal)


class Trouble(Enum):
    """The kinds of errors that are tried again."""

    TRANSIENT = "transient"
    OUTAGE = "outage"
    UNFORESEEN = "unforeseen"


def trouble(error: BaseException) -> Trouble | None:
    """The kind of an error; None for one that is an answer and not to be tried again."""
    if not isinstance(error, Exception) or isinstance(error, _ANSWERS):
        return None
    if isinstance(error, Retry):
        return Trouble.OUTAGE if error.error in OUTAGES else Trouble.TRANSIENT
    outage = (
        isinstance(error, ConnectionError | TimeoutError | socket.gaierror | PoolTimeoutError)
        or (isinstance(error, KafkaError) and error.retriable)
        or (isinstance(error, OSError) and _machine_passes(error))
        or _database_passes(error)
    )
    return Trouble.OUTAGE if outage else Trouble.UNFORESEEN


def exhausted(error: Exception) -> GiveUp:
    """What is left to say of an attempt after the last try: another one may help."""
    if isinstance(error, Retry):
        return GiveUp(str(error), error=error.error, retriable=True)
    word = "outage" if trouble(error) is Trouble.OUTAGE else "internal"
    return GiveUp(f"{type(error).__name__}: {error}", error=word, retriable=True)


class Patience:
    """When to stop trying; it counts for one piece of work.

    Args:
        limits: How patient.
        endless: Never give up on trouble that may pass: for events that nobody would send again.
        clock: Monotonic seconds.
    """

    def __init__(
        self, limits: Limits, *, endless: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._endless = endless
        self._clock = clock
        self._tries = dict.fromkeys(Trouble, 0)
        self._out_since: float | None = None

    def worth_it(self, error: BaseException) -> bool:
        """Whether to try again at all."""
        return trouble(error) is not None or (self._endless and isinstance(error, GiveUp))

    def exhausted(self, error: BaseException) -> bool:
        """Whether this failure was one too many."""
        kind = trouble(error) or Trouble.TRANSIENT
        self._tries[kind] += 1
        if kind is Trouble.UNFORESEEN:
            return self._tries[kind] >= self._limits.error_tries
        if self._endless:
            return False
        if kind is Trouble.TRANSIENT:
            return self._tries[kind] >= self._limits.retry_tries
        self._out_since = self._clock() if self._out_since is None else self._out_since
        return self._clock() - self._out_since >= self._limits.outage_s


async def patiently(
    work: Callable[[], Awaitable[T]],
    patience: Patience,
    limits: Limits,
    *,
    sleep: Callable[[float], Awaitable[None]],
    before_sleep: Callable[[BaseException, float], None],
) -> T:
    """Do the work, again and again while it is worth it; the last error is raised as it is."""

    async def attempt() -> T:  # tenacity awaits only what is a coroutine function by its looks
        return await work()

    def failed_with(state: RetryCallState) -> BaseException:
        error = state.outcome.exception() if state.outcome is not None else None
        assert error is not None
        return error

    def tell(state: RetryCallState) -> None:
        before_sleep(failed_with(state), state.next_action.sleep if state.next_action else 0.0)

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(patience.worth_it),
        stop=lambda state: patience.exhausted(failed_with(state)),
        wait=tenacity.wait_random_exponential(multiplier=limits.first_wait_s, max=limits.max_wait_s)
        + tenacity.wait_fixed(limits.first_wait_s / 4),
        sleep=sleep,
        before_sleep=tell,
        reraise=True,
    )
    return await retrying(attempt)


def _machine_passes(error: OSError) -> bool:
    # asyncio puts several failed addresses into one OSError without a number.
    return error.errno in _PASSING_ERRNOS or (error.errno is None and type(error) is OSError)


def _database_passes(error: Exception) -> bool:
    cause, state = getattr(error, "orig", error), sqlstate(error)
    lost = type(cause).__name__ == _LOST_CONNECTION or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
    return lost or state in _PASSING_STATES or state.startswith("08")
