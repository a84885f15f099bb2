"""Errors that name the next step.

```
PixCrawlerError
├── SettingsError      a setting is wrong or missing: the program stops at the start, one line
├── Signal             what a handler tells the consumer loop to do with the record in hand
│   ├── Retry          transient: again in this process, after a backoff
│   ├── GiveUp         this attempt failed: `chunk.failed`, and the planner decides
│   ├── Poison         no code can read it: to the dead letters
│   └── Stopped        the job was cancelled or deleted, or is unknown: acknowledge, no more
├── Fatal              this process cannot go on: it ends, and the supervisor starts another
└── BlobNotFound       no object of that name
```
"""


class PixCrawlerError(Exception):
    """The root of everything that this project raises on purpose."""


class SettingsError(PixCrawlerError):
    """A setting is wrong or missing; the message is one line that says what to do."""


class Signal(PixCrawlerError):
    """What a handler tells the consumer loop to do with the record in hand."""


class Retry(Signal):
    """Something transient failed; the loop calls the handler again after a backoff.

    Args:
        message: What failed, for people.
        error: A short word for machines, used if the retries run out (`chunk.failed`).
    """

    def __init__(self, message: str, *, error: str = "transient") -> None:
        super().__init__(message)
        self.error = error


class GiveUp(Signal):
    """This attempt at the chunk failed.

    Args:
        message: One sentence for people.
        error: A short word for machines.
        retriable: Whether another attempt may help.
    """

    def __init__(self, message: str, *, error: str, retriable: bool) -> None:
        super().__init__(message)
        self.error = error
        self.retriable = retriable


class Poison(Signal):
    """No code here can read this record."""


class Stopped(Signal):
    """The job was cancelled or deleted, or is unknown: acknowledge and do no more."""


class Fatal(PixCrawlerError):
    """This process cannot go on; it ends with exit code 1 and is started again."""


class BlobNotFound(PixCrawlerError):
    """No object of that name.

    Args:
        name: The object's name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"no object {name}")
        self.name = name
