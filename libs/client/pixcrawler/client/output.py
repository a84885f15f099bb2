"""How the command speaks: documents for machines on stdout, everything else for people."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console

people = Console(stderr=True, highlight=False)
"""What people read beside the result: progress, notes, errors."""

result = Console(highlight=False)
"""What people asked for."""


def document(value: object) -> None:
    """One JSON document on stdout, on one line."""
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextmanager
def stream(*, enabled: bool) -> Iterator[Callable[[object], None]]:
    """One JSON document `{"items": […]}` on stdout, item by item: what is listed may be long."""
    written = 0

    def item(value: object) -> None:
        nonlocal written
        text = json.dumps(value, default=_plain, ensure_ascii=False)
        sys.stdout.write(f"{', ' if written else ''}{text}")
        written += 1

    if enabled:
        sys.stdout.write('{"items": [')
    yield item
    if enabled:
        sys.stdout.write("]}\n")
        sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their column names; numbers to the right.

    Each row is one line however narrow the terminal is: an id is there to be copied, a line to be
    found by grep. What may be long is best put last.
    """
    body = [list(row) for row in rows]
    lines = [list(columns), *([_cell(cell) for cell in row] for row in body)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    numeric = [_is_numeric(body, index) for index in range(len(columns))]
    for number, line in enumerate(lines):
        cells = (
            f"{pad}{cell}" if right else f"{cell}{pad}"
            for cell, right, pad in (
                (cell, right, " " * (width - cell_len(cell)))
                for cell, width, right in zip(line, widths, numeric, strict=True)
            )
        )
        style = "bold" if number == 0 else ""
        result.print("  ".join(cells).rstrip(), style=style, markup=False, soft_wrap=True)


_SHARE = re.compile(r"[\d.,]+ %")


def _is_numeric(body: Sequence[Sequence[object]], index: int) -> bool:
    return bool(body) and all(
        isinstance(row[index], int | float) or _SHARE.fullmatch(str(row[index]).strip())
        for row in body
    )


def _cell(value: object) -> str:
    """As people read it, on one line; times in UTC, to the second."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return " ".join(str(value).split())


def moment(text: str | None) -> datetime | None:
    """A time as the API writes it."""
    return datetime.fromisoformat(text) if text else None


def seconds(value: float | None) -> str:
    """A span as people say it: 40 s, 5 min, 2.5 h, 3.1 d; nothing for None."""
    if value is None:
        return ""
    if value < 120:  # noqa: PLR2004 - two minutes
        return f"{value:.0f} s"
    if value < 7200:  # noqa: PLR2004 - two hours
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 172_800 else f"{value / 86_400:.1f} d"  # noqa: PLR2004 - two days


def fields(values: Mapping[str, object]) -> None:
    """One `name  value` line for each."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        many = isinstance(value, dict | list)
        shown = json.dumps(value, default=_plain, ensure_ascii=False) if many else _cell(value)
        result.print(f"{name:<{width}}  {shown}".rstrip(), markup=False, soft_wrap=True)


def note(message: str) -> None:
    """One line for people, on stderr."""
    people.print(message, markup=False, soft_wrap=True)


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)
