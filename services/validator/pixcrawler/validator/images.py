"""What one file is: bytes in, a decision out. Pure, and it never raises.

Order: the format from content, then the size from the header, then completeness, and only then is
anything decoded; last, where images are to be transformed, whether this one can be.
"""

import hashlib
from contextlib import AbstractContextManager, nullcontext

from PIL import Image

from pixcrawler.common import pictures as transforms
from pixcrawler.common.outcomes import Outcome
from pixcrawler.validator import formats, jpeg, pictures
from pixcrawler.validator.decision import Damage, Decision, Header, Limits, Unreadable
from pixcrawler.validator.jpeg import Jpeg
from pixcrawler.validator.structure import READERS, Survey, check_png_rows
from pixcrawler.validator.tiff import tiff

HEAVY = 16_000_000
"""Pixels from which on a picture is decoded under the lock of `decide`: some 50 MB as RGB."""

_READERS = {**READERS, formats.TIFF: tiff}
_FREE: AbstractContextManager[object] = nullcontext()


def decide(
    data: bytes, limits: Limits, *, heavy: AbstractContextManager[object] = _FREE
) -> Decision:
    """What these bytes are.

    Args:
        data: The file.
        limits: What an image has to keep to.
        heavy: Held while a huge picture is decoded, so that a process does not hold several.
    """
    try:
        try:
            return _decide(data, limits, heavy)
        except MemoryError:  # it may have been the others' pictures: once more, beside no huge one
            with heavy:
                return _decide(data, limits, _FREE)
    except Exception as error:  # noqa: BLE001 - whatever a decoder says, a file is not our failure
        return Decision(Outcome.CORRUPT, f"{type(error).__name__}: {error}")


def digest(data: bytes) -> bytes:
    """sha256, 32 bytes."""
    return hashlib.sha256(data).digest()


def _decide(data: bytes, limits: Limits, heavy: AbstractContextManager[object]) -> Decision:
    kind = formats.sniff(data)
    if kind is None:
        return Decision(Outcome.NOT_IMAGE, "" if data else "no bytes")
    header = Header(kind.name)
    if not kind.taken:
        return Decision(Outcome.UNSUPPORTED, kind.name, header)
    try:
        found = jpeg.parse(data) if kind.name == formats.JPEG else _READERS[kind.name](data)
        header = found.header
        with heavy if found.pixels >= HEAVY else _FREE:
            decision = _judge(found, limits)
            return _transformable(decision, data, limits) if decision.good else decision
    except Damage as damage:
        return Decision(Outcome.CORRUPT, str(damage), header)
    except Unreadable as reason:
        return Decision(Outcome.UNSUPPORTED, str(reason), header)


def _judge(found: Jpeg | Survey, limits: Limits) -> Decision:
    refusal = _outside(found.header, found.pixels, limits)
    if refusal is not None:
        return refusal
    if isinstance(found, Jpeg):
        upright = pictures.upright(jpeg.picture(found), jpeg.exif(found))
        return _good(found.header, upright)
    return _survey(found, limits)


def _survey(found: Survey, limits: Limits) -> Decision:
    """A picture of another format than JPEG, whose size is within the limits.

    Raises:
        Damage: it is cut or damaged.
        Unreadable: it is of a variety that we do not take.
    """
    if found.defect:
        raise Damage(found.defect)
    if found.variety:
        raise Unreadable(found.variety)
    name = found.header.format
    if name == formats.PNG:
        check_png_rows(found.data)
    with pictures.opened(name, found.data) as image:
        header = found.header
        if name == formats.AVIF:  # only now is it known which of its pictures is the one
            header = Header(name, image.width, image.height)
        refusal = _outside(header, image.width * image.height, limits)
        if refusal is not None:
            return refusal
        picture = pictures.loaded(image, name)
        decision = _good(header, pictures.upright(picture, transforms.exif(image)))
        pictures.check_frames(image, found, limits)
    return decision


def _transformable(decision: Decision, data: bytes, limits: Limits) -> Decision:
    """A good image, unless it cannot be made what the job wants: later it is too late to say so.

    Raises:
        Damage: it cannot be decoded as that takes.
        Unreadable: the wanted format has no room for it.
    """
    header = decision.header
    if limits.transform is None or header is None:
        return decision
    try:
        transforms.check(data, header.format, limits.transform, max_pixels=limits.max_pixels)
    except transforms.CannotDecode as reason:
        raise Damage(str(reason)) from reason
    except transforms.DoesNotFit as reason:
        if reason.bomb:
            return Decision(Outcome.BOMB, str(reason), header)
        raise Unreadable(str(reason)) from reason
    return decision


def _outside(header: Header, pixels: int, limits: Limits) -> Decision | None:
    """Whether it is too large or too small. A size that is not known yet is neither."""
    size = f"{header.width} x {header.height}"
    if pixels > limits.max_pixels:
        return Decision(Outcome.BOMB, size, header)
    if not header.pixels:
        return None
    if min(header.width, header.height) < limits.min_size:
        return Decision(Outcome.TOO_SMALL, size, header)
    return None


def _good(header: Header, upright: Image.Image) -> Decision:
    return Decision(None, "", header, pictures.perceptual_hash(upright))
