"""Damage is found, and nothing that is whole is called damaged."""

import random
from collections import Counter

import pytest

from pixcrawler.common.outcomes import Outcome
from pixcrawler.miniweb import files as made
from pixcrawler.validator.decision import Limits
from pixcrawler.validator.images import decide
from tests.unit.validator.files import (
    ENCODERS,
    full_size_hash,
    gif_of_many_frames,
    photograph,
    photographs,
    png_chunk,
    saved,
    with_png_chunk,
    with_segment,
)

LIMITS = Limits()


def outcome(data: bytes) -> Outcome | None:
    return decide(data, LIMITS).outcome


def test_no_false_alarm_on_500_photographs() -> None:
    """Every one of 500 good photographs is good."""
    assert Counter(outcome(data) for data in photographs()) == {None: 500}


@pytest.mark.parametrize("percent", [30, 60, 90, 99])
def test_every_cut_photograph_is_corrupt(percent: int) -> None:
    """500 of 500 photographs cut there are found, with and without an end marker put on."""
    cut = [data[: len(data) * percent // 100] for data in photographs()]
    assert Counter(map(outcome, cut)) == {Outcome.CORRUPT: 500}
    assert Counter(outcome(data + b"\xff\xd9") for data in cut) == {Outcome.CORRUPT: 500}


def test_every_photograph_without_its_end_is_corrupt() -> None:
    """500 of 500 without the end marker are found, also with something else in its place."""
    ends = [data[:-2] for data in photographs()]
    assert Counter(map(outcome, ends)) == {Outcome.CORRUPT: 500}
    assert Counter(outcome(data + b"trailing") for data in ends) == {Outcome.CORRUPT: 500}


def test_holes_in_photographs_are_nearly_always_found() -> None:
    """2 KB of zeros inside: at least 480 of 500 found (a JPEG has no checksum)."""
    chance = random.Random(1)
    found = 0
    for data in photographs():
        at = chance.randrange(len(data) // 4, len(data) // 2)
        found += outcome(data[:at] + bytes(2048) + data[at + 2048 :]) is Outcome.CORRUPT
    assert found >= 480


@pytest.mark.parametrize("name", ENCODERS)
def test_every_format_is_kept_whole_and_corrupt_cut_anywhere(name: str) -> None:
    """Whole it is good with the photograph's own hash; cut at some 200 places it is corrupt."""
    data = ENCODERS[name](photograph())
    whole = decide(data, LIMITS)
    assert (whole.outcome, whole.detail) == (None, "")
    assert whole.phash is not None
    assert (whole.phash ^ full_size_hash(ENCODERS["jpeg"](photograph()))).bit_count() <= 4
    places = {*range(24, len(data), len(data) // 200), *range(len(data) - 9, len(data))}
    assert {place: outcome(data[:place]) for place in places} == dict.fromkeys(
        places, Outcome.CORRUPT
    )


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "bmp"])
def test_what_is_appended_does_no_harm(name: str) -> None:
    """Bytes after the end of a whole file are nobody's business, and do not complete a cut one."""
    data = ENCODERS[name](photograph())
    other = ENCODERS[name](photograph(11))
    assert outcome(data + b"appended, " * 50) is None
    assert outcome(data + other) is None
    assert outcome(data[: len(data) * 2 // 3] + other[-40:]) is Outcome.CORRUPT


def test_a_thumbnail_does_not_stand_for_its_image() -> None:
    """A cut JPEG with a whole small one inside its EXIF block is corrupt; too small is its own."""
    data = made.jpeg(photograph())
    thumbnail = made.jpeg(photograph().resize((160, 120)))
    whole = with_segment(data, 0xE1, b"Exif\0\0" + thumbnail)
    assert decide(whole, LIMITS).header == decide(data, LIMITS).header
    assert outcome(whole) is None
    assert outcome(whole[: len(thumbnail) + 2000]) is Outcome.CORRUPT
    assert outcome(whole[: len(thumbnail) + 20]) is Outcome.CORRUPT


# --- JPEG: harmless complaints of the strict decoder ---------------------------------------------


def _odd_revision(data: bytes) -> bytes:
    at = data.index(b"JFIF\0") + 5
    return data[:at] + b"\x00\x00" + data[at + 2 :]


def _bytes_between_segments(data: bytes) -> bytes:
    at = data.index(b"\xff\xdb")
    return data[:at] + b"\x00" * 40 + data[at:]


def _odd_scan(data: bytes) -> bytes:
    at = data.index(b"\xff\xda") + 11
    return data[:at] + b"\x01\x00\x00" + data[at + 3 :]


def _padding(data: bytes) -> bytes:
    return data[:-2] + bytes(6) + data[-2:]


def _half_a_profile(data: bytes) -> bytes:
    return with_segment(data, 0xE2, b"ICC_PROFILE\0\x05\x02abcd")


HARMLESS = (_odd_revision, _bytes_between_segments, _odd_scan, _padding, _half_a_profile)


@pytest.mark.parametrize("oddity", HARMLESS)
def test_harmless_complaints_are_forgiven_and_hide_nothing(oddity: object) -> None:
    """What browsers show without loss is good with the same hash; a cut behind it is found."""
    assert callable(oddity)
    good = made.jpeg(photograph())
    odd = oddity(good)
    decision = decide(odd, LIMITS)
    assert (decision.outcome, decision.phash) == (None, decide(good, LIMITS).phash)
    assert outcome(odd[:-800]) is Outcome.CORRUPT
    assert outcome(odd[:-800] + b"\xff\xd9") is Outcome.CORRUPT


@pytest.mark.parametrize("oddity", HARMLESS[:4])
def test_holes_behind_a_harmless_complaint_are_found(oddity: object) -> None:
    """The decoder tells only its first complaint; damage behind it is found at the usual rate."""
    assert callable(oddity)
    found = 0
    baseline = [data for data in photographs()[:120] if b"\xff\xc0" in data]
    for data in baseline:
        middle = len(data) // 2
        found += outcome(oddity(data[:middle] + bytes(2048) + data[middle + 2048 :])) is not None
    assert found >= len(baseline) * 0.9


def test_inked_jpeg_is_checked_strictly() -> None:
    """CMYK: a cut given an end again is found, which Pillow alone would not."""
    data = made.cmyk_jpeg(photograph())
    assert outcome(data[: len(data) // 2] + b"\xff\xd9") is Outcome.CORRUPT


def test_processes_that_nobody_decodes_are_unsupported() -> None:
    """Lossless, hierarchical and 12-bit JPEGs are whole, but not of a kind that we take."""
    data = made.jpeg(photograph())
    at = data.index(b"\xff\xc0")
    for marker in (0xC3, 0xC5, 0xCB):
        assert outcome(data[: at + 1] + bytes((marker,)) + data[at + 2 :]) is Outcome.UNSUPPORTED
    assert outcome(data[: at + 4] + b"\x0c" + data[at + 5 :]) is Outcome.UNSUPPORTED


def test_a_jpeg_of_thousands_of_scans_is_not_followed() -> None:
    """A progressive bomb costs no more than a look."""
    data = saved(photograph(), "JPEG", progressive=True)
    at = data.index(b"\xff\xda")
    scan = data[at : data.index(b"\xff", at + 2)]
    assert outcome(data[:-2] + scan * 3000 + b"\xff\xd9") is Outcome.CORRUPT


# --- PNG ------------------------------------------------------------------------------------------


def test_one_flipped_bit_in_a_png_is_found() -> None:
    """Every chunk has a checksum: any flipped bit outside of the signature is damage."""
    data = made.png(photograph())
    chance = random.Random(2)
    for _ in range(200):
        at = chance.randrange(33, len(data))
        flipped = bytes((data[at] ^ (1 << chance.randrange(8)),))
        assert outcome(data[:at] + flipped + data[at + 1 :]) is Outcome.CORRUPT


def test_text_bombs_and_odd_chunks_cost_a_png_nothing() -> None:
    """Megabytes of zeros in a text chunk do not make a picture bad that every browser shows."""
    import zlib

    data = made.png(photograph())
    bomb = with_png_chunk(data, b"zTXt", b"note\0\0" + zlib.compress(bytes(80 << 20)))
    assert decide(bomb, LIMITS).phash == decide(data, LIMITS).phash
    assert outcome(with_png_chunk(data, b"iCCP", b"x\0\0broken")) is None


def test_short_picture_data_in_a_png_is_found() -> None:
    """Checksums right, but rows missing."""
    import zlib

    data = made.png(photograph())
    header = data[:33]
    rows = png_chunk(b"IDAT", zlib.compress(bytes(961) * 100))
    assert outcome(header + rows + png_chunk(b"IEND", b"")) is Outcome.CORRUPT


def test_animated_png_shows_its_first_picture() -> None:
    """APNG: the default image counts."""
    first, second = photograph(), photograph(11).resize(photograph().size)
    data = saved(first, "PNG", save_all=True, append_images=[second], duration=100)
    decision = decide(data, LIMITS)
    assert decision.outcome is None
    assert decision.phash == decide(made.png(first), LIMITS).phash


# --- films ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["GIF", "WEBP", "AVIF"])
def test_damage_in_a_later_frame_is_found(form: str) -> None:
    """A hole in the last third of a film."""
    frames = [photograph(index).resize((200, 160)) for index in (7, 11, 13, 17)]
    data = saved(frames[0], form, save_all=True, append_images=frames[1:], duration=100)
    assert outcome(data) is None
    if form != "GIF":  # there damage within a frame is often decodable, as in JPEG
        assert outcome(data[: len(data) * 5 // 6]) is Outcome.CORRUPT
        return
    at = len(data) * 5 // 6
    assert outcome(data[:at] + bytes(2000) + data[at + 2000 :]) is Outcome.CORRUPT


def test_a_gif_of_a_million_frames_is_bounded() -> None:
    """Counting its blocks takes a moment, decoding stops after some: it is a good image."""
    decision = decide(gif_of_many_frames(1_000_000), LIMITS)
    assert (decision.outcome, decision.detail) == (None, "")


def test_a_gif_without_a_picture_is_corrupt() -> None:
    assert outcome(gif_of_many_frames(0)) is Outcome.CORRUPT
