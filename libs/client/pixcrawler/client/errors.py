"""What can go wrong for a user of the command: one line each, and an exit code."""

DONE, FAILED, USAGE, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done; it failed or was cancelled; wrong usage; finished but incomplete; Ctrl-C."""


class CommandError(Exception):
    """The command cannot go on.

    Args:
        message: One line that says what to do.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class ApiError(CommandError):
    """The API refused: its problem document in one line.

    Args:
        status: HTTP status.
        title: What kind of problem.
        detail: What to do about it.
    """

    def __init__(self, status: int, title: str, detail: str) -> None:
        hint = " (set PIXCRAWLER_API_KEY)" if status == 401 else ""  # noqa: PLR2004 - Unauthorized
        super().__init__((detail or title or f"the API answered {status}") + hint)
        self.status = status
        if status == 422:  # noqa: PLR2004 - Unprocessable Content: the caller's values are wrong
            self.code = USAGE
