"""Sets of chunk indices as integers and as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.common import bitmaps


@given(st.frozensets(st.integers(0, 400)))
def test_text_and_bitmap_say_the_same(members: frozenset[int]) -> None:
    """parse(dump(x)) == x, and the members come out ascending."""
    bitmap = bitmaps.from_indices(members)
    assert bitmaps.from_ranges(bitmaps.to_ranges(bitmap)) == bitmap
    assert list(bitmaps.indices(bitmap)) == sorted(members)


def test_ranges_read_as_people_write_them() -> None:
    """The text of a known set."""
    assert bitmaps.to_ranges(0b10011111) == "0-4,7"
    assert bitmaps.to_ranges(0) == ""


@pytest.mark.parametrize("text", ["4-2", "a", "-1-3"])
def test_nonsense_is_refused(text: str) -> None:
    """What is not ascending ranges raises."""
    with pytest.raises(ValueError, match=r".*"):
        bitmaps.from_ranges(text)
