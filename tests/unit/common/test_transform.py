"""What may be asked for together, and the arithmetic of sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.common.jobs import Options
from pixcrawler.common.transform import Transform, wrong

sides = st.integers(1, 60_000)


def test_nothing_asked_for_is_no_transform() -> None:
    """Original bytes whenever nothing is asked for; a quality alone asks for nothing."""
    assert Options().transform is None
    assert Options(min_size=9, quality=20).transform is None
    assert Options(upright=True).transform == Transform(upright=True)
    assert Options(image_format="webp", quality=20).transform == Transform(
        image_format="webp", quality=20
    )


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, None),
        ({"upright": True, "quality": 50}, None),
        ({"resize_mode": "keep_ratio", "image_size": 1, "quality": 50}, None),
        ({"resize_mode": "none", "image_format": "jpeg", "quality": 50}, None),
        ({"resize_mode": "center_crop", "image_size": 8192, "image_format": "png"}, None),
        ({"resize_mode": "center_crop"}, "image_size"),
        ({"image_size": 256}, "image_size"),
        ({"resize_only_if_bigger": True}, "resize_only_if_bigger"),
        ({"image_format": "png", "quality": 50}, "quality"),
        ({"quality": 50}, "quality"),
    ],
)
def test_what_makes_no_sense_together(given: dict[str, object], field: str | None) -> None:
    """The complaint names the field and begins with it."""
    found = wrong(Options.model_validate(given))
    assert (found and found.field) == field
    assert found is None or found.message.startswith(f"{field} ")


@given(sides, sides, st.integers(1, 8192))
def test_keep_ratio(width: int, height: int, size: int) -> None:
    """The shorter side is exact, the longer one within half a pixel; turning changes nothing."""
    how = Transform(resize_mode="keep_ratio", image_size=size)
    resized = how.resized(width, height)
    if resized is None:
        assert min(width, height) == size
        return
    assert min(resized.width, resized.height) == size
    shorter = min(width, height)
    assert abs(resized.width - width * size / shorter) <= 0.5
    assert abs(resized.height - height * size / shorter) <= 0.5
    assert resized.box == (0, 0, width, height)
    turned = how.resized(height, width)
    assert turned is not None
    assert (turned.height, turned.width) == (resized.width, resized.height)


@given(sides, sides, st.integers(1, 8192))
def test_center_crop(width: int, height: int, size: int) -> None:
    """The largest square in the middle becomes a square of the size."""
    resized = Transform(resize_mode="center_crop", image_size=size).resized(width, height)
    if resized is None:
        assert width == height == size
        return
    left, upper, right, lower = resized.box
    assert (resized.width, resized.height) == (size, size)
    assert right - left == lower - upper == min(width, height)
    assert (left, upper) == (width - right, height - lower)


@given(sides, sides, st.integers(1, 8192), st.sampled_from(["keep_ratio", "center_crop"]))
def test_only_if_bigger_never_enlarges(width: int, height: int, size: int, mode: str) -> None:
    """An image that is not larger is left alone, and one that is becomes what it becomes anyway."""
    asked = {"resize_mode": mode, "image_size": size}
    careful = Transform.model_validate({**asked, "resize_only_if_bigger": True})
    if min(width, height) <= size:
        assert careful.resized(width, height) is None
    else:
        assert careful.resized(width, height) == Transform.model_validate(asked).resized(
            width, height
        )


def test_formats() -> None:
    """What cannot be written becomes PNG, and only where it has to be written."""
    original = Transform(upright=True)
    assert [original.format_of(form) for form in ("jpeg", "png", "webp")] == ["jpeg", "png", "webp"]
    assert {original.format_of(form) for form in ("gif", "bmp", "tiff", "avif")} == {"png"}
    assert all(original.keeps_format(form) for form in ("gif", "jpeg"))
    webp = Transform(image_format="webp")
    assert {webp.format_of(form) for form in ("jpeg", "gif", "webp")} == {"webp"}
    assert [webp.keeps_format(form) for form in ("webp", "jpeg")] == [True, False]
