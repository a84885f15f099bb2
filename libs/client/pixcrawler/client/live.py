"""A job's progress as it changes: pushed by the API (Server-Sent Events), else asked for.

A stream that is refused (by an older API, a limit, a proxy that collects what it passes on) or that
breaks off costs nothing but liveliness: progress is asked for, and the stream tried again later.
"""

import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple

import httpx

from pixcrawler.client.core import Core, Json
from pixcrawler.client.errors import Unreachable, WaitTimeout

TERMINAL = frozenset({"completed", "incomplete", "failed", "cancelled"})

POLL_S = 0.5
"""Seconds between two looks: often enough to feel live, rare enough to cost the api nothing."""

POLLING_S = 30.0
"""Seconds of asking after which a stream that was refused is tried again."""

QUIET_S = 45.0
"""A stream that says nothing for so long, in seconds, is dead: the API says every 15 s that it is
still there."""

CONNECT_S = 30.0


class Event(NamedTuple):
    """An event of a stream; one without a name is a sign of life."""

    name: str
    id: str
    data: str


LIFE = Event("", "", "")


class EventReader:
    """Events out of bytes that come in pieces of any size.

    As https://html.spec.whatwg.org/multipage/server-sent-events.html, for streams whose lines end
    with LF or CRLF.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._name, self._id, self._data = "", "", list[str]()

    def feed(self, piece: bytes) -> list[Event]:
        """What has become complete; comments and settings are signs of life."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        found = (self._line(line.decode("utf-8", "replace").removesuffix("\r")) for line in lines)
        return [event for event in found if event is not None]

    def _line(self, line: str) -> Event | None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            return self._complete()
        if field == "event":
            self._name = value
        elif field == "id":
            self._id = value
        elif field == "data":
            self._data.append(value)
        else:
            return LIFE
        return None

    def _complete(self) -> Event | None:
        event = Event(self._name or "message", self._id, "\n".join(self._data))
        complete = bool(self._data)
        self._name, self._data = "", []
        return event if complete else None


class Patience:
    """How long somebody waits.

    Args:
        timeout_s: In seconds; None for ever.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._until = None if timeout_s is None else time.monotonic() + timeout_s

    def left(self, at_most: float) -> float:
        """Seconds that are left, or as many as given.

        Raises:
            WaitTimeout: none.
        """
        if self._until is None:
            return at_most
        left = self._until - time.monotonic()
        if left <= 0:
            raise WaitTimeout(f"the job is not over after {self._timeout_s:g} s; it goes on")
        return min(left, at_most)


async def changes(
    core: Core,
    job_id: str,
    *,
    timeout_s: float | None = None,
    on_look: Callable[[], None] | None = None,
    quiet_s: float = QUIET_S,
) -> AsyncGenerator[Json]:
    """The job's progress at every change, the one at the end of its round last.

    Args:
        core: Whom to ask.
        job_id: The job.
        timeout_s: Seconds to wait for its end at most.
        on_look: Called whenever something was heard, and after `quiet_s` seconds without.
        quiet_s: Seconds after which a stream that says nothing is left.

    Raises:
        WaitTimeout: the time is over.
    """
    last: Json | None = None
    async with aclosing(_heard(core, job_id, Patience(timeout_s), quiet_s)) as heard:
        async for shown in heard:
            if on_look:
                on_look()
            if shown is None or _without_clock(shown) == last:
                continue
            last = _without_clock(shown)
            yield shown
            if shown["status"] in TERMINAL:
                return


async def _heard(
    core: Core, job_id: str, patience: Patience, quiet_s: float
) -> AsyncGenerator[Json | None]:
    """What is heard of a job; None where it is but a sign of life."""
    last_id = ""
    while True:
        said_something = False
        async with aclosing(_stream(core, job_id, last_id, patience.left(quiet_s))) as events:
            async for event in events:
                said_something = True
                patience.left(0)
                last_id = event.id or last_id
                yield json.loads(event.data) if event.name in {"progress", "finished"} else None
        until = time.monotonic() + (0 if said_something else POLLING_S)
        while True:
            yield await _asked(core, job_id, patience)
            await core.port.sleep(patience.left(POLL_S))
            if time.monotonic() >= until:
                break


async def _asked(core: Core, job_id: str, patience: Patience) -> Json:
    try:
        return await core.get(f"/v1/jobs/{job_id}/progress", limit_s=patience.left(core.patience_s))
    except Unreachable:
        patience.left(0)
        raise


async def _stream(core: Core, job_id: str, last_id: str, quiet_s: float) -> AsyncGenerator[Event]:
    """The events of one stream, none where it is refused; ends however the stream ends."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
    timeout = httpx.Timeout(CONNECT_S, read=quiet_s)
    request = core.port.build("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=timeout)
    reader = EventReader()
    try:
        async with core.port.opened(request) as response:
            kind = response.headers.get("content-type", "")
            if response.status_code != httpx.codes.OK or "text/event-stream" not in kind:
                return
            async with aclosing(core.port.pieces(response)) as pieces:
                async for piece in pieces:
                    for event in reader.feed(piece):
                        yield event
                        if event.name in {"finished", "deleted"}:
                            return
    except httpx.TransportError:
        return  # whoever listens asks, with patience


def _without_clock(progress: Json) -> Json:
    return {k: v for k, v in progress.items() if k not in {"updated_at", "eta_s"}}
