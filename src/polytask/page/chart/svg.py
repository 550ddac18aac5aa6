"""Common parts of all charts: elements, text widths, ticks, colours. Lengths are in CSS pixels."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import TypeAlias

from markupsafe import Markup, escape

# Maps a value to a position.
Scale: TypeAlias = Callable[[float], float]

# Okabe and Ito (2008): distinguishable with all kinds of colour vision; their yellow is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2")
WIDTH = 350  # so that a chart fits a screen of 400
FONT = 12
LINE = 15  # from one line of text to the next
_NARROW = frozenset("iljtfrI.,:;'|!()[] -\u2212/")
_BROAD = frozenset("mwMW@%&\u2026\u2014")


def tag(name: str, *children: Markup | str, **attributes: str | float) -> Markup:
    """Return an element; underscores in attribute names become hyphens, and all text is escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value)) for key, value in attributes.items()
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return value
    assert math.isfinite(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")


def canvas(label: str, width: float, height: float, *children: Markup) -> Markup:
    """Return a drawing with its text alternative."""
    return tag(
        "svg", *children, role="img", aria_label=label, width=width, height=height, viewBox=f"0 0 {width:g} {height:g}"
    )


def write(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#222", full: str = "", turned: bool = False,
    style: str = "",
) -> Markup:  # fmt: skip
    """Return a text whose baseline is at y.

    Args:
        full: the text before it was shortened.
        turned: whether it reads upwards.
        style: a class of `style.css`.
    """
    title = [tag("title", full)] if full and full != text else []
    more = {"transform": f"rotate(-90 {x:.2f} {y:.2f})"} if turned else {}
    more |= {"class_": style} if style else {}
    return tag("text", text, *title, x=x, y=y, text_anchor=anchor, fill=fill, **more)


def text_width(text: str) -> float:
    """Estimate the width of a text, rather too wide than too narrow (measured with DejaVu Sans, a wide font)."""
    return FONT * sum(map(_character_width, text))


def _character_width(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in _NARROW:
        return 0.42
    return 1.02 if character in _BROAD else 0.66 + 0.1 * character.isupper()


def cut(text: str, width: float) -> str:
    """Shorten a text in the middle until it fits: names often differ in their first or last letters."""
    text = " ".join(text.split()) or "\u2423"
    if text_width(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        shorter = f"{text[: (kept + 1) // 2]}\u2026{text[len(text) - kept // 2 :]}"
        if text_width(shorter) <= width:
            return shorter
    return "\u2026"


def wrapped(text: str, last: float, width: float) -> list[str]:
    """Wrap a text into lines of a width, with a smaller one for the last line; names break after - or _ or anywhere.

    >>> wrapped("partial", 100, 200)
    ['partial']
    """
    left = " ".join(text.split()) or "\u2423"
    lines: list[str] = []
    while left and text_width(left) > last:
        fits = next((end for end in range(len(left) - 1, 0, -1) if text_width(left[:end]) <= width), 1)
        breaks = [at + 1 for at in range(fits) if left[at] in " -_"]
        end = breaks[-1] if breaks else fits
        lines.append(left[:end])
        left = left[end:]
    return [*lines, left]


def finite(values: Sequence[float | None]) -> list[float]:
    """Return the values that can be drawn."""
    return [value for value in values if value is not None and math.isfinite(value)]


def domain(values: Sequence[float]) -> tuple[float, float]:
    """Return the minimum and the maximum with some margin, never equal."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values between two limits: multiples of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def scale(low: float, high: float, start: float, end: float) -> Scale:
    """Return a function that maps a value between two limits to a position between two others."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def short(value: float) -> str:
    """Format a tick label."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.4g}k"
    return f"{value:.4g}".replace("-", "\u2212")


def marker(index: int, x: float, y: float, title: str, size: float = 3.5, *, filled: bool = True) -> Markup:
    """Draw a point, with a shape for each series."""
    colour = COLOURS[index % len(COLOURS)]
    look: dict[str, str | float] = {"fill": colour if filled else "#fff", "stroke": colour, "stroke_width": 1.5}
    corners = _SHAPES[index % len(_SHAPES)]
    inner = tag("title", title)
    if not corners:
        return tag("circle", inner, cx=x, cy=y, r=size, **look)
    points = " ".join(f"{x + size * 1.2 * dx:.2f},{y + size * 1.2 * dy:.2f}" for dx, dy in corners)
    return tag("polygon", inner, points=points, **look)


_SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),
    ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    ((0, -1), (1, 0.8), (-1, 0.8)),
    ((0, -1.15), (1.15, 0), (0, 1.15), (-1.15, 0)),
    ((0, 1), (1, -0.8), (-1, -0.8)),
    ((0, -1.2), (0.35, -0.35), (1.2, 0), (0.35, 0.35), (0, 1.2), (-0.35, 0.35), (-1.2, 0), (-0.35, -0.35)),
)


def mixed(colour: str, share: float) -> str:
    """Mix white with a fraction in [0, 1] of a colour."""
    return "#" + "".join(f"{round(255 + (part - 255) * share):02x}" for part in _channels(colour))


def ink(background: str) -> str:
    """Return the text colour with the best contrast on a background (WCAG 2, section 1.4.3)."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in _channels(background))
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "#fff"


def ink_in_dark(background: str) -> str:
    """Return the text colour that becomes the best one in dark mode, which inverts drawings but keeps their hues."""
    red, green, blue = (255 - value for value in _channels(background))
    turned = (
        -0.574 * red + 1.43 * green + 0.144 * blue,  # hue-rotate(180deg), by the matrix of Filter Effects Level 1
        0.426 * red + 0.43 * green + 0.144 * blue,
        0.426 * red + 1.43 * green - 0.856 * blue,
    )
    shown = "#" + "".join(f"{round(min(255, max(0, value))):02x}" for value in turned)
    return "#fff" if ink(shown) == "#000" else "#000"


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions apart until neighbours have a minimum distance, in the same order, between two limits."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    least = low
    for index in order:
        moved[index] = max(moved[index], least)
        least = moved[index] + gap
    most = high
    for index in reversed(order):
        moved[index] = min(moved[index], most)
        most = moved[index] - gap
    return moved
