"""The HTTP API as the command uses it; it outlasts an API that is away for a while."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Self

import httpx
import tenacity

from pixcrawler.client.errors import ApiError, CommandError

PATIENCE_S = 300.0
"""How long an API that does not answer is asked again by what follows a job."""

BRIEF_PATIENCE_S = 30.0
"""The same for one question: a restart is outlasted, a wrong address is told soon."""

SILENCE_S = 2.0
"""How long an API may be away before people are told of it."""

AWAY = frozenset({502, 503, 504})
"""Statuses of a proxy or a server whose back is not there right now."""

Json = dict[str, Any]


class Away(Exception):
    """The API did not answer, or something in front of it answered for it."""


class Api:
    """A client of one API.

    Args:
        url: The API's base address.
        key: The API key.
        patience_s: Seconds for which an API that is away is asked again.
        on_away: Told once for each outage, in one line.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        patience_s: float = PATIENCE_S,
        on_away: Callable[[str], None] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=30.0)
        self._patience_s = patience_s
        self._on_away = on_away
        self._told_at = -patience_s
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the connections."""
        self._http.close()

    def get(self, path: str, **params: Any) -> Json:
        """The document at a path; parameters that are None are left out."""
        return self._document("GET", path, params=_given(params))

    def pages(self, path: str, **params: Any) -> Iterator[Json]:
        """All items of a paginated list."""
        cursor: str | None = None
        while True:
            page = self.get(path, **params, cursor=cursor)
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def post(
        self,
        path: str,
        body: Json | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Json:
        """Ask for something to be done."""
        return self._document(
            "POST", path, json=body, headers=dict(headers or {}), params=_given(params or {})
        )

    def delete(self, path: str) -> None:
        """Remove what is at a path."""
        self._document("DELETE", path)

    @contextmanager
    def stream(self, url: str, *, offset: int) -> Iterator[httpx.Response]:
        """A file's bytes from an offset on; the link carries its own permission.

        So the key stays here: the link may lead to a blob store, which would refuse it besides.
        """
        headers = {"Accept-Encoding": "identity"}  # offsets count the bytes as they are stored
        if offset:
            headers["Range"] = f"bytes={offset}-"
        request = self._http.build_request("GET", url, headers=headers, timeout=60.0)
        request.headers.pop("Authorization", None)
        with closing(self._http.send(request, stream=True)) as response:
            if _present(response).is_error:
                response.read()
                raise _refusal(response)
            yield response

    def stop(self) -> None:
        """Let no one wait any longer, in whichever thread."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether what is under way is to end."""
        return self._stopped.is_set()

    def patiently(self) -> tenacity.Retrying:
        """Tries again while the API is away, for as long as patience lasts."""
        return tenacity.Retrying(
            before_sleep=self._tell,
            sleep=tenacity.sleep_using_event(self._stopped),
            retry=tenacity.retry_if_exception_type((Away, httpx.TransportError)),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
            stop=tenacity.stop_after_delay(self._patience_s)
            | tenacity.stop_when_event_set(self._stopped),
            reraise=True,
        )

    def _tell(self, state: tenacity.RetryCallState) -> None:
        """Say that the API is away, once in a while."""
        began, now = state.start_time, time.monotonic()
        quiet = now - began < SILENCE_S or now - self._told_at < self._patience_s
        if self._on_away is None or quiet:
            return
        self._told_at = now
        self._on_away(
            f"the API at {self.url} does not answer: trying again for {self._patience_s:.0f} s"
        )

    def _document(self, method: str, path: str, **request: Any) -> Json:
        try:
            for attempt in self.patiently():
                with attempt:
                    response = _present(self._http.request(method, path, **request))
        except (Away, httpx.TransportError) as error:
            raise CommandError(
                f"the API at {self.url} does not answer ({error or type(error).__name__}): "
                "is it running? (pixcrawler status)"
            ) from error
        if response.is_error:
            raise _refusal(response)
        return self._read(response) if response.content else {}

    def _read(self, response: httpx.Response) -> Json:
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise CommandError(f"what answers at {self.url} is no JSON object: is it PixCrawler?")
        return document


def _present(response: httpx.Response) -> httpx.Response:
    if response.status_code in AWAY:
        raise Away(f"{response.status_code} {response.reason_phrase}")
    return response


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _refusal(response: httpx.Response) -> ApiError:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    return ApiError(
        response.status_code, str(problem.get("title", "")), str(problem.get("detail", ""))
    )
