"""The whole pipeline: images per second, CPU per image, peak memory of each service, latency.

    python -m bench.pipeline [--images 1000] [--chunk-size 500]

Starts standalone mode and a miniature web of good photographs, runs one job over HTTP, then jobs of
one image. The web runs on the same machine and takes its share of it.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from pixcrawler import standalone
from pixcrawler.common import admin, topics
from pixcrawler.miniweb import plans, site
from pixcrawler.standalone import Status, UpOptions

TERMINAL = {"completed", "incomplete", "failed", "cancelled"}
SMALL_JOBS = 5

console = Console(highlight=False, width=100)


def main() -> None:
    """Run the benchmark and print its tables."""
    options = _options()
    with (
        site.running(plans.good_plan(options.images)) as web,
        _room() as data_dir,
        standalone.temporary(
            UpOptions(data_dir=data_dir, port=0),
            environment={**os.environ, **web.env, **_settings(options)},
        ) as status,
    ):
        before = _usage(status)
        images, seconds = _run(status, web.keywords, options.images)
        after = _usage(status)
        _report(images, seconds, before, after)
        latencies = [_latency(status, web.keywords) for _ in range(SMALL_JOBS)]
        console.print(
            "one tiny chunk, chunk.planned to chunk.uploaded: "
            f"median {1000 * statistics.median(latencies):.0f} ms of {SMALL_JOBS} "
            f"(min {1000 * min(latencies):.0f}, max {1000 * max(latencies):.0f})"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--chunk-size", type=int, default=500)
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> dict[str, str]:
    return {"PIXCRAWLER_RESOURCE_CHUNK_SIZE_IMAGES": str(options.chunk_size)}


@contextmanager
def _room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pixcrawler-bench-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _client(status: Status) -> httpx.Client:
    return httpx.Client(
        base_url=str(status.api_url), headers={"X-API-Key": str(status.api_key)}, timeout=30
    )


def _run(status: Status, keywords: tuple[str, ...], images: int) -> tuple[int, float]:
    """Images kept, and seconds from the request to the dataset."""
    begun = time.monotonic()
    with _client(status) as api:
        progress = _finished(api, _create(api, keywords, images))
    return progress["images"]["valid"], time.monotonic() - begun


def _create(api: httpx.Client, keywords: tuple[str, ...], images: int) -> str:
    answer = api.post("/v1/jobs", json={"keywords": list(keywords), "max_images": images})
    answer.raise_for_status()
    return str(answer.json()["job_id"])


def _finished(api: httpx.Client, job_id: str) -> dict[str, Any]:
    while True:
        progress: dict[str, Any] = api.get(f"/v1/jobs/{job_id}/progress").json()
        if progress["status"] in TERMINAL:
            return progress
        time.sleep(0.05)


def _latency(status: Status, keywords: tuple[str, ...]) -> float:
    """Seconds between the two events of a job of one image."""
    with _client(status) as api:
        job_id = _create(api, keywords[:1], 1)
        _finished(api, job_id)
    servers = str(status.kafka_bootstrap_servers)

    async def told(topic: str) -> float:
        async for record in admin.tail(servers, topic, job_id=job_id):
            at = dict(record.headers)["ce_time"].decode()
            return datetime.fromisoformat(at).timestamp()
        raise RuntimeError(f"nothing on {topic}")

    async def both() -> float:
        return await told(topics.CHUNK_UPLOADED) - await told(topics.CHUNK_PLANNED)

    return asyncio.run(both())


def _usage(status: Status) -> dict[str, tuple[float, float]]:
    """CPU seconds and peak memory in MB of every component, children included."""
    return {
        component.name: _of_process(component.pid)
        for component in status.components
        if component.pid is not None
    }


def _of_process(pid: int) -> tuple[float, float]:
    parent = psutil.Process(pid)
    seconds, peak = 0.0, 0.0
    for process in [parent, *parent.children(recursive=True)]:
        try:
            times = process.cpu_times()
            seconds += times.user + times.system
            peak = max(peak, _peak_mb(process.pid))
        except psutil.NoSuchProcess:
            continue
    return seconds, peak


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _report(
    images: int,
    seconds: float,
    before: Mapping[str, tuple[float, float]],
    after: Mapping[str, tuple[float, float]],
) -> None:
    console.print(f"{images} images in {seconds:.1f} s: {images / seconds:.0f} images/s")
    table = Table("component", "CPU s", "CPU ms/image", "peak MB", box=None)
    for name, (cpu, peak) in sorted(after.items()):
        used = cpu - before.get(name, (0.0, 0.0))[0]
        table.add_row(name, f"{used:.1f}", f"{1000 * used / max(images, 1):.2f}", f"{peak:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
