"""What `/openapi.json` says: each route's own words, and what holds for all of them.

A route tells what it answers when all is well and which problems are its own (`answers`). What
follows from its shape is added here: a key may be missing or wrong, a path may lead nowhere, a
value may be wrong, the database may be away.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Match
from starlette.types import Scope

from pixcrawler.api import auth, examples, problems
from pixcrawler.api.problems import Problem, not_found, over_limit, wrong_value
from pixcrawler.api.quotas import JOBS_AGAIN_S
from pixcrawler.api.webhooks import Finished, Round
from pixcrawler.common.events import ProgressImages

Json = dict[str, Any]
Refusals = Mapping[str, Problem]
"""Problems of a route by a word for each."""

JSON: Final = "application/json"
TAGS: Final[list[Json]] = [
    {"name": "jobs", "description": "Ask for images, follow the work, ask for more, stop it."},
    {"name": "chunks", "description": "The pieces of a job, and why one has failed."},
    {"name": "results", "description": "What was kept, what became of every URL, the dataset."},
    {"name": "url lists", "description": "Lists of URLs of your own, up to millions of rows."},
    {"name": "webhooks", "description": "Being told of the end of a round, signed."},
    {"name": "operations", "description": "How much runs at a time, what can be searched."},
    {"name": "controls", "description": "Pause stages and sources, drain replicas."},
    {"name": "audit", "description": "Who did what, and why."},
]

HEADERS: Final[dict[str, Json]] = {
    "X-Request-ID": {
        "description": "Names this request in the log: yours, if it is 1 to 64 of `A-Z a-z 0-9 . _"
        " -`, else a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "example": "2f9d5b7c0e6c4a0b8e8f6f0f3f1f7a11",
    },
    "Retry-After": {
        "description": "Seconds after which it makes sense to ask again.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "example": "2",
    },
    "WWW-Authenticate": {
        "description": "How to show a key (RFC 6750).",
        "required": True,
        "schema": {"type": "string"},
        "example": 'Bearer realm="pixcrawler"',
    },
    "ETag": {
        "description": "Of this answer; send it as `If-None-Match` to ask for news only.",
        "required": True,
        "schema": {"type": "string"},
        "example": '"6b1f0c5f0d0c4f6f9f3f8a2f5b7c0e6c"',
    },
    "Location": {
        "description": "Where what was made is.",
        "required": True,
        "schema": {"type": "string"},
        "example": f"/v1/jobs/{examples.JOB_ID}",
    },
    "Content-Range": {
        "description": "Which bytes these are, of how many.",
        "required": True,
        "schema": {"type": "string"},
        "example": "bytes 1048576-2097151/91802113",
    },
}
"""What `components.headers` has."""

NO_DATASET: Final = Problem(404, f"job {examples.JOB_ID} has no dataset yet: no round has finished")

_OF_STATUS: Final = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
"""Headers that go with a problem of this status."""

_MEANING: Final = {
    400: "The body cannot be read.",
    401: "There is no API key, or it is not valid.",
    403: "It is not allowed.",
    404: "There is no such thing, or it is not yours.",
    409: "Not as things stand.",
    413: "The body is too large.",
    415: "The body is of a kind that is not taken.",
    416: "The file has no such bytes.",
    422: "A value is wrong; `errors` says which and why.",
    429: "A limit is reached, for now; `Retry-After` says for how long.",
    500: "A bug: the log has the request's id.",
    503: "The database or the blob store is away, for now.",
}


class FieldError(BaseModel):
    """A value that is wrong."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    field: str
    """Which, with dots between its parts, such as `options.min_size`."""
    message: str
    """Why, for people; it names the field."""


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True, title="Problem")

    type: str = Field(json_schema_extra={"format": "uri-reference"})
    """`about:blank`: it is what its status says."""
    title: str
    """What kind of problem, for people."""
    status: int = Field(ge=400, le=599)
    """The HTTP status."""
    detail: str
    """What is wrong here, for people: one sentence."""
    instance: str = Field(json_schema_extra={"format": "uri-reference"})
    """The path that was asked for."""
    errors: list[FieldError] = []
    """Which values are wrong; only of a 422."""
    limit: str = ""
    """Which limit is reached; only of a 429: `requests_per_minute`, `active_jobs` or
    `images_per_day`."""
    maximum: int = 0
    """How high that limit is."""


class Api(FastAPI):
    """The application, with its description.

    Attributes:
        known: Its routes; the name of each is the operation's id.
    """

    def __init__(self, **extra: Any) -> None:
        super().__init__(**extra)
        self.known: list[APIRoute] = []

    def openapi(self) -> Json:
        """The description, made once."""
        if self.openapi_schema is None:
            by_name = {route.name: route for route in self.known if route.include_in_schema}
            self.openapi_schema = _completed(super().openapi(), by_name)
        return self.openapi_schema

    def methods(self, scope: Scope) -> set[str]:
        """What may be done with the path of a request, over all routes that it leads to."""
        found = (route for route in self.known if route.matches(scope)[0] is not Match.NONE)
        return {method for route in found for method in route.methods or ()}


