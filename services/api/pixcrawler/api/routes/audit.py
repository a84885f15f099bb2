"""The audit log: who did what, and why."""

from datetime import UTC, datetime
from typing import Annotated, get_args

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from pixcrawler.api import cursors, examples
from pixcrawler.api.auth import Reader
from pixcrawler.api.openapi import answers, wrong
from pixcrawler.api.parts import PartsOf
from pixcrawler.api.routes.paths import Cursor, Limit
from pixcrawler.api.views import AuditLine, Page
from pixcrawler.common import audit
from pixcrawler.common.keys import Scope

router = APIRouter(prefix="/v1/audit", tags=["audit"])


_KINDS = tuple(dict.fromkeys(action.partition(".")[0] for action in get_args(audit.Action)))


def _known(value: str) -> str:
    """An action, or the word before its dot for all of its kind."""
    if value in _KINDS:
        return f"{value}."
    if value not in get_args(audit.Action):
        message = f"action: {value!r} is unknown; choose from {', '.join(get_args(audit.Action))}"
        raise PydanticCustomError("value_error", "{message}", {"message": message})
    return value


def _moment(value: object) -> object:
    """A time as text; pydantic would take a number as seconds."""
    try:
        when = datetime.fromisoformat(str(value)) if "-" in str(value) else None
    except ValueError:
        when = None
    if value is not None and when is None:
        message = "since must be a time such as 2026-01-31T12:00:00Z"
        raise PydanticCustomError("value_error", "{message}", {"message": message})
    return when.replace(tzinfo=UTC) if when and when.tzinfo is None else when


@router.get(
    "",
    summary="List what was done",
    responses=answers(200, "Lines, the latest first.", examples.AUDIT)
    | wrong(
        action=("action", f"action: 'job.stop' is unknown; choose from {', '.join(_KINDS)}, …"),
        since=("since", "since must be a time such as 2026-01-31T12:00:00Z"),
    ),
)
async def list_audit(
    *,
    parts: PartsOf,
    caller: Reader,
    since: Annotated[
        datetime | None,
        Query(description="Only what was done then or later; UTC where it names no zone."),
        BeforeValidator(_moment),
    ] = None,
    action: Annotated[
        str | None,
        Query(
            description="Only this: `job.cancel`, or `job` for all that is done to jobs.",
            examples=["job.cancel"],
        ),
        AfterValidator(lambda value: value and _known(value)),
    ] = None,
    job_id: Annotated[
        str | None,
        Query(description="Only about this job, also when it is deleted.", max_length=100),
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[AuditLine]:
    """Who did what, the latest first: to what is yours; with the scope admin, to everything."""
    before = int(cursors.load(cursor, int)[0]) if cursor else None
    async with parts.engine.connect() as connection:
        found = await audit.lines(
            connection,
            owner=None if caller.scope.allows(Scope.ADMIN) else caller.owner,
            since=since,
            action=action,
            job_id=job_id,
            before=before,
            limit=limit + 1,
        )
    more = cursors.dump(found[limit - 1].id) if len(found) > limit else None
    items = tuple(AuditLine.model_validate(line.model_dump()) for line in found[:limit])
    return Page(items=items, next_cursor=more)
