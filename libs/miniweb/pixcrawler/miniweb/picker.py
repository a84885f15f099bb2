"""Chooses the tiles of `photos/tiles.csv`; run once whenever the photographs change.

    python -m pixcrawler.miniweb.picker

Greedy, in a fixed order: a tile is taken when it is far from all that were taken before it, and
when its perceptual hash is steady.
"""

import csv
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image

from pixcrawler.miniweb import hashes, photos
from pixcrawler.miniweb.photos import Tile

APART = 18
"""Bits between any two tiles: more than 12 remain when each has moved by 3 in another encoding."""
STEADY = 3
"""Bits by which a reduced scale, a poor JPEG and a smaller size may move a tile's hash."""

GRIDS = (
    # side of the window in the photograph: width, height, step; size of the tile
    (640, 520, 520, (640, 520)),
    (320, 320, 160, (320, 320)),
    (640, 640, 320, (320, 320)),
    (480, 480, 240, (320, 320)),
    (240, 240, 240, (300, 300)),
)


def candidates() -> Iterator[Tile]:
    """Every window of every grid of every photograph, shuffled, always in the same order."""
    windows = [
        Tile(0, name, (left, top, left + width, top + height), *size, phash=0)
        for name in photos.names()
        for width, height, step, size in GRIDS
        for left, top in _corners(name, width, height, step)
    ]
    random.Random("tiles").shuffle(windows)
    yield from windows


def pick() -> list[Tile]:
    """The tiles that are far apart and steady, numbered."""
    chosen: list[Tile] = []
    taken = np.empty(0, dtype=np.uint64)
    for window in candidates():
        tile = _measured(window, len(chosen))
        if tile is None or (hashes.distances(tile.phash, taken) < APART).any():
            continue
        chosen.append(tile)
        taken = np.append(taken, np.uint64(tile.phash))
    return chosen


def _corners(name: str, width: int, height: int, step: int) -> Iterator[tuple[int, int]]:
    with Image.open(photos.FOLDER / f"{name}.jpg") as photo:
        for top in range(0, photo.height - height + 1, step):
            for left in range(0, photo.width - width + 1, step):
                yield left, top


def _measured(window: Tile, index: int) -> Tile | None:
    """The window as tile number `index`; None if its hash moves too easily."""
    image = photos.cut(window.photo, window.box, (window.width, window.height))
    data = photos.encode(image, index)
    value = hashes.full_size_hash(data)
    smaller = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.BICUBIC)
    moved = (hashes.reduced_hash(data), *map(_poor_hash, (image, smaller)))
    if any(hashes.distance(value, other) > STEADY for other in moved):
        return None
    return replace(window, index=index, phash=value)


def _poor_hash(image: Image.Image) -> int:
    out = BytesIO()
    image.save(out, "JPEG", quality=60)
    return hashes.full_size_hash(out.getvalue())


def main() -> None:
    """Writes the manifest anew."""
    chosen = pick()
    with photos.MANIFEST.open("w", newline="") as lines:
        rows = csv.writer(lines, lineterminator="\n")
        rows.writerow(photos.COLUMNS)
        for tile in chosen:
            rows.writerow(
                [tile.photo, *tile.box, tile.width, tile.height, hashes.hex_digits(tile.phash)]
            )
    sys.stdout.write(f"{len(chosen)} tiles\n")


if __name__ == "__main__":
    main()
