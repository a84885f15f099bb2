"""The application: routes, problems and middleware put together."""

from fastapi import FastAPI

from pixcrawler.api import problems
from pixcrawler.api.middleware import BodyLimit, RequestLog, allow_origins
from pixcrawler.api.parts import Parts
from pixcrawler.api.routes import (
    chunks,
    jobs,
    lists,
    live,
    operations,
    page,
    pictures,
    results,
    webhooks,
)

DESCRIPTION = """
Builds image datasets: keywords in, exactly that many valid, unique, attributed images out.

Authenticate with `Authorization: Bearer <key>` or `X-API-Key: <key>`; you see only what is yours.
Errors are `application/problem+json` (RFC 9457). Lists answer `{items, next_cursor}`: pass
`cursor=<next_cursor>` for what follows, until it is null.
"""

ROUTERS = tuple(
    routes.router
    for routes in (jobs, live, chunks, results, pictures, lists, webhooks, operations, page)
)

_PROBLEM = {
    "description": "A problem (RFC 9457).",
    "content": {
        problems.MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "instance": {"type": "string"},
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "field": {"type": "string"},
                                "message": {"type": "string"},
                            },
                        },
                    },
                },
            }
        }
    },
}


def create_app(parts: Parts) -> FastAPI:
    """The application over these parts."""
    app = FastAPI(
        title="PixCrawler",
        version="1",
        description=DESCRIPTION,
        openapi_url="/openapi.json",
        docs_url=None,  # `routes.page` has docs that need no other host
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": _PROBLEM, "5XX": _PROBLEM},
    )
    app.state.parts = parts
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(
        BodyLimit,
        limit=parts.settings.api_body_limit_bytes,
        others={("POST", lists.PATH): parts.settings.api_list_limit_bytes},
    )
    app.add_middleware(RequestLog)
    allow_origins(app, parts.settings.api_cors_origins)
    return app
