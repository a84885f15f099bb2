"""Capacity, who works on what, sources, health, metrics."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from pixcrawler.api import cursors, examples, shares, situations, sources, store, views
from pixcrawler.api.auth import Reader, whose
from pixcrawler.api.openapi import NOT_EVERYBODY, answers, problem, wrong
from pixcrawler.api.parts import PartsOf
from pixcrawler.api.problems import AWAY_S, Problem, respond
from pixcrawler.api.routes.paths import Cursor, Everyone, Limit
from pixcrawler.api.sources import SourceInfo
from pixcrawler.api.views import CapacityView, Holding, Page, View
from pixcrawler.common import capacity
from pixcrawler.common.keys import Scope

router = APIRouter(tags=["operations"])


_STUCK = "did not advance lately"


def _sick(found: dict[str, str]) -> Problem:
    """503: what is wrong with which part."""
    return Problem(
        503,
        "; ".join(f"{name}: {why}" for name, why in found.items()),
        headers={"Retry-After": str(AWAY_S)},
        more={"problems": found},
    )


class HealthView(View):
    """How a program is."""

    status: Literal["ok"]
    """All is well."""
    problems: dict[str, str]
    """Nothing."""


_OK = HealthView(status="ok", problems={})


@router.get(
    "/v1/capacity",
    summary="Get the capacity",
    responses=answers(
        200,
        "Slots in use and free.",
        {
            "capacity": ("25 of 35 in use", examples.CAPACITY),
            "required_chunks": (
                "Whether 5 could start now",
                examples.CAPACITY.model_copy(update={"can_start": True}),
            ),
            "by_owner": (
                "Who uses it",
                examples.CAPACITY.model_copy(update={"owners": (examples.SHARE,)}),
            ),
        },
    )
    | wrong(
        required_chunks=(
            "required_chunks",
            "required_chunks: Input should be greater than or equal to 0",
        )
    ),
)
async def get_capacity(
    parts: PartsOf,
    caller: Reader,
    required_chunks: Annotated[
        int | None,
        Query(
            ge=0, description="Also tell, as `can_start`, whether so many chunks find slots now."
        ),
    ] = None,
    *,
    by_owner: Annotated[
        bool,
        Query(
            description="Also tell, as `owners`, who uses it: everybody who has an open job, with a"
            " key with the scope admin; else only you."
        ),
    ] = False,
) -> CapacityView:
    """How many chunks may be in progress at once, over the whole cluster, and how many are."""
    settings = parts.settings
    owner = None if caller.scope.allows(Scope.ADMIN) else caller.owner
    async with parts.engine.connect() as connection:
        active = await store.active_chunks(connection)
        owners = (
            await shares.shares(connection, settings.max_chunks, owner=owner) if by_owner else None
        )
    told = capacity.describe(active, settings.max_chunks, settings.resource_environment)
    can_start = None if required_chunks is None else told.available >= required_chunks
    return CapacityView(**told._asdict(), can_start=can_start, owners=owners)


@router.get(
    "/v1/workers",
    summary="List who works on what",
    responses=answers(200, "Chunks that hold slots, by id.", examples.WORKERS) | NOT_EVERYBODY,
)
async def list_workers(
    *,
    parts: PartsOf,
    caller: Reader,
    everyone: Everyone = False,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[Holding]:
    """Who has which chunk: the chunks that hold slots, by id, with their last sign of life.

    A chunk whose `worker` is empty waits in front of its stage, or was taken up just now.
    """
    owner = whose(caller, everyone=everyone)
    after = str(cursors.load(cursor, str)[0]) if cursor else ""
    async with parts.engine.connect() as connection:
        now = await store.now(connection)
        found = await situations.held(
            connection,
            parts.settings.chunk_deadline_s,
            owner=owner,
            after=after,
            limit=limit + 1,
        )
    more = cursors.dump(found[limit - 1].chunk_id) if len(found) > limit else None
    items = tuple(views.holding_view(one, now) for one in found[:limit])
    return Page(items=items, next_cursor=more)


@router.get(
    "/v1/sources",
    summary="List sources",
    responses=answers(200, "All sources.", examples.SOURCES),
)
async def list_sources(caller: Reader) -> Page[SourceInfo]:  # noqa: ARG001 - likewise
    """What can be searched, and its limits."""
    return Page(items=sources.ALL)


@router.get(
    "/healthz",
    response_model=HealthView,
    summary="Is it alive",
    responses=answers(200, "It is.", _OK) | {503: problem({"stuck": _sick({"web": _STUCK})})},
)
async def healthz(parts: PartsOf) -> Response:
    """Whether the program's loops advance; for whatever would restart it. No key is needed."""
    return _health("/healthz", dict.fromkeys(parts.health.stuck(), _STUCK))


@router.get(
    "/readyz",
    response_model=HealthView,
    summary="Is it ready",
    responses=answers(200, "It is.", _OK)
    | {503: problem({"missing": _sick({"database": "does not answer"})})},
)
async def readyz(parts: PartsOf) -> Response:
    """Whether broker and database are there; for whatever routes to it. No key is needed."""
    return _health("/readyz", dict(await parts.health.missing()))


@router.get(
    "/metrics",
    response_class=Response,
    summary="Get metrics",
    responses={
        200: {
            "description": "Prometheus' text format.",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "# TYPE pixcrawler_in_flight gauge\npixcrawler_in_flight 0\n",
                }
            },
        }
    },
)
async def metrics() -> Response:
    """What Prometheus scrapes. No key is needed."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _health(path: str, problems: dict[str, str]) -> Response:
    return respond(path, _sick(problems)) if problems else JSONResponse(_OK.model_dump())
