"""What was kept, over HTTP: images out of real archives, and their licences."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixcrawler.api.archives import TAIL_BYTES, Archives
from pixcrawler.common import names
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.documents import (
    Candidate,
    Candidates,
    CandidatesHead,
    ChunkResult,
    DatasetFile,
    DatasetIndex,
    Files,
    FilesHead,
    ImageFile,
    StoredFile,
    Verdict,
    Verdicts,
    VerdictsHead,
)
from pixcrawler.common.events import ImageTotals, JobFacts
from pixcrawler.common.outcomes import Outcome
from pixcrawler.uploader.archive import pack
from pixcrawler.uploader.images import ARCHIVE_EXTENSION, Format, kept_images
from tests.integration.api.conftest import World

FORMATS: tuple[Format, ...] = ("zip", "webdataset")
LICENSES = """file_name,license,license_url,creator
images/1.jpg,CC0-1.0,https://cc0,"Anna, ""the"" painter"
images/2.jpg,CC-BY-4.0,https://by,"two
lines, one of them with ü"
images/3.jpg,CC0-1.0,https://cc0,
images/5.jpg,CC0-1.0,http://cc0/deed.de,
images/6.jpg,,https://own,
images/7.jpg,,https://own,
images/4.jpg,,,
"""


def contents(number: int) -> list[bytes]:
    """Bytes of so many images, each of another size and hash."""
    return [f"image {n} ".encode() * (n % 700 + 1) for n in range(number)]


async def complete(
    blobs: LocalBlobs,
    chunk: str,
    images: list[bytes],
    form: Format,
    extension: str = "jpeg",
    *,
    made: list[bytes] | None = None,
) -> StoredFile:
    """A chunk that kept these images, and one duplicate: its decisions and its archive.

    Where the job wants its images transformed, `made` are the PNGs that they became.
    """
    urls = [f"http://a/{n}.jpg" for n in range(len(images) + 1)]
    candidates = Candidates(
        head=CandidatesHead(chunk_id=chunk, count=len(urls)),
        items=tuple(
            Candidate(position=n, url=url, source="commons", title=f"No. {n}", license="CC0-1.0")
            for n, url in enumerate(urls)
        ),
    )
    judged = [
        Verdict(
            position=n,
            url=urls[n],
            outcome=Outcome.KEPT,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            width=3,
            height=2,
            format=extension,
        )
        for n, content in enumerate(images)
    ]
    judged.append(Verdict(position=len(images), url=urls[-1], outcome=Outcome.DUPLICATE))
    verdicts = Verdicts(
        head=VerdictsHead(chunk_id=chunk, images=ImageTotals(), valid_images=len(images)),
        items=tuple(judged),
    )

    async def read(position: int) -> AsyncIterator[bytes]:
        yield (made or images)[position]

    files = None
    if made is not None:
        items = [
            ImageFile(
                position=n,
                transformed=True,
                width=5,
                height=4,
                format="png",
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
            for n, content in enumerate(made)
        ]
        files = Files(head=FilesHead(chunk_id=chunk), items=tuple(items))
        await blobs.create(names.files(chunk), files.dump())
    name = names.archive(chunk, ARCHIVE_EXTENSION[form])
    packed = pack(kept_images(candidates, verdicts, form, files), read, form)
    content = b"".join([piece async for piece in packed])
    await blobs.create(name, content)
    archive = StoredFile(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    result = ChunkResult(chunk_id=chunk, status="completed", archive=archive)
    await blobs.create(names.candidates(chunk), candidates.dump())
    await blobs.create(names.verdicts(chunk), verdicts.dump())
    await blobs.create(names.result(chunk), result.model_dump_json().encode())
    return archive


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("number", [1, 7, TAIL_BYTES // 46 + 1])  # 46: a directory's entry at least
async def test_every_image_of_an_archive(tmp_path: Path, form: Format, number: int) -> None:
    """Each image is found in its archive and comes out as it went in; no other is."""
    blobs = LocalBlobs(tmp_path)
    images = contents(number)
    chunk = "0198c5a0-0000-7000-8000-000000000000-00000"
    archive = await complete(blobs, chunk, images, form)
    archives = Archives(blobs)
    for image in images:
        member = await archives.find(archive, hashlib.sha256(image).hexdigest())
        assert member is not None
        assert member.size == len(image)
        assert b"".join([piece async for piece in archives.stream(archive, member)]) == image
    assert await archives.find(archive, hashlib.sha256(b"another").hexdigest()) is None
    await blobs.close()


async def test_a_job_s_images(world: World) -> None:
    """What completed chunks keep is listed page by page with its attribution, and has its bytes."""
    job_id = (await world.job())["job_id"]
    made = await world.plan(job_id, "completed", "processing", "completed")
    images = contents(7)
    await complete(world.blobs, made[0], images[:4], "zip")
    await complete(world.blobs, made[1], [b"not yet"], "zip")
    await complete(world.blobs, made[2], images[4:], "webdataset")
    listed, cursor = [], None
    for _ in range(10):
        more: dict[str, str] = {"cursor": cursor} if cursor else {}
        page = await world.get(f"/v1/jobs/{job_id}/images", limit=3, **more)
        listed += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [item["sha256"] for item in listed] == [hashlib.sha256(i).hexdigest() for i in images]
    assert all(item["original_sha256"] == item["sha256"] for item in listed)
    assert (listed[0]["title"], listed[0]["license"], listed[0]["width"]) == ("No. 0", "CC0-1.0", 3)
    for item, image in zip(listed, images, strict=True):
        answer = await world.client.get(item["path"])
        assert (answer.status_code, answer.content) == (200, image)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["cache-control"].startswith("private")
    tag = {"If-None-Match": answer.headers["etag"]}
    again = await world.client.get(item["path"], headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    other = await world.key("somebody else")
    assert (await world.client.get(item["path"], headers={**other, **tag})).status_code == 404


@pytest.mark.parametrize("form", FORMATS)
async def test_a_job_s_transformed_images(world: World, form: Format) -> None:
    """They are listed as they are in the archive, and found by both of their hashes."""
    options = {"format": form, "resize_mode": "center_crop", "image_size": 5}
    job_id = (await world.job(options=options))["job_id"]
    [chunk] = await world.plan(job_id, "completed")
    images, made = contents(3), [b"made of one", b"made of two", b"made of two"]
    await complete(world.blobs, chunk, images, form, made=made)
    listed = (await world.get(f"/v1/jobs/{job_id}/images"))["items"]
    for item, image, became in zip(listed, images, made, strict=True):
        assert (item["width"], item["height"], item["format"]) == (5, 4, "png")
        assert (item["bytes"], item["sha256"]) == (len(became), hashlib.sha256(became).hexdigest())
        assert item["original_sha256"] == hashlib.sha256(image).hexdigest()
        for path in (item["path"], item["path"].replace(item["original_sha256"], item["sha256"])):
            answer = await world.client.get(path)
            assert (answer.status_code, answer.content) == (200, became)
            assert answer.headers["content-type"] == "image/png"
    missing = item["path"].replace(item["original_sha256"], "0" * 64)
    assert (await world.client.get(missing)).status_code == 404


@pytest.mark.parametrize("sha256", ["0" * 64, "0" * 63, "..%2F", "G" * 64, "é"])
async def test_images_that_are_not_there(world: World, sha256: str) -> None:
    """What is no image of the chunk is not found, whatever it is; nor is one of a deleted job."""
    job_id = (await world.job())["job_id"]
    made = await world.plan(job_id, "completed", "processing")
    await complete(world.blobs, made[0], [b"one"], "zip")
    for chunk in ("0", "1", "2", made[0], "x"):
        answer = await world.client.get(f"/v1/jobs/{job_id}/chunks/{chunk}/images/{sha256}")
        assert answer.status_code == 404
    path = f"/v1/jobs/{job_id}/chunks/0/images/{hashlib.sha256(b'one').hexdigest()}"
    assert (await world.client.get(path)).status_code == 200
    await world.client.delete(f"/v1/jobs/{job_id}")
    assert (await world.client.get(path)).status_code == 404


async def test_nothing_but_images_is_served(world: World) -> None:
    """A file of a format that browsers run or render as a page is not given out."""
    job_id = (await world.job())["job_id"]
    made = await world.plan(job_id, "completed")
    await complete(world.blobs, made[0], [b"<svg/>"], "zip", extension="svg")
    digest = hashlib.sha256(b"<svg/>").hexdigest()
    answer = await world.client.get(f"/v1/jobs/{job_id}/chunks/0/images/{digest}")
    assert answer.status_code == 404


async def test_licences(world: World) -> None:
    """The licences of the dataset are counted, the most common first; before it is there: 404."""
    job_id = (await world.job())["job_id"]
    assert (await world.client.get(f"/v1/jobs/{job_id}/licenses")).status_code == 404
    name = f"{names.round_prefix(job_id, 1)}LICENSES.csv"
    content = LICENSES.encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 7):
            yield content[at : at + 7]

    await world.blobs.create(name, pieces())
    index = DatasetIndex(
        job_id=job_id,
        round=1,
        facts=JobFacts(
            round=1, closed_round=1, status="completed", total_chunks=1, requested=4, kept=4
        ),
        images=ImageTotals(),
        files=(DatasetFile(path="LICENSES.csv", object=name, size=len(content), sha256=""),),
    )
    await world.blobs.create(names.dataset_index(job_id, 1), index.model_dump_json().encode())
    for _ in range(2):
        found = await world.get(f"/v1/jobs/{job_id}/licenses")
        assert [(i["license"], i["license_url"], i["images"]) for i in found["items"]] == [
            ("CC0-1.0", "https://cc0", 3),
            ("", "https://own", 2),
            ("CC-BY-4.0", "https://by", 1),
            ("", "", 1),
        ]
        assert found["next_cursor"] is None


@pytest.mark.parametrize("cut", [1, 2, 7, 1000])
async def test_licences_arrive_in_pieces(cut: int) -> None:
    """However the file is cut into pieces, also within a letter, its rows are the same."""
    from pixcrawler.api.licenses import _rows

    content = LICENSES.encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), cut):
            yield content[at : at + cut]

    rows = [row async for row in _rows(pieces())]
    assert [row["creator"] for row in rows] == [
        'Anna, "the" painter',
        "two\nlines, one of them with ü",
        *[""] * 5,
    ]