def answers(
    status: int,
    said: str,
    example: BaseModel | Mapping[str, tuple[str, BaseModel]] | None = None,
    *,
    headers: Sequence[str] = (),
    refused: Mapping[int, Refusals] | None = None,
) -> dict[int | str, Json]:
    """What a route tells of its answers, for `responses`.

    Args:
        status: When all is well.
        said: What it means then.
        example: What it says then; or several, by a word, each with a line about it.
        headers: Names in `HEADERS`.
        refused: Its own problems, by status and a word.
    """
    answer: Json = {"description": said}
    if isinstance(example, BaseModel):
        answer["content"] = {JSON: {"example": example.model_dump(mode="json")}}
    elif example is not None:
        shown = {
            name: {"summary": line, "value": value.model_dump(mode="json")}
            for name, (line, value) in example.items()
        }
        answer["content"] = {JSON: {"examples": shown}}
    if headers:
        answer["headers"] = _headers(headers)
    told: dict[int | str, Json] = {status: answer}
    for number, found in (refused or {}).items():
        told[number] = problem(found)
    return told


def wrong(**found: tuple[str, str]) -> dict[int | str, Json]:
    """Values that a route refuses: by a word for each, its field and the message."""
    return {422: problem({name: wrong_value(*each) for name, each in found.items()})}


def too_much(**found: tuple[int, str]) -> dict[int | str, Json]:
    """Quotas that may be in a route's way: by its name, how high each is, and the message."""
    return {
        429: problem(
            {name: over_limit(name, *each, again_s=JOBS_AGAIN_S) for name, each in found.items()}
        )
    }


def problem(found: Refusals, path: str = "") -> Json:
    """A documented problem; all of one status."""
    status = next(iter(found.values())).status
    shown = {
        name: {
            "summary": each.detail,
            "value": problems.document(path or f"/v1/jobs/{examples.JOB_ID}", each),
        }
        for name, each in found.items()
    }
    told: Json = {
        "description": _MEANING[status],
        "content": {
            problems.MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": shown,
            }
        },
    }
    if status in _OF_STATUS:
        told["headers"] = _headers(_OF_STATUS[status])
    return told


NOT_EVERYBODY: Final[dict[int | str, Json]] = {
    403: problem({"all": Problem(403, auth.NOT_ALL.format("read"))})
}
"""Of routes that tell of all owners' jobs where they are asked for them."""


