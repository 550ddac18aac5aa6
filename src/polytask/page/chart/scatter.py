"""Scatter charts of items with two properties, and their Pareto frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polytask.page.block import Chart
from polytask.page.chart.svg import (
    LINE,
    WIDTH,
    canvas,
    cut,
    domain,
    marker,
    scale,
    short,
    tag,
    text_width,
    ticks,
    write,
)

_TOP, _BOTTOM, _HEIGHT = 24, 40, 250


@dataclass(frozen=True)
class Point:
    """One item.

    Attributes:
        x: lower is better.
        y: higher is better.
        chosen: whether it is highlighted.
        group: determines its shape and colour.
    """

    name: str
    x: float | None
    y: float | None
    chosen: bool = False
    group: int = 0


def scatter_chart(
    title: str, points: Sequence[Point], *, x: str, y: str, line: tuple[float, str] | None = None
) -> Chart | None:
    """Draw points with their names and the frontier; None if there is nothing to draw.

    Args:
        title: title of the chart.
        points: the items.
        x, y: names of the axes.
        line: value of y to draw as a line, with its name.
    """
    drawable = [
        (point, point.x, point.y)
        for point in points
        if point.x is not None and point.y is not None and math.isfinite(point.x) and math.isfinite(point.y)
    ]
    if not drawable:
        return None
    low_x, high_x = domain([place for _, place, _ in drawable])
    low, high = domain([place for _, _, place in drawable] + ([] if line is None else [line[0]]))
    vertical = ticks(low, high, 4)
    left = max(map(text_width, map(short, vertical))) + 10
    to_x, to_y = scale(low_x, high_x, left + 6, WIDTH - 12), scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    drawn: list[Markup] = []
    for value in vertical:
        drawn.append(tag("line", x1=left, x2=WIDTH - 4, y1=to_y(value), y2=to_y(value), stroke="#ddd"))
        drawn.append(write(left - 6, to_y(value) + 4, short(value), anchor="end", fill="#555"))
    for value in ticks(low_x, high_x, 4):
        drawn.append(write(to_x(value), _HEIGHT - _BOTTOM + 16, short(value), anchor="middle", fill="#555"))
    drawn.append(write((left + WIDTH) / 2, _HEIGHT - 6, x, anchor="middle", fill="#555"))
    if line is not None:
        drawn.append(
            tag(
                "line", x1=left, x2=WIDTH - 4, y1=to_y(line[0]), y2=to_y(line[0]), stroke="#777", stroke_dasharray="5 3"
            )
        )
        drawn.append(write(WIDTH - 6, to_y(line[0]) + LINE - 2, line[1], anchor="end", fill="#555"))
    edge = frontier([(place_x, place_y) for _, place_x, place_y in drawable])
    if len(edge) > 1:
        path = " ".join(f"{to_x(place_x):.2f},{to_y(place_y):.2f}" for place_x, place_y in edge)
        drawn.append(tag("polyline", points=path, fill="none", stroke="#777", stroke_width=1.2))
    for point, place_x, place_y in drawable:
        title_text = f"{point.name}: {x} {place_x:.3g}, {y} {place_y:.3g}"
        drawn.append(
            marker(
                point.group, to_x(place_x), to_y(place_y), title_text, 4.5 if point.chosen else 3.2, filled=point.chosen
            )
        )
    crossed = None if line is None else to_y(line[0])
    drawn.extend(
        _names([(point.name, to_x(place_x), to_y(place_y)) for point, place_x, place_y in drawable], left, crossed)
    )
    names = "; ".join(
        f"{point.name} {short(place_x)}, {short(float(f'{place_y:.3g}'))}" for point, place_x, place_y in drawable
    )
    return Chart(title, canvas(f"Scatter chart, {title}, {y} over {x}: {names}.", WIDTH, _HEIGHT, *drawn))


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto-optimal points by increasing x.

    >>> frontier([(1, 0), (2, 3), (2, 1), (3, 2)])
    [(1, 0), (2, 3)]
    """
    best: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def _names(places: Sequence[tuple[str, float, float]], left: float, crossed: float | None) -> list[Markup]:
    """Draw each name next to its point if there is room; the other names are only in the titles of the points.

    Args:
        places: names with their positions.
        left: left edge of the plot.
        crossed: position of a line that must not cross a name.
    """
    taken: list[tuple[float, float, float]] = []
    drawn: list[Markup] = []
    for name, x, y in places:
        width = min(text_width(name), 120.0)
        starts = (x + 7, x - 7 - width)
        lines = [y + 4, y - 8, y + 16]
        if crossed is not None and abs(y - crossed) < LINE:
            lines = [crossed - 6, y + 16]
        for start, line in ((start, line) for line in lines for start in starts):
            inside = start >= left and start + width <= WIDTH
            free = all(start + width < a or b < start or abs(line - other) >= LINE - 2 for a, b, other in taken)
            if inside and free:
                taken.append((start, start + width, line))
                drawn.append(write(start, line, cut(name, width + 1), full=name))
                break
    return drawn
