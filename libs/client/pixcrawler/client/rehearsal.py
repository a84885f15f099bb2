"""What would happen if a record were delivered again: the stages' own handlers, and nothing done.

Each stage that reads the record's topic gets it in its real handler, with a database whose
transactions are rolled back, a blob store that creates and deletes nothing, and nobody who fetches,
searches, judges or transforms. The first thing that it wants to do ends the rehearsal and is told;
who wants to do nothing says why. So there is no copy of the rules here that could be wrong.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pixcrawler.common import events, topics
from pixcrawler.common.admin import Tailed
from pixcrawler.common.blobs.port import BlobInfo, BlobStore, Content
from pixcrawler.common.context import RecordRef
from pixcrawler.common.errors import GiveUp, Poison, Retry, Signal, Stopped
from pixcrawler.common.events import ChunkEvent, Event, ImageTotals
from pixcrawler.common.jobwatch import DatabaseWatch, ensure_wanted
from pixcrawler.common.turns import Turns
from pixcrawler.common.work import Route

Verdict = Literal["dead_letter", "ignored", "answered", "taken", "failed", "retried"]
"""What a stage would do: bury the record, nothing, say its answer again, work, give the attempt up,
try again later."""


class Rehearsed(NamedTuple):
    """What a stage would do with a record, and why, for people."""

    stage: str
    verdict: Verdict
    detail: str


class Effect(Exception):
    """A handler was about to do something; the message says what."""


class Play(NamedTuple):
    """A stage's routes over ports that do nothing, and what it writes later and in batches."""

    routes: Sequence[Route[Any]]
    flush: Callable[[], Awaitable[None]] | None = None


async def rehearse(engine: AsyncEngine, blobs: BlobStore, record: Tailed) -> tuple[Rehearsed, ...]:
    """What each stage that reads the record's topic would do with it.

    Args:
        engine: The database, as a role that may write what the stages write.
        blobs: The blob store.
        record: As it was published.
    """
    known = {topic.name: topic for topic in topics.registry()}
    readers = known[record.topic].readers if record.topic in known else ()
    try:
        event = events.decode(record.topic, record.key, record.value, record.headers)
    except Poison as poison:
        return tuple(Rehearsed(stage, "dead_letter", str(poison)) for stage in readers)
    return tuple([await _by(stage, event, record, engine, blobs) for stage in readers])


async def _by(
    stage: str, event: Event, record: Tailed, engine: AsyncEngine, blobs: BlobStore
) -> Rehearsed:
    if stage not in _PLAYS:  # the tracker's table is nobody's to look into
        return Rehearsed(stage, "answered", "shows it again; its table keeps the greater of each")
    play = _PLAYS[stage](
        cast("AsyncEngine", RolledBack(engine)), cast("BlobStore", Untouched(blobs))
    )
    route = next(route for route in play.routes if route.event is type(event))
    context = RehearsedContext(event, record, engine, watched=route.watched)
    try:
        facts = await route.handler(event, context)
        if play.flush is not None:
            await play.flush()
    except (Effect, Signal) as end:
        return Rehearsed(stage, _verdict(end), str(end))
    if facts:
        again = ", ".join(fact.topic for fact in facts)
        return Rehearsed(stage, "answered", f"its work is done; it publishes {again} again")
    return Rehearsed(stage, "ignored", _nothing(event))


def _verdict(end: Exception) -> Verdict:
    """What a stage does with a record whose handler ends so (`pixcrawler.common.errors`)."""
    verdicts: dict[type[Exception], Verdict] = {
        Effect: "taken",
        Stopped: "ignored",
        GiveUp: "failed",
        Retry: "retried",
        Poison: "dead_letter",
    }
    return next(verdict for kind, verdict in verdicts.items() if isinstance(end, kind))


def _nothing(event: Event) -> str:
    """Why a handler that looked has nothing to do."""
    if isinstance(event, events.ChunkFailed):
        return "the chunk has ended, or this attempt does not hold its slot any more"
    if isinstance(event, events.JobPlanned):
        return "it closes no round, or not the job's latest"
    return "everything that it says is known: it changes nothing"


# ---- the stages, each with its handlers and nothing to work with


def _planner(engine: AsyncEngine, blobs: BlobStore) -> Play:
    from pixcrawler.planner.routes import routes
    from pixcrawler.planner.signs import Signs
    from pixcrawler.planner.tools import Policy, Tools

    signs = Signs(engine)
    return Play(routes(Tools(engine, blobs, Policy()), signs), signs.flush)


def _downloader(engine: AsyncEngine, blobs: BlobStore) -> Play:
    from pixcrawler.downloader.handler import handle_chunk_planned
    from pixcrawler.downloader.parts import Parts

    fetching = cast("Any", Refusing("fetch what is missing of its candidates"))
    handler = partial(
        handle_chunk_planned,
        blobs=blobs,
        engine=engine,
        sources=lambda _: Anything(Refusing("ask its sources for candidates")),
        parts=Parts(blobs, fetching, fetching, 1),
    )
    return Play([Route(events.ChunkPlanned, handler)])


