"""Image files of every kind: other formats, damaged ones, and things that only look like images.

Every function is pure: the same arguments give the same bytes.
"""

import random
import struct
import zlib
from io import BytesIO

from PIL import Image

# --- whole images -------------------------------------------------------------------------------


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """A baseline JPEG."""
    return _save(image, "JPEG", quality=quality)


def png(image: Image.Image) -> bytes:
    """RGB PNG, quickly compressed."""
    return _save(image, "PNG", compress_level=1)


def palette_png(image: Image.Image) -> bytes:
    """PNG with a palette of 256 colours."""
    return _save(image.quantize(256), "PNG")


def webp(image: Image.Image) -> bytes:
    """Lossy WebP."""
    return _save(image, "WEBP", quality=85, method=2)


def lossless_webp(image: Image.Image) -> bytes:
    """Lossless WebP."""
    return _save(image, "WEBP", lossless=True, quality=20, method=0)


def gif(image: Image.Image) -> bytes:
    """GIF with one frame."""
    return _save(image.quantize(256), "GIF")


def animated_gif(image: Image.Image) -> bytes:
    """GIF with three frames; the first is the image."""
    first = image.quantize(64)
    others = [first.rotate(90 * turn) for turn in (1, 2)]
    return _save(first, "GIF", save_all=True, append_images=others, duration=200, loop=0)


def avif(image: Image.Image) -> bytes:
    """AVIF, on one thread so that the bytes never differ."""
    return _save(image, "AVIF", quality=80, speed=10, max_threads=1)


def bmp(image: Image.Image) -> bytes:
    """Uncompressed BMP."""
    return _save(image, "BMP")


def tiff(image: Image.Image) -> bytes:
    """TIFF, LZW."""
    return _save(image, "TIFF", compression="tiff_lzw")


def cmyk_jpeg(image: Image.Image) -> bytes:
    """JPEG with four inks, as print shops store them."""
    return _save(image.convert("CMYK"), "JPEG", quality=90)


def rotated_jpeg(image: Image.Image) -> bytes:
    """JPEG stored lying on its side, with the EXIF orientation (6) that turns it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = image.transpose(Image.Transpose.ROTATE_90)
    return _save(lying, "JPEG", quality=90, exif=exif)


def shrunk(image: Image.Image, factor: float) -> Image.Image:
    """The image at `factor` of its size."""
    size = round(image.width * factor), round(image.height * factor)
    return image.resize(size, Image.Resampling.BICUBIC)


def size(data: bytes) -> tuple[int, int]:
    """Width and height in px, as the file's header has them."""
    with Image.open(BytesIO(data)) as image:
        return image.size


def _save(image: Image.Image, form: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


# --- damage -------------------------------------------------------------------------------------

JPEG_END = b"\xff\xd9"


def cut(data: bytes, percent: int) -> bytes:
    """The first `percent` of the bytes."""
    return data[: len(data) * percent // 100]


def without_end(data: bytes) -> bytes:
    """A JPEG without its end marker."""
    assert data.endswith(JPEG_END)
    return data[: -len(JPEG_END)]


def cut_and_closed(data: bytes, percent: int) -> bytes:
    """A JPEG cut and given an end marker all the same."""
    return cut(data, percent) + JPEG_END


def with_hole(data: bytes, size: int) -> bytes:
    """`size` zero bytes in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes(size) + data[middle + size :]


def flipped(data: bytes) -> bytes:
    """One byte in the middle inverted."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


# --- bombs --------------------------------------------------------------------------------------


def png_bomb(side: int) -> bytes:
    """A complete PNG of `side` by `side` black pixels, a bit each: some kB that unpack to MB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    block = b"".join(packer.compress(row * 256) for _ in range(side // 256))
    data = block + packer.compress(row * (side % 256)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(name, body) for name, body in chunks)


def jpeg_bomb(data: bytes) -> bytes:
    """A JPEG whose frame header claims 65,000 by 65,000 pixels."""
    start = data.index(b"\xff\xc0")  # SOF0: length (2), precision (1), height (2), width (2)
    return data[: start + 5] + struct.pack(">HH", 65000, 65000) + data[start + 9 :]


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


# --- raster formats that are not taken ----------------------------------------------------------


def jpeg2000(image: Image.Image) -> bytes:
    """JPEG 2000 in its JP2 container."""
    return _save(image, "JPEG2000")


def icon(image: Image.Image) -> bytes:
    """A Windows icon."""
    return _save(image, "ICO", sizes=[(128, 128)])


def ppm(image: Image.Image) -> bytes:
    """Portable pixmap, binary."""
    return _save(image, "PPM")


def photoshop(image: Image.Image) -> bytes:
    """A flat Photoshop document, 8-bit RGB, uncompressed."""
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, image.height, image.width, 8, 3)
    planes = b"".join(plane.tobytes() for plane in image.convert("RGB").split())
    return header + bytes(4) * 3 + struct.pack(">H", 0) + planes


def heic(rng: random.Random) -> bytes:
    """The beginning of an iPhone's photograph: the right box and brands, noise inside."""
    brands = b"heic" + bytes(4) + b"mif1heic"
    box = struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands
    return box + struct.pack(">I", 8 + 4096) + b"mdat" + rng.randbytes(4096)


# --- no images at all ---------------------------------------------------------------------------


def html(title: str) -> bytes:
    """The page that a host shows instead of an image."""
    return (
        f"<!DOCTYPE html><html><head><title>{title}</title></head>"
        f"<body><p>This image is no longer available.</p></body></html>\n"
    ).encode()


def svg() -> bytes:
    """A drawing, not a raster image."""
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="300">'
        b'<circle cx="200" cy="150" r="90" fill="teal"/></svg>\n'
    )


def pdf() -> bytes:
    """The beginning of a document."""
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog>>\nendobj\n%%EOF\n"


def movie(rng: random.Random) -> bytes:
    """An MP4: its first box looks like AVIF's, its brand does not."""
    brands = b"isom" + bytes(4) + b"isommp42"
    box = struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands
    return box + struct.pack(">I", 8 + 4096) + b"mdat" + rng.randbytes(4096)


def noise(rng: random.Random, size: int) -> bytes:
    """Random bytes; the first is 0xFE, with which no image format begins."""
    return b"\xfe" + rng.randbytes(size - 1)
