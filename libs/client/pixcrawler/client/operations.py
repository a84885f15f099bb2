"""What the SDK does with jobs, once for both of its faces: coroutines over the core."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pixcrawler.client import live
from pixcrawler.client.core import Core, Json
from pixcrawler.client.dataset import Dataset
from pixcrawler.client.download import fetch_into
from pixcrawler.client.errors import USAGE, ClientError
from pixcrawler.client.values import (
    AuditLine,
    Capacity,
    Chunk,
    Control,
    Drops,
    Explanation,
    JobInfo,
    Outcome,
    Progress,
    RejectedRow,
    Replica,
    Source,
    UrlFinding,
    UrlList,
    Worker,
)
from pixcrawler.common.transform import Transform

OUTCOMES_A_PAGE = 2000
REJECTED_A_PAGE = 200

LISTS = "/v1/url-lists"

Urls = Iterable[str] | Path | UrlList
"""URLs themselves, a file of them (txt, csv, tsv, jsonl, parquet, also with .gz), or a list that
was uploaded."""


def new_job(
    keywords: Iterable[str],
    max_images: int | None,
    *,
    sources: Iterable[str] = (),
    name: str = "",
    project_id: str | None = None,
    priority: int = 5,
    start: bool = True,
    webhook_url: str | None = None,
    options: Mapping[str, Any],
) -> Json:
    """The body of `POST /v1/jobs`, without URLs; what is not given is left to the API."""
    given = {
        "name": name,
        "project_id": project_id,
        "sources": list(sources),
        "max_images": max_images,
        "webhook_url": webhook_url,
        "options": dict(options),
    }
    return {
        "keywords": [keywords] if isinstance(keywords, str) else list(keywords),
        "priority": priority,
        "start": start,
        **{field: value for field, value in given.items() if value not in (None, "", [], {})},
    }


def transform_options(**given: Any) -> Json:
    """What is to be done to images, as the API's options; what is as it is anyway is left out."""
    defaults = Transform().model_dump()
    return {name: value for name, value in given.items() if value != defaults[name]}


async def create(
    core: Core, body: Json, urls: Urls | None, columns: Mapping[str, str | None], key: str | None
) -> JobInfo:
    """Create a job; asked for again, with the same key, while the API is away."""
    if isinstance(urls, str):
        wanted = "a list of URLs, or a pathlib.Path to a file of them"
        raise ClientError(f"urls is {wanted}, not one text: {urls[:200]!r}", USAGE)
    if isinstance(urls, Path):
        urls = await upload(core, urls, columns, None)
    if isinstance(urls, UrlList):
        body = {**body, "urls": urls.id}
    elif urls is not None:
        body = {**body, "urls": list(urls)}
    return JobInfo.model_validate(await core.post("/v1/jobs", body, headers=once(key)))


async def upload(
    core: Core, path: Path, columns: Mapping[str, str | None], key: str | None
) -> UrlList:
    """Upload a file of URLs, once; what was taken of it, and what was left out.

    Args:
        core: Whom to send it to.
        path: The file.
        columns: Parameters of the upload, such as `url_column`.
        key: The `Idempotency-Key`; a new one if it is not given.
    """
    from pixcrawler.client.url_lists import ListFile

    file = await core.port.call(ListFile, path)
    headers = once(key) | ({} if file.size is None else {"Content-Length": str(file.size)})
    answer = await core.upload(LISTS, file, headers=headers, params={"name": file.name, **columns})
    return UrlList.model_validate(answer)


async def url_list(core: Core, list_id: str) -> UrlList:
    """A list that was uploaded."""
    return UrlList.model_validate(await core.get(f"{LISTS}/{list_id}"))


async def url_lists(core: Core) -> AsyncIterator[UrlList]:
    """The owner's lists, the latest first."""
    async for item in core.pages(LISTS):
        yield UrlList.model_validate(item)


