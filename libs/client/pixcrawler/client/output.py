"""How the command speaks: documents for machines on stdout, everything else for people."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

people = Console(stderr=True, highlight=False)
"""What people read beside the result: progress, notes, errors."""

result = Console(highlight=False)
"""What people asked for."""


def document(value: object) -> None:
    """One JSON document on stdout, on one line."""
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their column names; numbers to the right."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    body = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) for row in body) and bool(body)
        shown.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in body:
        # As text: what is in square brackets is no markup, whoever wrote it.
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    result.print(shown)


def fields(values: Mapping[str, object]) -> None:
    """One `name  value` line for each."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        shown = json.dumps(value, default=_plain) if isinstance(value, dict | list) else value
        result.print(f"{name:<{width}}  {'' if shown is None else shown}", markup=False)


def note(message: str) -> None:
    """One line for people, on stderr."""
    people.print(message, markup=False, soft_wrap=True)


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)
