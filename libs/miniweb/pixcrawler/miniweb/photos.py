"""Real photographs: tiles cut from the few large ones in `photos/`, always the same bytes.

Which rectangles count as photographs of their own is written down in `photos/tiles.csv`; `picker`
chose them: any two differ in 18 bits of their perceptual hash or more, and each keeps its hash
within 4 bits when it is decoded at a reduced scale, stored again or resized.
"""

import csv
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(str(files("pixcrawler.miniweb"))) / "photos"
MANIFEST = FOLDER / "tiles.csv"
COLUMNS = ("photo", "left", "top", "right", "bottom", "width", "height", "phash")


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a photograph, scaled to `width` by `height` px; `phash` is of its JPEG."""

    index: int
    photo: str
    box: tuple[int, int, int, int]
    width: int
    height: int
    phash: int


class Photos:
    """The tiles of the manifest, cut and encoded when they are asked for."""

    def __init__(self, tiles: tuple[Tile, ...]) -> None:
        self.tiles = tiles

    @classmethod
    def load(cls) -> "Photos":
        """Reads the manifest; decodes nothing yet."""
        with MANIFEST.open(newline="") as lines:
            rows = csv.DictReader(lines)
            return cls(tuple(_tile(index, row) for index, row in enumerate(rows)))

    def __len__(self) -> int:
        return len(self.tiles)

    @cached_property
    def hashes(self) -> np.ndarray:
        """The perceptual hashes of all tiles, uint64."""
        return np.array([tile.phash for tile in self.tiles], dtype=np.uint64)

    def image(self, index: int) -> Image.Image:
        """The tile's pixels, RGB, as they were before it became a JPEG."""
        tile = self.tiles[index]
        return cut(tile.photo, tile.box, (tile.width, tile.height))

    def jpeg(self, index: int) -> bytes:
        """The tile as the web serves it: a complete JPEG."""
        return _jpeg(self.tiles[index])


def cut(photo: str, box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """A rectangle of a photograph, scaled to `size` where that differs."""
    piece = _photograph(photo).crop(box)
    return piece if piece.size == size else piece.resize(size, Image.Resampling.LANCZOS)


def encode(image: Image.Image, index: int) -> bytes:
    """JPEG in one of the styles that the web is full of, chosen by the tile's number."""
    out = BytesIO()
    match index % 8:
        case 5:
            image.save(out, "JPEG", quality=85, progressive=True)
        case 6:
            image.save(out, "JPEG", quality=90, subsampling="4:4:4", optimize=True)
        case 7:
            image.convert("L").save(out, "JPEG", quality=85)
        case _:
            image.save(out, "JPEG", quality=85)
    return out.getvalue()


def names() -> list[str]:
    """The large photographs, by name, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.jpg"))


@cache
def _jpeg(tile: Tile) -> bytes:
    return encode(cut(tile.photo, tile.box, (tile.width, tile.height)), tile.index)


@cache
def _photograph(name: str) -> Image.Image:
    with Image.open(FOLDER / f"{name}.jpg") as image:
        return image.convert("RGB")


def _tile(index: int, row: dict[str, str]) -> Tile:
    box = (int(row["left"]), int(row["top"]), int(row["right"]), int(row["bottom"]))
    size = int(row["width"]), int(row["height"])
    return Tile(index, row["photo"], box, *size, phash=int(row["phash"], 16))
