"""How many requests a key may make: a token bucket per key, in this process.

Not over all replicas: a count that is shared costs a write for each request, to a row that all
requests of a key queue for, which is dearer than most of what it would protect. So the bound over
several replicas is their number times the limit, and it is there to keep one key from taking a
replica from the others; what may cost real work is bounded by quotas, in the database.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 10_000
"""Keys whose buckets are remembered; whoever was longest away begins with a full one again."""
MINUTE_S = 60.0


class Buckets:
    """The buckets of the keys that were used lately.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at

    def take(self, key_id: str, per_minute: int) -> float:
        """Take a token.

        Args:
            key_id: Whose.
            per_minute: How many come in a minute, and as many are there at first; at least 1.

        Returns:
            Seconds until there is one; 0: it was taken.
        """
        now, rate = self._clock(), per_minute / MINUTE_S
        tokens, at = self._left.pop(key_id, (float(per_minute), now))
        tokens = min(float(per_minute), tokens + (now - at) * rate)
        wait_s = 0.0 if tokens >= 1 else (1 - tokens) / rate
        self._left[key_id] = (tokens if wait_s else tokens - 1, now)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return wait_s
