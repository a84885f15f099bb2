"""Lists of URLs: upload one, look at it, delete it."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field, StringConstraints
from starlette.requests import ClientDisconnect

from pixcrawler.api import cursors, examples
from pixcrawler.api.auth import Reader, Writer
from pixcrawler.api.handler import Caller
from pixcrawler.api.idempotency import Once, digest
from pixcrawler.api.lists import store
from pixcrawler.api.lists.files import Format
from pixcrawler.api.lists.store import ListRecord, RejectedView
from pixcrawler.api.lists.uploads import Told
from pixcrawler.api.openapi import answers, problem, wrong
from pixcrawler.api.parts import Parts, PartsOf
from pixcrawler.api.problems import Problem, conflict, not_found
from pixcrawler.api.requests import LIST_ID, Text
from pixcrawler.api.routes.paths import Cursor, IdempotencyKey, Limit
from pixcrawler.api.views import Page
from pixcrawler.common import ids, logs, names
from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.errors import BlobNotFound, Retry
from pixcrawler.common.events import Value
from pixcrawler.common.url_lists import read_rejected

log = logs.get(__name__)

PATH = "/v1/url-lists"

router = APIRouter(prefix=PATH, tags=["url lists"])

Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=255), Text]
Column = Name | None


def _column(what: str) -> str:
    return (
        f"The name of the column with the {what}, if it is not found by itself; of a table "
        "without names its number, from 1."
    )


_FORM = "multipart/form-data"
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file itself: txt, csv, tsv, jsonl or parquet, also packed with gzip.",
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": "https://images.example/1.jpg\nhttps://images.example/2.jpg\n",
            }
        },
    }
}


class UrlListView(Value):
    """An uploaded list.

    Attributes:
        id: For `urls` of a job.
        name: Of the file, as the upload said.
        format: What it is.
        columns: What was taken from where: field → the file's name for it; a table without names
            has numbers from 1. Captions are the `title`.
        rows: With a URL that can be asked for.
        repeated: Of them, those whose URL an earlier one has; they are passed over.
        rejected: Rows that were left out.
        rejected_rows: The first of them; `GET …/rejected` has all.
        bytes: Of the upload.
        created_at: When it was uploaded.
    """

    id: str
    name: str
    format: str
    columns: dict[str, str]
    rows: int
    repeated: int
    rejected: int
    rejected_rows: tuple[RejectedView, ...] = Field(default=())
    bytes: int
    created_at: datetime


_EXAMPLE = UrlListView(**examples.URL_LIST)


def _list_id(
    list_id: Annotated[
        str,
        Path(
            description="The list's id, as its upload has answered.",
            examples=[examples.LIST_ID],
            json_schema_extra={"format": "uuid"},
        ),
    ],
) -> str:
    """What cannot be a list's id is not found, whatever it is."""
    if not LIST_ID.fullmatch(list_id):
        raise not_found(f"list {list_id}")
    return list_id


ListId = Annotated[str, Depends(_list_id)]


