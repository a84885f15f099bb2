"""What can go wrong for a user: one line each, and the exit code that the command ends with.

```
ClientError                 the root; `code` is the command's exit code
├── NotRunning              there is no API to talk to
├── Unreachable             the API was away for longer than patience lasts
├── UnexpectedAnswer        what answers there is no PixCrawler
├── ApiError                the API refused; carries the problem document (RFC 9457)
│   ├── NotAuthorized       401 and 403: the key
│   ├── NotFound            404: no such thing, or it is not yours
│   ├── Conflict            409: not as things stand
│   ├── Invalid             422: values are wrong; `errors` names the fields
│   └── TooMany             429: over a limit; `retry_after_s` says when to come back
├── WaitTimeout             (also TimeoutError) the job was not over in time; it goes on
├── DatasetError            a folder or a file is not what it should be
└── PackageMissing          (also ImportError) a helper needs a package that is not installed
```
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pixcrawler.common.errors import PixCrawlerError

DONE, FAILED, USAGE, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done; it failed or was cancelled; wrong usage; finished but incomplete; Ctrl-C."""


class ClientError(PixCrawlerError):
    """It cannot be done.

    Args:
        message: One line that says what to do.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


CommandError = ClientError
"""As the command calls it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: everything ends as by Ctrl-C, but there may be nobody to ask."""


class NotRunning(ClientError):
    """There is no API to talk to, or not yet."""


class Unreachable(ClientError):
    """The API was away for longer than patience lasts."""


class UnexpectedAnswer(ClientError):
    """What answers there is no PixCrawler."""


class WaitTimeout(ClientError, TimeoutError):
    """The job was not over in time. It goes on."""


class DatasetError(ClientError):
    """A folder or a file is not what it should be."""


class PackageMissing(ClientError, ImportError):
    """A helper needs a package that is not installed; the message says how to get it."""


class ApiError(ClientError):
    """The API refused: its problem document in one line.

    Args:
        status: HTTP status.
        title: What kind of problem.
        detail: What to do about it.
        problem: The whole document as it came.
        retry_after_s: When to come back, if the API said so.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        problem: Mapping[str, Any] | None = None,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        hint = " (set PIXCRAWLER_API_KEY)" if status == 401 else ""  # noqa: PLR2004 - Unauthorized
        code = USAGE if status == 422 else FAILED  # noqa: PLR2004 - the caller's values are wrong
        super().__init__((detail or title or f"the API answered {status}") + hint, code)
        self.status = status
        self.title = title
        self.detail = detail
        self.problem = dict(problem or {})
        self.retry_after_s = retry_after_s

    @property
    def errors(self) -> Sequence[Mapping[str, str]]:
        """Which fields are wrong: `{"field": …, "message": …}` for each."""
        found = self.problem.get("errors")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


class NotAuthorized(ApiError):
    """401 or 403: there is no key, it is not valid, or its scope does not allow this."""


class NotFound(ApiError):
    """404: no such thing, or it is not yours."""


class Conflict(ApiError):
    """409: not as things stand."""


class Invalid(ApiError):
    """422: values are wrong; `errors` names the fields."""


class TooMany(ApiError):
    """429: over a limit; `retry_after_s` says when to come back."""


_KINDS: Mapping[int, type[ApiError]] = {
    401: NotAuthorized,
    403: NotAuthorized,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: TooMany,
}


def refusal(
    status: int, problem: Mapping[str, Any], *, retry_after_s: float | None = None
) -> ApiError:
    """The error for an answer of this status with this problem document."""
    kind = _KINDS.get(status, ApiError)
    title, detail = str(problem.get("title", "")), str(problem.get("detail", ""))
    return kind(status, title, detail, problem, retry_after_s=retry_after_s)
