"""One column of a table: the kind of its values, judged by the task types that would read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from polytask.data.words import split_words
from polytask.tasks import LabelStats
from polytask.tasks.cells import choices_in, items_in, listed
from polytask.tasks.labels import label_text
from polytask.tasks.regression import Regression, RegressionOptions
from polytask.tasks.soft import distribution, shares_in
from polytask.terms import WordSpan

_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4})([T ].*)?"
    r"|\d{4}[-/]\d{1,2}|\d{4}-?W\d{1,2}(-\d)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?|\d{4}年\d{1,2}月(\d{1,2}日.*)?",
    re.IGNORECASE,
)
# The names of months and days, by their first letters in English, German, French and Spanish.
_MONTH_OR_DAY = re.compile(
    r"(jan|feb|m[aä]r|apr|may|mai|jun|jul|aug|sep|o[ck]t|nov|de[cz]|ene|abr|ago|dic|fév|avr|juin|juil|aoû|déc"
    r"|mon|tue|wed|thu|fri|sat|sun)\w*",
    re.IGNORECASE,
)
_BESIDE_DAYS = re.compile(r"\d{1,4}(st|nd|rd|th)?|\d{4}T\d+|[AaPp][Mm]|[A-Z]{1,5}|de|of|um|at")
_COMPACT_DAY = re.compile(r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
# Seconds and milliseconds since 1970, from 2001 to 2038.
_EPOCHS = ((1e9, 2.15e9), (1e12, 2.15e12))
_CODE = re.compile(r"[-+\u2212]?0\d+")
_ADDRESS = re.compile(r"https?://\S+|\S+@\S+\.\S+|[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}\S*")
_DECIMAL_COMMA = re.compile(r"[-+\u2212]?\d+(?:,\d+)?")
# Commas between thousands, or before three decimals.
_THOUSANDS = re.compile(r"[-+\u2212]?[1-9]\d{0,2}(?:,\d{3})+")
_IDENTIFIER = re.compile(
    r"(.*[^a-z])?(id|ids|uuid|guid|index|idx|no|nr|row|key|hash|url|link|file|filename|path)", re.ASCII
)
_READ_ALL = RegressionOptions(type="regression", label="value")


@dataclass(frozen=True)
class Column:
    """The values of a column in a sample of rows.

    Attributes:
        values: values of the cells that are not empty.
        rows: number of rows of the sample.
    """

    name: str
    values: Sequence[Any]
    rows: int

    @cached_property
    def texts(self) -> list[str]:
        """The values if all are text; otherwise empty."""
        return [value for value in self.values if isinstance(value, str)] if self.is_text else []

    @cached_property
    def is_text(self) -> bool:
        """Whether all values are text."""
        return bool(self.values) and all(isinstance(value, str) for value in self.values)

    @cached_property
    def words(self) -> list[list[WordSpan]]:
        """The words of each text."""
        return [split_words(text[:5000]) for text in self.texts]

    @cached_property
    def mean_words(self) -> float:
        """The mean number of words per text; a Chinese character counts as a word."""
        return sum(map(len, self.words)) / len(self.words) if self.words else 0.0

    @cached_property
    def labels(self) -> Counter[str] | None:
        """The number of occurrences of each value as a label; None if the values are not labels."""
        try:
            return Counter(label_text(value) for value in self.values)
        except ValueError:
            return None

    @cached_property
    def distinct(self) -> int:
        """The number of different values."""
        return len(self.labels) if self.labels is not None else len({repr(value) for value in self.values})

    @cached_property
    def may_have_thousands(self) -> bool:
        """Whether the cells are numbers whose commas all precede three digits, and may be thousands separators."""
        with_comma = [text.strip() for text in self.texts if "," in text]
        others = [text.strip() for text in self.texts if "," not in text]
        return (
            bool(with_comma)
            and all(_THOUSANDS.fullmatch(text) for text in with_comma)
            and all(re.fullmatch(r"[-+\u2212]?\d+", text) for text in others)
        )

    @cached_property
    def has_decimal_comma(self) -> bool:
        """Whether the cells are numbers, some of them with a decimal comma and none with a point."""
        return (
            any("," in text for text in self.texts)
            and all(_DECIMAL_COMMA.fullmatch(text.strip()) for text in self.texts)
            and not self.may_have_thousands
        )  # fmt: skip

    @property
    def has_decimal_point(self) -> bool:
        """Whether the cells are numbers, some of them with a decimal point."""
        return self.numbers is not None and any("." in str(value) for value in self.values)

    @cached_property
    def spelled(self) -> Sequence[Any]:
        """The values, with decimal points in place of decimal commas."""
        return [text.strip().replace(",", ".") for text in self.texts] if self.has_decimal_comma else self.values

    @cached_property
    def code(self) -> str:
        """A value with leading zeros, which shows that the values are codes and not numbers; "" if there is none."""
        return next((text.strip() for text in self.texts if _CODE.fullmatch(text.strip())), "")

    @cached_property
    def numbers(self) -> LabelStats | None:
        """Statistics of the values as scores; None if one of them is not a number."""
        if self.code:
            return None
        stats = LabelStats()
        try:
            for value in self.spelled:
                Regression.read(_READ_ALL, {"value": value}, stats)
                stats.present += 1
        except ValueError:
            return None
        return stats if self.values and stats.low <= stats.high else None

    @cached_property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers, written without decimals other than 0."""
        return self.numbers is not None and all(
            re.fullmatch(r"[-+\u2212]?\d+(\.0+)?", str(value).strip()) for value in self.spelled
        )

    @cached_property
    def lists(self) -> list[list[Any]] | None:
        """The items of the cells if all are lists, or lists written as text; otherwise None."""
        cells: list[list[Any]] = []
        for value in self.values:
            try:
                items = listed(value) if isinstance(value, str) else value
            except ValueError:
                return None
            if not isinstance(items, list):
                return None
            cells.append(items)
        return cells or None

    @cached_property
    def label_lists(self) -> list[list[Any]] | None:
        """The labels of each cell, as lists; None unless some cells hold lists, and the others one label each.

        Lists are lists, lists written as text, or objects of choices.
        """
        if self.lists is not None:
            return self.lists
        cells: list[list[Any]] = []
        listing = 0
        for value in self.values:
            items = _items(value)
            listing += items is not None
            if items is None and not isinstance(value, str):
                return None
            cells.append([value] if items is None else items)
        return cells if listing and all(isinstance(item, str) for items in cells for item in items) else None

    @cached_property
    def writes_lists(self) -> bool:
        """Whether some cells are lists written as text."""
        texts = (value for value in self.values if isinstance(value, str) and choices_in(value) is None)
        return any(_items(text) is not None for text in texts)

    @cached_property
    def distributions(self) -> list[dict[str, float]] | None:
        """The probability of each label in the cells; None unless some are soft labels, and the others their labels."""
        soft: list[dict[str, float] | None] = []
        try:
            for value in self.values:
                shares = shares_in(value)
                soft.append(None if shares is None else distribution(shares, value))
            names = {name for shares in soft for name in shares or ()}
            plain = [label_text(value) for value, shares in zip(self.values, soft, strict=True) if shares is None]
        except ValueError:
            return None
        if len(names) < 2 or not names.issuperset(plain):
            return None
        labels = iter(plain)
        return [{next(labels): 1.0} if shares is None else shares for shares in soft]

    @property
    def holds_objects_of_labels(self) -> bool:
        """Whether cells are objects that are read as labels: choices, or soft labels."""
        objects = any(isinstance(value, dict) for value in self.values)
        return objects and (self.label_lists is not None or self.distributions is not None)

    @cached_property
    def is_dates(self) -> bool:
        """Whether the cells are dates or times."""
        if self.numbers is not None and self.is_whole and self.distinct > 2:
            whole = [str(value).strip().removesuffix(".0") for value in self.values]
            spans = [span for span in _EPOCHS if span[0] <= self.numbers.low and self.numbers.high <= span[1]]
            return bool(spans) or all(_COMPACT_DAY.fullmatch(text) for text in whole)
        return bool(self.texts) and all(map(_is_date, self.texts))

    @property
    def is_addresses(self) -> bool:
        """Whether the cells are addresses or keys."""
        return bool(self.texts) and all(_ADDRESS.fullmatch(text.strip()) for text in self.texts)

    @property
    def counts_rows(self) -> bool:
        """Whether the cells number the rows: different whole numbers without large gaps."""
        if not self.is_whole or self.distinct < len(self.values) or self.distinct < 5 or self.numbers is None:
            return False
        return self.numbers.high - self.numbers.low < 20 * self.rows

    @property
    def is_called_identifier(self) -> bool:
        """Whether the column's name suggests that its values identify rows."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower().strip("_ #")
        return not name or name.startswith("unnamed:") or _IDENTIFIER.fullmatch(name) is not None


def _items(value: Any) -> list[Any] | None:  # noqa: ANN401
    """Return the items of a list, of a list written as text, or of an object of choices; None for other cells."""
    try:
        return items_in(value)
    except ValueError:
        return None


def _is_date(text: str) -> bool:
    """Whether a text is a date or a time.

    >>> _is_date("2024-01-05 10:00"), _is_date("Mon Apr 06 22:19:45 PDT 2009"), _is_date("May I ask 1 thing")
    (True, True, False)
    """
    if _DATE.fullmatch(text.strip()):
        return True
    parts = re.findall(r"[^\W_]+", text) if len(text) <= 40 else []
    named = [part for part in parts if _MONTH_OR_DAY.fullmatch(part)]
    others = [part for part in parts if part not in named]
    return bool(named) and any(part[0].isdigit() for part in others) and all(map(_BESIDE_DAYS.fullmatch, others))


def columns_of(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Column]:
    """Return the columns of some rows, without empty cells."""
    columns: dict[str, Column] = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        values = [cell for cell in cells if not (cell is None or (isinstance(cell, str) and not cell.strip()))]
        columns[name] = Column(name, values, len(rows))
    return columns