@router.post(
    "",
    status_code=201,
    response_model=UrlListView,
    openapi_extra=_BODY,
    summary="Upload a list of URLs",
    responses=answers(201, "The list, and what was left out of it.", _EXAMPLE, headers=["Location"])
    | {
        400: problem({"broken": Problem(400, "the upload broke off")}),
        415: problem(
            {
                "form": Problem(
                    415, "send the file itself as the body (curl --data-binary @FILE), no form"
                )
            }
        ),
        429: problem(
            {
                "busy": Problem(
                    429,
                    "2 lists are being uploaded here; try again",
                    headers={"Retry-After": "10"},
                )
            }
        ),
    }
    | wrong(
        format=("format", "format: Input should be 'txt', 'csv', 'tsv', 'jsonl' or 'parquet'"),
        body=("body", "pandas.csv: no column has URLs; say which with url_column"),
    ),
)
async def upload_url_list(
    *,
    parts: PartsOf,
    caller: Writer,
    request: Request,
    name: Annotated[
        Name,
        Query(
            description="The file's name, at most 255 characters; its end tells the format.",
            examples=["pandas.csv.gz"],
        ),
    ] = "",
    format: Annotated[  # noqa: A002 - its public name
        Format | None, Query(description="The format, if neither name nor content tell it.")
    ] = None,
    url_column: Annotated[Column, Query(description=_column("URLs"))] = None,
    caption_column: Annotated[Column, Query(description=_column("captions"))] = None,
    creator_column: Annotated[Column, Query(description=_column("creators"))] = None,
    license_column: Annotated[Column, Query(description=_column("licences"))] = None,
    license_url_column: Annotated[
        Column, Query(description=_column("addresses of the licences' texts"))
    ] = None,
    landing_url_column: Annotated[
        Column, Query(description=_column("addresses of the pages that show the images"))
    ] = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Upload a list of URLs; its `id` is what a job's `urls` may be instead of URLs.

    The body is the file: `curl --data-binary @list.csv.gz '…/v1/url-lists?name=list.csv.gz'`. Rows
    that cannot be used are left out and told with their line; a file that is none of what is taken
    is refused with 422. A list stays until it is deleted.
    """
    if request.headers.get("content-type", "").startswith(_FORM):
        raise Problem(415, "send the file itself as the body (curl --data-binary @FILE), no form")
    columns = _given(
        {
            "url": url_column,
            "title": caption_column,
            "creator": creator_column,
            "license": license_column,
            "license_url": license_url_column,
            "landing_url": landing_url_column,
        }
    )
    list_id, body = ids.new_list_id(), _Body(request)
    taken = await parts.uploads.take(list_id, Told(name, format, columns), body.pieces())
    answer = taken.answer
    once = Once(caller.owner, idempotency_key, digest("upload", body.sha256, name, format, columns))
    try:
        async with transaction(parts.engine, "upload") as connection:
            if once.key:
                await locks.owner_lock(connection, caller.owner)
            said = await once.said(connection)
            if said is None:
                found = await store.add(
                    connection,
                    caller.owner,
                    {
                        "list_id": list_id,
                        "name": name,
                        "format": answer.format,
                        "columns": dict(answer.columns),
                        "rows": answer.rows,
                        "repeated": answer.repeated,
                        "rejected": answer.rejected,
                        "rejected_rows": [row._asdict() for row in answer.rejected_rows],
                        "bytes": taken.size,
                    },
                )
                content = _view(found).model_dump_json()
                await once.keep(connection, content, list_id=list_id)
    except Problem:
        await _remove(parts, list_id)
        raise
    if said is not None:  # a repetition: what it brought is there already, under the first's name
        await _remove(parts, list_id)
        return _created(str(said.list_id), str(said.answer))
    log.info(
        "list uploaded",
        action="upload",
        list=list_id,
        rows=answer.rows,
        rejected=answer.rejected,
        bytes=taken.size,
    )
    return _created(list_id, content)


def _given(columns: Mapping[str, str | None]) -> dict[str, str]:
    return {field: asked for field, asked in columns.items() if asked}


def _created(list_id: str, content: str) -> Response:
    headers = {"Location": f"{PATH}/{list_id}"}
    return Response(content, 201, headers=headers, media_type="application/json")


async def _remove(parts: Parts, list_id: str) -> None:
    """The objects of a list that is not, or no longer, there."""
    with contextlib.suppress(Retry):  # else the sweep does it
        await parts.blobs.delete_prefix(names.list_prefix(list_id))


@router.get(
    "",
    summary="List lists of URLs",
    responses=answers(200, "Lists, the latest first.", Page[UrlListView](items=(_EXAMPLE,))),
)
async def list_url_lists(
    parts: PartsOf, caller: Reader, cursor: Cursor = None, limit: Limit = 50
) -> Page[UrlListView]:
    """Your lists, the latest first."""
    before = str(cursors.load(cursor, str)[0]) if cursor else None
    async with parts.engine.connect() as connection:
        found = await store.page(connection, caller.owner, before=before, limit=limit + 1)
    more = cursors.dump(found[limit - 1].list_id) if len(found) > limit else None
    return Page(items=tuple(map(_view, found[:limit])), next_cursor=more)


@router.get(
    "/{list_id}",
    summary="Get a list of URLs",
    responses=answers(200, "The list.", _EXAMPLE),
)
async def get_url_list(parts: PartsOf, caller: Reader, list_id: ListId) -> UrlListView:
    """One list."""
    return _view(await _found(parts, caller, list_id))


@router.get(
    "/{list_id}/rejected",
    summary="List rows that were left out",
    responses=answers(200, "Rows in their order.", examples.REJECTED_ROWS),
)
async def list_rejected_rows(
    *,
    parts: PartsOf,
    caller: Reader,
    list_id: ListId,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[RejectedView]:
    """All rows of a list that were left out, in their order, and why."""
    found = await _found(parts, caller, list_id)
    after = int(cursors.load(cursor, int)[0]) if cursor else 0
    limit = min(limit, max(found.rejected - after, 0))
    try:
        rows = await read_rejected(parts.blobs, list_id, after, limit)
    except BlobNotFound:  # it is just being deleted
        raise not_found(f"list {list_id}") from None
    at = after + len(rows)
    return Page(
        items=tuple(RejectedView(**row._asdict()) for row in rows),
        next_cursor=cursors.dump(at) if rows and at < found.rejected else None,
    )


@router.delete(
    "/{list_id}",
    status_code=204,
    response_class=Response,
    summary="Delete a list of URLs",
    responses=answers(
        204,
        "It is gone.",
        refused={
            409: {
                "used": Problem(
                    409,
                    f"the job {examples.JOB_ID} is not finished and takes its URLs from this list",
                )
            }
        },
    ),
)
async def delete_url_list(parts: PartsOf, caller: Writer, list_id: ListId) -> None:
    """Delete a list; one that a job still reads: 409. Datasets made of it stay."""
    async with transaction(parts.engine, "delete_list") as connection:
        if await store.lock(connection, caller.owner, list_id) is None:
            raise not_found(f"list {list_id}")
        if job := await store.unfinished_job(connection, list_id):
            raise conflict(f"the job {job} is not finished and takes its URLs from this list")
        await store.mark_deleted(connection, list_id)
    await _remove(parts, list_id)


class _Body:
    """A request's body, and its hash once it was read."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what was read so far, in hex."""
        return self._hash.hexdigest()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        try:
            async for piece in self._request.stream():
                self._hash.update(piece)
                yield piece
        except ClientDisconnect:
            raise Problem(400, "the upload broke off") from None


async def _found(parts: Parts, caller: Caller, list_id: str) -> ListRecord:
    async with parts.engine.connect() as connection:
        found = await store.one(connection, caller.owner, list_id)
    if found is None:
        raise not_found(f"list {list_id}")
    return found


def _view(found: ListRecord) -> UrlListView:
    return UrlListView(id=found.list_id, **found.model_dump(exclude={"list_id"}))
