"""What is tried again, how often, and what is not."""

import asyncio
import errno
import io
import socket
from dataclasses import replace

import asyncpg
import pytest
from aiokafka.errors import KafkaTimeoutError, NotLeaderForPartitionError
from PIL import Image, UnidentifiedImageError
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pixcrawler.common.errors import Fatal, GiveUp, Poison, Retry, Stopped
from pixcrawler.common.limits import Limits
from pixcrawler.common.retry import Patience, Trouble, patiently, trouble

LOST = "cannot switch to state 12; another operation (2) is in progress"
"""Seen when PostgreSQL was killed under load."""

LIMITS = Limits(retry_tries=4, error_tries=2, outage_s=10.0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Retry("busy"), Trouble.TRANSIENT),
        (Retry("away", error="blob_store"), Trouble.OUTAGE),
        (ConnectionRefusedError(), Trouble.OUTAGE),
        (TimeoutError(), Trouble.OUTAGE),
        (socket.gaierror(), Trouble.OUTAGE),
        (OSError(errno.ENOSPC, "full"), Trouble.OUTAGE),
        (OSError("Multiple exceptions: [Errno 111] …, [Errno 111] …"), Trouble.OUTAGE),
        (PoolTimeoutError(), Trouble.OUTAGE),
        (NotLeaderForPartitionError(), Trouble.OUTAGE),
        (asyncpg.InternalClientError(LOST), Trouble.OUTAGE),
        (
            DBAPIError("", {}, AsyncAdapt_asyncpg_dbapi.InternalClientError(LOST)),  # type: ignore[no-untyped-call]
            Trouble.OUTAGE,
        ),
        (DBAPIError("", {}, AsyncAdapt_asyncpg_dbapi.DataError("bug")), Trouble.UNFORESEEN),  # type: ignore[no-untyped-call]
        (KafkaTimeoutError(), Trouble.UNFORESEEN),
        (FileNotFoundError(2, "no file"), Trouble.UNFORESEEN),
        (UnidentifiedImageError("no image"), Trouble.UNFORESEEN),
        (KeyError("bug"), Trouble.UNFORESEEN),
        (Stopped(), None),
        (Poison(), None),
        (GiveUp("", error="", retriable=True), None),
        (Fatal(), None),
        (asyncio.CancelledError(), None),
    ],
    ids=repr,
)
def test_kinds_of_trouble(error: BaseException, kind: Trouble | None) -> None:
    """Each error has the patience that it deserves."""
    assert trouble(error) is kind


def test_pillows_error_is_an_os_error() -> None:
    """What the last test relies on: an unreadable image would look like a failing disk."""
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(b"no image"))


def test_each_kind_is_counted_for_itself() -> None:
    """An outage in between does not use up the tries of transient trouble."""
    now = 0.0
    patience = Patience(LIMITS, endless=False, clock=lambda: now)
    assert not any(patience.exhausted(Retry("busy")) for _ in range(3))
    assert not any(patience.exhausted(TimeoutError()) for _ in range(50))
    assert patience.exhausted(Retry("busy"))
    now = 10.0
    assert patience.exhausted(TimeoutError())


def test_endless_patience_ends_only_with_bugs() -> None:
    """What nobody would send again is tried until it works, even when the handler gives up."""
    patience = Patience(LIMITS, endless=True)
    gives_up = GiveUp("no", error="no", retriable=False)
    assert patience.worth_it(gives_up)
    assert not any(patience.exhausted(gives_up) for _ in range(1000))
    assert not patience.exhausted(KeyError())
    assert patience.exhausted(KeyError())
    assert not patience.worth_it(Stopped())


async def test_backoff_grows_to_its_limit() -> None:
    """Pauses are random, grow, and stay below the longest allowed."""
    limits = replace(LIMITS, retry_tries=30, first_wait_s=0.5, max_wait_s=8.0)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def fail() -> None:
        raise Retry("busy")

    with pytest.raises(Retry):
        await patiently(
            fail,
            Patience(limits, endless=False),
            limits,
            sleep=sleep,
            before_sleep=lambda *_: None,
        )
    assert len(pauses) == 29
    assert pauses[0] <= 0.5 + 0.125
    assert max(pauses[5:]) > 2
    assert max(pauses) <= 8.0 + 0.125
    assert min(pauses) >= 0.125
