"""What transforming costs: an image's share of the time, and the most memory of an uploader.

    .venv/bin/python -m bench.uploader_transforms [--images 60]

The first table is milliseconds of CPU an image, for photographs of 3 megapixels, beside what Pillow
takes for the same without decoding JPEGs smaller (open, convert, resize, save). The second is a
chunk through the uploader's own code in a process of its own: the most memory that the process had
before and after, with one image of 100 megapixels among small ones.
"""

import argparse
import asyncio
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pixcrawler.common import names
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.documents import (
    PART_OUTCOMES,
    Fetched,
    Verdict,
    Verdicts,
    VerdictsHead,
    dump_lines,
    part_member,
)
from pixcrawler.common.events import ImageTotals
from pixcrawler.common.outcomes import Outcome
from pixcrawler.common.transform import Transform

CHUNK = "0198c0de-0000-7000-8000-000000000001-00000"
PHOTO = (2048, 1536)
HUGE = (11_600, 8_700)
WISHES = {
    "keep_ratio 256, jpeg": Transform(
        resize_mode="keep_ratio", image_size=256, image_format="jpeg"
    ),
    "center_crop 512, webp": Transform(
        resize_mode="center_crop", image_size=512, image_format="webp"
    ),
    "png": Transform(image_format="png"),
}


def photographs(count: int) -> list[bytes]:
    """Pieces of the miniature web's photographs, enlarged."""
    from pixcrawler.miniweb.photos import cut
    from pixcrawler.miniweb.photos import names as photos

    found = []
    for at, name in zip(range(count), list(photos()) * count, strict=False):
        left, top = (at * 37) % 400, (at * 53) % 300
        picture = cut(name, (left, top, left + 700, top + 525), PHOTO)
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=90)
        found.append(out.getvalue())
    return found


def plain(data: bytes, how: Transform) -> bytes:
    """As somebody would write it."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data)).convert("RGB")
    resized = how.resized(*picture.size)
    if resized is not None:
        size = (resized.width, resized.height)
        picture = picture.resize(size, Image.Resampling.LANCZOS, box=resized.box)
    out = io.BytesIO()
    quality = {} if how.image_format == "png" else {"quality": how.quality}
    picture.save(out, how.image_format, **quality)
    return out.getvalue()


def times(count: int) -> None:
    from pixcrawler.common import pictures

    images = photographs(count)

    def ours(data: bytes, how: Transform) -> object:
        return pictures.transformed(data, "jpeg", how)

    print(f"{count} JPEGs of {PHOTO[0]} x {PHOTO[1]}: ms of CPU an image, beside plain Pillow")
    for name, how in WISHES.items():
        few = images[: max(count // 10, 3)] if name == "png" else images
        mine, theirs = milliseconds(ours, few, how), milliseconds(plain, few, how)
        print(f"{name:24} {mine:8.1f} {theirs:8.1f}")


def milliseconds(
    work: Callable[[bytes, Transform], object], images: Sequence[bytes], how: Transform
) -> float:
    work(images[0], how)
    started = time.process_time()
    for data in images:
        work(data, how)
    return (time.process_time() - started) * 1000 / len(images)


def huge(form: str) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.effect_noise((HUGE[0] // 20, HUGE[1] // 20), 90).convert("RGB").resize(HUGE).save(
        out, form, **({"compress_level": 1} if form == "PNG" else {"quality": 90})
    )
    return out.getvalue()


def store(root: Path, images: Sequence[bytes], forms: Sequence[str]) -> None:
    """A part and the verdicts on it."""
    lines = dump_lines(Fetched(position=at, bytes=len(data)) for at, data in enumerate(images))
    path = root / names.part(CHUNK, 0)
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as tar:
        members = [(part_member(at), data) for at, data in enumerate(images)]
        for name, data in [(PART_OUTCOMES, lines), *members]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    items = [
        Verdict(
            position=at,
            url=f"http://a/{at}",
            outcome=Outcome.KEPT,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            format=form,
        )
        for at, (data, form) in enumerate(zip(images, forms, strict=True))
    ]
    head = VerdictsHead(chunk_id=CHUNK, images=ImageTotals(), valid_images=len(items))
    path = root / names.verdicts(CHUNK)
    path.parent.mkdir(parents=True)
    path.write_bytes(Verdicts(head=head, items=tuple(items)).dump())


async def through_the_uploader(root: Path, wish: str) -> None:
    import pixcrawler.uploader.__main__  # noqa: F401 - as much as the service has in memory
    from pixcrawler.uploader.transforming import Transformer

    class Hand:
        async def check(self) -> None:
            pass

    blobs = LocalBlobs(root)
    verdicts = Verdicts.parse(await blobs.read(names.verdicts(CHUNK)))
    before, started = peak_mb(), time.perf_counter()
    files = await Transformer(2).files(
        verdicts,
        WISHES[wish],
        context=Hand(),  # type: ignore[arg-type]
        blobs=blobs,
        report=lambda: None,
    )
    assert files is not None
    assert all(file.transformed for file in files.items)
    took = time.perf_counter() - started
    print(f"{wish:24} {took:6.1f} s   peak {before:.0f} → {peak_mb():.0f} MB", flush=True)
    await blobs.close()


def peak_mb() -> float:
    """The most memory that this process ever had (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def memory() -> None:
    small = photographs(20)
    kinds = {"small ones only": None, "with a huge JPEG": "JPEG", "with a huge PNG": "PNG"}
    for name, form in kinds.items():
        print(name, flush=True)
        extra = [huge(form)] if form else []
        forms = ["jpeg"] * len(small) + ([form.lower()] if form else [])
        for wish in WISHES:
            if form == "PNG" and wish == "png":
                continue  # it is one already
            with tempfile.TemporaryDirectory() as folder:
                store(Path(folder), [*small, *extra], forms)
                command = [sys.executable, "-m", "bench.uploader_transforms"]
                subprocess.run([*command, "--root", folder, "--wish", wish], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--wish", choices=list(WISHES))
    given = parser.parse_args()
    if given.root:
        asyncio.run(through_the_uploader(given.root, given.wish))
        return
    times(given.images)
    memory()


if __name__ == "__main__":
    main()
