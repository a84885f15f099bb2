"""What a decision costs, by format and by kind of work, and how much two threads bring.

    python bench/validator_images.py [IMAGES=300]

The images are crops of the miniature web's photographs, 700 by 560 px.
"""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from PIL import Image

from pixcrawler.miniweb import files
from pixcrawler.miniweb.photos import cut, names
from pixcrawler.validator import jpeg, pictures
from pixcrawler.validator.decision import Limits
from pixcrawler.validator.images import decide, digest

SIZE = (700, 560)
FORMATS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": files.jpeg,
    "cmyk jpeg": files.cmyk_jpeg,
    "png": files.png,
    "webp": files.webp,
    "gif": files.gif,
    "avif": files.avif,
    "bmp": files.bmp,
    "tiff": files.tiff,
}


def crops(count: int) -> list[Image.Image]:
    """Pieces of the photographs, overlapping where there are not enough."""
    found: list[Image.Image] = []
    shift = 0
    while len(found) < count:
        for name in names():
            left, top = (shift * 37) % 500, (shift * 53) % 400
            found.append(cut(name, (left, top, left + SIZE[0], top + SIZE[1]), SIZE))
        shift += 1
    return found[:count]


def milliseconds(work: Callable[[bytes], object], data: Sequence[bytes]) -> float:
    """A file's share of doing the work on all."""
    started = time.perf_counter()
    for one in data:
        work(one)
    return (time.perf_counter() - started) * 1000 / len(data)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    images, limits = crops(count), Limits()
    judge = partial(decide, limits=limits)
    photographs = [files.jpeg(image) for image in images]
    judge(photographs[0])  # imports
    for name, encode in FORMATS.items():
        data = photographs if name == "jpeg" else [encode(image) for image in images[:40]]
        print(f"{name:12} {milliseconds(judge, data):7.2f} ms")
    parsed = {data: jpeg.parse(data) for data in photographs}
    decoded = {data: jpeg.picture(parsed[data]) for data in photographs}
    print(f"  sha256     {milliseconds(digest, photographs):7.2f} ms of a JPEG")
    print(f"  header     {milliseconds(jpeg.parse, photographs):7.2f} ms")
    print(f"  decode     {milliseconds(lambda it: jpeg.picture(parsed[it]), photographs):7.2f} ms")
    hashing = milliseconds(lambda it: pictures.perceptual_hash(decoded[it]), photographs)
    print(f"  hash       {hashing:7.2f} ms")
    for threads in (1, 2):
        with ThreadPoolExecutor(threads) as pool:
            started = time.perf_counter()
            list(pool.map(judge, photographs))
            rate = count / (time.perf_counter() - started)
        print(f"{threads} thread{'s' * (threads > 1)}: {rate:.0f} JPEGs a second")


if __name__ == "__main__":
    main()
