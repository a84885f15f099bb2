"""The downloader's composition root: `python -m pixcrawler.downloader`."""

import gc
from functools import partial

from pixcrawler.common import metrics, service
from pixcrawler.common.events import ChunkPlanned
from pixcrawler.common.service import Runnable, Runtime
from pixcrawler.common.stage import Route
from pixcrawler.downloader.handler import handle_chunk_planned
from pixcrawler.downloader.settings import Settings
from pixcrawler.downloader.tools import Tools, Working


def main() -> None:
    """Run the downloader until it is told to stop."""
    service.main("downloader", Settings, build)


async def build(settings: Settings, runtime: Runtime) -> Runnable:
    """Wire the consumer loop; its tools are put away when it has ended."""
    metrics.watch_disk("spool", settings.spool_dir)
    steering = runtime.steering
    tools = Tools(settings, runtime.engine, runtime.blobs, runtime.worker, lambda: steering.sources)
    handler = partial(
        handle_chunk_planned,
        blobs=runtime.blobs,
        engine=runtime.engine,
        sources=tools.sources,
        parts=tools.parts,
    )
    gc.freeze()  # what is loaded by now stays: a full collection would stop the loop for 0.1 s
    return Working(runtime.stage([Route(ChunkPlanned, handler)]), tools)


if __name__ == "__main__":
    main()
