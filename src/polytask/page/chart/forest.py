"""Forest plots: one row per value, with its full name on the left and its interval on a common axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polytask.page.block import Forest, ForestRow
from polytask.page.chart.svg import domain, finite, short, tag, ticks

_HEIGHT = 26


@dataclass(frozen=True)
class Dot:
    """A value with its interval and a reference.

    Attributes:
        shown: the value as text.
        reference: a second value, such as a baseline; drawn as a hollow circle.
        apart: whether the interval shows a difference; such a dot is filled.
    """

    label: str
    value: float | None
    shown: str
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    apart: bool = True


def forest(
    title: str,
    dots: Sequence[Dot],
    *,
    lines: Sequence[tuple[float, str]] = (),
    limits: tuple[float, float] | None = None,
) -> Forest | None:
    """Draw a row for each dot; None if there is nothing to draw.

    Args:
        title: title of the plot.
        dots: the values.
        lines: values to draw as vertical lines through all rows, with their names, such as no difference.
        limits: limits of the axis; by default those of the values.
    """
    drawable = [dot for dot in dots if finite([dot.value])]
    if not drawable:
        return None
    values = [value for dot in drawable for value in finite([dot.value, dot.low, dot.high, dot.reference])]
    low, high = limits or domain([*values, *(value for value, _ in lines)])
    axis = _Axis(low, high)
    grid = [_line(axis.place(value), "#e4e4e4") for value in ticks(low, high)]
    grid += [_line(axis.place(value), "#333", "" if value == 0 else "4 3", name) for value, name in lines]
    rows = [ForestRow(dot.label, dot.shown, _row(title, dot, grid, axis)) for dot in drawable]
    marks = [(short(value), f"{axis.place(value):.2f}") for value in ticks(low, high)]
    return Forest(title, rows, marks)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def place(self, value: float) -> float:
        """Return the position of a value in percent of the width."""
        return 100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


def _line(place: float, stroke: str, dash: str = "", name: str = "") -> Markup:
    children = [tag("title", name)] if name else []
    x = f"{place:.2f}%"
    return tag("line", *children, x1=x, x2=x, y1=0, y2=_HEIGHT, stroke=stroke, stroke_dasharray=dash)


def _row(title: str, dot: Dot, grid: Sequence[Markup], axis: _Axis) -> Markup:
    assert dot.value is not None
    y = _HEIGHT / 2
    drawn = list(grid)
    ends = finite([dot.low, dot.high])
    if len(ends) == 2:
        left, right = (f"{axis.place(end):.2f}%" for end in ends)
        drawn.append(tag("line", x1=left, x2=right, y1=y, y2=y, stroke="#0072B2", stroke_width=2.5))
        drawn.extend(
            tag("line", x1=x, x2=x, y1=y - 5, y2=y + 5, stroke="#0072B2", stroke_width=1.5) for x in (left, right)
        )
    for reference in finite([dot.reference]):
        name = f"{dot.label}: baseline {reference:.4f}"
        drawn.append(_circle(axis.place(reference), name, fill="#fff", stroke="#D55E00"))
    drawn.append(
        _circle(
            axis.place(dot.value),
            f"{dot.label}: {dot.shown}",
            fill="#0072B2" if dot.apart else "#fff",
            stroke="#0072B2",
        )
    )
    label = f"Forest plot, {title}: {dot.label} {dot.shown}"
    return tag("svg", *drawn, role="img", aria_label=label, width="100%", height=_HEIGHT)


def _circle(place: float, name: str, *, fill: str, stroke: str) -> Markup:
    """Draw a value as a circle: only circles and lines can have positions in percent."""
    where = {"cx": f"{place:.2f}%", "cy": _HEIGHT / 2, "r": 5}
    return tag("circle", tag("title", name), **where, fill=fill, stroke=stroke, stroke_width=1.8)
