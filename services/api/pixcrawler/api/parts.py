"""What the routes work with: made once by the composition root, found through the application."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.api.archives import Archives
from pixcrawler.api.buckets import Buckets
from pixcrawler.api.feed import Feed
from pixcrawler.api.findings import Findings
from pixcrawler.api.handler import Jobs
from pixcrawler.api.licenses import Licenses
from pixcrawler.api.links import Links
from pixcrawler.api.lists.uploads import Uploads
from pixcrawler.api.outcomes import Outcomes
from pixcrawler.api.settings import Settings
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.health import Health


@dataclass(frozen=True)
class Parts:
    """The parts of a running api.

    Attributes:
        now: The wall clock, aware.
    """

    settings: Settings
    engine: AsyncEngine
    blobs: BlobStore
    health: Health
    jobs: Jobs
    outcomes: Outcomes
    uploads: Uploads
    archives: Archives
    findings: Findings
    licenses: Licenses
    links: Links
    feed: Feed
    buckets: Buckets
    now: Callable[[], datetime]


def make_parts(
    settings: Settings,
    engine: AsyncEngine,
    blobs: BlobStore,
    health: Health,
    feed: Feed,
    *,
    source: str,
    hint: Callable[[], None],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Parts:
    """The parts, wired.

    Args:
        settings: The api's.
        engine: As the api's role.
        blobs: The blob store.
        health: What `/healthz` and `/readyz` show.
        feed: Live progress.
        source: `ce_source` of the events.
        hint: Called when an event was put into the outbox.
        now: The wall clock, aware.
    """
    archives = Archives(blobs)
    return Parts(
        settings=settings,
        engine=engine,
        blobs=blobs,
        health=health,
        jobs=Jobs(engine, settings, source=source, hint=hint),
        outcomes=Outcomes(blobs),
        uploads=Uploads(blobs, settings),
        archives=archives,
        findings=Findings(blobs, archives),
        licenses=Licenses(blobs),
        links=Links(settings.link_key, lambda: now().timestamp()),
        feed=feed,
        buckets=Buckets(),
        now=now,
    )


def parts_of(request: Request) -> Parts:
    """A dependency: the application's parts."""
    parts: Parts = request.app.state.parts
    return parts


PartsOf = Annotated[Parts, Depends(parts_of)]