async def rejected_rows(core: Core, list_id: str | None) -> AsyncIterator[RejectedRow]:
    """All rows of a list that were left out, in their order; none where there is no list."""
    if list_id is None:
        return
    async for item in core.pages(f"{LISTS}/{list_id}/rejected", limit=REJECTED_A_PAGE):
        yield RejectedRow.model_validate(item)


async def delete_url_list(core: Core, list_id: str) -> None:
    """Forget a list."""
    await core.delete(f"{LISTS}/{list_id}")


def id_of(given: UrlList | str) -> str:
    """The id of a list, however it was named."""
    return given.id if isinstance(given, UrlList) else given


async def job(core: Core, job_id: str) -> JobInfo:
    """A job as it is now."""
    return JobInfo.model_validate(await core.get(f"/v1/jobs/{job_id}"))


async def jobs(core: Core, **filters: str | None) -> AsyncIterator[JobInfo]:
    """The owner's jobs, the latest first."""
    async for item in core.pages("/v1/jobs", **filters):
        yield JobInfo.model_validate(item)


async def act(
    core: Core, job_id: str, action: str, key: str | None = None, **params: Any
) -> JobInfo:
    """Ask for something to be done to a job, once, however often it has to be asked; the job then.

    Args:
        core: Whom to ask.
        job_id: The job.
        action: What, as the path says it.
        key: The `Idempotency-Key`; a new one if it is not given.
        params: Of the query.
    """
    path = f"/v1/jobs/{job_id}/{action}"
    answer = await core.post(path, headers=once(key), params=params)
    return JobInfo.model_validate(answer)


def once(key: str | None = None) -> dict[str, str]:
    """The header with which something is done once, though it is asked for until it is answered."""
    return {"Idempotency-Key": key or uuid.uuid4().hex}


async def start(core: Core, job_id: str, *, wait: bool) -> JobInfo:
    """Start a job that was made with `start=False`; the job afterwards."""
    await core.post(f"/v1/jobs/{job_id}/start", {"wait": wait})
    return await job(core, job_id)


async def explain(core: Core, job_id: str) -> Explanation:
    """Why a job is not done, or how it ended."""
    return Explanation.model_validate(await core.get(f"/v1/jobs/{job_id}/explanation"))


async def workers(core: Core, *, everyone: bool) -> AsyncIterator[Worker]:
    """Who has which chunk; of all owners, if the key may see that."""
    async for item in core.pages("/v1/workers", all="true" if everyone else None):
        yield Worker.model_validate(item)


async def delete(core: Core, job_id: str, reason: str | None) -> None:
    """Forget a job."""
    await core.delete(f"/v1/jobs/{job_id}", reason=reason)


async def prioritize(core: Core, job_id: str, priority: int, reason: str | None) -> JobInfo:
    """Give a job another priority; the job then."""
    changed = {"priority": priority}
    answer = await core.patch(f"/v1/jobs/{job_id}", changed, reason=reason)
    return JobInfo.model_validate(answer)


async def give_up(core: Core, job_id: str, chunk: int | str, reason: str | None) -> Chunk:
    """Have a chunk given up, by index or id; the chunk as it was."""
    path = f"/v1/jobs/{job_id}/chunks/{chunk}/give-up"
    answer = await core.post(path, headers=once(), params={"reason": reason})
    return Chunk.model_validate(answer)


async def steer(core: Core, kind: str, name: str, action: str, reason: str | None) -> Control:
    """Pause, drain or resume something; how it is then.

    Args:
        core: Whom to ask.
        kind: `stage`, `source` or `replica`.
        name: Which.
        action: `pause`, `drain` or `resume`.
        reason: Why, for the audit log.
    """
    path = f"/v1/{kind}s/{quote(name, safe='')}/{action}"
    return Control.model_validate(await core.post(path, params={"reason": reason}))


async def controls(core: Core) -> list[Control]:
    """What is paused or drained."""
    return [Control.model_validate(item) async for item in core.pages("/v1/controls")]


