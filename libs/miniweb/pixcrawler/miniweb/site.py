"""A running miniature web as its users see it: its settings, its truth, what was recorded."""

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from pixcrawler.miniweb import truth as truths
from pixcrawler.miniweb.pages import Ports
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.server import CONTROL, HOME, Server, bind, serving
from pixcrawler.miniweb.truth import Truth
from pixcrawler.miniweb.web import MiniWeb

START_S = 60.0
"""A web of a thousand photographs takes some 3 s to make."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a miniature web is, how to set up the product for it, and what is true about it."""

    address: str
    env: Mapping[str, str]
    truth: Mapping[str, Truth]
    keywords: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def supply(self) -> int:
        """How many images a job over all keywords and sources can keep."""
        return truths.supply(self.truth.values())

    def state(self) -> dict[str, Any]:
        """What its visitors did since the start or `reset`; see `server.Records`.

        Blocking: not for the event loop that serves it.
        """
        return _get(f"{self.address}{CONTROL}state")

    def reset(self) -> None:
        """Forgets what was recorded. Blocking, likewise."""
        _get(f"{self.address}{CONTROL}reset")

    def set_mood(self, source: str, mood: str, wait_s: int = 3600) -> None:
        """Let a search be `well`, `away` or `spent`; see `server.Mood`. Blocking, likewise."""
        _get(f"{self.address}{CONTROL}mood?source={source}&mood={mood}&wait_s={wait_s}")

    def write_urls(self, path: Path) -> None:
        """All URLs, one a line, for a job that is given a list."""
        path.write_text("".join(f"{url}\n" for url in self.truth))


def recommended_settings(
    ports: Ports, *, timeout_s: float = 1.0, deadline_s: float = 4.0
) -> dict[str, str]:
    """The environment in which the product meets this web, and every fault shows in seconds."""
    return {
        "PIXCRAWLER_SOURCE_OPENVERSE_URL": f"http://{HOME}:{ports.openverse}",
        "PIXCRAWLER_SOURCE_COMMONS_URL": f"http://{HOME}:{ports.commons}/w/api.php",
        "PIXCRAWLER_FETCH_ALLOW_NETWORKS": f"{HOME}/32",
        "PIXCRAWLER_FETCH_TIMEOUT_S": f"{timeout_s:g}",
        "PIXCRAWLER_FETCH_DEADLINE_S": f"{deadline_s:g}",
        "PIXCRAWLER_FETCH_MAX_BYTES": "2000000",
        "PIXCRAWLER_BREAKER_RECOVERY_S": "1",
    }


def describe(miniweb: MiniWeb) -> Site:
    """A web as its users see it."""
    return Site(
        address=f"http://{HOME}:{miniweb.ports.openverse}",
        env=recommended_settings(miniweb.ports),
        truth=miniweb.truth,
        keywords=miniweb.plan.keywords,
        sources=miniweb.plan.sources,
    )


@asynccontextmanager
async def hosting(plan: Plan, seed: int = 1, port: int = 0) -> AsyncIterator[tuple[Site, Server]]:
    """Serves a web in this process and event loop.

    Raises:
        OSError: a port is taken.
    """
    with ExitStack() as stack:
        sockets = bind(stack, plan, port)
        miniweb = MiniWeb(plan, seed, sockets.ports)
        async with serving(miniweb, sockets) as server:
            yield describe(miniweb), server


@contextmanager
def running(plan: Plan, seed: int = 1, port: int = 0) -> Iterator[Site]:
    """Serves a web in a process of its own, which ends with this one at the latest.

    Raises:
        RuntimeError: it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="miniweb-") as folder:
        truth_file = Path(folder) / "truth.json"
        command = [sys.executable, "-m", "pixcrawler.miniweb", "--child", "--seed", str(seed)]
        command += ["--port", str(port), "--plan", plan.to_json(), "--truth", str(truth_file)]
        child = subprocess.Popen(  # noqa: S603 — our own module, in our own interpreter
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        try:
            yield _site(child, plan, truth_file)
        finally:
            _stop(child)


def _site(child: subprocess.Popen[str], plan: Plan, truth_file: Path) -> Site:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"the miniature web did not start: exit {child.wait(START_S)}")
    said = json.loads(line)
    truth = truths.load(truth_file.read_text())
    return Site(said["address"], said["env"], truth, plan.keywords, plan.sources)


def _stop(child: subprocess.Popen[str]) -> None:
    """Closes the pipe that keeps it alive, and helps it along if that is not enough."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


def _get(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=10) as answer:  # noqa: S310 — our own address
        state: dict[str, Any] = json.load(answer)
        return state