def _validator(engine: AsyncEngine, blobs: BlobStore) -> Play:
    from pixcrawler.validator.handler import handle_chunk_downloaded

    judge = cast("Any", Refusing("judge its images"))
    handler = partial(
        handle_chunk_downloaded,
        blobs=blobs,
        engine=engine,
        judge=judge,
        turns=Turns(),
        max_pixels=1,
    )
    return Play([Route(events.ChunkDownloaded, handler)])


def _uploader(engine: AsyncEngine, blobs: BlobStore) -> Play:
    from pixcrawler.uploader.handler import handle_chunk_validated, handle_job_planned
    from pixcrawler.uploader.transforming import Transformer

    packing = partial(
        handle_chunk_validated,
        blobs=blobs,
        engine=engine,
        transformer=Transformer(1),
        ended=lambda _: None,
        count=lambda _: None,
    )
    finishing = partial(handle_job_planned, blobs=blobs, engine=engine)
    routes: list[Route[Any]] = [
        Route(events.ChunkValidated, packing),
        Route(events.JobPlanned, finishing, watched=False),
    ]
    return Play(routes)


def _api(engine: AsyncEngine, blobs: BlobStore) -> Play:
    from pixcrawler.api.courier import handle_job_finished

    del blobs
    handler = partial(handle_job_finished, engine=engine, hint=lambda: None)
    return Play([Route(events.JobFinished, handler, watched=False)])


_PLAYS = {
    "planner": _planner,
    "downloader": _downloader,
    "validator": _validator,
    "uploader": _uploader,
    "api": _api,
}


# ---- ports that do nothing


class RehearsedContext:
    """What a handler sees of its work: whether it is wanted is asked, reports go nowhere."""

    worker = "rehearsal"
    traceparent = ""

    def __init__(self, event: Event, record: Tailed, engine: AsyncEngine, *, watched: bool) -> None:
        self.record = RecordRef(record.topic, record.partition, record.offset, record.timestamp_ms)
        self.source = events.header(record.headers, "ce_source")
        self.attempt = event.attempt if isinstance(event, ChunkEvent) else 0
        self._job_id = str(getattr(event, "job_id", ""))
        self._watched = watched
        self._watch = DatabaseWatch(engine)

    async def check(self) -> None:
        """Ask the database whether the job is wanted."""
        if self._watched and self._job_id:
            await ensure_wanted(self._watch, self._job_id)

    def report(self, done: int, total: int, images: ImageTotals) -> None:
        """Nobody is told."""


class Refusing:
    """Whatever is asked of it would be an effect.

    Args:
        what: How it is told.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_args: object, **_named: object) -> NoReturn:
            raise Effect(self._what)

        return refuse


class Anything(Mapping[str, Any]):
    """A mapping that has everything, and it is always the same."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __getitem__(self, key: str) -> Any:
        return self._value

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


class Untouched:
    """A blob store to read from; what would create or delete an object is an effect.

    Args:
        blobs: What is read.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.read = blobs.read
        self.stream = blobs.stream
        self.stat = blobs.stat

    async def create(self, name: str, content: Content) -> bool:  # noqa: ARG002 - the port's
        """Not if it is there: then nothing would happen."""
        if await self._blobs.stat(name) is None:
            raise Effect(f"create {name}")
        return False

    async def put(self, name: str, content: Content) -> NoReturn:  # noqa: ARG002 - likewise
        """A copy that is written in any case."""
        raise Effect(f"write {name}")

    async def delete(self, name: str) -> None:
        """Not if it is gone."""
        if await self._blobs.stat(name) is not None:
            raise Effect(f"delete {name}")

    async def delete_prefix(self, prefix: str) -> int:
        """Likewise."""
        async for info in self._blobs.list(prefix):
            raise Effect(f"delete {info.name} and what is beside it")
        return 0

    def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """As it is."""
        return self._blobs.list(prefix)


_CHANGED = text("""
    SELECT relname, n_tup_ins + n_tup_upd + n_tup_del AS rows FROM pg_stat_xact_user_tables
    WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 ORDER BY relname""")


class RolledBack:
    """A database in which nothing stays: a transaction that changed rows is an effect.

    Args:
        engine: What is asked.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def connect(self) -> Any:
        """To read with."""
        return self._engine.connect()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that ends as if it had never been; the locks it took are held for as long.

        Raises:
            Effect: it has changed rows.
        """
        async with self._engine.connect() as connection:
            yield connection
            found = (await connection.execute(_CHANGED)).all()
            await connection.rollback()
        if found:
            rows = ", ".join(f"{row.relname} ({row.rows})" for row in found)
            raise Effect(f"change rows of {rows}")
