"""What a line of the log says, to people and to machines."""

import json
import logging
import subprocess
import sys

import pytest

from pixcrawler.common.logs import Seldom, masked

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


def test_a_library_says_the_same_thing_seldom() -> None:
    """A broker that is away for an hour must not fill the disk; other loggers are left alone."""
    now = 0.0
    seldom = Seldom("aiokafka", 10.0, clock=lambda: now)

    def written(name: str, message: str, *arguments: object) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, None)
        return record.getMessage() if seldom.filter(record) else None

    assert written("aiokafka.conn", "no node %s", 1) == "no node 1"
    assert [written("aiokafka.conn", "no node %s", n) for n in (2, 3)] == [None, None]
    assert written("aiokafka", "no node %s", 1) == "no node 1"
    assert written("aiokafka.conn", "gone") == "gone"
    assert [written("pixcrawler.x", "again") for _ in range(2)] == ["again", "again"]
    now = 10.0
    assert written("aiokafka.conn", "no node %s", 4) == "no node 4 (2 more like this were left out)"
    assert written("aiokafka.conn", "no node %s", 5) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://ann:s3cret@host/a.jpg failed", "GET http://***@host/a.jpg failed"),
        ("postgresql+asyncpg://p:a%40b@db:5432/x", "postgresql+asyncpg://***@db:5432/x"),
        ("'https://token@host/'", "'https://***@host/'"),
        ("https://host/@ann/a.jpg?a=b@c", "https://host/@ann/a.jpg?a=b@c"),
        ("mail ann@example.org about https://host/x", "mail ann@example.org about https://host/x"),
        ("/c/x.zip?se=2026&sig=aB%2B3%3D&sp=r", "/c/x.zip?se=2026&sig=***&sp=r"),
        ("/v1/files/a?expires=9&signature=0f0f HTTP", "/v1/files/a?expires=9&signature=*** HTTP"),
        ("AccountName=a;AccountKey=Eby8vd==;Blob", "AccountName=a;AccountKey=***;Blob"),
        (f"key pxc_{'a' * 12}_{'b' * 48} of ann", f"key pxc_{'a' * 12}_*** of ann"),
        ('"whsec_bm90IG1pbmU="', '"whsec_***"'),
        ("design=blue signs 3 signatures", "design=blue signs 3 signatures"),
    ],
)
def test_secrets_are_left_out(text: str, shown: str) -> None:
    """Credentials in addresses, signatures and keys; nothing else."""
    assert masked(text) == shown


def test_no_line_has_a_secret() -> None:
    """Of whoever logs it, as a message, an argument, a field or in a traceback; JSON stays JSON."""
    script = """
import logging, sys
from pixcrawler.common import logs

logs.configure("api", "here-1", style=sys.argv[1])
url = "http://ann:s3cret@host/x?sig=s3cret"
logs.get("ours").info("got " + url, url=url, urls=[url])
logging.getLogger("theirs").warning("no answer from %s", url)
try:
    raise ValueError(url)
except ValueError:
    logs.get("ours").exception("failed")
"""
    for style in ("json", "text"):
        done = subprocess.run(
            [sys.executable, "-c", script, style], capture_output=True, text=True, check=True
        )
        assert "s3cret" not in done.stderr
        assert done.stderr.count("http://***@host/x?sig=***") >= 5
        if style == "json":
            assert [json.loads(line)["level"] for line in done.stderr.splitlines()] == [
                "info", "warning", "error",
            ]  # fmt: skip
