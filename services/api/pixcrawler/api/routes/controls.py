"""What operators stop and let go on: stages, sources, replicas."""

from collections.abc import Collection, Mapping
from typing import Annotated

from fastapi import APIRouter, Path
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.api import examples
from pixcrawler.api.auth import Operator, Reader
from pixcrawler.api.handler import Caller
from pixcrawler.api.openapi import answers
from pixcrawler.api.parts import Parts, PartsOf
from pixcrawler.api.problems import Problem
from pixcrawler.api.views import ControlView, Page, ReplicaView
from pixcrawler.common import audit, controls
from pixcrawler.common.audit import Action
from pixcrawler.common.controls import SOURCES, STAGES, Kind
from pixcrawler.common.db.engine import transaction

router = APIRouter(prefix="/v1", tags=["controls"])

StageName = Annotated[
    str,
    Path(
        description=f"The stage: {', '.join(STAGES[:-1])} or {STAGES[-1]}.", examples=["downloader"]
    ),
]
SourceName = Annotated[
    str,
    Path(
        description=f"The source: {', '.join(SOURCES[:-1])} or {SOURCES[-1]}.",
        examples=["openverse"],
    ),
]
ReplicaName = Annotated[
    str, Path(description="The replica's name: `GET /v1/replicas`.", examples=["validator-1"])
]

_NO_STAGE = Problem(404, "stage tracker was not found; choose from downloader, validator, uploader")
_NO_SOURCE = Problem(404, "source flickr was not found; choose from openverse, commons, urls")
_NO_REPLICA = Problem(404, "replica validator-7 was not found; there are validator-1, validator-2")


@router.get(
    "/controls",
    summary="List what is stopped",
    responses=answers(200, "What is paused or drained, by kind and name.", examples.CONTROLS),
)
async def list_controls(parts: PartsOf, caller: Reader) -> Page[ControlView]:  # noqa: ARG001 - a key
    """The stages and sources that operators have paused, and the replicas that they drain."""
    async with parts.engine.connect() as connection:
        found = await controls.in_force(connection)
    return Page(items=tuple(ControlView(paused=True, **one.model_dump()) for one in found))


@router.get(
    "/replicas",
    summary="List replicas",
    responses=answers(200, "Replicas by stage and name.", examples.REPLICAS),
)
async def list_replicas(parts: PartsOf, caller: Reader) -> Page[ReplicaView]:  # noqa: ARG001 - a key
    """The replicas of planner, downloader, validator and uploader that told of themselves today.

    One that was stopped in an orderly way is not there; one that fell silent is, not `alive`.
    """
    async with parts.engine.connect() as connection:
        found = await controls.replicas(connection)
    return Page(items=tuple(ReplicaView(**one.model_dump(exclude={"instance"})) for one in found))


@router.post(
    "/stages/{stage}/pause",
    status_code=202,
    summary="Pause a stage",
    responses=answers(202, "It is paused.", examples.PAUSED, refused={404: {"stage": _NO_STAGE}}),
)
async def pause_stage(parts: PartsOf, caller: Operator, stage: StageName) -> ControlView:
    """Have all replicas of a stage finish what they have in hand, and take nothing more.

    Within seconds, and until it is resumed, over restarts too. Deadlines of chunks that wait in
    front of it are held.
    """
    _known("stage", stage, STAGES)
    return await _begin(parts, caller, "stage", stage, "stage.pause")


@router.post(
    "/stages/{stage}/resume",
    status_code=202,
    summary="Resume a stage",
    responses=answers(
        202, "It works again.", examples.RESUMED, refused={404: {"stage": _NO_STAGE}}
    ),
)
async def resume_stage(parts: PartsOf, caller: Operator, stage: StageName) -> ControlView:
    """Let a stage that is paused work again; deadlines of chunks in front of it begin anew."""
    _known("stage", stage, STAGES)
    return await _end(parts, caller, "stage", stage, "stage.resume")


@router.post(
    "/sources/{source}/pause",
    status_code=202,
    summary="Pause a source",
    responses=answers(
        202, "It is paused.", examples.SOURCE_PAUSED, refused={404: {"source": _NO_SOURCE}}
    ),
)
async def pause_source(parts: PartsOf, caller: Operator, source: SourceName) -> ControlView:
    """Have nobody ask a source, until it is resumed.

    Jobs go on with their others; a chunk that has none, and a round to which only this one may
    give more, wait.
    """
    _known("source", source, SOURCES)
    return await _begin(parts, caller, "source", source, "source.pause")


