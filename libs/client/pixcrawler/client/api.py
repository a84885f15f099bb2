"""The HTTP API as the command uses it: the core, each call returning when it is done."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

from pixcrawler.client.core import Core, Json
from pixcrawler.client.patience import PATIENCE_S
from pixcrawler.client.ports import Blocking, drive, drive_each

__all__ = ["Api", "Json"]


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
        port = Blocking(self.url, authorization(key))
        self.core = Core(port, self.url, patience_s=patience_s, on_away=on_away)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the connections."""
        drive(self.core.port.close())

    def get(self, path: str, **params: Any) -> Json:
        """The document at a path; parameters that are None are left out."""
        return drive(self.core.get(path, **params))

    def pages(self, path: str, **params: Any) -> Iterator[Json]:
        """All items of a paginated list."""
        return drive_each(self.core.pages(path, **params))

    def post(
        self,
        path: str,
        body: Json | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Json:
        """Ask for something to be done."""
        return drive(self.core.post(path, body, headers=headers, params=params))

    def patch(self, path: str, body: Json, **params: Any) -> Json:
        """Change something."""
        return drive(self.core.patch(path, body, **params))

    def upload(
        self,
        path: str,
        content: Iterable[bytes],
        *,
        headers: Mapping[str, str],
        params: Mapping[str, Any],
    ) -> Json:
        """Send a file; the content is asked for its bytes again if they have to be sent again."""
        return drive(self.core.upload(path, content, headers=headers, params=params))

    def delete(self, path: str, **params: Any) -> None:
        """Remove what is at a path."""
        drive(self.core.delete(path, **params))

    @property
    def stopped(self) -> bool:
        """Whether what is under way is to end."""
        return self.core.port.stopped


def authorization(key: str) -> dict[str, str]:
    """The headers that show a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}
