"""The composition root of the validator."""

import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version

from pixcrawler.common import logs, service
from pixcrawler.common.events import ChunkDownloaded
from pixcrawler.common.periodic import Periodic
from pixcrawler.common.stage import Route
from pixcrawler.common.turns import Turns
from pixcrawler.validator.claims import erase_deleted
from pixcrawler.validator.handler import handle_chunk_downloaded
from pixcrawler.validator.judging import Judge
from pixcrawler.validator.settings import Settings

log = logs.get(__name__)


async def build(settings: Settings, runtime: service.Runtime) -> Sequence[service.Runnable]:
    """Wire the stage and the erasing of deleted jobs' claims."""
    # What a decoder finds odd about an image is nothing that an operator can act on.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    # Perceptual hashes depend on these versions.
    hashed_by = {name: version(name) for name in ("pillow", "imagehash", "simplejpeg")}
    log.info("hashing", action="start", **hashed_by)
    handler = partial(
        handle_chunk_downloaded,
        blobs=runtime.blobs,
        engine=runtime.engine,
        judge=Judge(settings.validate_threads, settings.validate_buffer_mb << 20),
        turns=Turns(),
        max_pixels=settings.max_pixels,
    )
    return (
        runtime.stage([Route(ChunkDownloaded, handler)]),
        Periodic(
            "erase", partial(erase_deleted, runtime.engine), interval_s=settings.erase_interval_s
        ),
    )


def main() -> None:
    """Run the validator."""
    service.main("validator", Settings, build)


if __name__ == "__main__":
    main()
