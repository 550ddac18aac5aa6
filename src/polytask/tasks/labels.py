"""Label cells: one spelling for what is certainly the same label, and cells that mean `not labelled`."""

from __future__ import annotations

import math
import re
import unicodedata
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np

from polytask.tasks.cells import brief, choices_in
from polytask.tasks.task_options import TaskOptions

_TRUTH = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
# A whole number as pandas writes it if a column has gaps; `01` and `1.` may be codes.
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")


def label_text(value: Any) -> str:  # noqa: ANN401
    """Return a label cell as text: one spelling for what is certainly the same label, in every file.

    Outer spaces are removed, truth values become `true` and `false`, and `1.0` becomes `1`. Raises ValueError unless
    the cell is visible text, a whole number or a truth value.

    >>> label_text(" pos "), label_text("True"), label_text("1.0"), label_text(1.0), label_text("1.5")
    ('pos', 'true', '1', '1', '1.5')
    """
    if isinstance(value, str):
        text = value.strip()
        if not is_seen(text):
            raise ValueError(f"found {value!r}, a label without a visible character; leave it out")
        if "\0" in text:
            raise ValueError(f"found {value!r}; a label has no NUL character (which other programs write as \\0)")
        number = _WHOLE.fullmatch(text)
        return str(int(number[1])) if number else _TRUTH.get(text, text)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Integral):  # includes NumPy's integers
        return str(value)
    raise ValueError(f"found {value!r}; a label is text or a whole number")


def only_item(value: Any) -> Any:  # noqa: ANN401
    """Return the label in a list of one, or in an object of choices, as annotation tools write it; None for no label.

    Raises ValueError for a longer list.

    >>> only_item(["pos"]), only_item([]), only_item("pos")
    ('pos', None, 'pos')
    """
    items = value if isinstance(value, list) else choices_in(value)
    if items is None:
        return value
    if len(items) > 1:
        raise ValueError(f"found {brief(value)}; a text has one label here, and several with `type: multilabel`")
    return items[0] if items else None


def is_seen(text: str) -> bool:
    """Whether a text has visible characters: more than spaces and zero-width characters.

    >>> is_seen(" \u200b"), is_seen("a")
    (False, True)
    """
    return any(unicodedata.category(character) != "Cf" for character in text if not character.isspace())


def require_whole(text: str) -> None:
    """Raise ValueError if a text holds half of a surrogate pair, which neither tokenizers nor files accept."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"found {text[:80]!r}, with half of a surrogate pair, which is no character") from None


# The minus sign of typesetting, which spreadsheets and Wikipedia write before numbers.
MINUS = "\u2212"
# Not the other forms that Python accepts as numbers: 1_2 (12), nan, digits of other scripts.
NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def number_in(value: Any) -> float | None:  # noqa: ANN401
    """Return the finite number in a cell, as a number or as text; None if there is none.

    >>> number_in(" 1.50 "), number_in(3), number_in("1_2"), number_in(True), number_in("good"), number_in("\u22121")
    (1.5, 3.0, None, None, None, -1.0)
    """
    if isinstance(value, str):
        value = value.replace(MINUS, "-")
    if isinstance(value, bool) or (isinstance(value, str) and NUMBER.fullmatch(value.strip()) is None):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


# A decimal comma or a thousands separator: the cell alone does not say which.
_WITH_COMMA = re.compile(r"[-+]?(?:[0-9]+,[0-9]*|,[0-9]+)(?:[eE][-+]?[0-9]+)?")
_MARKED = re.compile(r"[-+]?[0-9][0-9.,' \u00a0\u202f]*[.,][0-9]*(?:[eE][-+]?[0-9]+)?")


def with_decimal_point(value: Any) -> Any:  # noqa: ANN401
    """Return a cell of a file with decimal commas, with a point in place of the comma; other cells unchanged.

    Raises ValueError on a number with a point or with thousands separators, which is ambiguous.

    >>> with_decimal_point("3,5"), with_decimal_point("3"), with_decimal_point("good"), with_decimal_point(3.5)
    ('3.5', '3', 'good', 3.5)
    """
    text = value.strip().replace(MINUS, "-") if isinstance(value, str) else ""
    if _WITH_COMMA.fullmatch(text):
        return text.replace(",", ".")
    if _MARKED.fullmatch(text):
        raise ValueError(
            f'found {value!r}; with `decimal: ","` a number has no point and no thousands separator: 1234,5'
        )
    return value


def comma_hint(value: Any) -> str:  # noqa: ANN401
    """Return advice about a cell that is not a number because of its comma; "" for other cells."""
    if isinstance(value, str) and _WITH_COMMA.fullmatch(value.strip().replace(MINUS, "-")):
        return '; if this is a decimal comma, give `decimal: ","` next to the path'
    return ""


def says_nothing(value: Any, options: TaskOptions) -> bool:  # noqa: ANN401
    """Whether a label cell means `not labelled`: absent, null, blank, or a word that the options name."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if isinstance(value, str) and not is_seen(value):
        return True
    if not options.unlabelled or not isinstance(value, str | float | Integral):
        return False
    return cell_text(value) in _cell_texts(options.unlabelled)


@lru_cache(maxsize=64)
def _cell_texts(cells: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(cell_text, cells))


def cell_text(value: Any) -> str:  # noqa: ANN401
    """Return a cell as text that is the same for equal numbers, truth values or words, whatever the file format.

    >>> cell_text("-1.0"), cell_text(-1.0), cell_text("9.90"), cell_text(True), cell_text("01"), cell_text(None)
    ('-1', '-1', '9.9', 'true', '01', '')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        text = value.strip()
        number = number_in(text) if "." in text or MINUS in text else None
        return (label_text(text) if is_seen(text) else "") if number is None else number_text(number)
    return number_text(value) if isinstance(value, float) and math.isfinite(value) else str(value).lower()


# Beyond it float32 numbers are infinite.
_GREATEST_SINGLE = float(np.finfo(np.float32).max)


def number_text(number: float) -> str:
    """Return a finite number as people write it.

    A float32 number (from a column of Parquet or pandas) becomes the decimal number that it was rounded from:

    >>> number_text(4.0), number_text(4.5), number_text(4.099999904632568), number_text(9.999999747378752e-05)
    ('4', '4.5', '4.1', '0.0001')
    """
    if float(number).is_integer():
        return str(int(number))
    single = np.float32(number) if abs(number) < _GREATEST_SINGLE else np.float32(0)
    return repr(float(str(single)) if float(single) == number else float(number))  # numpy writes 0.0001 as 1e-04
