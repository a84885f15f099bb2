"""What a job leaves behind: outcomes, the dataset, its files."""

import hashlib
import mimetypes
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from pixcrawler.api import byteranges, cursors, examples, store
from pixcrawler.api.auth import Reader
from pixcrawler.api.links import FileLink
from pixcrawler.api.openapi import NO_DATASET, answers, problem, wrong
from pixcrawler.api.outcomes import Position
from pixcrawler.api.parts import Parts, PartsOf
from pixcrawler.api.problems import Problem, not_found
from pixcrawler.api.routes.paths import Cursor, JobId, found_job
from pixcrawler.api.views import DatasetFileView, DatasetView, Page
from pixcrawler.common import names
from pixcrawler.common.chunk_outcomes import OutcomeRow
from pixcrawler.common.documents import DatasetFile, DatasetIndex
from pixcrawler.common.errors import BlobNotFound
from pixcrawler.common.outcomes import Outcome

router = APIRouter(prefix="/v1", tags=["results"])


_BINARY = {"*/*": {"schema": {"type": "string", "format": "binary"}}}

INDEX = "dataset.json"
MAX_OUTCOMES = 5000

_MEDIA_TYPES = {
    ".zip": "application/zip",
    ".tar": "application/x-tar",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".md": "text/markdown; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
}


@router.get(
    "/jobs/{job_id}/outcomes",
    summary="List outcomes",
    responses=answers(200, "URLs, by chunk and candidate.", examples.OUTCOMES)
    | wrong(outcome=("outcome", "outcome: Input should be 'kept', 'duplicate', …")),
)
async def list_outcomes(
    *,
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    outcome: Annotated[Outcome | None, Query(description="Only URLs of which this became.")] = None,
    cursor: Cursor = None,
    limit: Annotated[
        int,
        Query(ge=1, le=MAX_OUTCOMES, description=f"Items on a page at most, 1 to {MAX_OUTCOMES}."),
    ] = 500,
) -> Page[OutcomeRow]:
    """Every URL and what became of it, also while the job runs.

    A page may have fewer items than asked for, or none, and still be followed by others.
    """
    await found_job(parts, caller, job_id)
    start = Position(*map(int, cursors.load(cursor, int, int))) if cursor else Position(0, 0)
    async with parts.engine.connect() as connection:
        chunks = await store.chunk_states(connection, job_id)
    page = await parts.outcomes.page(job_id, chunks, outcome=outcome, start=start, limit=limit)
    return Page(items=page.rows, next_cursor=cursors.dump(*page.after) if page.after else None)


@router.get(
    "/jobs/{job_id}/dataset",
    summary="Get the dataset",
    responses=answers(200, "Its files.", examples.DATASET, refused={404: {"dataset": NO_DATASET}}),
)
async def get_dataset(
    parts: PartsOf, caller: Reader, job_id: JobId, request: Request
) -> DatasetView:
    """The files of the dataset as of the latest finished round, with links that expire.

    404 before the first round has finished.
    """
    job = await found_job(parts, caller, job_id)
    for number in range(job.round, 0, -1):
        name = names.dataset_index(job_id, number)
        try:
            content = await parts.blobs.read(name)
        except BlobNotFound:
            continue
        return await _dataset(parts, request, DatasetIndex.model_validate_json(content), content)
    raise Problem(404, f"job {job_id} has no dataset yet: no round has finished")


async def _dataset(
    parts: Parts, request: Request, index: DatasetIndex, content: bytes
) -> DatasetView:
    itself = DatasetFile(
        path=INDEX,
        object=names.dataset_index(index.job_id, index.round),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    expires = parts.now() + timedelta(seconds=parts.settings.api_link_expires_s)
    files = [
        await _file(parts, request, file, expires)
        for file in (*(file for file in index.files if file.path != INDEX), itself)
    ]
    return DatasetView(
        job_id=index.job_id,
        round=index.round,
        status=index.facts.status,
        images=index.images,
        files=tuple(files),
    )


async def _file(
    parts: Parts, request: Request, file: DatasetFile, expires: datetime
) -> DatasetFileView:
    filename = file.path.rpartition("/")[2]
    expires_s = parts.settings.api_link_expires_s
    link = await parts.blobs.link(file.object, expires_s=expires_s, filename=filename)
    if link is None:
        base = parts.settings.api_public_url or str(request.base_url)
        path = parts.links.path(file.object, filename=filename, expires_s=expires_s)
        link = base.rstrip("/") + path
    return DatasetFileView(
        path=file.path, size=file.size, sha256=file.sha256, url=link, expires_at=expires
    )


@router.head("/files/{name:path}", response_class=Response, include_in_schema=False)
@router.get(
    "/files/{name:path}",
    response_class=Response,
    summary="Download a file",
    responses={
        200: {"description": "The file.", "content": _BINARY},
        206: {
            "description": "The bytes that were asked for.",
            "content": _BINARY,
            "headers": {"Content-Range": {"$ref": "#/components/headers/Content-Range"}},
        },
        403: problem(
            {
                "signature": Problem(403, "the link is not valid"),
                "expired": Problem(403, "the link has expired; ask for the dataset again"),
            }
        ),
        404: problem({"file": not_found(f"file chunk_{examples.CHUNK_ID}.zip")}),
        416: problem({"range": Problem(416, "the file has 91802113 bytes")}),
        **wrong(expires=("expires", "expires: Input should be a valid integer")),
    },
)
async def get_file(
    *,
    parts: PartsOf,
    request: Request,
    name: Annotated[
        str, Path(description="Which file, as the link says.", examples=[examples.FILE])
    ],
    filename: Annotated[str, Query(description="What it is saved as, as the link says.")],
    expires: Annotated[
        int, Query(description="Until when the link works, in seconds since 1970, as it says.")
    ],
    signature: Annotated[str, Query(description="What makes the link valid, as it says.")],
    byte_range: Annotated[
        str,
        Header(
            alias="Range",
            description="One range of bytes, such as `bytes=1048576-`; the whole file if "
            "there is none, or it is not understood.",
            examples=["bytes=1048576-"],
        ),
    ] = "",
) -> Response:
    """A file of a dataset, for whoever has its link; ranges are served, so downloads resume.

    Links are those of `GET /v1/jobs/{job_id}/dataset`; they need no key, and expire.
    """
    parts.links.check(FileLink(name, filename, expires), signature)
    async with parts.engine.connect() as connection:
        if await store.is_deleted(connection, name.split("/")[1] if "/" in name else ""):
            raise not_found(f"file {filename}")
    found = await parts.blobs.stat(name)
    if found is None:
        raise not_found(f"file {filename}")
    part = byteranges.parse(byte_range, found.size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(found.size if part is None else part.length),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private",
    }
    if part is not None:
        last = part.start + part.length - 1
        headers["Content-Range"] = f"bytes {part.start}-{last}/{found.size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(None, status, headers=headers, media_type=_media_type(filename))
    content = parts.blobs.stream(
        name, offset=part.start if part else 0, length=part.length if part else found.size
    )
    return StreamingResponse(content, status, headers=headers, media_type=_media_type(filename))


def _media_type(filename: str) -> str:
    extension = filename[filename.rfind(".") :] if "." in filename else ""
    guessed = mimetypes.guess_type(filename)[0]
    return _MEDIA_TYPES.get(extension) or guessed or "application/octet-stream"
