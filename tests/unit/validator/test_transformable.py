"""What a job's transform cannot be done to is not kept: an image that is kept becomes a file."""

import io
from typing import Any

import pytest
from PIL import Image

from pixcrawler.common.outcomes import Outcome
from pixcrawler.common.transform import Transform
from pixcrawler.validator.decision import Damage, Decision, Header, Limits
from pixcrawler.validator.images import _transformable, decide

SQUARE = Transform(resize_mode="center_crop", image_size=64, image_format="jpeg")


def saved(picture: Image.Image, form: str, **more: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **more)
    return out.getvalue()


def noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 80)


GAP = b"\0garbage between two segments"


def with_gap(jpeg: bytes) -> bytes:
    """Bytes between segments of the header, which the strict decoder is asked to forgive."""
    first_end = 2 + 2 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:first_end] + GAP + jpeg[first_end:]


@pytest.mark.parametrize(
    ("data", "transform", "without", "outcome", "detail"),
    [
        (saved(noise(90, 80), "PNG"), SQUARE, None, None, ""),
        (saved(noise(90, 80).convert("CMYK"), "JPEG"), SQUARE, None, None, ""),
        (with_gap(saved(noise(90, 80), "JPEG")), SQUARE, None, None, ""),
        (
            saved(noise(16_384, 64), "PNG"),
            Transform(image_format="webp"),
            None,
            Outcome.UNSUPPORTED,
            "16384 x 64 is too long for webp",
        ),
        (
            saved(noise(3_000, 64), "PNG"),
            Transform(resize_mode="keep_ratio", image_size=640),
            None,
            Outcome.BOMB,
            "would be 30000 x 640",
        ),
        (saved(noise(90, 80), "PNG")[:-20], SQUARE, Outcome.CORRUPT, Outcome.CORRUPT, "cut"),
        (saved(noise(90, 40), "PNG"), SQUARE, Outcome.TOO_SMALL, Outcome.TOO_SMALL, "90 x 40"),
    ],
    ids=["good", "inks", "forgiven", "too-long", "too-many", "cut", "small"],
)
def test_only_what_can_be_transformed_is_good(
    data: bytes,
    transform: Transform,
    without: Outcome | None,
    outcome: Outcome | None,
    detail: str,
) -> None:
    """The reason stands in the outcome; for a job without a transform the image may be good."""
    plain = decide(data, Limits(max_pixels=2_000_000))
    assert plain.outcome == without
    decision = decide(data, Limits(max_pixels=2_000_000, transform=transform))
    assert decision.outcome == outcome
    assert detail in decision.detail
    assert (decision.phash is None) == (outcome is not None)
    assert decision.header == plain.header
    if outcome is None:
        assert decision == plain


def test_what_the_transform_cannot_decode_is_corrupt() -> None:
    """Should its decoder ever refuse what the strict one takes, that is known before claims."""
    cut = saved(noise(90, 80), "PNG")[:-400]
    found = Decision(None, "", Header("png", 90, 80), 1)
    with pytest.raises(Damage):
        _transformable(found, cut, Limits(transform=SQUARE))
    untouched = Limits(transform=Transform(upright=True))
    assert _transformable(found, cut, untouched) == found  # nothing has to be decoded
