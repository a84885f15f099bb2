"""Programs that are forked: told, logged, ended as any other child."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pixcrawler.standalone.forks import can_fork
from pixcrawler.standalone.process import Child

SAYS = """
import json, os, sys
told = os.environ["WORD"], "HOME" in os.environ
print(json.dumps([sys.argv[1:], told, os.getcwd(), os.getsid(0)]))
print("and complains", file=sys.stderr)
sys.exit(7)
"""
SLEEPS = "import time\nprint('asleep')\ntime.sleep(60)\n"
STARTS = """
import sys, time
from pathlib import Path
from pixcrawler.standalone.process import Child
child = Child("sleeper", Path(sys.argv[2]))
child.spawn([sys.executable, "-P", sys.argv[1]], fork=True)
print(child.pid, flush=True)
time.sleep(60)
"""


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


async def test_it_is_what_it_would_be_otherwise(tmp_path: Path) -> None:
    """Arguments, environment, directory, session, output and exit code."""
    argv = [sys.executable, "-P", str(script(tmp_path, SAYS)), "one", "two"]
    said = []
    for fork in (False, True):
        child = Child("speaker", tmp_path / f"{fork}.log")
        child.spawn(argv, env={"WORD": "told"}, cwd=tmp_path, fork=fork)
        pid = child.pid
        assert await child.wait(30)
        assert child.returncode == 7
        assert child.pid is None
        said.append(sorted(child.log.read_text().replace(str(pid), "PID").splitlines()))
    assert said[0] == said[1]
    assert len(said[0]) == 2


async def test_it_is_ended_by_signals(tmp_path: Path) -> None:
    """And started again."""
    child = Child("sleeper", tmp_path / "log")
    for number in (signal.SIGTERM, signal.SIGKILL):
        child.spawn([sys.executable, "-P", str(script(tmp_path, SLEEPS))], fork=True)
        await child.stop(number=number)
        assert child.returncode == -number


@pytest.mark.parametrize("runs", [False, True], ids=["while it starts", "when it runs"])
def test_it_does_not_outlive_its_parent(tmp_path: Path, *, runs: bool) -> None:
    """Not even one that was killed."""
    log = tmp_path / "log"
    argv = [sys.executable, "-c", STARTS, str(script(tmp_path, SLEEPS)), str(log)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        deadline = time.monotonic() + 30
        while runs and "asleep" not in (log.read_text() if log.exists() else ""):
            assert time.monotonic() < deadline, "it never ran"
            time.sleep(0.02)
        parent.kill()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()


@pytest.mark.parametrize(
    ("argv", "forks"),
    [
        ((sys.executable, "-m", "pixcrawler.planner"), True),
        ((sys.executable, "-P", "/somewhere/program.py", "word"), True),
        ((sys.executable, "-I", "/somewhere/program.py"), False),
        (("/bin/sleep", "-m", "1"), False),
    ],
)
def test_what_can_be_forked(argv: tuple[str, ...], *, forks: bool) -> None:
    """A program of this Python, and nothing else."""
    assert can_fork(argv) is forks
