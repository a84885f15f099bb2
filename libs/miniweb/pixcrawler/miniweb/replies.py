"""What a URL does when it is asked: values that the server acts out."""

from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]

FOR_EVER_S = 120.0
"""How long silence lasts: longer than any client of the tests waits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; `content_type` None leaves the header out."""

    body: bytes
    content_type: str | None = "image/jpeg"
    headers: Headers = ()
    status: int = 200
    chunked: bool = False


@dataclass(frozen=True, slots=True)
class RetryLater:
    """An error that names the time: `Retry-After` in seconds, or as a date `delay_s` from now."""

    status: int
    delay_s: int
    as_date: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """Claims `claimed` bytes, sends some, then resets or just closes the connection.

    Without `headers` the connection ends before anything was said.
    """

    sent: bytes
    claimed: int
    reset: bool
    headers: bool = True


@dataclass(frozen=True, slots=True)
class Silence:
    """Sends the headers and `sent`, or nothing at all, and then nothing for ever."""

    sent: bytes | None = None


@dataclass(frozen=True, slots=True)
class Drip:
    """The body, `piece` bytes at a time with a pause of `pause_s` after each."""

    body: bytes
    piece: int
    pause_s: float


@dataclass(frozen=True, slots=True)
class Endless:
    """A body that begins as a JPEG does and never ends; `packed`: gzip of zeros, some kB a MB."""

    packed: bool = False


@dataclass(frozen=True, slots=True)
class Redirect:
    """To `location`, as it stands."""

    location: str
    status: int = 302


Reply = Answer | RetryLater | Broken | Silence | Drip | Endless | Redirect


@dataclass(frozen=True, slots=True)
class Flaky:
    """The first requests for a URL get `first`, one after the other; all others get `then`."""

    first: tuple[Reply, ...]
    then: Reply
