"""Near-duplicates: pairs of perceptual hashes within a few bits of each other, exactly.

Two exact ways were measured (`bench/validator_near.py`, one core): a numpy scan, and pigeonhole
bands (64 bits in 7 bands: two hashes within 6 bits agree in one of them). With 100,000 hashes of a
job and 500 of a chunk the scan takes 32 ms at 6 bits and 50 ms at 16; the bands, which have to be
built anew for every chunk, 25 ms and 165 ms. Among 1,000 the scan takes 1 ms, the bands 6 ms. So it
is the scan: it is short, needs no index, and hardly depends on the limit.
"""

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
"""Perceptual hashes, one 64-bit number each."""

NOBODY = -1
"""In place of an index: nobody is near."""

_CROWD = 16_384
"""Known hashes looked at in one go: 128 KiB of them stay in a core's cache."""


def hashes(values: list[int]) -> Hashes:
    """An array of hashes."""
    return np.array(values, dtype=np.uint64)


def nearest(known: Hashes, queries: Hashes, limit: int) -> NDArray[np.intp]:
    """For each query the index of the known hash nearest to it, `NOBODY` beyond `limit` bits.

    Among equally near ones the first.
    """
    best = np.full(len(queries), limit + 1, dtype=np.int16)
    index = np.full(len(queries), NOBODY, dtype=np.intp)
    for start in range(0, len(known), _CROWD):
        crowd = known[start : start + _CROWD]
        differing = np.empty_like(crowd)
        bits = np.empty(len(crowd), dtype=np.uint8)
        for place, query in enumerate(queries):
            np.bitwise_xor(crowd, query, out=differing)
            np.bitwise_count(differing, out=bits)
            found = int(bits.argmin())
            if bits[found] < best[place]:
                best[place], index[place] = bits[found], start + found
    return index


class Gathering:
    """Hashes that join one after another, each asked first who is near to it."""

    def __init__(self, capacity: int) -> None:
        self._hashes = np.empty(capacity, dtype=np.uint64)
        self._size = 0

    def nearest(self, value: int, limit: int) -> int:
        """The place, in the order of joining, of the one nearest to it; `NOBODY` beyond `limit`."""
        if self._size == 0:
            return NOBODY
        bits = np.bitwise_count(self._hashes[: self._size] ^ np.uint64(value))
        found = int(bits.argmin())
        return found if bits[found] <= limit else NOBODY

    def join(self, value: int) -> None:
        """Add one."""
        self._hashes[self._size] = value
        self._size += 1
