"""Errors as `application/problem+json` (RFC 9457), all of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from pixcrawler.common import logs
from pixcrawler.common.db.sqlstate import sqlstate
from pixcrawler.common.errors import Retry

log = logs.get(__name__)

MEDIA_TYPE = "application/problem+json"
AWAY_S = 2
"""What `Retry-After` says while the database or the blob store is away, in seconds."""

_TRANSIENT_SQLSTATES = ("08", "53", "57", "40001", "40P01", "55P03", "25P0", "42P01")
"""Connection, resources, operator intervention; serialisation, deadlock, lock timeout, the limits
of `db.roles`, and a database whose tables are still being made
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""


class Problem(Exception):
    """An answer that is not what was asked for.

    Args:
        status: HTTP status.
        detail: One sentence for people: what is wrong here.
        title: What kind of problem; the status's phrase if not given.
        headers: Of the answer.
        errors: Which fields are wrong, for a 422.
        more: Further members of the document.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        more: Mapping[str, str | int | Mapping[str, str]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.title = title or HTTPStatus(status).phrase
        self.headers = dict(headers or {})
        self.errors = list(errors)
        self.more = dict(more or {})


def not_found(what: str) -> Problem:
    """404: there is no such thing, or it is not yours."""
    return Problem(404, f"{what} was not found")


def conflict(detail: str, *, title: str = "") -> Problem:
    """409: not as things stand."""
    return Problem(409, detail, title=title)


def wrong_value(field: str, message: str) -> Problem:
    """422: a value that is wrong in a way only the handler can see."""
    return Problem(422, message, errors=[{"field": field, "message": message}])


def over_limit(limit: str, maximum: int, detail: str, *, again_s: float) -> Problem:
    """429: too much, for now; the document says which limit it is, and how high."""
    headers = {"Retry-After": str(max(math.ceil(again_s), 1))}
    return Problem(429, detail, headers=headers, more={"limit": limit, "maximum": maximum})


def install(app: FastAPI, methods: Callable[[Scope], set[str]]) -> None:
    """Let the application's errors answer as problems; `RequestLog` does so with bugs.

    Args:
        app: The application.
        methods: What may be done with the path of a request.
    """

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return respond(request.scope["path"], error)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # Starlette tells the methods of the first route of the path only (RFC 9110, 15.5.6).
            headers["Allow"] = ", ".join(sorted(methods(request.scope)))
        found = Problem(error.status_code, str(error.detail), headers=headers)
        return respond(request.scope["path"], found)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request.scope["path"], _invalid(error))

    async def on_away(request: Request, error: Exception) -> Response:
        return respond(request.scope["path"], unexpected(error))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    for away in (Retry, DBAPIError, PoolTimeoutError, OSError):
        app.add_exception_handler(away, on_away)


def respond(path: str, problem: Problem) -> JSONResponse:
    """The answer; `instance` is the path that was asked for, as a URI has it.

    It is the decoded path of the scope: in `request.url` a `?` within it is quoted already.
    """
    body = document(path, problem)
    return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def document(path: str, problem: Problem) -> dict[str, Any]:
    """What the answer says."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": quote(path),
    }
    if problem.errors:
        body["errors"] = problem.errors
    return body | problem.more


def _invalid(error: RequestValidationError) -> Problem:
    errors = [_field_error(item) for item in error.errors()]
    return Problem(422, "; ".join(item["message"] for item in errors), errors=errors)


def _field_error(item: Mapping[str, Any]) -> dict[str, str]:
    """Which field is wrong and why; the message names the field."""
    path = [str(part) for part in item["loc"][1:]]
    told = item.get("ctx", {}).get("field")
    if told is not None and told not in path:  # a complaint about several fields of one object
        path.append(str(told))
    path = path or [str(item["loc"][0])]
    if item["type"] == "json_invalid":
        # Where in the text it is comes in place of a field's name.
        place, why = item["loc"][-1], item.get("ctx", {}).get("error", "")
        message = f"body is no JSON: {why} at character {place}"
        return {"field": "body", "message": message}
    field, message = ".".join(path), str(item["msg"])
    named = message.startswith(tuple(part for part in path if not part.isdecimal()))
    return {"field": field, "message": message if named else f"{field}: {message}"}


def unexpected(error: Exception) -> Problem:
    """What nobody raised on purpose: 503 if trying again may help, else 500."""
    if _is_away(error):
        log.warning("not available", action="request", error=str(error) or repr(error))
        detail = "The database or the blob store is away; try again."
        return Problem(503, detail, headers={"Retry-After": str(AWAY_S)})
    log.error("failed", action="request", error=repr(error), exc_info=error)
    return Problem(500, "Something went wrong here; the log says what.")


def _is_away(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return isinstance(error, Retry | PoolTimeoutError | OSError)
    state = sqlstate(error)
    return error.connection_invalidated or not state or state.startswith(_TRANSIENT_SQLSTATES)
