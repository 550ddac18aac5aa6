"""Dots with intervals: scores beside their baselines, differences beside nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polytask.page.block import Chart
from polytask.page.chart.svg import (
    LINE,
    WIDTH,
    Scale,
    canvas,
    domain,
    finite,
    marker,
    scale,
    short,
    tag,
    text_width,
    ticks,
    wrapped,
    write,
)

_ROW, _BASE, _SIDE = 38, 24, 12


@dataclass(frozen=True)
class Dot:
    """A value with its interval and what it is held against.

    Attributes:
        shown: the value as text.
        reference: a second value, such as a baseline's; drawn as a hollow diamond.
        apart: whether the interval speaks for a difference; such a dot is filled.
    """

    label: str
    value: float | None
    shown: str
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    apart: bool = True


def dot_chart(title: str, dots: Sequence[Dot], *, lines: Sequence[tuple[float, str]] = ()) -> Chart | None:
    """Draw a row for each dot, its label above it; None when there is nothing to draw.

    Args:
        lines: values that are drawn through all rows, with their names, such as no difference.
    """
    known = [dot for dot in dots if finite([dot.value])]
    if not known:
        return None
    values = [value for dot in known for value in finite([dot.value, dot.low, dot.high, dot.reference])]
    low, high = domain([*values, *(value for value, _ in lines)])
    to_x = scale(low, high, _SIDE, WIDTH - _SIDE)
    labels = [wrapped(dot.label, WIDTH - 2 * _SIDE - text_width(dot.shown) - 12, WIDTH - 2 * _SIDE) for dot in known]
    tops = [_ROW * row + LINE * (sum(map(len, labels[:row])) - row) for row in range(len(known) + 1)]
    height = tops[-1] + _BASE
    drawn: list[Markup] = []
    shown_ticks = [value for value in ticks(low, high, 5)]
    for value in shown_ticks:
        drawn.append(tag("line", x1=to_x(value), x2=to_x(value), y1=0, y2=height - _BASE + 4, stroke="#e4e4e4"))
        place = min(max(to_x(value), text_width(short(value)) / 2), WIDTH - text_width(short(value)) / 2)
        drawn.append(write(place, height - 5, short(value), anchor="middle", fill="#555"))
    for value, name in lines:
        look = {"stroke": "#333", "stroke_dasharray": "" if value == 0 else "4 3"}
        drawn.append(tag("line", tag("title", name), x1=to_x(value), x2=to_x(value), y1=0, y2=height - _BASE, **look))
    for dot, lines_of, top in zip(known, labels, tops, strict=False):
        drawn.extend(_row(dot, lines_of, top, to_x))
    words = "; ".join(f"{dot.label} {dot.shown}" for dot in known)
    return Chart(title, canvas(f"Dot chart, {title}: {words}.", WIDTH, height, *drawn))


def _row(dot: Dot, label: Sequence[str], top: float, to_x: Scale) -> list[Markup]:
    """Draw a dot below its label; a label that is too long for the line of the value goes on above it."""
    assert dot.value is not None
    above = LINE * (len(label) - 1)
    y = top + above + 26
    drawn = [
        tag("rect", x=0, y=top + 1, width=WIDTH, height=above + 17, fill="#fff", fill_opacity=0.85),
        *(write(_SIDE - 8, top + 14 + LINE * number, line) for number, line in enumerate(label)),
        write(WIDTH - _SIDE + 8, top + above + 14, dot.shown, anchor="end"),
    ]
    limits = finite([dot.low, dot.high])
    if len(limits) == 2:
        left, right = to_x(limits[0]), to_x(limits[1])
        drawn.append(tag("line", x1=left, x2=right, y1=y, y2=y, stroke="#0072B2", stroke_width=2.5))
        drawn.extend(
            tag("line", x1=x, x2=x, y1=y - 4, y2=y + 4, stroke="#0072B2", stroke_width=1.5) for x in (left, right)
        )
    for reference in finite([dot.reference]):
        drawn.append(_diamond(to_x(reference), y, f"{dot.label}: baseline {reference:.4f}"))
    drawn.append(marker(0, to_x(dot.value), y, f"{dot.label}: {dot.shown}", 4.2, filled=dot.apart))
    return drawn


def _diamond(x: float, y: float, title: str) -> Markup:
    points = f"{x:.2f},{y - 5.5:.2f} {x + 5.5:.2f},{y:.2f} {x:.2f},{y + 5.5:.2f} {x - 5.5:.2f},{y:.2f}"
    return tag("polygon", tag("title", title), points=points, fill="#fff", stroke="#D55E00", stroke_width=1.8)
