"""The command on a real terminal and in real shells."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.client.server import JOB, FakeApi
from tests.unit.client.test_watching import progress

BIN = Path(sys.executable).parent
DEADLINE_S = 60.0


class Terminal:
    """The command, and what is on its screen."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process, self._master = process, master
        self.screen = ""

    def wait_for(self, words: str) -> None:
        """Read until these words are there."""
        until = time.monotonic() + DEADLINE_S
        while words not in self.screen:
            ready, _, _ = select.select([self._master], [], [], until - time.monotonic())
            assert ready, self.screen
            try:
                self.screen += os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # nobody writes any more
                break
        assert words in self.screen, self.screen

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())


@contextmanager
def terminal(fake: FakeApi, folder: Path) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [BIN / "pixcrawler", "run", "panda", "-o", folder],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "PIXCRAWLER_API_URL": fake.url, "COLUMNS": "200", "TERM": "xterm"},
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.fixture
def endless(fake: FakeApi) -> FakeApi:
    """A job that runs for ever."""
    fake.documents["POST /v1/jobs"] = {"job_id": JOB, "status": "pending"}
    fake.documents[f"POST /v1/jobs/{JOB}/cancel"] = {"job_id": JOB, "status": "cancelled"}
    fake.documents[f"GET /v1/jobs/{JOB}/progress"] = progress()
    fake.documents[f"GET /v1/jobs/{JOB}/chunks"] = {"items": [], "next_cursor": None}
    return fake


@pytest.mark.parametrize(
    ("answer", "cancelled", "words"),
    [
        ("y\n", True, f"pixcrawler jobs download {JOB}"),
        ("\n", False, f"pixcrawler jobs watch {JOB}"),
        ("\x04", False, f"pixcrawler jobs watch {JOB}"),
    ],
    ids=["yes", "default", "end of file"],
)
def test_ctrl_c_asks(
    endless: FakeApi, tmp_path: Path, answer: str, cancelled: bool, words: str
) -> None:
    """Only a yes cancels the job; else it goes on, and one is told how to come back to it."""
    with terminal(endless, tmp_path / "d") as shown:
        shown.wait_for("20/40")
        shown.process.send_signal(signal.SIGINT)
        shown.wait_for("cancel it instead? [y/N]")
        assert "goes on without this command" in shown.screen
        shown.type(answer)
        shown.wait_for(words)
        assert shown.process.wait(DEADLINE_S) == 130
    assert bool(endless.requests(f"/v1/jobs/{JOB}/cancel")) is cancelled


def test_sigterm_asks_nobody(endless: FakeApi, tmp_path: Path) -> None:
    """Whoever sends it does not sit at the terminal."""
    with terminal(endless, tmp_path / "d") as shown:
        shown.wait_for("20/40")
        shown.process.send_signal(signal.SIGTERM)
        shown.wait_for(f"pixcrawler jobs watch {JOB}")
        assert shown.process.wait(DEADLINE_S) == 130
        assert "[y/N]" not in shown.screen


def completed(shell: str, script: str) -> str:
    told = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        [shell, "-c", script], env=told, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_bash_completes() -> None:
    """What is printed for bash completes commands when bash asks."""
    script = (
        "source <(pixcrawler completion bash); COMP_WORDS=(pixcrawler jobs wa); COMP_CWORD=2; "
        '_pixcrawler_completion pixcrawler; echo "${COMPREPLY[@]}"'
    )
    assert completed("bash", script).split() == ["watch"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_reads_its_script() -> None:
    """What is printed for zsh defines its completion."""
    script = (
        "autoload -Uz compinit; compinit -u -d /dev/null; "
        'source <(pixcrawler completion zsh); echo "${_comps[pixcrawler]}"'
    )
    assert completed("zsh", script).strip() == "_pixcrawler_completion"
