"""Decoding of what servers compress although nobody asked."""

import gzip
import random
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.downloader.inflate import STEP, Inflater


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def decoded(encoding: str, data: bytes, size: int) -> bytes:
    inflater = Inflater(encoding)
    return b"".join(out for piece in pieces(data, size) for out in inflater.feed(piece))


@given(
    bodies=st.lists(st.binary(max_size=400), min_size=1, max_size=4),
    size=st.integers(min_value=1, max_value=500),
)
def test_gzip_files_one_after_the_other_are_decoded_however_they_are_cut(
    bodies: list[bytes], size: int
) -> None:
    """The bytes do not depend on where the network cuts the stream, also between two files."""
    stream = b"".join(map(gzip.compress, bodies))
    assert decoded("gzip", stream, size) == b"".join(bodies)


@pytest.mark.parametrize("bits", [zlib.MAX_WBITS, -zlib.MAX_WBITS])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_deflate_is_decoded_with_and_without_its_header(bits: int, size: int) -> None:
    """Both readings of `deflate` that servers have."""
    body = random.Random(1).randbytes(5000) + bytes(5000)
    packer = zlib.compressobj(wbits=bits)
    assert decoded("deflate", packer.compress(body) + packer.flush(), size) == body


def test_a_body_that_only_claims_to_be_gzip_passes_as_it_is() -> None:
    """A lie in a header costs no image."""
    assert decoded("gzip", b"\xff\xd8\xff\xe0 a photograph", 5) == b"\xff\xd8\xff\xe0 a photograph"


def test_padding_after_the_end_is_left_out() -> None:
    """As gzip itself does it."""
    assert decoded("gzip", gzip.compress(b"abc") + bytes(64), 10) == b"abc"


def test_damage_keeps_what_came_before_it() -> None:
    """The validator then sees a cut image, not an empty one."""
    body = random.Random(2).randbytes(100_000)
    packed = bytearray(gzip.compress(body, compresslevel=1))
    packed[-50_000:] = bytes(50_000)
    out = decoded("gzip", bytes(packed), 4096)
    assert 10_000 < len(out) < 100_000
    assert body.startswith(out[:10_000])


def test_a_bomb_comes_in_small_steps() -> None:
    """No step gives more than `STEP` bytes, so a limit can stop it."""
    bomb = gzip.compress(bytes(50 << 20))
    steps = list(Inflater("gzip").feed(bomb))
    assert sum(map(len, steps)) == 50 << 20
    assert max(map(len, steps)) <= STEP
