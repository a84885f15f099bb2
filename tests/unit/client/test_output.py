import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from pixcrawler.client import output

LONG = "x" * 300


def test_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """However long: an id can be copied, a row found by grep; no blanks at the end."""
    output.table(("job", "n", "what"), [("a" * 36, 7, LONG), ("b", 1234, None)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "job" + " " * 33 + "     n  what",
        f"{'a' * 36}     7  {LONG}",
        f"b{' ' * 35}  1234",
    ]


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """The names of the columns alone."""
    output.table(("job", "status"), [])
    assert capsys.readouterr().out == "job  status\n"


def test_cells_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are no markup, line breaks no rows, times are UTC to the second, wide is wide."""
    when = datetime(2026, 1, 1, 2, 3, 4, 5678, tzinfo=timezone(timedelta(hours=1)))
    output.table(("a", "b", "c"), [("[bold]x", "two\nlines", when), ("小熊猫", "y", None)])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "[bold]x  two lines  2026-01-01 01:03:04Z",
        "小熊猫   y",
    ]


def test_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each, nested values as JSON."""
    output.fields({"id": LONG, "keywords": ["é"], "none": None})
    assert capsys.readouterr().out.splitlines() == [
        f"id        {LONG}",
        'keywords  ["é"]',
        "none",
    ]


def test_a_document_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON on one line whatever is in it, however wide the terminal is."""
    output.document({"text": f"a\n{LONG}", "when": datetime(2026, 1, 1, tzinfo=UTC)})
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"text": f"a\n{LONG}", "when": "2026-01-01T00:00:00+00:00"}


def test_notes_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, unbroken, as they are."""
    output.note(f"[x] {LONG}")
    assert capsys.readouterr() == ("", f"[x] {LONG}\n")
