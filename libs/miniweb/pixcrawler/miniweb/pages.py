"""Pages of the miniature web, and the forge in which each is made."""

import hashlib
import random
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass

from PIL import Image

from pixcrawler.miniweb import hashes
from pixcrawler.miniweb.photos import Photos
from pixcrawler.miniweb.replies import Flaky, Reply

STEADY = 3
"""Bits by which another encoding may move an image's hash from that of its tile."""
APART = 16
"""Bits from every other tile: more than 12 remain when that one has moved by STEADY, too."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens, on 127.0.0.1. Nobody listens at `refused`.

    `trespass` is also open on 127.0.0.2 and ::1, where the product must never appear.
    """

    openverse: int
    commons: int
    media: tuple[int, ...]
    faulty: int
    refused: int
    trespass: int


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that may be kept; width, height and phash 0 where they depend on the reader."""

    data: bytes
    format: str
    width: int = 0
    height: int = 0
    phash: int | None = None

    @property
    def sha256(self) -> str:
        """Of the bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class Page:
    """A candidate URL and what there is to know about it."""

    url: str
    picture: Picture | None = None
    final_url: str = ""
    http_status: int = 0
    detail: str = ""


Routes = MutableMapping[tuple[int, str], Reply | Flaky]
"""What is served at which port under which path (with its query)."""


class OutOfTilesError(ValueError):
    """The plan asks for more photographs than there are."""


class Tiles:
    """Hands out every tile once, in an order that follows from the seed."""

    def __init__(self, photos: Photos, seed: int) -> None:
        self.photos = photos
        self._order = list(range(len(photos)))
        random.Random(f"{seed}:tiles").shuffle(self._order)
        self._next: Iterator[int] = iter(self._order)

    def take(self) -> int:
        """A tile that nobody has had.

        Raises:
            OutOfTilesError: all are taken.
        """
        index = next(self._next, None)
        if index is None:
            raise OutOfTilesError(f"there are only {len(self.photos)} photographs")
        return index

    def steady(self, index: int, data: bytes) -> bool:
        """Whether `data` is seen as this tile, and as no other, by every allowed way of hashing."""
        others = self.photos.hashes[[at for at in self._order if at != index]]
        own = self.photos.tiles[index].phash
        return all(
            hashes.distance(value, own) <= STEADY
            and bool((hashes.distances(value, others) >= APART).all())
            for value in (hashes.full_size_hash(data), hashes.reduced_hash(data))
        )


@dataclass(frozen=True, slots=True)
class Land:
    """What the pages of one web share. `private_names` resolve to private addresses here."""

    ports: Ports
    tiles: Tiles
    routes: Routes
    private_names: tuple[str, ...] = ()


class Forge:
    """What it takes to make page `number` of a kind: tiles, chance, a place to put it."""

    def __init__(self, kind: str, number: int, *, seed: int, land: Land) -> None:
        self.kind = kind
        self.number = number
        self.rng = random.Random(f"{seed}:{kind}:{number}")
        self.ports = land.ports
        self.tiles = land.tiles
        self.private_names = land.private_names
        self._routes = land.routes

    def photo(self) -> Picture:
        """A photograph of its own."""
        index = self.tiles.take()
        tile = self.tiles.photos.tiles[index]
        data = self.tiles.photos.jpeg(index)
        return Picture(data, "jpeg", tile.width, tile.height, tile.phash)

    def any_jpeg(self) -> bytes:
        """Some photograph, where it does not matter whether another page has it as well."""
        return self.tiles.photos.jpeg(self.rng.randrange(len(self.tiles.photos)))

    def any_image(self) -> Image.Image:
        """The pixels of some photograph, likewise."""
        return self.tiles.photos.image(self.rng.randrange(len(self.tiles.photos)))

    def encoded(self, *encoders: Callable[[Image.Image], bytes]) -> tuple[int, list[bytes]]:
        """A tile of its own in each of these encodings, steady in all of them: (tile, files)."""
        while True:
            index = self.tiles.take()
            image = self.tiles.photos.image(index)
            made = [encoder(image) for encoder in encoders]
            if all(self.tiles.steady(index, data) for data in made):
                return index, made

    def place(
        self, reply: Reply | Flaky, *, suffix: str = ".jpg", folder: str = "photo", host: int = -1
    ) -> str:
        """Serves `reply` under a new URL, on any of the media hosts or on port `host`."""
        port = host if host >= 0 else self.rng.choice(self.ports.media)
        path = f"/{folder}/{self.name()}{suffix}"
        if self.rng.random() < 0.2:
            path += "?utm_source=miniweb&utm_content=original"
        self.route(port, path, reply)
        return self.at(port, path)

    def route(self, port: int, path: str, reply: Reply | Flaky) -> None:
        """Serves `reply` at `port` under `path` (with its query)."""
        self._routes[port, path] = reply

    def name(self) -> str:
        """The last part of a path; some have the odd characters that real ones have."""
        word = "caf%C3%A9-" if self.rng.random() < 0.1 else ""
        return f"{word}{self.kind}-{self.number}-{self.rng.randrange(16**6):06x}"

    @staticmethod
    def at(port: int, path: str) -> str:
        """The URL of `path` at `port`."""
        return f"http://127.0.0.1:{port}{path}"
