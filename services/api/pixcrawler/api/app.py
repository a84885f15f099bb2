"""The application: routes, problems and middleware put together."""

from fastapi import FastAPI
from fastapi.routing import APIRoute

from pixcrawler.api import openapi, problems
from pixcrawler.api.middleware import BodyLimit, RequestLog, allow_origins
from pixcrawler.api.openapi import Api
from pixcrawler.api.parts import Parts
from pixcrawler.api.routes import (
    audit,
    chunks,
    controls,
    jobs,
    lists,
    live,
    operations,
    overviews,
    page,
    pictures,
    results,
    webhooks,
)

DESCRIPTION = """
Builds image datasets: keywords in, exactly that many valid, unique, attributed images out.

Authenticate with `Authorization: Bearer <key>` or `X-API-Key: <key>`; you see only what is yours.
Errors are `application/problem+json` (RFC 9457), also those of unknown paths (404) and of wrong
methods (405, with `Allow`). Every answer has an `X-Request-ID`, which the log has too. Lists answer
`{items, next_cursor}`: pass `cursor=<next_cursor>` for what follows, until it is null. Times are
RFC 3339 in UTC; sizes are bytes, percentages 0 to 100.

Ask again when an answer got lost: reading and deleting are harmless to repeat, and every POST that
is not takes an `Idempotency-Key`. 429 and 503 say in `Retry-After` when to come back.
"""

ROUTERS = tuple(
    routes.router
    for routes in (
        jobs,
        live,
        chunks,
        results,
        pictures,
        lists,
        webhooks,
        operations,
        controls,
        audit,
        overviews,
        page,
    )
)


def create_app(parts: Parts) -> FastAPI:
    """The application over these parts."""
    app = Api(
        title="PixCrawler",
        version="1",
        summary="Image datasets from keywords: exactly as many as asked for, valid, credited.",
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": parts.settings.api_public_url or "/", "description": "This API."}],
        openapi_tags=openapi.TAGS,
        generate_unique_id_function=lambda route: route.name,
        openapi_url="/openapi.json",
        docs_url=None,  # `routes.page` has docs that need no other host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    problems.install(app, app.methods)
    for router in ROUTERS:
        app.include_router(router)
        app.known += [route for route in router.routes if isinstance(route, APIRoute)]
    app.add_middleware(
        BodyLimit,
        limit=parts.settings.api_body_limit_bytes,
        others={("POST", lists.PATH): parts.settings.api_list_limit_bytes},
    )
    app.add_middleware(RequestLog)
    allow_origins(app, parts.settings.api_cors_origins)
    return app
