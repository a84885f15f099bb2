"""Perceptual hashes of encoded images, computed by the rule that the product promises."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

REDUCED_SIDE = 256
"""A JPEG may be decoded at a DCT scale that keeps at least this many pixels a side."""


def full_size_hash(data: bytes) -> int:
    """64 bits: `imagehash.phash` of the upright image at its full size."""
    with Image.open(BytesIO(data)) as image:
        return _hash(image)


def reduced_hash(data: bytes) -> int:
    """64 bits: the same, a JPEG decoded gray at the smallest DCT scale that keeps 256 px a side."""
    with Image.open(BytesIO(data)) as image:
        if image.format == "JPEG" and image.mode != "CMYK":
            image.draft("L", (REDUCED_SIDE, REDUCED_SIDE))
        return _hash(image)


def distance(one: int, other: int) -> int:
    """Differing bits, 0 to 64."""
    return (one ^ other).bit_count()


def distances(value: int, others: np.ndarray) -> np.ndarray:
    """Differing bits between `value` and each of `others` (uint64)."""
    counted: np.ndarray = np.bitwise_count(others ^ np.uint64(value))
    return counted


def hex_digits(value: int) -> str:
    """16 hex digits, as `str(imagehash.phash(…))` prints them."""
    return f"{value:016x}"


def _hash(image: Image.Image) -> int:
    import imagehash  # with it comes SciPy: half a second that most webs do not need

    upright = ImageOps.exif_transpose(image)
    return int(str(imagehash.phash(upright)), 16)
