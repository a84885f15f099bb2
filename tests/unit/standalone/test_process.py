import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from pixcrawler.standalone import StandaloneError
from pixcrawler.standalone.process import Child
from pixcrawler.standalone.state import identity

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def until_logged(child: Child, text: str) -> None:
    await until(lambda: text in child.last_log_line())


async def test_a_child_starts_and_stops_more_than_once(tmp_path: Path) -> None:
    """Stopping what does not run and starting what runs change nothing."""
    child = Child("sleeper", tmp_path / "logs" / "sleeper.log")
    await child.stop()
    for _ in range(2):
        child.spawn(SLEEP)
        pid = child.pid
        child.spawn(SLEEP)
        assert child.pid == pid
        await until_logged(child, "here")
        await child.stop()
        await child.stop()
        assert (child.pid, child.returncode) == (None, -signal.SIGTERM)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells: it is looked for")
async def test_the_kernel_tells_of_an_end(tmp_path: Path) -> None:
    """Whoever waits is told at once, and does not look again and again."""
    child = Child("sleeper", tmp_path / "log")
    child.spawn(SLEEP)
    await until_logged(child, "here")
    assert not await child.wait(timeout_s=0.01, poll_s=3600)
    waiting = [asyncio.create_task(child.wait(poll_s=3600)) for _ in range(2)]
    await asyncio.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [True, True]
    assert child.returncode == -signal.SIGKILL


async def test_who_ignores_the_request_is_killed(tmp_path: Path) -> None:
    """After the grace there is no choice."""
    child = Child("stubborn", tmp_path / "log")
    child.spawn([SLEEP[0], "-c", f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEP[2]}"])
    await until_logged(child, "here")
    await child.stop(grace_s=0.1)
    assert child.returncode == -signal.SIGKILL


async def test_who_gets_no_grace_has_ended_all_the_same(tmp_path: Path) -> None:
    """When stop returns nothing runs, also where nobody was given time to end by himself."""
    child = Child("stubborn", tmp_path / "log")
    child.spawn([SLEEP[0], "-c", f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEP[2]}"])
    await until_logged(child, "here")
    await child.stop(grace_s=0)
    assert child.returncode == -signal.SIGKILL


async def test_the_last_line_of_the_log_says_why(tmp_path: Path) -> None:
    """Of the process that ended, not of one before it."""
    child = Child("talker", tmp_path / "log")
    for words in ("first", "second"):
        child.spawn(["/bin/sh", "-c", f"echo {words}; echo '    at Some.java'; echo; exit 3"])
        await child.wait()
        assert f"(exit code 3), see {tmp_path / 'log'}: {words}" in str(child.failure("ended"))
    child.spawn(["/bin/sh", "-c", "exit 1"])
    await child.wait()
    assert child.last_log_line() == ""


async def test_a_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    """Cut while the process writes: the older part is beside it, the newer part is found."""
    child = Child("talker", tmp_path / "log", log_limit_bytes=10)
    child.spawn(["/bin/sh", "-c", "echo a long line of words; exec sleep 600"])
    await until_logged(child, "words")
    child.trim_log()
    assert child.log.read_bytes() == b""
    assert (tmp_path / "log.1").read_bytes() == b"a long line of words\n"
    await child.stop()
    child.spawn(["/bin/sh", "-c", "echo more"])
    await child.wait()
    assert child.last_log_line() == "more"


async def test_a_program_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    """The log names it."""
    child = Child("nobody", tmp_path / "log")
    child.spawn([tmp_path / "nothing"])
    await child.wait()
    assert child.returncode == 126
    assert "cannot execute" in child.last_log_line()


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """No process without its log."""
    (tmp_path / "file").touch()
    with pytest.raises(StandaloneError, match="cannot start nobody"):
        Child("nobody", tmp_path / "file" / "log").spawn(SLEEP)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
async def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """Killing the parent ends the child, though it is in a session of its own."""
    code = """
        import sys, time
        from pathlib import Path
        from pixcrawler.standalone.process import Child
        child = Child("sleeper", Path(sys.argv[1]))
        child.spawn([sys.executable, "-c", "import time; time.sleep(600)"])
        print(child.pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(  # noqa: ASYNC220 - starts once, quickly
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "log")],
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert identity(pid) is not None
        assert os.getsid(pid) == pid
        parent.kill()
    await until(lambda: identity(pid) is None)
