"""Every route of the api, and what somebody who does not own a job gets to see of it.

A route that is new has to be entered in `ROUTES`: tests walk it.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from fastapi.routing import APIRoute

from pixcrawler.api.app import ROUTERS


class Shown(Enum):
    """What another owner gets of a route."""

    HIDDEN = "404, as if the job did not exist"
    THEIRS = "a list of what is theirs, or the creation of something that will be"
    COMMON = "what belongs to nobody, for whoever has a key"
    OPEN = "what is told without a key"
    SIGNED = "what a signed link opens, and no key"


class Entry(NamedTuple):
    """What a route shows; the query and the body that a valid request needs; whether reading is not
    enough."""

    shown: Shown
    query: str = ""
    secret: bool = False
    body: object = None


HIDDEN, THEIRS, COMMON, OPEN = map(Entry, (Shown.HIDDEN, Shown.THEIRS, Shown.COMMON, Shown.OPEN))
SUMS = Entry(Shown.THEIRS, "?since=2020-01-01T00:00:00Z")
"""Over what is theirs, which is no list."""
JOB = "/v1/jobs/{job_id}"
ROUTES = {
    "POST /v1/jobs": THEIRS,
    "GET /v1/jobs": THEIRS,
    f"GET {JOB}": HIDDEN,
    f"PATCH {JOB}": Entry(Shown.HIDDEN, body={"priority": 1}),
    f"DELETE {JOB}": HIDDEN,
    f"POST {JOB}/start": HIDDEN,
    f"POST {JOB}/cancel": HIDDEN,
    f"POST {JOB}/retry": HIDDEN,
    f"GET {JOB}/progress": HIDDEN,
    f"GET {JOB}/explanation": HIDDEN,
    f"GET {JOB}/events": HIDDEN,
    f"POST {JOB}/chunks": Entry(Shown.HIDDEN, "?max_images=1"),
    f"GET {JOB}/chunks": HIDDEN,
    f"GET {JOB}/chunks/progress": HIDDEN,
    f"GET {JOB}/chunks/{{chunk}}": HIDDEN,
    f"POST {JOB}/chunks/{{chunk}}/retry": HIDDEN,
    f"POST {JOB}/chunks/{{chunk}}/give-up": HIDDEN,
    f"GET {JOB}/chunks/{{chunk}}/images/{{sha256}}": HIDDEN,
    f"GET {JOB}/outcomes": HIDDEN,
    f"GET {JOB}/images": HIDDEN,
    f"GET {JOB}/licenses": HIDDEN,
    f"GET {JOB}/dataset": HIDDEN,
    f"GET {JOB}/webhook-deliveries": HIDDEN,
    "GET /v1/webhook-secret": Entry(Shown.THEIRS, secret=True),
    "POST /v1/webhook-secret": THEIRS,
    "POST /v1/url-lists": THEIRS,
    "GET /v1/url-lists": THEIRS,
    "GET /v1/url-lists/{list_id}": HIDDEN,
    "GET /v1/url-lists/{list_id}/rejected": HIDDEN,
    "DELETE /v1/url-lists/{list_id}": HIDDEN,
    "GET /v1/files/{name:path}": Entry(Shown.SIGNED, "?filename=x&expires=9999999999&signature=0"),
    "HEAD /v1/files/{name:path}": Entry(Shown.SIGNED, "?filename=x&expires=9999999999&signature=0"),
    "GET /v1/capacity": COMMON,
    "GET /v1/workers": THEIRS,
    "GET /v1/urls": Entry(Shown.THEIRS, "?url=http://a"),
    "GET /v1/drops": SUMS,
    "GET /v1/changes": SUMS,
    "GET /v1/audit": Entry(Shown.THEIRS, "?action=job"),
    "GET /v1/controls": COMMON,
    "GET /v1/replicas": COMMON,
    "POST /v1/stages/{stage}/pause": COMMON,
    "POST /v1/stages/{stage}/resume": COMMON,
    "POST /v1/sources/{source}/pause": COMMON,
    "POST /v1/sources/{source}/resume": COMMON,
    "POST /v1/replicas/{replica}/drain": COMMON,
    "POST /v1/replicas/{replica}/resume": COMMON,
    "GET /v1/sources": COMMON,
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    "GET /metrics": OPEN,
    "GET /openapi.json": OPEN,
    "HEAD /openapi.json": OPEN,
    "GET /docs": OPEN,
    "HEAD /docs": OPEN,
    "GET /": OPEN,
    "HEAD /": OPEN,
    "GET /page/{name}": OPEN,
    "HEAD /page/{name}": OPEN,
}
NO_JOB = "0198c5a0-0000-7000-8000-000000000000"
NO_SUCH = {
    "chunk": "0",
    "list_id": NO_JOB,
    "name": "index.html",
    "name:path": "datasets/x",
    "sha256": "0" * 64,
    **dict.fromkeys(("stage", "source", "replica"), "nobody"),
}
"""What fills the other parameters of a path."""


def declared() -> Iterator[str]:
    """The routes of the routers, which are known without an application."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield from (f"{method} {route.path}" for method in sorted(route.methods or ()))


def filled(path: str, job_id: str) -> str:
    """A path with its parameters in their places."""
    for name, value in {**NO_SUCH, "job_id": job_id}.items():
        path = path.replace(f"{{{name}}}", value)
    return path
