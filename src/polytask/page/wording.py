"""Formatting of values on a page: numbers, differences, intervals, places, and predictions of every task."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any


def number(value: float | None, digits: int = 4) -> str:
    """Format a score."""
    if value is None or not math.isfinite(value):
        return "undefined"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace(
        "-", "\u2212"
    )  # adding 0 removes the minus sign of a negative zero


def signed(value: float | None, digits: int = 4) -> str:
    """Format a difference."""
    shown = number(value, digits)
    return f"+{shown}" if value is not None and math.isfinite(value) and round(value, digits) > 0 else shown


def interval(low: float | None, high: float | None, *, sign: bool = False, digits: int = 4) -> str:
    """Format an interval; empty if there is none."""
    if low is None or high is None:
        return ""
    write = signed if sign else number
    return f"{write(low, digits)} to {write(high, digits)}"


def points(value: float | None) -> str:
    """Format a difference of scores in points, hundredths of the metric's unit.

    >>> points(0.0123), points(None)
    ('+1.2', 'undefined')
    """
    return signed(None if value is None else 100 * value, 1)


def points_interval(low: float | None, high: float | None) -> str:
    """Format an interval of a difference in points; empty if there is none."""
    return "" if low is None or high is None else f"{points(low)} to {points(high)}"


def in_points(value: float | None) -> float | None:
    """Return a difference of scores in points, for drawing."""
    return None if value is None else 100 * value


def count(value: float | None) -> str:
    """Format a large integer."""
    return "unknown" if value is None or not math.isfinite(value) else f"{value:,.0f}".replace(",", "\u202f")


def sentence(text: str) -> str:
    """Capitalise a sentence from the terminal, and format its negative numbers as on the page.

    >>> sentence("with a-1, it is -1.5 points [-2.0, +0.1]; --folds 5")
    'With a-1, it is −1.5 points [−2.0, +0.1]; --folds 5'
    """
    return re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text[:1].upper() + text[1:])


def isolated(text: str) -> str:
    """Isolate a text that may be right-to-left, so that it does not affect its surroundings (Unicode Annex 9)."""
    return f"\u2068{text}\u2069"


def placed(place: str, row: int) -> str:
    """Format the place of a row, without the folders of its file; if unknown, its number in the split.

    >>> placed("/data/reviews.csv:12", 3), placed("dev row 3", 2), placed("", 3)
    ('reviews.csv:12', 'dev row 3', 'row 3 of the split')
    """
    name = re.split(r"[/\\]", place)[-1] if re.search(r":\d+$", place) else place
    return name or f"row {row} of the split"


def answer(value: Any) -> str:  # noqa: ANN401
    """Format a label or prediction of any task: a class, classes, a number, tags or spans."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list) and value and all(isinstance(tag, str) and re.match(r"O$|[BI]-", tag) for tag in value):
        return _entities(value)
    nested = nested_spans(value)
    if value and nested is not None:
        return _written(nested)
    if isinstance(value, list):
        return ", ".join(isolated(answer(part)) for part in value) or "none"
    if isinstance(value, dict):
        return " ".join(answer(part) for part in value.values())
    return "none" if value is None else str(value)


def tag_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the spans of a row's BIO tags: label, first and last word, counted from 1."""
    spans: list[tuple[str, int, int]] = []
    for place, tag in enumerate(tags, start=1):
        label = tag[2:]
        if tag.startswith("I-") and spans and spans[-1][0] == label and spans[-1][2] == place - 1:
            spans[-1] = (label, spans[-1][1], place)
        elif label:
            spans.append((label, place, place))
    return spans


def nested_spans(value: Any) -> list[tuple[str, int, int]] | None:  # noqa: ANN401
    """Return possibly nested spans, given as one text per word that lists length and label; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return None
    lines = [(place, line) for place, text in enumerate(value, start=1) for line in text.split("\n") if line]
    matches = [(place, re.fullmatch(r"([1-9]\d*)\t(.+)", line)) for place, line in lines]
    spans = [(match[2], place, place + int(match[1]) - 1) for place, match in matches if match]
    fit = len(spans) == len(lines) and all(last <= len(value) for _, _, last in spans)
    return spans if fit else None


def _entities(tags: Sequence[str]) -> str:
    return _written(tag_spans(tags))


def _written(spans: Sequence[tuple[str, int, int]]) -> str:
    written = (f"{label} {first}" if first == last else f"{label} {first}\u2013{last}" for label, first, last in spans)
    return ", ".join(written) or "none"
