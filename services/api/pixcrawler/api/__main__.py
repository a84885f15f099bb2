"""The api's composition root."""

import resource
from functools import partial

from pixcrawler.api.app import create_app
from pixcrawler.api.courier import Aside, Courier, handle_job_finished
from pixcrawler.api.feed import Feed
from pixcrawler.api.parts import make_parts
from pixcrawler.api.server import WebServer
from pixcrawler.api.settings import Settings
from pixcrawler.api.tombstones import tombstones
from pixcrawler.common import metrics, service
from pixcrawler.common.events import JobFinished
from pixcrawler.common.outbox import Relay
from pixcrawler.common.service import Runnable, Runtime
from pixcrawler.common.stage import Route

OPEN_FILES = 65_536
"""As many as one process may have open at a time, if the machine allows it."""


async def build(settings: Settings, runtime: Runtime) -> list[Runnable]:
    """The web server, live progress, the relay of events, webhooks, the end of tombstones."""
    metrics.watch_disk("uploads", settings.api_upload_dir)
    relay = Relay(runtime.engine, runtime.publisher)
    feed = Feed(settings.kafka, client_id=f"api-{runtime.worker}")
    parts = make_parts(
        settings,
        runtime.engine,
        runtime.blobs,
        runtime.health,
        feed,
        source=runtime.source,
        hint=relay.hint,
    )
    web = WebServer(
        create_app(parts), settings.http_host, settings.http_port, drain_s=settings.drain_s
    )
    web.listen()
    courier = Courier(runtime.engine, settings)
    finished = partial(handle_job_finished, engine=runtime.engine, hint=courier.hint)
    ends = runtime.stage([Route(JobFinished, finished)], watch_jobs=False)
    bury = tombstones(runtime.engine, settings.api_tombstone_days, settings.api_audit_days)
    return [web, feed, relay, Aside(ends), courier, bury]


def main() -> None:
    """Serve until SIGTERM."""
    _open_many_files()
    service.main("api", Settings, build, health_server=False)


def _open_many_files() -> None:
    """Each stream of events and each connection is one, and 1,024 is the usual soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
