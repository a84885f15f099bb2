"""Points at which a process can be told to die."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pixcrawler.common import failpoints

PROGRAM = """
import sys
from pathlib import Path
from pixcrawler.common import failpoints
failpoints.enable("downloader", Path(sys.argv[1]))
failpoints.hit("before:part")
failpoints.hit("after:part")
failpoints.hit("somewhere else")
"""


def run(folder: Path) -> int:
    """The exit code of a process that gets to three points."""
    return subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], check=False).returncode


@pytest.mark.parametrize("who", ["downloader", failpoints.ANY])
def test_an_armed_point_kills_once(tmp_path: Path, who: str) -> None:
    """The first process that gets there is gone, and says so; the next one passes."""
    armed = tmp_path / f"{who}.after:part"
    armed.touch()
    assert run(tmp_path) == -signal.SIGKILL
    assert not armed.exists()
    assert [path.name for path in tmp_path.iterdir()] == [f"{armed.name}{failpoints.DIED}"]
    assert run(tmp_path) == 0


def test_another_services_point_kills_nobody_else(tmp_path: Path) -> None:
    """A point that is armed for the uploader is not the downloader's; unknown ones are noted."""
    (tmp_path / "uploader.after:part").touch()
    assert run(tmp_path) == 0
    assert (tmp_path / f"downloader.somewhere else{failpoints.UNKNOWN}").exists()


def test_nothing_happens_where_nobody_asked() -> None:
    """Compiled out: where no folder was given, a point is a function without a body."""
    assert not failpoints.enabled()
    assert failpoints.hit is failpoints._nothing
    failpoints.hit("before:part")


def test_every_point_is_listed_once() -> None:
    """Names are unique, and those of the relay are no service's own."""
    for service, points in failpoints.POINTS.items():
        assert len(points) == len(set(points))
        assert service == failpoints.ANY or not set(points) & set(failpoints.POINTS[failpoints.ANY])
