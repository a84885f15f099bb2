"""Sets of chunk indices as integers (bit i is chunk i) and as text that a person can read.

The text is ranges, ascending: `0-4,7`. The empty set is the empty string.
"""

from collections.abc import Iterable, Iterator


def to_ranges(bitmap: int) -> str:
    """`0b10011111` → `0-4,7`."""
    return ",".join(
        f"{first}-{last}" if last > first else str(first) for first, last in _runs(bitmap)
    )


def from_ranges(text: str) -> int:
    """`0-4,7` → `0b10011111`.

    Raises:
        ValueError: the text is not ascending ranges.
    """
    bitmap = 0
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if high < low or low < 0:
            raise ValueError(f"not a range: {part!r}")
        bitmap |= ((1 << (high - low + 1)) - 1) << low
    return bitmap


def from_indices(indices: Iterable[int]) -> int:
    """The set of these indices."""
    bitmap = 0
    for index in indices:
        bitmap |= 1 << index
    return bitmap


def indices(bitmap: int) -> Iterator[int]:
    """The members, ascending."""
    for first, last in _runs(bitmap):
        yield from range(first, last + 1)


def _runs(bitmap: int) -> Iterator[tuple[int, int]]:
    position = 0
    while bitmap:
        zeros = (bitmap & -bitmap).bit_length() - 1
        position += zeros
        bitmap >>= zeros
        ones = (~bitmap & (bitmap + 1)).bit_length() - 1
        yield position, position + ones - 1
        position += ones
        bitmap >>= ones
