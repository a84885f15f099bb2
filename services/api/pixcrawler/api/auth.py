"""Who asks: `Authorization: Bearer <key>` or `X-API-Key: <key>`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from pixcrawler.api.handler import Caller
from pixcrawler.api.parts import Parts, parts_of
from pixcrawler.api.problems import Problem, over_limit
from pixcrawler.api.quotas import Quotas
from pixcrawler.common import audit, keys, logs, telemetry
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.keys import ApiKey, Scope

_BEARER = HTTPBearer(
    scheme_name="bearer",
    auto_error=False,
    description="An API key: `pixcrawler keys create`. Its scope is `read`, `write` or `admin`;"
    " each may what the one before may, and operations that need more than `read` say so.",
)
_HEADER = APIKeyHeader(
    scheme_name="apiKey", name="X-API-Key", auto_error=False, description="The same key."
)
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="pixcrawler"'}

log = logs.get(__name__)


async def _key(
    parts: Annotated[Parts, Depends(parts_of)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    header: Annotated[str | None, Depends(_HEADER)],
) -> ApiKey:
    text = bearer.credentials if bearer else header
    if not text:
        raise Problem(401, "send an API key as Authorization: Bearer", headers=_CHALLENGE)
    async with parts.engine.connect() as connection:
        key = await keys.verify(connection, text)
    if key is None:
        raise Problem(401, "the API key is not valid", headers=_CHALLENGE)
    if key.last_used_at is None or (parts.now() - key.last_used_at).total_seconds() > 60:  # noqa: PLR2004 - to the minute
        async with transaction(parts.engine, "used") as connection:
            await keys.mark_used(connection, key.key_id)
    most = _limit(key.requests_per_minute, parts.settings.api_requests_per_minute)
    if most and (wait_s := parts.buckets.take(key.key_id, most)):
        detail = f"this key may make {most} requests in a minute"
        raise over_limit("requests_per_minute", most, detail, again_s=wait_s)
    return key


def _limit(own: int | None, default: int) -> int:
    """A key's own limit, else what the settings say."""
    return default if own is None else own


def caller_with(needed: Scope) -> Callable[[Request, ApiKey], Awaitable[Caller]]:
    """A dependency: whoever asks, if their key may do this."""

    async def caller(request: Request, key: Annotated[ApiKey, Depends(_key)]) -> Caller:
        if not key.scope.allows(needed):
            raise Problem(403, f"this needs a key with the scope {needed}; yours has {key.scope}")
        trace = telemetry.parse(request.headers.get("traceparent", ""))
        settings = parts_of(request).settings
        quotas = Quotas(
            active_jobs=_limit(key.active_jobs, settings.api_active_jobs),
            images_per_day=_limit(key.images_per_day, settings.api_images_per_day),
        )
        return Caller(
            key.owner, None if trace is None else str(trace), quotas, key.scope, key.key_id
        )

    return caller


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("value_error", "must be one line of text that can be printed")
    return value


Why = Annotated[
    str,
    Query(
        max_length=audit.REASON_AT_MOST,
        description="Why, in your words: the audit log keeps it (`GET /v1/audit`).",
        examples=["the wrong keywords"],
    ),
    AfterValidator(_printable),
]


def acting_with(who: Callable[..., Awaitable[Caller]]) -> Callable[..., Awaitable[Caller]]:
    """A dependency: whoever acts, and why; the audit log gets a line of it."""

    async def acting(caller: Annotated[Caller, Depends(who)], reason: Why = "") -> Caller:
        return caller._replace(reason=reason)

    return acting


reader = caller_with(Scope.READ)
writer = caller_with(Scope.WRITE)
admin = caller_with(Scope.ADMIN)
Reader = Annotated[Caller, Depends(reader)]
Writer = Annotated[Caller, Depends(writer)]
Acting = Annotated[Caller, Depends(acting_with(writer))]
Operator = Annotated[Caller, Depends(acting_with(admin))]


NOT_ALL = "all=true needs a key with the scope admin; yours has {}"


def whose(caller: Caller, *, everyone: bool) -> str | None:
    """The owner whose jobs are meant; None: everybody's, for whoever may see them.

    Raises:
        Problem: 403.
    """
    if not everyone:
        return caller.owner
    if not caller.scope.allows(Scope.ADMIN):
        raise Problem(403, NOT_ALL.format(caller.scope))
    return None
