"""What the downloader's tests share: its tools with real parts, and a context that notes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.context import RecordRef
from pixcrawler.common.db.engine import connect
from pixcrawler.common.errors import Stopped
from pixcrawler.common.events import ImageTotals
from pixcrawler.downloader.settings import Settings
from pixcrawler.downloader.tools import Tools

HOME = "127.0.0.1"


@dataclass
class NotingContext:
    """A `Context` that notes reports; `wanted` false: the job is cancelled."""

    attempt: int = 1
    worker: str = "test"
    source: str = ""
    traceparent: str = ""
    wanted: bool = True
    checks: int = 0
    reports: list[tuple[int, int, ImageTotals]] = field(default_factory=list)
    record: RecordRef = field(default_factory=lambda: RecordRef("chunk.planned", 0, 0, 0))

    async def check(self) -> None:
        self.checks += 1
        if not self.wanted:
            raise Stopped("cancelled")

    def report(self, done: int, total: int, images: ImageTotals) -> None:
        self.reports.append((done, total, images))


def settings(database: str, **others: object) -> Settings:
    """Settings with short times, for servers on this machine."""
    values: dict[str, object] = {
        "database_url": database,
        "fetch_allow_networks": f"{HOME}/32",
        "fetch_timeout_s": 0.5,
        "fetch_deadline_s": 2.0,
        "fetch_max_bytes": 2_000_000,
        "fetch_backoff_s": 0.01,
        "fetch_backoff_max_s": 0.05,
        "breaker_recovery_s": 0.2,
        "contact": "tests@example.org",
    }
    return Settings.model_validate(values | others)


@asynccontextmanager
async def tools(
    told: Settings, blobs: BlobStore, worker: str = "downloader-test"
) -> AsyncIterator[Tools]:
    """A replica's tools, put away at the end."""
    engine = connect(told.database_url)
    made = Tools(told, engine, blobs, worker)
    try:
        yield made
    finally:
        await made.close()
        await engine.dispose()


def folder(path: Path) -> Path:
    """A fresh folder for blobs."""
    made = path / "blobs"
    made.mkdir()
    return made
