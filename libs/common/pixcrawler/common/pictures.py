"""Pictures decoded and encoded by Pillow, which only services that do so have installed.

Each format is opened by its own plugin: `Image.open` would try every plugin that Pillow has, and
apply a size limit of its own. What an image becomes is the same in every process with the same
libraries on the same kind of machine, and may differ by bits elsewhere (encoders choose their
instructions by processor): so what was made is kept, and nobody relies on making it again.
"""

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from io import BytesIO
from typing import NamedTuple

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)
from PIL import __version__ as pillow_version

from pixcrawler.common.transform import MAX_SIDE, Resized, Transform

# Sizes are compared with a job's limit before anything is decoded; Pillow's own limit would refuse
# what ours allows.
Image.MAX_IMAGE_PIXELS = None
# Several images are decoded at a time anyway.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

PLUGINS: dict[str, Callable[[BytesIO], ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
}
"""How each format that we take is opened, by its name in verdicts."""

HEAVY = 16_000_000
"""Pixels from which on a picture is decoded alone in its process: some 64 MB as RGB."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each EXIF orientation upright."""

_SPARE = 2
"""A JPEG that is made smaller is decoded at no less than this many times the size that it gets: the
rest of the way is resampled, so that nothing is seen of the decoder's own scaling."""

_REDUCING_GAP = 3.0
"""Likewise of other pictures: whole pixels are averaged down to three times the size first
(`Image.resize`: nearly the same as without)."""

_PROFILE_BYTES = 1 << 20
"""The largest colour profile that is kept."""
_PROFILE_SPACE = slice(16, 20)  # ICC.1:2022, 7.2.6: data colour space
_SPACES = {"L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}
_WHITE = 255


class CannotTransform(Exception):
    """An image cannot be made what is wanted of it; the message says why.

    CannotTransform
    ├── CannotDecode   it is damaged, or of a variety that Pillow does not read
    └── DoesNotFit     it would be larger than its format, or the job's limit, allows
    """


class CannotDecode(CannotTransform):
    """It cannot be decoded."""


class DoesNotFit(CannotTransform):
    """It would be too large.

    Args:
        message: Why.
        bomb: By the limit of pixels, not by its format's.
    """

    def __init__(self, message: str, *, bomb: bool) -> None:
        super().__init__(message)
        self.bomb = bomb


class Picture(NamedTuple):
    """A file that was made: its bytes, true format, and size in pixels."""

    data: bytes
    format: str
    width: int
    height: int


class _Plan(NamedTuple):
    """What is to be done to one image: how to turn it, or what stays in its EXIF; its format."""

    resized: Resized | None
    turn: int
    kept_orientation: int
    format: str

    def size_of(self, image: Image.Image) -> tuple[int, int]:
        """What it becomes, but for turning, which does not matter to any limit."""
        return image.size if self.resized is None else (self.resized.width, self.resized.height)


def transformed(
    data: bytes,
    form: str,
    how: Transform,
    *,
    heavy: AbstractContextManager[object] | None = None,
) -> Picture | None:
    """The image as it is wanted; None where it is so already.

    Of an animation or a file of several pages it is the first picture. Transparency stays where the
    format has it, and lies on white in a JPEG; samples have 8 bits; colour profiles of RGB and gray
    stay; other metadata goes. An orientation that is not undone stays as EXIF.

    Args:
        data: The file.
        form: Its true format.
        how: What is wanted.
        heavy: Held while a huge picture is decoded, so that a process does not hold several.

    Raises:
        CannotDecode: it cannot be decoded.
        DoesNotFit: the format has no room for it.
    """
    with _opened(data, form) as image:
        plan = _plan(image, form, how)
        if plan is None:
            return None
        _check_fits(plan.size_of(image), plan.format)
        resized = _reduced(image, plan.resized)
        with _alone(image, plan, heavy or nullcontext()):
            picture = _decoded(image)
            profile = _profile(image, picture)
            if form == "tiff":  # only now is known which of its sides is which
                resized = how.resized(*picture.size)
            if resized is not None:
                picture = _resampled(picture, resized)
            picture = upright(picture, plan.turn)
            encoded = _encoded(picture, plan, profile, how.quality)
        return Picture(encoded, plan.format, *picture.size)


def check(data: bytes, form: str, how: Transform, *, max_pixels: int) -> None:
    """Whether `transformed` can do it: everything but resampling and encoding is tried.

    Args:
        data: The file.
        form: Its true format.
        how: What is wanted.
        max_pixels: What is made may have no more.

    Raises:
        CannotDecode: it cannot be decoded.
        DoesNotFit: it would be too large.
    """
    with _opened(data, form) as image:
        plan = _plan(image, form, how)
        if plan is not None:
            _check_fits(plan.size_of(image), plan.format, max_pixels)
            _reduced(image, plan.resized)
            _decoded(image)


@cache
def libraries() -> tuple[str, ...]:
    """What makes images, with versions."""
    used = {
        "libjpeg-turbo": "libjpeg_turbo",
        "zlib-ng": "zlib_ng",
        "libwebp": "webp",
        "libavif": "avif",
    }
    versions = {name: features.version(feature) for name, feature in used.items()}
    return (
        f"Pillow {pillow_version}",
        *(f"{name} {version}" for name, version in versions.items() if version),
    )


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    """Turned as this EXIF orientation says; as it is where that says nothing."""
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def orientation_of(block: Image.Exif) -> int:
    """The orientation in an EXIF block, 1 (upright) where there is none or it makes no sense."""
    try:
        found = block.get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - a broken EXIF block is no reason to drop a good picture
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def exif(image: Image.Image) -> Image.Exif:
    """The file's EXIF block, empty where it cannot be read."""
    try:
        return image.getexif()
    except Exception:  # noqa: BLE001 - likewise
        return Image.Exif()


def _opened(data: bytes, form: str) -> ImageFile.ImageFile:
    try:
        return PLUGINS[form](BytesIO(_bare_png(data) if form == "png" else data))
    except Exception as error:
        raise CannotDecode(_words(error)) from error


def _plan(image: ImageFile.ImageFile, form: str, how: Transform) -> _Plan | None:
    orientation = orientation_of(exif(image))
    resized = how.resized(*image.size)
    turn = orientation if how.upright else 1
    if resized is None and turn == 1 and how.keeps_format(form):
        return None
    # Pillow turns TIFF by itself when it decodes it.
    turn, kept = (1, 1) if form == "tiff" else (turn, orientation if turn == 1 else 1)
    return _Plan(resized, turn, kept, how.format_of(form))


def _check_fits(size: tuple[int, int], form: str, max_pixels: int | None = None) -> None:
    shown = f"{size[0]} x {size[1]}"
    if max_pixels is not None and size[0] * size[1] > max_pixels:
        raise DoesNotFit(f"would be {shown}", bomb=True)
    if max(size) > MAX_SIDE[form]:
        raise DoesNotFit(f"{shown} is too long for {form}: {MAX_SIDE[form]}", bomb=False)


def _alone(
    image: Image.Image, plan: _Plan, heavy: AbstractContextManager[object]
) -> AbstractContextManager[object]:
    """What is held while it is decoded and encoded."""
    width, height = plan.size_of(image)
    return heavy if max(image.width * image.height, width * height) >= HEAVY else nullcontext()


def _reduced(image: ImageFile.ImageFile, resized: Resized | None) -> Resized | None:
    """Let a JPEG that gets much smaller be decoded smaller, and say what to do with that then."""
    if resized is None or not isinstance(image, JpegImagePlugin.JpegImageFile):
        return resized
    whole, side = image.width, _SPARE * min(resized.width, resized.height)
    drafted = image.draft(None, (side, side))
    scale = 1.0 if drafted is None else drafted[1][2] / whole  # 1, 1/2, 1/4 or 1/8
    left, upper, right, lower = (place * scale for place in resized.box)
    return Resized((left, upper, right, lower), resized.width, resized.height)


def _decoded(image: ImageFile.ImageFile) -> Image.Image:
    """The first picture, in a mode that can be resized and encoded."""
    try:
        image.load()
        return _plain(image)
    except MemoryError:
        raise
    except Exception as error:
        raise CannotDecode(_words(error)) from error


def _plain(picture: Image.Image) -> Image.Image:
    """As gray or RGB of 8 bits, with transparency where there is any."""
    if picture.mode.startswith(("I", "F")):
        return _eight_bits(picture)
    if "transparency" in picture.info or picture.mode in ("PA", "RGBa", "La"):
        return picture.convert("RGBA")
    if picture.mode in ("L", "LA", "RGB", "RGBA"):
        return picture
    if picture.mode == "P" and picture.palette is not None and picture.palette.mode == "RGBA":
        return picture.convert("RGBA")
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Samples of more bits scaled down; Pillow would cut them off, white everywhere.

    Those of 16 bits by their range. Those of 32 bits have no range of their own: by the darkest and
    the lightest.
    """
    import numpy as np

    samples = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        return Image.fromarray((samples >> 8).astype(np.uint8))
    samples = np.nan_to_num(samples.astype(np.float32))
    low, high = float(samples.min()), float(samples.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    return Image.fromarray(((samples - low) * scale).astype(np.uint8))


def _resampled(picture: Image.Image, resized: Resized) -> Image.Image:
    size = (resized.width, resized.height)
    return picture.resize(
        size, Image.Resampling.LANCZOS, box=resized.box, reducing_gap=_REDUCING_GAP
    )


def _profile(image: Image.Image, picture: Image.Image) -> bytes:
    """The colour profile, if it is one for these samples; empty otherwise."""
    found = image.info.get("icc_profile")
    if not isinstance(found, bytes) or len(found) > _PROFILE_BYTES:
        return b""
    return found if found[_PROFILE_SPACE] == _SPACES.get(picture.mode) else b""


def _encoded(picture: Image.Image, plan: _Plan, profile: bytes, quality: int) -> bytes:
    """The file; nothing of the original's metadata gets into it but what is given here."""
    if plan.format == "jpeg" and picture.mode in ("LA", "RGBA"):
        picture = _on_white(picture)
    picture.info = {}  # some encoders look there
    more: dict[str, object] = {"icc_profile": profile} if profile else {}
    if plan.kept_orientation != 1:
        block = Image.Exif()
        block[ExifTags.Base.Orientation] = plan.kept_orientation
        more["exif"] = block.tobytes()
    if plan.format == "jpeg":
        more |= {"quality": quality, "subsampling": "4:2:0"}
    elif plan.format == "webp":
        more |= {"quality": quality, "method": 4}
    else:
        more |= {"compress_level": 6}
    out = BytesIO()
    picture.save(out, plan.format.upper(), **more)
    return out.getvalue()


def _on_white(picture: Image.Image) -> Image.Image:
    gray = picture.mode == "LA"
    white = Image.new("L" if gray else "RGB", picture.size, _WHITE if gray else (_WHITE,) * 3)
    white.paste(picture.convert(white.mode), mask=picture.getchannel("A"))
    return white


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


# --- PNG ----------------------------------------------------------------------------------------

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BEFORE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf"})


def _bare_png(data: bytes) -> bytes:
    """A PNG with its (first) picture, EXIF in front of it, and a profile of sensible size.

    Text and profiles may unpack to any size, and decoders refuse a file for that although its
    picture is fine. Checksums were compared when the file was judged.
    """
    before, picture, at = [_SIGNATURE], [], len(_SIGNATURE)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        name, end = data[at + 4 : at + 8], at + 12 + size
        if name in _BEFORE or (name == b"iCCP" and _unpacks_small(data[at + 8 : end - 4])):
            before.append(data[at:end])
        elif name in (b"IDAT", b"IEND"):
            picture.append(data[at:end])
        if name == b"IEND":
            break
        at = end
    return b"".join(before + picture)


def _unpacks_small(body: bytes) -> bool:
    """Whether a compressed profile has the size that we keep at most."""
    name_end = body.find(b"\0")
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(body[name_end + 2 :], _PROFILE_BYTES)
    except zlib.error:
        return False
    return not inflater.unconsumed_tail
