"""Line charts as SVG, without a library: two axes, a grid, a legend."""

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 34, 40
COLOURS = ("#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce", "#525252")


def lines(title: str, x: str, y: str, series: Mapping[str, Points]) -> str:
    """A chart of several lines that begins at 0 on both axes.

    Args:
        title: Above it.
        x: What the horizontal axis counts.
        y: What the vertical axis counts.
        series: Points of each line by its name.
    """
    right = math.ceil(max((px for points in series.values() for px, _ in points), default=0)) or 1
    top = _round_up(max((py for points in series.values() for _, py in points), default=1) or 1)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(px: float, py: float) -> str:
        return f"{LEFT + wide * px / right:.1f},{TOP + high * (1 - py / top):.1f}"

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
    )
    parts = [
        head,
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 20, title, size=14),
        _text(LEFT + wide / 2, HEIGHT - 6, x, anchor="middle"),
        _text(8, TOP - 8, y),
    ]
    for tick in range(5):
        px, py = right * tick / 4, top * tick / 4
        line_y = TOP + high * (1 - tick / 4)
        parts += [
            f'<path d="M{LEFT} {line_y:.1f}h{wide}" stroke="#d4d4d4"/>',
            _text(LEFT - 6, line_y + 4, f"{py:g}", anchor="end"),
            _text(LEFT + wide * tick / 4, TOP + high + 16, f"{px:g}", anchor="middle"),
        ]
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(place(px, py) for px, py in points)
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>',
            _text(WIDTH - RIGHT + 12, TOP + 14 + 18 * number, name, colour=colour),
        ]
    return "\n".join([*parts, "</svg>", ""])


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 12,
    anchor: str = "start",
    colour: str = "#262626",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(words)}</text>'
    )


def _round_up(value: float) -> float:
    step = 1.0
    while step * 10 <= value:
        step *= 10
    while step > value:
        step /= 10
    return next(step * n for n in (1, 2, 4, 6, 8, 10, 20) if step * n >= value)
