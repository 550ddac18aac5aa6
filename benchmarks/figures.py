"""Figures for the documentation as SVG files, drawn on white from the elements of the reports' charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polytask.page.chart.svg import (
    COLOURS,
    DASHES,
    Scale,
    domain,
    marker,
    scale,
    short,
    spread,
    tag,
    text_width,
    ticks,
    write,
)

WIDTH, ROW, TOP, FOOT = 760.0, 24.0, 40.0, 30.0
FONT = "12px system-ui, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif"


@dataclass(frozen=True)
class Series:
    """Values by update, and their name."""

    name: str
    points: Sequence[tuple[float, float]]


def figure(title: str, height: float, drawn: Sequence[Markup]) -> str:
    """Return a file: the drawing on white, under its title."""
    svg = tag(
        "svg", tag("title", title), tag("rect", width=WIDTH, height=height, fill="#fff"),
        tag("text", title, x=12, y=22, font_weight="bold", fill="#222"), *drawn,
        xmlns="http://www.w3.org/2000/svg", role="img",
        viewBox=f"0 0 {WIDTH:g} {height:g}", style=f"font: {FONT}",
    )  # fmt: skip
    return f"{svg}\n"


def _upright(values: Sequence[float], to_x: Scale, top: float, bottom: float) -> list[Markup]:
    drawn: list[Markup] = []
    for value in values:
        x, stroke = to_x(value), "#333" if value == 0 else "#ddd"
        drawn += [tag("line", x1=x, x2=x, y1=top, y2=bottom, stroke=stroke)]
        drawn += [write(x, bottom + 17, short(value), anchor="middle", fill="#555")]
    return drawn


def interval_figure(title: str, rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Draw a row for each name, value, lower and upper end; an interval without 0 has a filled dot."""
    left = max(text_width(name) for name, *_ in rows) + 20
    right = WIDTH - 70
    low, high = domain([0.0, *(value for row in rows for value in row[1:])])
    to_x, bottom = scale(low, high, left, right), TOP + ROW * len(rows)
    drawn = _upright(ticks(low, high, 8), to_x, TOP, bottom)
    for number, (name, value, start, end) in enumerate(rows):
        y = TOP + ROW * (number + 0.5)
        drawn.append(write(left - 10, y + 4, name, anchor="end"))
        drawn.append(tag("line", x1=to_x(start), x2=to_x(end), y1=y, y2=y, stroke=COLOURS[0], stroke_width=2.5))
        drawn.append(marker(0, to_x(value), y, f"{name}: {value:+.1f}", 5, filled=start > 0 or end < 0))
        drawn.append(write(right + 10, y + 4, f"{value:+.1f}".replace("-", "\u2212")))
    return figure(title, bottom + FOOT, drawn)


def line_figure(title: str, series: Sequence[Series], height: float = 300.0) -> str:
    """Draw lines with their names at their ends."""
    points = [point for one in series for point in one.points]
    low, high = domain([y for _, y in points])
    left, right, bottom = 56.0, WIDTH - max(text_width(one.name) for one in series) - 24, height - FOOT - 14
    to_x, to_y = scale(0, max(x for x, _ in points), left, right), scale(low, high, bottom, TOP)
    drawn: list[Markup] = [write((left + right) / 2, height - 8, "updates", anchor="middle", fill="#555")]
    for value in ticks(low, high, 5):
        drawn.append(tag("line", x1=left, x2=right, y1=to_y(value), y2=to_y(value), stroke="#ddd"))
        drawn.append(write(left - 8, to_y(value) + 4, short(value), anchor="end", fill="#555"))
    drawn += [
        write(to_x(step), bottom + 17, short(step), anchor="middle", fill="#555")
        for step in ticks(0, max(x for x, _ in points), 6)
    ]
    for number, one in enumerate(series):
        path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in one.points)
        look = {"stroke": COLOURS[number], "stroke_width": 2, "stroke_dasharray": DASHES[number]}
        drawn.append(tag("polyline", points=path, fill="none", **look))
        drawn += [marker(number, to_x(x), to_y(y), f"{one.name}, update {x:g}: {y:.3f}") for x, y in one.points]
    ends = [to_y(one.points[-1][1]) for one in series]
    for one, end, place in zip(series, ends, spread(ends, 15, TOP, bottom), strict=True):
        last = to_x(one.points[-1][0])
        drawn.append(tag("line", x1=last + 5, y1=end, x2=right + 10, y2=place, stroke="#bbb", stroke_width=0.8))
        drawn.append(write(right + 12, place + 4, one.name))
    return figure(title, height, drawn)


def power_figure(title: str, name: str, series: Sequence[Series], height: float = 340.0) -> str:
    """Draw lines on axes of powers of ten, with their names at their ends.

    Args:
        name: of what the lines go by.
    """
    points = [point for one in series for point in one.points]
    logs = [[math.log10(value) for value in values] for values in zip(*points, strict=True)]
    (first, last), (low, high) = ((math.floor(min(values)), math.ceil(max(values))) for values in logs)
    left, right, bottom = 64.0, WIDTH - max(text_width(one.name) for one in series) - 34, height - FOOT - 14
    to_x, to_y = scale(first, last, left, right), scale(low, high, bottom, TOP)
    drawn: list[Markup] = [write((left + right) / 2, height - 8, name, anchor="middle", fill="#555")]
    for power in range(low, high + 1):
        drawn.append(tag("line", x1=left, x2=right, y1=to_y(power), y2=to_y(power), stroke="#ddd"))
        drawn.append(write(left - 8, to_y(power) + 4, f"{10.0**power:,g}", anchor="end", fill="#555"))
    room = text_width(f"{10**last:,}") + 10
    for power in range(first, last + 1, max(1, math.ceil(room / (to_x(first + 1) - to_x(first))))):
        drawn.append(write(to_x(power), bottom + 17, f"{10**power:,}", anchor="middle", fill="#555"))
    ends = [to_y(math.log10(one.points[-1][1])) for one in series]
    for number, (one, end, place) in enumerate(zip(series, ends, spread(ends, 15, TOP, bottom), strict=True)):
        places = [(to_x(math.log10(x)), to_y(math.log10(y))) for x, y in one.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        look = {"stroke_width": 2, "stroke_dasharray": DASHES[number % len(DASHES)]}
        drawn.append(tag("polyline", points=path, fill="none", stroke=COLOURS[number % len(COLOURS)], **look))
        drawn += [
            marker(number, x, y, f"{one.name}, {value[0]:,g} {name}: {value[1]:.3g}")
            for (x, y), value in zip(places, one.points, strict=True)
        ]
        drawn.append(
            tag("line", x1=places[-1][0] + 5, y1=end, x2=right + 14, y2=place, stroke="#bbb", stroke_width=0.8)
        )
        drawn.append(write(right + 17, place + 4, one.name))
    return figure(title, height, drawn)
