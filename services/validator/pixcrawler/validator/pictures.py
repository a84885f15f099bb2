"""Pictures decoded by Pillow, and the perceptual hash of any picture.

Each format is opened by its own plugin: `Image.open` would try every plugin that Pillow has, and
apply a size limit of its own.
"""

from collections.abc import Callable
from io import BytesIO

import imagehash
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from pixcrawler.validator.decision import Damage, Limits, Unreadable
from pixcrawler.validator.formats import AVIF, BMP, GIF, PNG, TIFF, WEBP
from pixcrawler.validator.structure import Survey

# Sizes are compared with our limit before anything is decoded (`images`); Pillow's own limit would
# refuse what ours allows.
Image.MAX_IMAGE_PIXELS = None
# Several images are decoded at a time anyway.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_PLUGINS: dict[str, Callable[[BytesIO], ImageFile.ImageFile]] = {
    PNG: PngImagePlugin.PngImageFile,
    WEBP: WebPImagePlugin.WebPImageFile,
    GIF: GifImagePlugin.GifImageFile,
    AVIF: AvifImagePlugin.AvifImageFile,
    BMP: BmpImagePlugin.BmpImageFile,
    TIFF: TiffImagePlugin.TiffImageFile,
}

_ANIMATED = frozenset({GIF, WEBP, AVIF})
_VARIETIES = frozenset({BMP, TIFF})
"""Formats with more varieties than Pillow reads: not being able to is not damage there."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def opened(name: str, data: bytes) -> ImageFile.ImageFile:
    """The file, its header read and nothing decoded.

    Raises:
        Damage: its header cannot be read.
        Unreadable: it is of a variety that Pillow does not read.
    """
    try:
        return _PLUGINS[name](BytesIO(data))
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
    try:
        turn = _UPRIGHT.get(block.get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - a broken EXIF block is no reason to drop a good picture
        return picture
    return picture if turn is None else picture.transpose(turn)


def exif(image: Image.Image) -> Image.Exif:
    """The file's EXIF block, empty where it cannot be read."""
    try:
        return image.getexif()
    except Exception:  # noqa: BLE001 - likewise
        return Image.Exif()


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
