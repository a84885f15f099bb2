"""What was kept, to look at: a job's images, their bytes, their licences."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Path
from fastapi.responses import Response, StreamingResponse

from pixcrawler.api import cursors, etags, examples, images, store
from pixcrawler.api.auth import Reader
from pixcrawler.api.images import ImageView
from pixcrawler.api.licenses import LicenseCount
from pixcrawler.api.openapi import NO_DATASET, answers, problem
from pixcrawler.api.outcomes import Position
from pixcrawler.api.parts import PartsOf
from pixcrawler.api.problems import Problem, not_found
from pixcrawler.api.routes.paths import ChunkName, Cursor, JobId, Limit, chunk_index, found_job
from pixcrawler.api.views import Page
from pixcrawler.common import names
from pixcrawler.common.chunks import result_of
from pixcrawler.common.documents import DatasetIndex
from pixcrawler.common.errors import BlobNotFound
from pixcrawler.common.ids import chunk_id

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"])

Sha256 = Annotated[
    str,
    Path(
        description="In hex: of the image as it was found (`original_sha256` in the list of "
        "images), or of the file that was made of it.",
        examples=[examples.SHA256],
    ),
]

NOT_MODIFIED = 304
MEDIA_TYPES: Final = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".tiff": "image/tiff",
}
"""By the extension in the archive, which is that of the true format; nothing else is served."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CACHE = "private, max-age=86400, immutable"
"""For whoever has the key only; and not for ever, since a job may be deleted."""


@router.get(
    "/images",
    summary="List what was kept",
    responses=answers(200, "Images, by chunk and candidate.", examples.IMAGES),
)
async def list_images(
    *,
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ImageView]:
    """What was kept so far, in completed chunks; a page may have fewer images than asked for."""
    job = await found_job(parts, caller, job_id)
    start = Position(*map(int, cursors.load(cursor, int, int))) if cursor else Position(0, 0)
    async with parts.engine.connect() as connection:
        chunks = await store.chunk_states(connection, job_id)
    found = await images.page(
        parts.blobs,
        job_id,
        chunks,
        start=start,
        limit=limit,
        transformed=job.options.transform is not None,
    )
    return Page(items=found.images, next_cursor=cursors.dump(*found.after) if found.after else None)


@router.get(
    "/chunks/{chunk}/images/{sha256}",
    response_class=Response,
    summary="Get an image",
    responses={
        200: {
            "description": "Its bytes, as they are in the archive.",
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in MEDIA_TYPES.values()
            },
            "headers": {"ETag": {"$ref": "#/components/headers/ETag"}},
        },
        404: problem({"image": not_found(f"image {examples.SHA256} of chunk 0")}),
        **etags.RESPONSES,
    },
)
async def get_image(
    *,
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    chunk: ChunkName,
    sha256: Sha256,
    if_none_match: etags.Known = "",
) -> Response:
    """A kept image, out of its chunk's archive."""
    job = await found_job(parts, caller, job_id)
    missing = not_found(f"image {sha256} of chunk {chunk}")
    name = chunk_id(job_id, chunk_index(job_id, chunk))
    result = await result_of(parts.blobs, name)
    if not _SHA256.fullmatch(sha256) or result is None or result.archive is None:
        raise missing
    try:
        member = await parts.archives.find(result.archive, sha256)
        if member is None and job.options.transform is not None:
            original = await images.original_of(parts.blobs, name, sha256)
            member = await parts.archives.find(result.archive, original)
    except BlobNotFound:
        raise missing from None
    extension = "" if member is None else member.name[member.name.rfind(".") :]
    if member is None or extension not in MEDIA_TYPES:
        raise missing
    tag = f'"{sha256}"'
    headers = {
        "Cache-Control": _CACHE,
        "ETag": tag,
        "Vary": "Authorization, X-API-Key",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if tag in if_none_match:
        return Response(None, NOT_MODIFIED, headers=headers)
    headers["Content-Length"] = str(member.size)
    content = parts.archives.stream(result.archive, member)
    return StreamingResponse(content, headers=headers, media_type=MEDIA_TYPES[extension])


@router.get(
    "/licenses",
    summary="Count licences",
    responses=answers(
        200,
        "Licences, the most common first.",
        examples.LICENSES,
        refused={404: {"dataset": NO_DATASET}},
    ),
)
async def list_licenses(parts: PartsOf, caller: Reader, job_id: JobId) -> Page[LicenseCount]:
    """Under which licences the images of the dataset are, the most common first.

    404 before the first round has finished.
    """
    job = await found_job(parts, caller, job_id)
    for number in range(job.round, 0, -1):
        try:
            content = await parts.blobs.read(names.dataset_index(job_id, number))
            found = await parts.licenses.of(DatasetIndex.model_validate_json(content))
        except BlobNotFound:
            continue
        return Page(items=found)
    raise Problem(404, f"job {job_id} has no dataset yet: no round has finished")
