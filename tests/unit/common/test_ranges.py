import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcrawler.common.ranges import cut, initial_ranges, supply


@pytest.mark.parametrize(("images", "chunks"), [(250, 1), (1000, 2), (1500, 3), (2000, 4)])
def test_number_of_chunks(images: int, chunks: int) -> None:
    """The sizes that users know give the chunks that they know."""
    assert len(initial_ranges(images, 500)) == chunks


def test_exact_ranges() -> None:
    """2500 images are 0-499 … 2000-2499; 250 are 0-249."""
    assert initial_ranges(2500, 500) == (
        (0, 499),
        (500, 999),
        (1000, 1499),
        (1500, 1999),
        (2000, 2499),
    )
    assert initial_ranges(250, 500) == ((0, 249),)


def test_no_more_than_there_is() -> None:
    """A list of 30 URLs makes no chunks for the images that it cannot give."""
    assert initial_ranges(500, 20, supply(["urls"], 30)) == ((0, 19), (20, 29))
    assert supply(["urls", "commons"], 30) is None


@settings(deadline=None)  # a busy machine is no bug
@given(st.integers(0, 10_000), st.integers(0, 5_000), st.integers(1, 700))
def test_cut_covers_exactly(start: int, count: int, size: int) -> None:
    """Ranges follow each other without gap or overlap, and only the last may be short."""
    ranges = cut(start, count, size)
    assert [n for r in ranges for n in range(r.start, r.end + 1)] == [*range(start, start + count)]
    assert all(r.size == size for r in ranges[:-1])
