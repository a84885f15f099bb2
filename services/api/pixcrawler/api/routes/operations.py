"""Capacity, sources, health, metrics."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from pixcrawler.api import sources, store
from pixcrawler.api.auth import Reader
from pixcrawler.api.parts import Parts, parts_of
from pixcrawler.api.problems import MEDIA_TYPE
from pixcrawler.api.sources import SourceInfo
from pixcrawler.api.views import CapacityView, Page
from pixcrawler.common import capacity

router = APIRouter(tags=["operations"])

PartsOf = Annotated[Parts, Depends(parts_of)]

UNAVAILABLE = 503


@router.get("/v1/capacity")
async def get_capacity(
    parts: PartsOf,
    caller: Reader,  # noqa: ARG001 - a key is needed, whosever it is
    required_chunks: Annotated[
        int | None, Query(ge=0, description="Whether as many could start now: `can_start`.")
    ] = None,
) -> CapacityView:
    """How many chunks may be in progress at once, and how many are."""
    async with parts.engine.connect() as connection:
        active = await store.active_chunks(connection)
    settings = parts.settings
    told = capacity.describe(active, settings.max_chunks, settings.resource_environment)
    can_start = None if required_chunks is None else told.available >= required_chunks
    return CapacityView(**told._asdict(), can_start=can_start)


@router.get("/v1/sources")
async def list_sources(caller: Reader) -> Page[SourceInfo]:  # noqa: ARG001 - likewise
    """What can be searched, and its limits."""
    return Page(items=sources.ALL)


@router.get("/healthz", include_in_schema=False)
async def healthz(parts: PartsOf) -> Response:
    """Whether the program's loops advance."""
    return _health(dict.fromkeys(parts.health.stuck(), "did not advance lately"))


@router.get("/readyz", include_in_schema=False)
async def readyz(parts: PartsOf) -> Response:
    """Whether the broker and the database are there."""
    return _health(dict(await parts.health.missing()))


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """Prometheus metrics."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _health(problems: dict[str, str]) -> Response:
    if not problems:
        return JSONResponse({"status": "ok", "problems": {}})
    body = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "detail": "; ".join(f"{name}: {why}" for name, why in problems.items()),
        "status": "unavailable",
        "problems": problems,
    }
    return JSONResponse(body, UNAVAILABLE, media_type=MEDIA_TYPE)
