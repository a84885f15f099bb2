"""The composition root of the uploader."""

import warnings
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from pixcrawler.common import metrics, service
from pixcrawler.common.events import ChunkValidated, ImageTotals, JobPlanned
from pixcrawler.common.periodic import Periodic
from pixcrawler.common.stage import Route
from pixcrawler.uploader.handler import handle_chunk_validated, handle_job_planned
from pixcrawler.uploader.settings import Settings
from pixcrawler.uploader.sweep import Sweeper
from pixcrawler.uploader.transforming import Transformer


async def build(settings: Settings, runtime: service.Runtime) -> Sequence[service.Runnable]:
    """Wire the stage and the sweeps."""
    # What a decoder finds odd about an image is nothing that an operator can act on.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    sweeper = Sweeper(
        runtime.blobs,
        runtime.engine,
        deleted_for=timedelta(seconds=settings.sweep_deleted_s),
        unknown_for=timedelta(seconds=settings.sweep_unknown_after_s),
    )
    clearing = Periodic("clear", sweeper.clear, interval_s=settings.sweep_interval_s)

    def chunk_ended(chunk: str) -> None:
        sweeper.chunk_ended(chunk)
        clearing.hint()

    packing = partial(
        handle_chunk_validated,
        blobs=runtime.blobs,
        engine=runtime.engine,
        transformer=Transformer(settings.transform_threads),
        ended=chunk_ended,
        count=count_outcomes,
    )
    finishing = partial(handle_job_planned, blobs=runtime.blobs, engine=runtime.engine)
    routes: tuple[Route[Any], ...] = (
        Route(ChunkValidated, packing),
        Route(JobPlanned, finishing, watched=False),
    )
    return (
        runtime.stage(routes),
        clearing,
        Periodic("sweep", sweeper.sweep, interval_s=settings.sweep_interval_s),
        Periodic("sweep-all", sweeper.sweep_all, interval_s=settings.sweep_all_interval_s),
    )


def count_outcomes(images: ImageTotals) -> None:
    """Count what became of the candidates of a chunk that has completed."""
    metrics.IMAGES.labels(outcome="kept").inc(images.valid)
    for outcome, number in images.dropped.items():
        metrics.IMAGES.labels(outcome=outcome).inc(number)


def main() -> None:
    """Run the uploader."""
    service.main("uploader", Settings, build)


if __name__ == "__main__":
    main()
