"""The dashboard as a picture (SVG), drawn from answers to the queries of `panels.py`.

For the documentation: it shows what Grafana shows of the same numbers, and needs no Grafana.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from deploy.panels import ROWS, Panel, Query

WIDTH, GAP, TITLE = 1440, 10, 26
NUMBER_HEIGHT, LINES_HEIGHT = 84, 196
LEGEND, PLOT_TOP, PLOT_BOTTOM = 15, 34, 40
SHOWN = 12
"""Lines in a panel at most: those with the highest values."""
COLORS: Final = (
    "#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0",
    "#508642", "#cca300", "#447ebc", "#c15c17",
)  # fmt: skip
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#ccccdc}.t{font-size:12px;font-weight:600}"
    ".r{font-size:14px;font-weight:600}.n{font-size:30px;font-weight:600}.l{font-size:10px}"
    ".a{fill:#8e8e99;font-size:10px}.p{fill:#181b1f;stroke:#2c3235}.g{stroke:#2c3235}"
    "polyline{fill:none;stroke-width:1.4;stroke-linejoin:round}"
)


class Line(NamedTuple):
    """A series: its name, and seconds with values in the order of time."""

    name: str
    samples: Sequence[tuple[float, float]]


Answer = Sequence[tuple[Mapping[str, str], Sequence[tuple[float, float]]]]
"""Labels and samples of each series."""
Ask = Callable[[Query], Answer]
"""What a query answers."""


def drawn(ask: Ask, since: float, until: float) -> str:
    """The picture of everything between two times (seconds since the epoch)."""
    body: list[str] = []
    top = GAP
    for row in ROWS:
        body.append(f'<text class="r" x="{GAP}" y="{top + 17}">{escape(row.title)}</text>')
        top += TITLE
        width = (WIDTH - GAP * (len(row.panels) + 1)) / len(row.panels)
        height = max(NUMBER_HEIGHT if p.kind == "number" else LINES_HEIGHT for p in row.panels)
        for index, panel in enumerate(row.panels):
            left = GAP + index * (width + GAP)
            lines = [line for query in panel.queries for line in _lines(query, ask(query))]
            body.append(f'<g transform="translate({left:.1f},{top})">')
            body.append(f'<rect class="p" width="{width:.1f}" height="{height}" rx="3"/>')
            body.append(f'<text class="t" x="10" y="19">{escape(panel.title)}</text>')
            if panel.kind == "number":
                body.append(_number(panel, lines))
            else:
                body.extend(_plot(panel, lines, width, height, (since, until)))
            body.append("</g>")
        top += height + GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" '
        f'height="{top}"><style>{STYLE}</style><rect width="100%" height="100%" fill="#111217"/>'
    )
    return "\n".join([head, *body, "</svg>", ""])


def _lines(query: Query, answer: Answer) -> Iterator[Line]:
    for labels, samples in answer:
        name = query.legend
        for label in re.findall(r"\{\{(\w+)\}\}", query.legend):
            name = name.replace(f"{{{{{label}}}}}", labels.get(label, ""))
        finite = [(at, value) for at, value in samples if math.isfinite(value)]
        if finite:
            yield Line(name.strip(), finite)


def _number(panel: Panel, lines: Sequence[Line]) -> str:
    if not lines:
        return '<text class="n" x="10" y="62">-</text>'
    value = lines[0].samples[-1][1]
    bad = panel.bad_above is not None and value >= panel.bad_above
    color = "#e24d42" if bad else "#73bf69"
    return f'<text class="n" x="10" y="62" style="fill:{color}">{said(value, panel.unit)}</text>'


def _plot(
    panel: Panel, lines: Sequence[Line], width: float, height: float, times: tuple[float, float]
) -> Iterator[str]:
    left, right, bottom = 52.0, width - 10, height - PLOT_BOTTOM
    highest = max((value for line in lines for _, value in line.samples), default=0.0)
    top_value = 1.0 if panel.unit == "percentunit" else _round_up(highest)
    for part in range(3):
        value = top_value * part / 2
        y = bottom - (bottom - PLOT_TOP) * part / 2
        yield f'<line class="g" x1="{left}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield (
            f'<text class="a" x="{left - 5}" y="{y + 3:.1f}" text-anchor="end">'
            f"{said(value, panel.unit)}</text>"
        )
    since, until = times
    most = sorted(lines, key=lambda line: max(value for _, value in line.samples), reverse=True)
    for color, line in zip(COLORS, most[:SHOWN], strict=False):
        points = " ".join(
            f"{left + (right - left) * (at - since) / (until - since):.1f},"
            f"{bottom - (bottom - PLOT_TOP) * min(value, top_value) / top_value:.1f}"
            for at, value in line.samples
        )
        yield f'<polyline points="{points}" stroke="{color}"/>'
    yield from _legend(most, width, height)
    if not lines:
        yield f'<text class="a" x="{width / 2:.1f}" y="{height / 2}">nothing</text>'


def _legend(lines: Sequence[Line], width: float, height: float) -> Iterator[str]:
    """Two rows of names at most."""
    x, y = 10.0, height - 22.0
    for color, line in zip(COLORS, lines[:SHOWN], strict=False):
        needed = 20 + 5.9 * len(line.name)
        if x + needed > width:
            x, y = 10.0, y + LEGEND
        if y > height:
            return
        yield f'<rect x="{x:.1f}" y="{y - 3:.1f}" width="10" height="3" fill="{color}"/>'
        yield f'<text class="l" x="{x + 13:.1f}" y="{y + 1:.1f}">{escape(line.name)}</text>'
        x += needed


def _round_up(value: float) -> float:
    """1, 2 or 5 times a power of ten that is not below; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def said(value: float, unit: str) -> str:
    """A value for people."""
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit in {"bytes", "Bps"}:
        step = min(int(math.log(value, 1000)), 3) if value >= 1 else 0
        return f"{value / 1000**step:.3g} {('B', 'kB', 'MB', 'GB')[step]}" + "/s" * (unit == "Bps")
    suffix = {"s": " s", "cpm": " /min", "ops": " /s", "reqps": " /s"}.get(unit, "")
    text = f"{value:,.0f}" if value >= 100 else f"{value:.2g}"  # noqa: PLR2004
    return text + suffix
