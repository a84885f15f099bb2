"""How long the ten commands take that answer an operator's ten questions.

    python -m bench.questions [--runs 5]

Starts a standalone and a miniature web, lets a job end and pauses the uploader under another, so
that there is something to tell, and asks each question several times, as the program that people
start. Prints the seconds until the answer is there: the fastest run, which is that of a machine at
rest if any was, the median, and the processor time of the command alone. Most of it is the start of
Python and what is imported: `--help` shows that for comparison.
"""

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from pixcrawler.client.api import Api
from pixcrawler.miniweb import names, plans, site
from pixcrawler.standalone import Status, UpOptions, temporary
from pixcrawler.standalone.paths import Paths
from pixcrawler.standalone.state import read_state

COMMAND = Path(sys.executable).with_name("pixcrawler")
DEADLINE_S = 300.0
SETTINGS = {"PIXCRAWLER_RESOURCE_CHUNK_SIZE_IMAGES": "20"}
"""So that a small job has several chunks."""

console = Console(highlight=False, width=110)


class Timed(NamedTuple):
    """One run of a command, in seconds."""

    wall_s: float
    cpu_s: float


def run(words: Sequence[str], environment: Mapping[str, str]) -> Timed:
    """Run the command to its end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(
        [os.fspath(COMMAND), *words], env=dict(environment), check=True, capture_output=True
    )
    wall_s = time.perf_counter() - began
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = now.ru_utime - used.ru_utime + now.ru_stime - used.ru_stime
    return Timed(wall_s, cpu_s)


def wait(api: Api, job: str, *, ended: bool) -> None:
    """Until a job has ended, or its first chunk is before the uploader."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        if ended and api.get(f"/v1/jobs/{job}")["status"] in {"completed", "incomplete"}:
            return
        stages = {str(chunk["stage"]) for chunk in api.pages(f"/v1/jobs/{job}/chunks")}
        if not ended and "uploader" in stages:
            return
        time.sleep(0.2)
    raise TimeoutError(f"job {job} is not where it should be after {DEADLINE_S:.0f} s")


def questions(api: Api, stuck: str, url: str) -> list[tuple[str, list[str]]]:
    """Each with its command."""
    chunk = next(iter(api.pages(f"/v1/jobs/{stuck}/chunks")))["chunk_id"]
    replay = ["topics", "replay", "chunk.validated", "--job", stuck, "--dry-run"]
    return [
        ("(the start of the program)", ["--help"]),
        ("1. why is job X not done?", ["jobs", "explain", stuck]),
        ("2. who has chunk C?", ["workers", "--all"]),
        ("3. which stage is behind?", ["stages"]),
        ("4. what happened to URL U?", ["url", url]),
        ("5. what is in topic T?", ["topics", "tail", "chunk.planned", "--chunk", chunk]),
        ("6. what was dropped most?", ["drops", "--all"]),
        ("7. what would a replay do?", replay),
        ("8. is anything stuck?", ["workers", "--all"]),
        ("9. who uses the capacity?", ["capacity", "--by-owner"]),
        ("10. what changed?", ["changes", "--all"]),
    ]


def uploader(data_dir: Path) -> int:
    """The uploader's process."""
    state = read_state(Paths.of(data_dir))
    assert state is not None
    (found,) = [each for each in state.components if each.service == "uploader"]
    assert found.process is not None
    return found.process.pid


def measure(started: Status, urls: Sequence[str], runs: int) -> None:
    """Put the faults in place, and ask."""
    environment = {**os.environ, "PIXCRAWLER_DATA_DIR": str(started.data_dir)}
    with Api(str(started.api_url), str(started.api_key)) as api:
        body = {"urls": list(urls), "max_images": len(urls)}
        done = str(api.post("/v1/jobs", body)["job_id"])
        wait(api, done, ended=True)
        paused = uploader(started.data_dir)
        os.kill(paused, signal.SIGSTOP)
        try:
            stuck = str(api.post("/v1/jobs", body)["job_id"])
            wait(api, stuck, ended=False)
            asked = questions(api, stuck, urls[0])
            table = Table("question", "command", "fastest", "median", "processor")
            load = os.getloadavg()[0]
            for question, words in asked:
                found = [run(words, environment) for _ in range(runs)]
                walls = [each.wall_s for each in found]
                table.add_row(
                    question,
                    " ".join(word if len(word) < 24 else "…" for word in words),
                    f"{min(walls):.2f} s",
                    f"{statistics.median(walls):.2f} s",
                    f"{min(each.cpu_s for each in found):.2f} s",
                )
        finally:
            os.kill(paused, signal.SIGCONT)
    console.print(table)
    console.print(f"load before: {load:.1f}, {os.cpu_count()} cores, {runs} runs each")


def main() -> None:
    """Start everything, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with (
        site.running(plans.small_plan(names.private_names()), seed=7) as web,
        _room() as data_dir,
        temporary(
            UpOptions(data_dir=data_dir, port=0), environment={**os.environ, **web.env, **SETTINGS}
        ) as started,
    ):
        measure(started, list(web.truth), options.runs)


@contextmanager
def _room() -> Iterator[Path]:
    """A folder that PostgreSQL's user can enter."""
    with tempfile.TemporaryDirectory(prefix="pixcrawler-bench-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "data"


if __name__ == "__main__":
    main()
