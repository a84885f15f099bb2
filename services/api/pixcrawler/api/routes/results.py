"""What a job leaves behind: outcomes, the dataset, its files."""

import hashlib
import mimetypes
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from pixcrawler.api import byteranges, cursors, store
from pixcrawler.api.auth import Reader
from pixcrawler.api.links import FileLink
from pixcrawler.api.outcomes import Position
from pixcrawler.api.parts import Parts, parts_of
from pixcrawler.api.problems import Problem, not_found
from pixcrawler.api.routes.paths import JobId, found_job
from pixcrawler.api.views import DatasetFileView, DatasetView, Page
from pixcrawler.common import names
from pixcrawler.common.chunk_outcomes import OutcomeRow
from pixcrawler.common.documents import DatasetFile, DatasetIndex
from pixcrawler.common.errors import BlobNotFound
from pixcrawler.common.outcomes import Outcome

router = APIRouter(prefix="/v1", tags=["results"])

PartsOf = Annotated[Parts, Depends(parts_of)]

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


@router.get("/jobs/{job_id}/outcomes")
async def outcomes(
    *,
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    outcome: Outcome | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_OUTCOMES, description="Items at most.")] = 500,
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


@router.get("/jobs/{job_id}/dataset")
async def dataset(parts: PartsOf, caller: Reader, job_id: JobId, request: Request) -> DatasetView:
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
@router.get("/files/{name:path}", response_class=Response)
async def file(
    *, parts: PartsOf, request: Request, name: str, filename: str, expires: int, signature: str
) -> Response:
    """A file of a dataset, for whoever has its link; ranges are served, so downloads resume."""
    parts.links.check(FileLink(name, filename, expires), signature)
    async with parts.engine.connect() as connection:
        if await store.is_deleted(connection, name.split("/")[1] if "/" in name else ""):
            raise not_found(f"file {filename}")
    found = await parts.blobs.stat(name)
    if found is None:
        raise not_found(f"file {filename}")
    part = byteranges.parse(request.headers.get("range"), found.size)
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
