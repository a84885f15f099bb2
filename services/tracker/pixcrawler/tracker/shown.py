"""What is shown of each job: written in batches to `job_progress`, then told on `job.progress`."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.events import JobProgress
from pixcrawler.common.periodic import beat
from pixcrawler.common.telemetry import sending
from pixcrawler.tracker import progress, store
from pixcrawler.tracker.progress import JobState

BATCH = 500
"""Jobs in one statement at most."""

Tell = Callable[[str, JobProgress | None, str], Awaitable[None]]
"""Publishes a job's progress, in its trace; None is the tombstone of a deleted job."""


class Shown:
    """The jobs that changed since the last batch.

    Args:
        engine: The database, as a role that may write `job_progress`.
        tell: Publishes to `job.progress`.
    """

    def __init__(self, engine: AsyncEngine, tell: Tell) -> None:
        self._engine = engine
        self._tell = tell
        self._changed: dict[str, JobState] = {}

    def changed(self, job_id: str, state: JobState) -> None:
        """Show this state with the next batch."""
        self._changed[job_id] = state

    async def flush(self) -> frozenset[str]:
        """Write and tell what changed; what fails is kept for the next time.

        Returns:
            Jobs that turned out to be deleted or unknown.
        """
        gone: set[str] = set()
        while self._changed:
            beat()
            taken = dict(list(self._changed.items())[:BATCH])
            gone |= await self._show(taken)
            for job_id, state in taken.items():
                if self._changed.get(job_id) is state:
                    del self._changed[job_id]
        return frozenset(gone)

    async def _show(self, states: dict[str, JobState]) -> frozenset[str]:
        now = datetime.now(UTC)
        batch = [
            JobProgress(
                job_id=job_id,
                revision=progress.revision(state),
                progress=progress.view(job_id, state, now),
            )
            for job_id, state in states.items()
            if not state.deleted
        ]
        deleted = {job_id for job_id, state in states.items() if state.deleted}
        result = await store.write(self._engine, batch)
        gone = result.gone | deleted
        if gone:
            await store.erase(self._engine, sorted(gone))
        for shown in batch:
            if shown.job_id in result.written:
                first = result.traceparents.get(shown.job_id)
                trace = sending(shown.topic, shown.job_id, first)
                await self._tell(shown.job_id, shown, str(trace))
        for job_id in sorted(gone):
            await self._tell(job_id, None, "")
        return frozenset(gone)
