"""Users of the API: each has a job, follows it as it goes, and looks around meanwhile.

A user creates a job of a few URLs, opens the stream of its events, and until that has ended looks,
after a pause each time, at the job's progress, at the job, at their jobs, at its chunks. Then comes
the next job. The next request is sent when the last one was answered and thought about, as people
and programs do; so what is slow is asked less, and shows as a longer time.
"""

import asyncio
import math
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import aiohttp

LOOKS: Mapping[str, tuple[str, int]] = {
    "GET /v1/jobs/{id}/progress": ("/v1/jobs/{}/progress", 5),
    "GET /v1/jobs/{id}": ("/v1/jobs/{}", 2),
    "GET /v1/jobs": ("/v1/jobs?limit=25", 2),
    "GET /v1/jobs/{id}/chunks": ("/v1/jobs/{}/chunks", 1),
}
"""What is looked at while a job goes on, and how often against the others."""
CREATE = "POST /v1/jobs"
FOLLOW = "GET /v1/jobs/{id}/events"
"""Its time is that to the first event."""
ROUTES = (CREATE, FOLLOW, *LOOKS)

ANSWER_S = 30.0
"""A request that is not answered in this time is an error."""
SILENCE_S = 60.0
"""Likewise a stream that says nothing for so long; it says something every 15 s."""
AGAIN_S = 2.0
"""Before a stream that broke is opened again."""
LOOK_S = 0.1


class Measured:
    """What the users saw.

    Attributes:
        seconds: Of each answer that was as it should be, by route.
        errors: What went wrong and how often, by route.
        finished: Jobs that were followed to their end.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: dict[str, Counter[str]] = defaultdict(Counter)
        self.finished = 0

    @property
    def requests(self) -> int:
        """All of them, those that went wrong too."""
        return sum(map(len, self.seconds.values())) + self.failures

    @property
    def failures(self) -> int:
        """Those that went wrong."""
        return sum(map(Counter.total, self.errors.values()))

    @property
    def error_share(self) -> float:
        """The part of all requests that went wrong, 0 to 1; of none all."""
        return self.failures / self.requests if self.requests else 1.0

    def percentile(self, route: str, share: float) -> float:
        """Seconds within which this share (0 to 1) of a route's answers came (nearest rank)."""
        ordered = sorted(self.seconds[route])
        return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else math.nan


class User:
    """One user, with a key and connections of their own.

    Args:
        url: The API's base address.
        key: The user's.
        urls: What jobs are made of; all of them each time.
        measured: Where it is noted.
        think_s: Seconds between an answer and the next request, in the mean.
        seed: Of what this user chooses.
    """

    def __init__(
        self,
        url: str,
        key: str,
        urls: Sequence[str],
        measured: Measured,
        *,
        think_s: float,
        seed: int,
    ) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._wish = {"urls": list(urls), "max_images": len(urls)}
        self._measured = measured
        self._think_s = think_s
        self._rng = random.Random(seed)
        self._over = asyncio.Event()

    def stop(self) -> None:
        """Ask for nothing more; what was asked for is still answered."""
        self._over.set()

    async def run(self) -> None:
        """Use the API until stopped."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with aiohttp.ClientSession(
            self._url, headers=self._headers, timeout=timeout
        ) as session:
            while not self._over.is_set():
                if job_id := await self._create(session):
                    await self._accompany(session, job_id)
                else:
                    await self._think()

    async def _accompany(self, session: aiohttp.ClientSession, job_id: str) -> None:
        following = asyncio.create_task(self._follow(session, job_id))
        routes, weights = list(LOOKS), [weight for _, weight in LOOKS.values()]
        try:
            while not (following.done() or self._over.is_set()):
                (route,) = self._rng.choices(routes, weights)
                await self._ask(session, "GET", LOOKS[route][0].format(job_id), route)
                await self._think(following)
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

    async def _think(self, *others: asyncio.Task[None]) -> None:
        """Do nothing for a while; not when it is over, or something else is."""
        pause_s = self._rng.expovariate(1 / self._think_s)
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait([over, *others], timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()

    async def _create(self, session: aiohttp.ClientSession) -> str | None:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        job = await self._ask(session, "POST", "/v1/jobs", CREATE, json=self._wish, headers=headers)
        return None if job is None else str(job["job_id"])

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, path: str, route: str, **request: Any
    ) -> Any:
        """The document that answers; None where none does, which is noted."""
        began = time.monotonic()
        try:
            async with session.request(method, path, **request) as response:
                document = await response.json(content_type=None)
                if not response.ok:
                    self._measured.errors[route][f"{response.status} {document['detail']}"] += 1
                    return None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
            self._measured.errors[route][_said(error)] += 1
            return None
        self._measured.seconds[route].append(time.monotonic() - began)
        return document

    async def _follow(self, session: aiohttp.ClientSession, job_id: str) -> None:
        """A job's events until its end; a stream that breaks off is an error, and goes on."""
        last_id = ""
        while True:
            try:
                last_id, finished = await self._stream(session, job_id, last_id)
                if finished:
                    self._measured.finished += 1
                    return
                self._measured.errors[FOLLOW]["it ended before the job"] += 1
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._measured.errors[FOLLOW][_said(error)] += 1
            await asyncio.sleep(AGAIN_S)

    async def _stream(
        self, session: aiohttp.ClientSession, job_id: str, last_id: str
    ) -> tuple[str, bool]:
        """One stream to its end: the last event's id, and whether that was the job's end."""
        began: float | None = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S, sock_read=SILENCE_S)
        path = f"/v1/jobs/{job_id}/events"
        async with session.get(
            path, headers={"Last-Event-ID": last_id}, timeout=timeout, raise_for_status=True
        ) as response:
            async for line in response.content:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event" and began is not None:
                    self._measured.seconds[FOLLOW].append(time.monotonic() - began)
                    began = None
                if field == "id":
                    last_id = value
                if field == "event" and value == "finished":
                    return last_id, True
        return last_id, response.status == 204


def _said(error: BaseException) -> str:
    return type(error).__name__ + (f": {error}" if str(error) else "")


async def use(
    url: str,
    keys: Sequence[str],
    urls: Sequence[str],
    *,
    users: int,
    over: Callable[[Measured], bool],
    think_s: float,
    ramp_s: float = 0.0,
) -> tuple[Measured, float]:
    """Let users at an API until `over` says so; what they saw, and in how many seconds.

    Args:
        url: The API's base address.
        keys: Users take turns at them.
        urls: What each job is made of.
        users: How many.
        over: Looked at ten times a second.
        think_s: See `User`.
        ramp_s: Seconds over which they arrive; evenly.
    """
    measured = Measured()
    crowd = [
        User(url, keys[number % len(keys)], urls, measured, think_s=think_s, seed=number)
        for number in range(users)
    ]
    began = time.monotonic()

    async def arrive(number: int, user: User) -> None:
        await asyncio.sleep(ramp_s * number / users)
        await user.run()

    tasks = [asyncio.create_task(arrive(*numbered)) for numbered in enumerate(crowd)]
    try:
        broken: set[asyncio.Task[None]] = set()
        while not (over(measured) or broken):
            broken, _ = await asyncio.wait(
                tasks, timeout=LOOK_S, return_when=asyncio.FIRST_EXCEPTION
            )
        seconds = time.monotonic() - began
        for user in crowd:
            user.stop()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return measured, seconds
