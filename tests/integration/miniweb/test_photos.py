"""The photographs: enough, far enough apart, steady, and always the same bytes."""

import hashlib

import imagehash
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pixcrawler.miniweb import hashes
from pixcrawler.miniweb.photos import FOLDER, Photos, encode, names

SAMPLE = range(0, 1000, 7)


@pytest.fixture(scope="module")
def photos() -> Photos:
    return Photos.load()


def test_there_are_a_thousand_in_a_few_megabytes(photos: Photos) -> None:
    """The repository carries few bytes and yields many photographs."""
    assert len(photos) >= 1000
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_500_000


def test_any_two_are_more_than_12_bits_apart(photos: Photos) -> None:
    """No photograph can be taken for a near-duplicate of another."""
    every = photos.hashes
    nearest = min(
        int(hashes.distances(int(one), np.delete(every, at)).min()) for at, one in enumerate(every)
    )
    assert nearest >= 18


def test_each_is_within_4_bits_of_its_full_size_hash(photos: Photos) -> None:
    """The stated hash is that of the encoded file, and a reduced scale moves it by 4 at most."""
    for index in SAMPLE:
        data = photos.jpeg(index)
        assert hashes.full_size_hash(data) == photos.tiles[index].phash
        assert hashes.distance(_hash_by_strict_decoder(data), photos.tiles[index].phash) <= 4


def test_the_strict_decoder_accepts_them(photos: Photos) -> None:
    """No photograph gives a false alarm."""
    for index in SAMPLE:
        simplejpeg.decode_jpeg(photos.jpeg(index), colorspace="GRAY", strict=True)


def test_the_same_tile_has_the_same_bytes(photos: Photos) -> None:
    """Cutting again, with nothing cached between, gives the same file."""
    for index in (0, 5, 6, 7, 500):
        again = encode(photos.image(index), index)
        assert hashlib.sha256(again).digest() == hashlib.sha256(photos.jpeg(index)).digest()


def test_every_photograph_has_its_source() -> None:
    """Author and licence of each large photograph are written down beside it."""
    sources = (FOLDER / "SOURCES.md").read_text()
    assert all(f"`{name}.jpg`" in sources for name in names())


def _hash_by_strict_decoder(data: bytes) -> int:
    """As the product reads a JPEG: gray, at a DCT scale that keeps 256 px a side."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    least = min(256, height, width)
    pixels = simplejpeg.decode_jpeg(
        data, colorspace="GRAY", min_height=least, min_width=least, strict=True
    )
    return int(str(imagehash.phash(Image.fromarray(pixels[:, :, 0]))), 16)
