"""The true format comes from the content; sizes are checked before anything is decoded."""

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixcrawler.common.outcomes import Outcome
from pixcrawler.miniweb import files as made
from pixcrawler.validator.decision import Limits
from pixcrawler.validator.formats import sniff
from pixcrawler.validator.images import decide, digest
from tests.unit.validator.files import (
    ENCODERS,
    gif_of_many_frames,
    photograph,
    saved,
)

LIMITS = Limits()


def outcome(data: bytes, limits: Limits = LIMITS) -> Outcome | None:
    return decide(data, limits).outcome


@pytest.mark.parametrize("name", ENCODERS)
def test_format_and_size_are_those_of_the_file(name: str) -> None:
    """The true format, and the size as stored: the rotated one is still lying on its side."""
    data = ENCODERS[name](photograph().crop((0, 0, 300, 200)))
    header = decide(data, LIMITS).header
    assert header is not None
    lying = name == "rotated jpeg"
    assert (header.width, header.height) == ((200, 300) if lying else (300, 200))
    assert header.format == name.rsplit(maxsplit=1)[-1]


STRANGERS = {
    "JPEG 2000": made.jpeg2000(photograph()),
    "JPEG 2000 codestream": saved(photograph(), "JPEG2000", no_jp2=True),
    "icon": made.icon(photograph()),
    "pixmap": made.ppm(photograph()),
    "pixmap as text": b"P3\n# made by hand\n2 1\n255\n1 2 3 4 5 6\n",
    "Photoshop": made.photoshop(photograph()),
    "HEIC": made.heic(random.Random(1)),
    "Targa": saved(photograph(), "TGA"),
    "Targa, packed": saved(photograph(), "TGA", compression="tga_rle"),
    "Targa, older": saved(photograph(), "TGA")[:-26],
    "Targa, gray": saved(photograph().convert("L"), "TGA"),
    "Targa, palette": saved(photograph().quantize(200), "TGA"),
    "PCX": saved(photograph(), "PCX"),
    "SGI": saved(photograph(), "SGI"),
    "DDS": saved(photograph(), "DDS"),
    "ICNS": saved(photograph().resize((128, 128)), "ICNS"),
    "QOI": b"qoif" + struct.pack(">IIBB", 2, 2, 3, 0) + bytes(20),
    "XBM": saved(photograph().convert("1"), "XBM"),
    "JPEG XL": b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(40),
    "JPEG XL codestream": b"\xff\x0a" + bytes(40),
    "OpenEXR": b"\x76\x2f\x31\x01" + bytes(40),
    "Radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n",
    "raw, Canon": b"II*\0\x10\0\0\0CR\x02\0" + bytes(400),
    "raw, Canon 3": struct.pack(">I", 24) + b"ftypcrx \0\0\0\1crx isom" + bytes(40),
    "FITS": saved(photograph().convert("L"), "TIFF")[:0] + b"SIMPLE  =                    T",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_raster_formats_that_we_do_not_take(name: str) -> None:
    """Recognised, and unsupported."""
    assert outcome(STRANGERS[name]) is Outcome.UNSUPPORTED


def test_a_raw_photograph_in_a_tiff_is_unsupported() -> None:
    """What stands first in a DNG is a preview of the picture, not the picture."""
    data = saved(photograph(), "TIFF", tiffinfo={50706: b"\x01\x04\x00\x00"})
    assert outcome(data) is Outcome.UNSUPPORTED


NO_IMAGES = {
    "nothing": b"",
    "one byte": b"\xff",
    "HTML": made.html("x"),
    "SVG": made.svg(),
    "PDF": made.pdf(),
    "MP4": made.movie(random.Random(1)),
    "WAV": b"RIFF" + struct.pack("<I", 100) + b"WAVEfmt " + bytes(100),
    "noise": made.noise(random.Random(1), 4096),
    "text": b"BM is short for many things\n" * 5,
    "more text": b"P3 and P6 are junctions on the road from II to MM\n" * 5,
    "JSON": b'{"error": "not found"}',
    "ZIP": b"PK\x03\x04" + bytes(100),
    "gzip": b"\x1f\x8b\x08\x00" + bytes(100),
    "zeros": bytes(5000),
    "ones": b"\x01" * 5000,
    "spaces, then a PNG": b"\n\n" + made.png(photograph()),
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_no_images(name: str) -> None:
    """What begins as no raster image does."""
    assert outcome(NO_IMAGES[name]) is Outcome.NOT_IMAGE


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_get_a_decision(data: bytes) -> None:
    """No bytes whatsoever raise, or count as a good image."""
    assert decide(data, LIMITS).outcome in {Outcome.NOT_IMAGE, Outcome.CORRUPT, Outcome.UNSUPPORTED}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(ENCODERS)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_any_damage_to_a_header_gets_a_decision(name: str, edits: list[tuple[int, int]]) -> None:
    """Whatever a header says, no decoder's exception gets out."""
    data = bytearray(_small(name))
    for at, value in edits:
        data[at % len(data)] = value
    decision = decide(bytes(data), LIMITS)
    assert decision.outcome is not Outcome.KEPT
    assert (decision.outcome is None) == (decision.phash is not None)


def _small(name: str) -> bytes:
    return ENCODERS[name](photograph().resize((80, 70)))


def test_random_bytes_are_no_image() -> None:
    """Of 20,000 files of random bytes hardly one looks like a format with a short magic number."""
    chance = random.Random(3)
    taken_for_one = sum(sniff(chance.randbytes(400)) is not None for _ in range(20_000))
    assert taken_for_one <= 3


# --- sizes ----------------------------------------------------------------------------------------


def _claims(name: str, side: int) -> bytes:
    """A whole file whose header claims `side` px a side."""
    data = bytearray(ENCODERS[name](photograph()))
    match name:
        case "png":
            return made.png_bomb(side)
        case "jpeg" | "cmyk jpeg":
            at = data.index(b"\xff\xc0")
            data[at + 5 : at + 9] = struct.pack(">HH", side, side)
        case "gif":
            data[6:10] = struct.pack("<HH", side, side)
        case "bmp":
            data[18:26] = struct.pack("<ii", side, -side)
        case "webp":
            at = data.index(b"\x9d\x01\x2a") + 3
            data[at : at + 4] = struct.pack("<HH", side, side)
        case "avif":
            at = data.index(b"ispe") + 8
            data[at : at + 8] = struct.pack(">II", side, side)
        case "tiff":
            return _tiff_that_claims(side)
    return bytes(data)


def _tiff_that_claims(side: int) -> bytes:
    entries = struct.pack("<HHHIIHHII", 2, 256, 4, 1, side, 257, 4, 1, side)
    return b"II*\0\x08\0\0\0" + entries + bytes(4)


@pytest.mark.parametrize("name", ["jpeg", "cmyk jpeg", "png", "gif", "bmp", "webp", "avif", "tiff"])
def test_bombs_are_found_before_decoding(name: str) -> None:
    """More pixels than allowed, by the header: of every format that we take."""
    limits = Limits(max_pixels=100_000_000)
    decision = decide(_claims(name, 16_000), limits)
    assert (decision.outcome, decision.detail) == (Outcome.BOMB, "16000 x 16000")


def test_a_gif_frame_outside_of_its_screen_is_a_bomb_too() -> None:
    """A small screen, but a second frame that reaches far beyond it."""
    data = gif_of_many_frames(1)
    far = b"," + struct.pack("<HHHHB", 60_000, 60_000, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    assert outcome(data[:-1] + far + b";") is Outcome.BOMB


def test_the_limit_may_be_above_pillows() -> None:
    """Pillow refuses more than 178,956,970 pixels by itself; ours is the limit that counts."""
    data = saved(Image.new("1", (14_000, 13_000)), "PNG")
    assert outcome(data) is Outcome.BOMB
    assert outcome(data, Limits(max_pixels=200_000_000)) is None


@pytest.mark.parametrize("name", [name for name in ENCODERS if "rotated" not in name])
def test_too_small_is_a_side_shorter_than_asked_for(name: str) -> None:
    """64 px are enough, 63 are not."""
    enough = ENCODERS[name](photograph().resize((90, 64)))
    short = ENCODERS[name](photograph().resize((90, 63)))
    assert outcome(enough) is None
    assert outcome(short) is Outcome.TOO_SMALL
    assert outcome(short, Limits(min_size=63)) is None


def test_the_digest_is_sha256_of_the_bytes() -> None:
    assert digest(b"abc").hex().startswith("ba7816bf")


def test_nothing_is_left_open() -> None:
    """Deciding opens no files: an image is judged from memory alone."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ENCODERS:
        decide(_small(name), LIMITS)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


class ScarceMemory:
    """A turn among huge pictures in which, the first time, there is no memory."""

    def __init__(self) -> None:
        self.turns = 0

    def __enter__(self) -> None:
        self.turns += 1
        if self.turns == 1:
            raise MemoryError

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""


def test_a_lack_of_memory_is_not_the_files_fault() -> None:
    """What could not be decoded beside others is decoded once more, alone."""
    huge = saved(Image.new("L", (4100, 4000), 7), "PNG")
    turn = ScarceMemory()
    assert decide(huge, LIMITS, heavy=turn).good
    assert turn.turns == 2