@router.post(
    "/sources/{source}/resume",
    status_code=202,
    summary="Resume a source",
    responses=answers(
        202,
        "It may be asked again.",
        examples.RESUMED.model_copy(update={"kind": "source", "name": "openverse"}),
        refused={404: {"source": _NO_SOURCE}},
    ),
)
async def resume_source(parts: PartsOf, caller: Operator, source: SourceName) -> ControlView:
    """Let a source that is paused be asked again."""
    _known("source", source, SOURCES)
    return await _end(parts, caller, "source", source, "source.resume")


@router.post(
    "/replicas/{replica}/drain",
    status_code=202,
    summary="Drain a replica",
    responses=answers(202, "It drains.", examples.DRAINED, refused={404: {"replica": _NO_REPLICA}}),
)
async def drain_replica(parts: PartsOf, caller: Operator, replica: ReplicaName) -> ControlView:
    """Have a replica finish what it has in hand, take nothing more, and leave its group.

    Others get its partitions. It stays up, not ready, until it is resumed or restarted.
    """
    async with transaction(parts.engine, "control") as connection:
        instance = await _instance(connection, replica)
        if await controls.begin(connection, "replica", replica, caller.reason, instance=instance):
            await _note(connection, caller, "replica.drain", replica)
        return await _shown(connection, "replica", replica)


@router.post(
    "/replicas/{replica}/resume",
    status_code=202,
    summary="Resume a replica",
    responses=answers(
        202,
        "It works again.",
        examples.RESUMED.model_copy(update={"kind": "replica", "name": "validator-1"}),
        refused={404: {"replica": _NO_REPLICA}},
    ),
)
async def resume_replica(parts: PartsOf, caller: Operator, replica: ReplicaName) -> ControlView:
    """Let a replica that is drained work again: it joins its group."""
    async with parts.engine.connect() as connection:
        await _instance(connection, replica)
    return await _end(parts, caller, "replica", replica, "replica.resume")


def _known(kind: Kind, name: str, names: Collection[str]) -> None:
    """Refuse a name that is none.

    Raises:
        Problem: 404 with those that are.
    """
    if name not in names:
        raise Problem(404, f"{kind} {name} was not found; choose from {', '.join(names)}")


async def _instance(connection: AsyncConnection, worker: str) -> str:
    """Which start of it a replica is.

    Raises:
        Problem: 404, there is none of this name; 409, there are several.
    """
    found = [each for each in await controls.replicas(connection) if each.alive]
    mine = controls.named(found, worker)
    if not mine:
        there = ", ".join(each.worker for each in found) or "none"
        raise Problem(404, f"replica {worker} was not found; there are {there}")
    if len(mine) > 1:
        stages = " and ".join(each.stage for each in mine)
        raise Problem(409, f"replicas of {stages} are called {worker}; names have to differ")
    return mine[0].instance


async def _begin(
    parts: Parts, caller: Caller, kind: Kind, name: str, action: Action
) -> ControlView:
    async with transaction(parts.engine, "control") as connection:
        if await controls.begin(connection, kind, name, caller.reason):
            await _note(connection, caller, action, name)
        return await _shown(connection, kind, name)


async def _end(parts: Parts, caller: Caller, kind: Kind, name: str, action: Action) -> ControlView:
    async with transaction(parts.engine, "control") as connection:
        before = await controls.find(connection, kind, name)
        if await controls.end(connection, kind, name) and before is not None:
            told = {"since": before.since.isoformat(), "why": before.reason}
            await _note(connection, caller, action, name, told)
        return await _shown(connection, kind, name)


async def _note(
    connection: AsyncConnection,
    caller: Caller,
    action: Action,
    name: str,
    details: Mapping[str, object] | None = None,
) -> None:
    await audit.write(connection, caller.actor, action, name, details or {}, owner="")


async def _shown(connection: AsyncConnection, kind: Kind, name: str) -> ControlView:
    found = await controls.find(connection, kind, name)
    if found is None:
        return ControlView(kind=kind, name=name, paused=False, since=None, reason="")
    return ControlView(paused=True, **found.model_dump())
