"""Heat maps: matrices with numbers in their cells, so that colour is only an aid."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from markupsafe import Markup

from polytask.page.block import Chart
from polytask.page.chart.svg import WIDTH, canvas, cut, finite, ink, ink_in_dark, mixed, tag, text_width, write
from polytask.page.wording import number

_HEIGHT, _ROW_LABEL, _WHOLE, _COLUMN_LABEL = 26, 116, 600, 110
_HIGH, _LOW, _UNKNOWN = "#0072B2", "#D55E00", "#dddddd"


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    most: float,
    texts: Sequence[Sequence[str]] | None = None,
    whole: bool = False,
    grey: Collection[tuple[int, int]] = (),
) -> Chart | None:
    """Draw a matrix: blue above zero, orange below, white at zero; None if there is nothing to draw.

    Args:
        title: title of the chart.
        rows, columns: names of the rows and columns.
        values: rows x columns; None for unknown values.
        most: absolute value that gets the full colour.
        texts: texts of the cells; the values by default.
        whole: whether the names of rows are never shortened.
        grey: cells (row, column) with meaningless values.
    """
    if not rows or not columns or not finite([value for row in values for value in row]):
        return None
    cell_texts = texts if texts is not None else [[_cell_text(value) for value in row] for row in values]
    widest = max(text_width(text) for row in cell_texts for text in row)
    width = max(34.0, widest + 8)
    turned = any(text_width(name) > width - 4 for name in columns)
    names = [cut(name, _COLUMN_LABEL) for name in columns]
    top = (max(map(text_width, names)) if turned else 14) + 8
    room = _WHOLE if whole else _ROW_LABEL
    left = min(room, max(map(text_width, rows))) + 10
    drawn: list[Markup] = []
    for place, name in enumerate(names):
        x = left + width * (place + 0.5)
        if turned:
            drawn.append(write(x + 4, top - 6, name, full=columns[place], turned=True))
        else:
            drawn.append(write(x, top - 6, name, anchor="middle", full=columns[place]))
    for line, name in enumerate(rows):
        y = top + _HEIGHT * line
        drawn.append(write(left - 6, y + 17, cut(name, left - 10), anchor="end", full=name))
        for place, value in enumerate(values[line]):
            where = f"{name}, {columns[place]}: {cell_texts[line][place]}"
            value = None if (line, place) in grey else value
            drawn.extend(_cell(left + width * place, y, width, value, cell_texts[line][place], most, where))
    total = left + width * len(columns) + 2
    label = f"Heat map, {title}: {len(rows)} rows ({', '.join(rows)}), {len(columns)} columns."
    return Chart(title, canvas(label, total, top + _HEIGHT * len(rows) + 2, *drawn), total > WIDTH)


def _cell(
    x: float, y: float, width: float, value: float | None, text: str, most: float, title: str
) -> tuple[Markup, Markup]:
    known = finite([value])
    share = min(1.0, abs(known[0]) / most) if known and most > 0 else 0.0
    colour = mixed(_LOW if known and known[0] < 0 else _HIGH, share) if known else _UNKNOWN
    box = tag("rect", tag("title", title), x=x, y=y, width=width, height=_HEIGHT, fill=colour, stroke="#fff")
    style = "" if ink(colour) == ink_in_dark(colour) else "other-ink"
    return box, write(x + width / 2, y + 17, text, anchor="middle", fill=ink(colour), style=style)


def _cell_text(value: float | None) -> str:
    return number(value, 2) if value is not None and finite([value]) else "\u2013"
