"""Pictures decoded by Pillow, and the perceptual hash of any picture."""

from io import BytesIO

import imagehash
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from pixcrawler.common import pictures
from pixcrawler.validator.decision import Damage, Limits, Unreadable
from pixcrawler.validator.formats import AVIF, BMP, GIF, TIFF, WEBP
from pixcrawler.validator.structure import Survey

_ANIMATED = frozenset({GIF, WEBP, AVIF})
_VARIETIES = frozenset({BMP, TIFF})
"""Formats with more varieties than Pillow reads: not being able to is not damage there."""


def opened(name: str, data: bytes) -> ImageFile.ImageFile:
    """The file, its header read and nothing decoded.

    Raises:
        Damage: its header cannot be read.
        Unreadable: it is of a variety that Pillow does not read.
    """
    try:
        return pictures.PLUGINS[name](BytesIO(data))
    except Exception as error:
        raise (Unreadable if name in _VARIETIES else Damage)(_words(error)) from error


def loaded(image: ImageFile.ImageFile, name: str) -> Image.Image:
    """The first picture, decoded completely.

    Raises:
        Damage: it cannot be decoded.
        Unreadable: it is compressed in a way that Pillow does not know.
    """
    try:
        image.load()
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError) or "not available" in str(error)
        raise (Unreadable if unknown and name in _VARIETIES else Damage)(_words(error)) from error
    return image


def check_frames(image: ImageFile.ImageFile, found: Survey, limits: Limits) -> None:
    """Decode further frames of a film, as many as the limits allow, to look for damage.

    Raises:
        Damage: one cannot be decoded.
    """
    if found.header.format not in _ANIMATED:
        return
    frames = max(found.frames, getattr(image, "n_frames", 1) if found.frames == 1 else 1)
    most = limits.animation_pixels // max(found.pixels, 1)
    for number in range(1, 1 + min(frames - 1, most, limits.animation_frames)):
        try:
            image.seek(number)
            image.load()
        except Exception as error:
            raise Damage(f"frame {number}: {_words(error)}") from error


def perceptual_hash(picture: Image.Image) -> int:
    """64 bits, as `imagehash.phash` computes them (its DCT is its own: others differ in bits)."""
    return int(str(imagehash.phash(_eight_bits(picture))), 16)


def upright(picture: Image.Image, block: Image.Exif) -> Image.Image:
    """Turned as its EXIF orientation says; as it is where that cannot be read."""
    return pictures.upright(picture, pictures.orientation_of(block))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Samples of 16 or 32 bits scaled down to 8: Pillow would cut them off, white everywhere."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    samples = np.nan_to_num(np.asarray(picture, dtype=np.float32))
    low, high = float(samples.min()), float(samples.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    return Image.fromarray(((samples - low) * scale).astype(np.uint8))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
