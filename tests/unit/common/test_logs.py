"""What a line of the log says, to people and to machines."""

import json
import subprocess
import sys

SCRIPT = """
import asyncio, logging, sys
from pixcrawler.common import logs

logs.configure("downloader", "here-1", level="info", style=sys.argv[1])
log = logs.get("pixcrawler.test")

async def work():
    with logs.bound(task_id="c/a1", chunk="c", phase="downloader", job="j", trace_id="t"):
        log.info("fetched", action="fetch", images=3)
        logging.getLogger("library").warning("a %s of a library", "line")

log.info("started")
log.debug("not shown")
asyncio.run(work())
logging.getLogger("aiokafka").info("not shown")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def lines(style: str) -> list[str]:
    """What the script writes, in a process of its own: logging is the process's."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, style], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_machines_find_every_field_on_every_line() -> None:
    """Also on lines of libraries, and on those that belong to no chunk."""
    started, fetched, library, failed = (json.loads(line) for line in lines("json"))
    for line in (started, fetched, library, failed):
        assert {"task_id", "chunk", "phase", "job", "trace_id", "message", "level"} <= set(line)
        assert (line["service"], line["worker"]) == ("downloader", "here-1")
    assert (started["chunk"], started["phase"]) == ("", "downloader")
    assert (fetched["chunk"], fetched["images"], fetched["level"]) == ("c", 3, "info")
    assert (library["message"], library["task_id"]) == ("a line of a library", "c/a1")
    assert "ZeroDivisionError" in failed["exception"]


def test_people_read_text() -> None:
    """One line per event; a traceback only where there is one."""
    started, fetched, library, *failed = lines("text")
    assert "started" in started
    assert all(each in fetched for each in ("fetched", "images=3", "chunk=c", "job=j"))
    assert "a line of a library" in library
    assert "failed" in failed[0]
    assert any("ZeroDivisionError" in line for line in failed)
