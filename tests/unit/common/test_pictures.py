"""What becomes of pictures: sizes, formats, orientation, colours; the same bytes every time."""

import hashlib
import io
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixcrawler.common.pictures import (
    CannotDecode,
    DoesNotFit,
    Picture,
    check,
    transformed,
)
from pixcrawler.common.transform import Transform

MAX_PIXELS = 10_000_000
FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif")
MODES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("turned", {"upright": True}),
    ("small", {"resize_mode": "keep_ratio", "image_size": 32}),
    ("large", {"resize_mode": "keep_ratio", "image_size": 200}),
    ("square", {"resize_mode": "center_crop", "image_size": 48, "upright": True}),
    ("as-jpeg", {"image_format": "jpeg", "quality": 80}),
    ("as-png", {"image_format": "png"}),
    ("as-webp", {"image_format": "webp", "resize_mode": "center_crop", "image_size": 33}),
)


def quarters(width: int, height: int) -> Image.Image:
    """Red, green / blue, white: where each is shows how a picture was turned."""
    picture = Image.new("RGB", (width, height), "white")
    picture.paste("red", (0, 0, width // 2, height // 2))
    picture.paste("lime", (width // 2, 0, width, height // 2))
    picture.paste("blue", (0, height // 2, width // 2, height))
    return picture


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def saved(picture: Image.Image, form: str, **more: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form.upper(), **more)
    return out.getvalue()


def opened(picture: Picture | None) -> Image.Image:
    """What was made, checked against what is said of it."""
    assert picture is not None
    image = Image.open(io.BytesIO(picture.data))
    image.load()
    assert image.format is not None
    assert (image.format.lower(), *image.size) == picture[1:]
    return image


def made(data: bytes, form: str, **how: Any) -> Image.Image:
    return opened(transformed(data, form, Transform(**how)))


def corners(picture: Image.Image) -> list[str]:
    """The colours of the quarters, row by row."""
    names = {(255, 0, 0): "red", (0, 255, 0): "lime", (0, 0, 255): "blue"}
    width, height = picture.size
    found = []
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            pixel = np.asarray(picture.convert("RGB").getpixel((x, y)))
            near = [n for colour, n in names.items() if abs(pixel - np.asarray(colour)).max() < 40]
            found.append(near[0] if near else "white")
    return found


@pytest.mark.parametrize("how", [how for _, how in MODES], ids=[name for name, _ in MODES])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_in_every_way(form: str, how: dict[str, Any]) -> None:
    """Odd sizes of every format become what they must, or stay; checking agrees; twice the same."""
    wish = Transform(**how)
    for width, height in ((101, 67), (67, 101), (75, 75), (700, 33)):
        data = saved(noise(width, height), form)
        check(data, form, wish, max_pixels=MAX_PIXELS)
        first = transformed(data, form, wish)
        resized = wish.resized(width, height)
        if resized is None and wish.image_format in ("original", form):
            assert first is None
            continue
        assert first == transformed(data, form, wish)
        image = opened(first)
        assert image.size == (resized[1:] if resized else (width, height))
        assert image.format == wish.format_of(form).upper()
        assert getattr(image, "n_frames", 1) == 1
        assert not image.getexif()


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(form: str, orientation: int) -> None:
    """Upright: as viewers show it, without the tag. Otherwise the tag stays, so they still do."""
    upright = quarters(96, 64)
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, 1)
    exif = Image.Exif()
    exif[0x0112] = undo
    stored = opened_upright(saved(upright, "png", exif=exif.tobytes()))
    exif[0x0112] = orientation
    data = saved(stored, form, exif=exif.tobytes())
    turned = transformed(data, form, Transform(upright=True))
    if orientation == 1:
        assert turned is None
    else:
        image = opened(turned)
        assert image.size == (96, 64)
        assert not image.getexif()
        assert corners(image) == ["red", "lime", "blue", "white"]
    small = made(data, form, upright=True, resize_mode="keep_ratio", image_size=32)
    assert (small.size, corners(small)) == ((48, 32), ["red", "lime", "blue", "white"])
    assert not small.getexif()
    kept = made(data, form, resize_mode="keep_ratio", image_size=32, image_format="webp")
    shown = opened_upright(saved(kept, "webp", exif=kept.getexif().tobytes()))
    assert (shown.size, corners(shown)) == ((48, 32), ["red", "lime", "blue", "white"])


def opened_upright(data: bytes) -> Image.Image:
    """As viewers show it."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


def test_other_processes_make_the_same_bytes() -> None:
    """Hash seeds, order of imports and threads change nothing."""
    program = (
        "import hashlib\n"
        "from tests.unit.common.test_pictures import digests\n"
        "print(hashlib.sha256(repr(digests()).encode()).hexdigest())"
    )
    here = hashlib.sha256(repr(digests()).encode()).hexdigest()
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert run.stdout.strip() == here


def digests() -> list[str]:
    data = {form: saved(noise(101, 67), form) for form in ("jpeg", "png", "webp")}
    return [
        hashlib.sha256(picture.data).hexdigest()
        for form in data
        for _, how in MODES
        if (picture := transformed(data[form], form, Transform(**how))) is not None
    ]


def test_reduced_decoding_is_as_good() -> None:
    """A JPEG that gets much smaller is decoded smaller, and nothing is seen of it."""
    smooth = noise(20, 13).resize((800, 520), Image.Resampling.BICUBIC)
    data = saved(smooth, "jpeg", quality=98)
    for how in ({"resize_mode": "keep_ratio"}, {"resize_mode": "center_crop"}):
        fast = made(data, "jpeg", **how, image_size=32, image_format="png")
        whole = saved(Image.open(io.BytesIO(data)), "png")
        exact = made(whole, "png", **how, image_size=32)
        apart = np.asarray(fast, np.int16) - np.asarray(exact, np.int16)
        assert abs(apart).mean() < 1.5
        assert abs(apart).max() < 16


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
@pytest.mark.parametrize("target", ["jpeg", "png", "webp"])
def test_every_mode_has_every_target(mode: str, target: str) -> None:
    """Whatever samples a file has, what is made of it has 8 bits of gray or RGB."""
    form = {"CMYK": "tiff", "YCbCr": "tiff", "LAB": "tiff", "PA": "tiff"}.get(mode, "png")
    picture = noise(60, 50).convert("RGB" if mode in ("LAB", "PA") else mode)
    if mode in ("LAB", "PA"):
        from PIL import ImageCms

        lab = ImageCms.createProfile("LAB")
        turn = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
        picture = picture.convert("LA")
        if mode == "LAB":
            picture = ImageCms.applyTransform(noise(60, 50), turn) or picture
    if "A" in picture.mode and mode != "LAB":
        picture.putalpha(Image.new("L", picture.size, 128))
    image = made(
        saved(picture, form), form, resize_mode="center_crop", image_size=40, image_format=target
    )
    assert image.mode in ({"L", "RGB"} if target == "jpeg" else {"L", "LA", "RGB", "RGBA"})
    assert ("A" in image.mode) == ("A" in mode and target != "jpeg" and mode != "LAB")


def test_transparent_parts_turn_white_in_a_jpeg() -> None:
    """As img2dataset does it; other formats keep them."""
    clear = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    assert made(saved(clear, "png"), "png", image_format="jpeg").getpixel((20, 20)) == (255,) * 3
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    data = saved(palette, "png", transparency=1)
    assert made(data, "png", image_format="jpeg").getpixel((20, 20)) == (255,) * 3
    kept = made(data, "png", image_format="webp").convert("RGBA").getpixel((20, 20))
    assert isinstance(kept, tuple)
    assert kept[3] == 0


def test_sixteen_bits_become_eight() -> None:
    """By their range, not cut off."""
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    image = made(saved(Image.fromarray(ramp), "png"), "png", image_format="webp", quality=100)
    found = np.asarray(image.convert("L"), np.int16)
    assert abs(found - (ramp >> 8).astype(np.int16)).max() <= 3
    floats = Image.fromarray(np.linspace(-1, 1, 4096).reshape(64, 64).astype(np.float32))
    seen = made(saved(floats, "tiff"), "tiff", image_format="png")
    assert (seen.mode, seen.getextrema()) == ("L", (0, 255))


def test_of_a_film_the_first_picture() -> None:
    """Where it is made anew; it stays a film where it is not."""
    frames = [Image.new("RGB", (60, 60), colour) for colour in ("red", "blue", "lime")]
    film = {"save_all": True, "append_images": frames[1:], "duration": 50}
    for form in ("gif", "webp", "png"):
        data = saved(frames[0], form, **film, **({"lossless": True} if form == "webp" else {}))
        assert transformed(data, form, Transform(upright=True)) is None
        image = made(data, form, resize_mode="keep_ratio", image_size=30, image_format="png")
        assert (getattr(image, "n_frames", 1), corners(image)) == (1, ["red"] * 4)


def test_only_the_profile_is_kept_of_what_surrounds_a_picture() -> None:
    """Colours look the same; comments, texts and times are gone. A gray picture drops RGB's."""
    from PIL import ImageCms
    from PIL.PngImagePlugin import PngInfo

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = PngInfo()
    text.add_text("Comment", "a secret")
    sources = {
        "jpeg": saved(noise(60, 40), "jpeg", icc_profile=profile, comment=b"a secret"),
        "png": saved(noise(60, 40), "png", icc_profile=profile, pnginfo=text),
    }
    for form, data in sources.items():
        for target in ("jpeg", "png", "webp"):
            how = {"resize_mode": "keep_ratio", "image_size": 20, "image_format": target}
            image = made(data, form, **how)
            assert image.info.get("icc_profile") == profile
            assert b"secret" not in saved(image, target)
            assert set(image.info) <= {"icc_profile", "jfif", "jfif_version", "jfif_unit",
                                       "jfif_density", "loop", "background", "timestamp",
                                       "duration"}  # fmt: skip
    gray = saved(noise(60, 40, "L"), "jpeg", icc_profile=profile)
    assert "icc_profile" not in made(gray, "jpeg", resize_mode="keep_ratio", image_size=20).info


def test_a_profile_that_unpacks_to_anything() -> None:
    """A PNG is good whatever text and profiles it carries; the validator says so, too."""
    bomb = zlib.compress(bytes(64 << 20))
    plain = saved(noise(60, 40), "png")
    end = 8 + 25
    for name, body in ((b"iCCP", b"x\0\0" + bomb), (b"zTXt", b"x\0\0" + bomb)):
        whole = name + body
        chunk = len(body).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")
        image = made(plain[:end] + chunk + plain[end:], "png", image_format="jpeg")
        assert "icc_profile" not in image.info


def test_what_would_be_too_large() -> None:
    """By the limit of pixels, and by what a format can hold."""
    strip = saved(Image.new("L", (17_000, 4)), "png")
    with pytest.raises(DoesNotFit, match="17000 x 4 is too long for webp") as caught:
        check(strip, "png", Transform(image_format="webp"), max_pixels=MAX_PIXELS)
    assert not caught.value.bomb
    with pytest.raises(DoesNotFit):
        transformed(strip, "png", Transform(image_format="webp"))
    large = Transform(resize_mode="keep_ratio", image_size=512)
    with pytest.raises(DoesNotFit, match="would be 2176000 x 512") as caught:
        check(strip, "png", large, max_pixels=MAX_PIXELS)
    assert caught.value.bomb


def test_what_cannot_be_decoded() -> None:
    """Damage is said in words; where nothing has to be decoded, nothing is."""
    data = saved(noise(60, 40), "webp")
    cut = data[: len(data) // 2]
    with pytest.raises(CannotDecode):
        check(cut, "webp", Transform(image_format="png"), max_pixels=MAX_PIXELS)
    with pytest.raises(CannotDecode):
        transformed(cut, "webp", Transform(image_format="png"))
    with pytest.raises(CannotDecode):
        transformed(b"no image", "tiff", Transform(upright=True))
