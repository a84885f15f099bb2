"""What the command shows to people."""

import pytest
from rich.console import Console

from pixcrawler.client import output


def test_brackets_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error message or a keyword with square brackets is text: not markup, and no crash."""
    monkeypatch.setattr(output, "result", Console(width=200))
    output.table(("chunk", "error"), [(0, "[/tmp] is full"), (1, "a [red] panda"), (2, None)])
    shown = capsys.readouterr().out
    assert "[/tmp] is full" in shown
    assert "a [red] panda" in shown