def _headers(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _completed(document: Json, routes: Mapping[str, APIRoute]) -> Json:
    """The document with what holds for all operations."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(path, operation, routes[operation["operationId"]])
    components = document["components"]
    components["headers"] = HEADERS
    schemas = components["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _schema(ProblemDocument)
    schemas["FieldError"] = _schema(FieldError)
    document["webhooks"] = {"job.finished": {"post": _WEBHOOK}}
    schemas |= {model.__name__: _schema(model) for model in (Finished, Round, ProgressImages)}
    for schema in schemas.values():
        _describe_fields(schema)
    for name, like in _LIKE.items():
        for field, own in schemas[name]["properties"].items():
            own.setdefault("description", schemas[like]["properties"][field]["description"])
    return document


_HEADERS_OF_WEBHOOKS: Final = {
    "webhook-id": ("Names the event; a repetition has the same.", f"{examples.JOB_ID}:1"),
    "webhook-timestamp": ("When this was sent, in seconds since 1970.", "1773480508"),
    "webhook-signature": (
        "`v1,` and base64 of the HMAC-SHA256 of `<id>.<timestamp>.<body>`; two after a change.",
        "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    ),
}
_WEBHOOK: Final[Json] = {
    "operationId": "job_finished",
    "tags": ["webhooks"],
    "summary": "A round is over",
    "description": "Sent to a job's `webhook_url` when a round is over and its dataset is there, "
    "signed as https://www.standardwebhooks.com says with the secret of `GET /v1/webhook-secret`. "
    "Repeated for a day until it is taken, which any 2xx says. Redirects are not followed: a 3xx "
    "is no answer, so `webhook_url` is the receiver itself. Private addresses are never asked.",
    "parameters": [
        {
            "name": name,
            "in": "header",
            "required": True,
            "description": said,
            "schema": {"type": "string", "examples": [example]},
        }
        for name, (said, example) in _HEADERS_OF_WEBHOOKS.items()
    ],
    "requestBody": {
        "required": True,
        "description": "What happened.",
        "content": {
            JSON: {
                "schema": {"$ref": "#/components/schemas/Finished"},
                "example": examples.FINISHED_EVENT.model_dump(mode="json"),
            }
        },
    },
    "responses": {
        "2XX": {"description": "You have it."},
        "3XX": {"description": "Not followed, and not taken: it is sent again to the same URL."},
        "410": {"description": "You want no more of it."},
    },
}

_LIKE: Final = {"NewOptions": "Options"}
"""Schemas whose fields are described by another's of the same names."""


def _complete(path: str, operation: Json, route: APIRoute) -> None:
    responses = operation["responses"]
    for status, told in route.responses.items():
        _keep_nulls(responses[str(status)], told)
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    for status, found in _shared(operation, route):
        if str(status) in responses:  # the route's own come first
            known = responses[str(status)]["content"][problems.MEDIA_TYPE]["examples"]
            more = problem(found)["content"][problems.MEDIA_TYPE]["examples"]
            known.update({name: one for name, one in more.items() if name not in known})
        else:
            responses[str(status)] = problem(found)
    operation["responses"] = dict(sorted(responses.items()))
    asked = _filled(path)
    for response in responses.values():
        response.setdefault("headers", {}).update(_headers(["X-Request-ID"]))
        told = response.get("content", {}).get(problems.MEDIA_TYPE, {})
        for one in told.get("examples", {}).values():
            one["value"]["instance"] = asked
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _never_null(parameter["schema"])
    if scope := _scope(route.dependant):
        ways = operation["security"]
        operation["security"] = [{key: [scope] for key in way} for way in ways]


def _keep_nulls(answer: Json, told: Json) -> None:
    """FastAPI leaves out what is null, in examples too."""
    for kind, media in told.get("content", {}).items():
        known = answer["content"][kind]
        known.update({name: media[name] for name in ("example", "examples") if name in media})


def _shared(operation: Json, route: APIRoute) -> Iterator[tuple[int, Refusals]]:
    """Problems that follow from what an operation takes."""
    keyed, body = "security" in operation, operation.get("requestBody")
    parameters = {one["name"]: one for one in operation.get("parameters", ())}
    if body and JSON in body["content"]:
        yield 400, {"unreadable": Problem(400, "There was an error parsing the body")}
    if keyed:
        yield (
            401,
            {
                "missing": Problem(401, "send an API key as Authorization: Bearer"),
                "wrong": Problem(401, "the API key is not valid"),
            },
        )
        if scope := _scope(route.dependant):
            detail = f"this needs a key with the scope {scope}; yours has read"
            yield 403, {"scope": Problem(403, detail)}
        detail = "this key may make 60000 requests in a minute"
        limited = over_limit("requests_per_minute", 60_000, detail, again_s=1)
        yield 429, {"requests_per_minute": limited}
    if missing := _not_there(parameters):
        yield 404, missing
    if "idempotency-key" in parameters:
        yield (
            409,
            {
                "key": Problem(409, "this Idempotency-Key was used with another request"),
            },
        )
    if body:
        yield 413, {"size": Problem(413, "the body has more than 33554432 bytes")}
    if wrong := _wrong(parameters):
        yield 422, wrong
    yield 500, {"bug": Problem(500, "Something went wrong here; the log says what.")}
    away = "The database or the blob store is away; try again."
    yield 503, {"away": Problem(503, away)}


def _not_there(parameters: Mapping[str, Json]) -> Refusals:
    found = {}
    if "job_id" in parameters:
        found["job"] = not_found(f"job {examples.JOB_ID}")
    if "chunk" in parameters:
        found["chunk"] = not_found(f"chunk 7 of job {examples.JOB_ID}")
    if "list_id" in parameters:
        found["list"] = not_found(f"list {examples.LIST_ID}")
    return found


def _wrong(parameters: Mapping[str, Json]) -> Refusals:
    """One example for each kind of value that is checked."""
    known = {
        "limit": wrong_value("limit", "limit: Input should be less than or equal to 200"),
        "cursor": wrong_value("cursor", "cursor is not one that a list has given"),
        "reason": wrong_value("reason", "reason: String should have at most 500 characters"),
        "idempotency-key": wrong_value(
            "idempotency-key", "idempotency-key: String should have at least 1 character"
        ),
    }
    return {name: each for name, each in known.items() if name in parameters}


def _scope(dependant: Dependant) -> str:
    """What more than `read` a key needs; empty where that is enough."""
    if dependant.call in _SCOPES:
        return _SCOPES[dependant.call]
    return next(filter(None, map(_scope, dependant.dependencies)), "")


_SCOPES: Final[Mapping[Any, str]] = {auth.writer: "write", auth.admin: "admin"}


def _filled(path: str) -> str:
    values = {
        "job_id": examples.JOB_ID,
        "chunk": "0",
        "list_id": examples.LIST_ID,
        "sha256": examples.SHA256,
        "name": examples.FILE,
        "stage": "downloader",
        "source": "openverse",
        "replica": "validator-1",
    }
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def _never_null(schema: Json) -> Json:
    """Of a parameter: what is left out is not null, and there is no other way to say so."""
    some = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(some) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    return {**rest, **some[0]}


def _schema(model: type[BaseModel]) -> Json:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return schema


def _describe_fields(schema: Json) -> None:
    """Give each field what the docstring of its model says under `Attributes:`."""
    text, found, attributes = schema.get("description", "").partition("Attributes:\n")
    if not found:
        return
    schema["description"] = text.strip()
    name = ""
    for line in inspect.cleandoc(attributes).splitlines():
        if not line.startswith(" "):
            name, _, line = line.partition(": ")  # noqa: PLW2901 - the rest of it
            schema["properties"][name].setdefault("description", "")
        own = schema["properties"][name]
        own["description"] = f"{own['description']} {line.strip()}".strip()
