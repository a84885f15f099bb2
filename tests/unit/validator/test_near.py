"""Near-duplicates are found exactly."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.validator.near import NOBODY, Gathering, Hashes, hashes, nearest

close_hashes = st.lists(
    st.tuples(
        st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]), st.sets(st.integers(0, 63), max_size=9)
    ),
    max_size=30,
).map(lambda made: [_flipped(value, bits) for value, bits in made])


def _flipped(value: int, bits: set[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def by_hand(known: list[int], query: int, limit: int) -> int:
    """Brute force."""
    apart = [(value ^ query).bit_count() for value in known]
    best = min(apart, default=limit + 1)
    return apart.index(best) if best <= limit else NOBODY


@given(close_hashes, close_hashes, st.integers(0, 16))
def test_the_scan_agrees_with_brute_force(known: list[int], asked: list[int], limit: int) -> None:
    """The same nearest one for every query, for any hashes and any limit."""
    found = nearest(hashes(known), hashes(asked), limit)
    assert found.tolist() == [by_hand(known, query, limit) for query in asked]


@given(close_hashes, st.integers(0, 16))
def test_the_gathering_agrees_with_brute_force(asked: list[int], limit: int) -> None:
    """Who joined before is compared, nobody else."""
    gathering = Gathering(len(asked))
    for place, value in enumerate(asked):
        assert gathering.nearest(value, limit) == by_hand(asked[:place], value, limit)
        gathering.join(value)


def _crowd(size: int, asked: int) -> tuple[Hashes, Hashes]:
    chance = np.random.default_rng(5)
    crowd = chance.integers(0, 2**64, size=size, dtype=np.uint64)
    queries = chance.integers(0, 2**64, size=asked, dtype=np.uint64)
    for place in range(0, asked, 2):
        bits = {int(bit) for bit in chance.choice(64, size=place // 2 % 9, replace=False)}
        queries[place] = _flipped(int(crowd[(place * 7919) % size]), bits)
    return crowd, queries


def test_exact_among_100_000_and_fast() -> None:
    """100,000 known, 500 asked (every fifth checked by hand): exact, and quick."""
    crowd, asked = _crowd(100_000, 500)
    started = time.process_time()
    found = nearest(crowd, asked, 6)
    elapsed = time.process_time() - started
    for place, query in list(enumerate(asked))[::5]:
        bits = np.unpackbits((crowd ^ query).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
        if found[place] == NOBODY:
            assert bits.min() > 6
        else:
            assert bits[found[place]] == bits.min() <= 6
    assert (found != NOBODY).sum() >= 190
    assert elapsed < 1.0
