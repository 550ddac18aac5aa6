"""Line charts: values over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polytask.page.block import Chart
from polytask.page.chart.svg import (
    COLOURS,
    DASHES,
    LINE,
    WIDTH,
    Scale,
    canvas,
    cut,
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

MOST_POINTS = 200  # of a line; more cannot be distinguished at this width
MOST_MARKERS = 24
_TOP, _BOTTOM, _LABEL = 10, 36, 104


@dataclass(frozen=True)
class Line:
    """A series of values, each at a step."""

    name: str
    points: Sequence[tuple[float, float | None]]

    def known(self) -> list[tuple[float, float]]:
        """Return the points to draw: finite ones, evenly thinned, including the first and the last."""
        finite_points = [(x, y) for x, y in self.points if y is not None and math.isfinite(x) and math.isfinite(y)]
        if len(finite_points) <= MOST_POINTS:
            return finite_points
        last = len(finite_points) - 1
        return [finite_points[round(index * last / (MOST_POINTS - 1))] for index in range(MOST_POINTS)]


def line_chart(title: str, lines: Sequence[Line], *, x: str = "step", start: float | None = None) -> Chart | None:
    """Draw lines with their names at their ends; None if there is nothing to draw.

    Args:
        title: title of the chart.
        lines: the lines.
        x: name of the horizontal axis.
        start: value at which the vertical axis starts, such as 0.
    """
    drawable = [(line.name, line.known()) for line in lines]
    drawable = [(name, points) for name, points in drawable if points]
    if not drawable:
        return None
    ends = [name if len(drawable) > 1 else short(float(f"{points[-1][1]:.3g}")) for name, points in drawable]
    room = min(_LABEL, max(map(text_width, ends))) + 16
    height = max(190.0, LINE * len(drawable) + _TOP + _BOTTOM + 8)
    low, high = domain([y for _, points in drawable for _, y in points])
    low = low if start is None else min(start, low + 0.06 * (high - low))
    vertical = ticks(low, high, 4)
    left = max(map(text_width, map(short, vertical))) + 10
    steps = [step for _, points in drawable for step, _ in points]
    first, last = (min(steps), max(steps)) if min(steps) < max(steps) else (min(steps) - 1, max(steps) + 1)
    to_x = scale(first, last, left, WIDTH - room)
    to_y = scale(low, high, height - _BOTTOM, _TOP)
    drawn = [*_grid(vertical, to_y, left, WIDTH - room), *_steps(first, last, to_x, height - _BOTTOM)]
    drawn.append(write((left + WIDTH - room) / 2, height - 4, x, anchor="middle", fill="#555"))
    for index, (name, points) in enumerate(drawable):
        drawn.extend(_series(index, name, [(to_x(step), to_y(y), step, y) for step, y in points]))
    places = spread([to_y(points[-1][1]) for _, points in drawable], LINE, _TOP + 2, height - _BOTTOM)
    for index, (label, place) in enumerate(zip(ends, places, strict=True)):
        end_x, end_y = to_x(drawable[index][1][-1][0]), to_y(drawable[index][1][-1][1])
        if abs(place - end_y) > 4:
            drawn.append(_leader(end_x + 4, end_y, WIDTH - room + 11, place))
        drawn.append(write(WIDTH - room + 13, place + 4, cut(label, room - 14), full=label))
    names = "; ".join(f"{name} ends at {short(float(f'{points[-1][1]:.3g}'))}" for name, points in drawable)
    return Chart(title, canvas(f"Line chart, {title}: {names}.", WIDTH, height, *drawn))


def _grid(values: Sequence[float], to_y: Scale, left: float, right: float) -> list[Markup]:
    drawn: list[Markup] = []
    for value in values:
        y = to_y(value)
        drawn.append(tag("line", x1=left, x2=right, y1=y, y2=y, stroke="#ddd"))
        drawn.append(write(left - 6, y + 4, short(value), anchor="end", fill="#555"))
    return drawn


def _steps(first: float, last: float, to_x: Scale, base: float) -> list[Markup]:
    return [
        part
        for value in ticks(first, last)
        if value.is_integer()
        for part in (
            tag("line", x1=to_x(value), x2=to_x(value), y1=base, y2=base + 4, stroke="#777"),
            write(to_x(value), base + 17, short(value), anchor="middle", fill="#555"),
        )
    ]


def _series(index: int, name: str, points: Sequence[tuple[float, float, float, float]]) -> list[Markup]:
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y, _, _ in points)
    drawn = [tag("polyline", points=path, fill="none", stroke=colour, stroke_width=1.8, stroke_dasharray=dash)]
    every = math.ceil(len(points) / MOST_MARKERS)
    shown = [point for place, point in enumerate(points) if place % every == 0 or place == len(points) - 1]
    drawn.extend(marker(index, x, y, f"{name}, step {step:g}: {value:.4g}", 2.8) for x, y, step, value in shown)
    return drawn


def _leader(x1: float, y1: float, x2: float, y2: float) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="#999", stroke_width=0.8)
