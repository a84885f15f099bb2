"""How long an exact search for near-duplicates takes: a numpy scan against pigeonhole bands.

    python bench/validator_near.py [KNOWN=100000] [QUERIES=500] [LIMIT=6]

The bands have to be built for every chunk, since the job's hashes are read from the database then;
both ways must give the same answers.
"""

import itertools
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pixcrawler.validator.near import NOBODY, Hashes, nearest

BITS = 64


class Bands:
    """64 bits in `limit + 1` bands: whoever is within `limit` bits agrees in a band at least."""

    def __init__(self, known: Hashes, limit: int) -> None:
        self.known, self.limit = known, limit
        edges = np.linspace(0, BITS, limit + 2).astype(int)
        self.bands = [(int(a), int(b - a)) for a, b in itertools.pairwise(edges)]
        self.orders = [np.argsort(self.keys(known, *band), kind="stable") for band in self.bands]
        self.sorted = [
            self.keys(known, *band)[order]
            for band, order in zip(self.bands, self.orders, strict=True)
        ]

    @staticmethod
    def keys(values: Hashes, shift: int, width: int) -> NDArray[np.uint16]:
        mask = np.uint64((1 << width) - 1)
        return ((values >> np.uint64(shift)) & mask).astype(np.uint16)

    def nearest(self, queries: Hashes) -> NDArray[np.intp]:
        index = np.full(len(queries), NOBODY, dtype=np.intp)
        best = np.full(len(queries), self.limit + 1, dtype=np.int16)
        for band, order, keys in zip(self.bands, self.orders, self.sorted, strict=True):
            wanted = self.keys(queries, *band)
            starts = np.searchsorted(keys, wanted, side="left")
            ends = np.searchsorted(keys, wanted, side="right")
            for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
                members = order[start:end]
                if not len(members):
                    continue
                bits = np.bitwise_count(self.known[members] ^ queries[place])
                found = int(bits.argmin())
                if bits[found] < best[place]:
                    best[place], index[place] = bits[found], members[found]
        return index


def example(known: int, queries: int, seed: int = 1) -> tuple[Hashes, Hashes]:
    """Random hashes; half of the queries differ from a known one in 0 to 8 bits."""
    chance = np.random.default_rng(seed)
    crowd = chance.integers(0, 2**64, size=known, dtype=np.uint64)
    asked = chance.integers(0, 2**64, size=queries, dtype=np.uint64)
    for place in range(0, queries, 2):
        value = int(crowd[chance.integers(known)])
        for bit in chance.choice(BITS, size=int(chance.integers(0, 9)), replace=False):
            value ^= 1 << int(bit)
        asked[place] = value
    return crowd, asked


def best_of(work: Callable[[], object], rounds: int = 5) -> float:
    """Milliseconds of the fastest of some rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def main() -> None:
    defaults = [100_000, 500, 6]
    given = [int(argument) for argument in sys.argv[1:4]]
    known, queries, limit = given + defaults[len(given) :]
    crowd, asked = example(known, queries)
    bands = Bands(crowd, limit)
    scan, banded = nearest(crowd, asked, limit), bands.nearest(asked)
    distances = [
        [
            int(np.bitwise_count(crowd[index] ^ query)) if index != NOBODY else None
            for index, query in zip(found, asked, strict=True)
        ]
        for found in (scan, banded)
    ]
    assert distances[0] == distances[1], "the two disagree"
    print(f"{known} known, {queries} asked, {limit} bits: {int((scan != NOBODY).sum())} near")
    print(f"scan   {best_of(lambda: nearest(crowd, asked, limit)):8.1f} ms")
    print(f"bands  {best_of(lambda: Bands(crowd, limit)):8.1f} ms to build")
    print(f"       {best_of(lambda: bands.nearest(asked)):8.1f} ms to ask")


if __name__ == "__main__":
    main()
