"""Circuit breakers: who fails again and again is left alone for a while, then asked once.

Closed → so many failures in a row → open → `recovery_s` → half-open → closed again, or open. The
states are those of the library `circuitbreaker`; waiting, and asking only once, are added here.
"""

import contextlib
import time
from dataclasses import dataclass

from circuitbreaker import CircuitBreaker

from pixcrawler.common import logs, metrics

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """When breakers open, and for how long; see the settings of the same names."""

    failures: int = 5
    recovery_s: float = 60.0


class _FailedError(Exception):
    """What the library counts."""


class Breaker:
    """The breaker of one source or host.

    Args:
        name: In metrics and logs.
        terms: When it opens.
        lasting: Whether it is shown while it is closed as well: sources are few, hosts many.
    """

    def __init__(self, name: str, terms: Terms, *, lasting: bool = False) -> None:
        self._name = name
        self._lasting = lasting
        self._terms = terms
        self._circuit = CircuitBreaker(terms.failures, terms.recovery_s, _FailedError, name)
        self._opened_at = 0.0
        if lasting:
            metrics.BREAKER_OPEN.labels(name).set(0)

    @property
    def closed(self) -> bool:
        """Whether nothing stands in the way."""
        return bool(self._circuit.closed)

    @property
    def rest_s(self) -> float:
        """Seconds until it may be tried again; 0 where it may be now."""
        if not self._circuit.opened:
            return 0.0
        return max(0.001, self._opened_at + self._terms.recovery_s - time.monotonic())

    def answered(self) -> None:
        """It did: nothing else counts."""
        if not self._circuit.closed:
            log.info("answers again", action="close-breaker", of=self._name)
            self.forget()
        self._circuit.reset()

    def failed(self) -> None:
        """Once more. While it is open, what was under way before tells nothing new."""
        if self._circuit.opened:
            return
        with contextlib.suppress(_FailedError), self._circuit:
            raise _FailedError
        if self._circuit.opened:
            self._opened_at = time.monotonic()
            metrics.BREAKER_OPEN.labels(self._name).set(1)
            log.warning("rests", action="open-breaker", of=self._name, for_s=self._terms.recovery_s)

    def forget(self) -> None:
        """Show that it is closed, or nothing of it any more."""
        if self._lasting:
            metrics.BREAKER_OPEN.labels(self._name).set(0)
            return
        with contextlib.suppress(KeyError):
            metrics.BREAKER_OPEN.remove(self._name)