async def replicas(core: Core) -> list[Replica]:
    """The replicas that told of themselves today."""
    return [Replica.model_validate(item) async for item in core.pages("/v1/replicas")]


async def audit(
    core: Core, since: datetime | timedelta | None, action: str | None, job_id: str | None
) -> AsyncIterator[AuditLine]:
    """What was done, the latest first."""
    if isinstance(since, timedelta):
        since = datetime.now(UTC) - since
    start = None if since is None else since.astimezone(UTC).isoformat()
    async for item in core.pages("/v1/audit", since=start, action=action, job_id=job_id):
        yield AuditLine.model_validate(item)


async def progress(core: Core, job_id: str) -> Progress:
    """How far a job is."""
    return Progress.model_validate(await core.get(f"/v1/jobs/{job_id}/progress"))


async def watch(core: Core, job_id: str, timeout_s: float | None) -> AsyncIterator[Progress]:
    """A job's progress at every change; the last is that at the end of its round."""
    async with aclosing(live.changes(core, job_id, timeout_s=timeout_s)) as changes:
        async for change in changes:
            yield Progress.model_validate(change)


async def wait(
    core: Core,
    job_id: str,
    timeout_s: float | None,
    on_progress: Callable[[Progress], Awaitable[object] | object] | None,
) -> Progress:
    """Wait until a job's round is over; its last progress."""
    last = None
    async for last in watch(core, job_id, timeout_s):
        told = on_progress(last) if on_progress else None
        if isinstance(told, Awaitable):
            await told
    assert last is not None  # it ends with a progress, or raises
    return last


async def chunks(core: Core, job_id: str, status: str | None) -> AsyncIterator[Chunk]:
    """The chunks of a job."""
    async for item in core.pages(f"/v1/jobs/{job_id}/chunks", status=status):
        yield Chunk.model_validate(item)


async def outcomes(core: Core, job_id: str, outcome: str | None) -> AsyncIterator[Outcome]:
    """Every URL and what became of it, also while the job runs."""
    path = f"/v1/jobs/{job_id}/outcomes"
    async for item in core.pages(path, outcome=outcome, limit=OUTCOMES_A_PAGE):
        yield Outcome.model_validate(item)


async def capacity(core: Core, required_chunks: int | None, *, by_owner: bool) -> Capacity:
    """How much work is let through at a time."""
    asked: Json = {"required_chunks": required_chunks, "by_owner": "true" if by_owner else None}
    return Capacity.model_validate(await core.get("/v1/capacity", **asked))


async def find_url(
    core: Core, url: str, *, job_id: str | None, everyone: bool
) -> AsyncIterator[UrlFinding]:
    """What every job that had a URL made of it, the latest first."""
    asked = {"url": url, "job_id": job_id, "all": "true" if everyone else None}
    async for item in core.pages("/v1/urls", **asked):
        yield UrlFinding.model_validate(item)


async def drops(core: Core, since: datetime | None, *, everyone: bool) -> Drops:
    """What was dropped since a moment."""
    begin = None if since is None else since.astimezone(UTC).isoformat()
    asked: Json = {"since": begin, "all": "true" if everyone else None}
    return Drops.model_validate(await core.get("/v1/drops", **asked))


async def sources(core: Core) -> list[Source]:
    """What can be searched."""
    return [Source.model_validate(item) async for item in core.pages("/v1/sources")]


async def dataset(
    core: Core,
    job_id: str,
    path: Path | str | None,
    on_bytes: Callable[[int, int], None] | None,
) -> Dataset:
    """A finished job's dataset, fetched into a folder as far as it is not there."""
    folder = Path(path) if path is not None else default_folder(job_id)
    await fetch_into(core, job_id, folder, on_bytes)
    return await core.port.call(Dataset, folder)


def default_folder(job_id: str) -> Path:
    """Where a dataset goes if nobody says: the platform's folder for what can be fetched again."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("pixcrawler")) / "datasets" / job_id
