"""Waiting: for a condition, with a deadline, and with a word about what did not happen."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 180.0
"""Far more than anything takes here; a machine that does other things, too, takes its time."""

POLL_S = 0.05
POLL_SHARE = 0.05
"""Of what has been waited already: asking costs those who are waited for."""


def until(
    what: str,
    found: Callable[[], T],
    *,
    deadline_s: float = DEADLINE_S,
    about: Callable[[], object] = str,
) -> T:
    """Ask until the answer is true; that answer.

    Args:
        what: What is waited for, for whoever reads the failure.
        found: Asked again and again.
        deadline_s: Seconds; beyond, the test has failed.
        about: Asked once when it has failed: what there is instead.
    """
    begun = time.monotonic()
    while True:
        answer = found()
        if answer:
            return answer
        waited = time.monotonic() - begun
        if waited >= deadline_s:
            raise AssertionError(f"not within {deadline_s:g} s: {what}; {about()}")
        time.sleep(max(POLL_S, POLL_SHARE * waited))
