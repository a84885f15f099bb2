"""Logging: structlog on top of the standard library, so that libraries' lines look like ours.

Text for people, one JSON object a line for machines. Whatever is bound to the context (`bound`)
is on every line that is logged inside it, also by libraries.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Literal

import structlog
from structlog.typing import Processor

_QUIET = ("aiokafka", "azure", "aiohttp.access", "asyncio", "httpx", "urllib3")
"""Libraries that tell at `info` what only they care about."""

_CHATTY, _CHATTY_EVERY_S = ("aiokafka", "opentelemetry"), 10.0
"""While the broker is away its client says so a hundred times a second, several ways; a collector
of spans that is away is told of with every batch."""

_SECRETS: Final = (
    (re.compile(r"""(?<=://)[^\s/?#"'<>@\\]+@"""), "***@"),
    (
        re.compile(
            r"""\b(sig|signature|AccountKey|SharedAccessSignature|password)"""
            r"""(=|%3D)[^\s&;,"'<>\\]+""",
            re.IGNORECASE,
        ),
        r"\1\2***",
    ),
    (re.compile(r"\b(pxc_[0-9a-f]{12}|whsec)_[0-9A-Za-z+/=]+"), r"\1_***"),
)
"""What is left out of every line, and what stands there instead. `postgresql://user:password@host`,
`https://user:password@host`; signed links, Azure's and ours; connection strings; keys of the API,
of which the id stays; secrets of webhooks."""

_UNBOUND = {"task_id": "", "chunk": "", "job": "", "trace_id": ""}
"""What a stage binds while it works (its `phase` is its name); machines find it on every line."""


def configure(
    service: str, worker: str, *, level: str = "info", style: Literal["text", "json"] = "text"
) -> None:
    """Set the process's logging up, to standard error.

    Args:
        service: Name of the program; in JSON on every line.
        worker: This replica's name; in JSON on every line.
        level: `debug`, `info`, `warning` or `error`.
        style: For people, or for machines.
    """
    shared = _shared_processors()
    as_json = style == "json"
    if as_json:
        shared.append(
            _default({"service": service, "worker": worker, "phase": service, **_UNBOUND})
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Masking(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_json_renderers() if as_json else _text_renderers()),
            ],
        )
    )
    for name in _CHATTY:
        handler.addFilter(Seldom(name, _CHATTY_EVERY_S))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


@contextmanager
def silenced() -> Iterator[None]:
    """Say nothing meanwhile: for commands that borrow code of services."""
    before, disabled = structlog.get_config(), logging.root.manager.disable
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        structlog.configure(**before)
        logging.disable(disabled)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `log.info("what happened", action="…", key=value)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def bound(**fields: object) -> AbstractContextManager[None]:
    """Fields on every line that is logged inside the context (also in tasks started there)."""
    return structlog.contextvars.bound_contextvars(**fields)


def masked(text: str) -> str:
    """The text without what opens something: credentials in addresses, signatures, keys.

    Nothing of ours logs a secret; but errors quote what they failed at, and the URLs that people
    hand in are theirs to choose.
    """
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class _Masking(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        """The line, tracebacks included, without secrets."""
        return masked(super().format(record))


class Seldom(logging.Filter):
    """Lets a library say the same thing once in a while only, and how often it wanted to.

    Args:
        name: The library's logger; others are let through.
        every_s: Seconds between two lines of the same message, whatever its arguments are.
        clock: Monotonic seconds.
    """

    def __init__(
        self, name: str, every_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name)
        self._every_s = every_s
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if not super().filter(record):
            return True
        key, now = (record.name, str(record.msg)), self._clock()
        at, left_out = self._said.get(key, (-self._every_s, 0))
        if now - at < self._every_s:
            self._said[key] = (at, left_out + 1)
            return False
        self._said[key] = (now, 0)
        if left_out:
            record.msg = f"{record.msg} ({left_out} more like this were left out)"
        return True


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _default(fields: Mapping[str, str]) -> Processor:
    """Fields that every line has, whether they are bound or not."""

    def add(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        for name, value in fields.items():
            event.setdefault(name, value)
        return event

    return add


def _json_renderers() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(default=str),
    ]


def _text_renderers() -> list[Processor]:
    # Plain: the default shows every local of every frame, keys and passwords included.
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
