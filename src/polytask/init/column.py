"""One column of a table: what its cells hold, asked of the task types that would read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from polytask.data.words import split_words
from polytask.tasks import LabelStats
from polytask.tasks.cells import listed
from polytask.tasks.labels import label_text
from polytask.tasks.regression import Regression, RegressionOptions
from polytask.terms import WordSpan

_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}([T ].*)?")
_ADDRESS = re.compile(r"https?://\S+|\S+@\S+\.\S+|[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}\S*")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+(?:,\d+)?")
# A comma between thousands; or before three decimals.
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+")
_IDENTIFIER = re.compile(
    r"(.*[^a-z])?(id|ids|uuid|guid|index|idx|no|nr|row|key|hash|url|link|file|filename|path)", re.ASCII
)
_READ_ALL = RegressionOptions(type="regression", label="value")


@dataclass(frozen=True)
class Column:
    """The cells of a column in a sample of rows.

    Attributes:
        values: of the cells that hold something.
        rows: of the sample.
    """

    name: str
    values: Sequence[Any]
    rows: int

    @cached_property
    def texts(self) -> list[str]:
        """The values, where all are text; otherwise nothing."""
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
        """How many words a text has; a Chinese character is one."""
        return sum(map(len, self.words)) / len(self.words) if self.words else 0.0

    @cached_property
    def labels(self) -> Counter[str] | None:
        """How often each value occurs as a label; None where the cells are no labels."""
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
        """Whether the cells are numbers whose commas stand before three digits each, and may be between thousands."""
        with_comma = [text.strip() for text in self.texts if "," in text]
        others = [text.strip() for text in self.texts if "," not in text]
        return (
            bool(with_comma)
            and all(_THOUSANDS.fullmatch(text) for text in with_comma)
            and all(re.fullmatch(r"[-+]?\d{1,3}", text) for text in others)
        )

    @cached_property
    def has_decimal_comma(self) -> bool:
        """Whether the cells are numbers, some of them with decimals behind a comma and none behind a point."""
        return (
            any("," in text for text in self.texts)
            and all(_DECIMAL_COMMA.fullmatch(text.strip()) for text in self.texts)
            and not self.may_have_thousands
        )  # fmt: skip

    @property
    def has_decimal_point(self) -> bool:
        """Whether the cells are numbers, some of them with decimals behind a point."""
        return self.numbers is not None and any("." in str(value) for value in self.values)

    @cached_property
    def spelled(self) -> Sequence[Any]:
        """The values, numbers with a point before their decimals."""
        return [text.strip().replace(",", ".") for text in self.texts] if self.has_decimal_comma else self.values

    @cached_property
    def numbers(self) -> LabelStats | None:
        """What the values are as scores; None where one of them is none."""
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
        """Whether all values are whole numbers, and written so."""
        return self.numbers is not None and all(
            re.fullmatch(r"-?\d+(\.0+)?", str(value).strip()) for value in self.spelled
        )

    @cached_property
    def lists(self) -> list[list[Any]] | None:
        """The items of the cells, where all are lists, or show lists; otherwise None."""
        found: list[list[Any]] = []
        for value in self.values:
            try:
                items = listed(value) if isinstance(value, str) else value
            except ValueError:
                return None
            if not isinstance(items, list):
                return None
            found.append(items)
        return found or None

    @property
    def is_dates(self) -> bool:
        """Whether the cells are days or times."""
        return bool(self.texts) and all(_DATE.fullmatch(text.strip()) for text in self.texts)

    @property
    def is_addresses(self) -> bool:
        """Whether the cells are addresses or keys."""
        return bool(self.texts) and all(_ADDRESS.fullmatch(text.strip()) for text in self.texts)

    @property
    def counts_rows(self) -> bool:
        """Whether the cells are whole numbers, all different, without large gaps: they number the rows."""
        if not self.is_whole or self.distinct < len(self.values) or self.distinct < 5 or self.numbers is None:
            return False
        return self.numbers.high - self.numbers.low < 20 * self.rows

    @property
    def is_called_identifier(self) -> bool:
        """Whether the name says that the values name the rows."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower().strip("_ #")
        return not name or name.startswith("unnamed:") or _IDENTIFIER.fullmatch(name) is not None


def columns_of(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Column]:
    """Return the columns of some rows, cells that say nothing left out."""
    found: dict[str, Column] = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        kept = [cell for cell in cells if not (cell is None or (isinstance(cell, str) and not cell.strip()))]
        found[name] = Column(name, kept, len(rows))
    return found
