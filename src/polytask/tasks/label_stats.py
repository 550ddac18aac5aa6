"""Statistics of the labels of a split, from one pass over its rows, and rereading once all labels are known."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from polytask.tasks.labels import label_text

_LIKE_THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}\.[0-9]{3}")


@dataclass
class LabelStats:
    """Statistics of one task's labels in a split, from one pass over its rows.

    Attributes:
        labels: number of occurrences of each label (for tagging, of each tag).
        present: number of rows with a label of the task.
        missing: number of rows without one.
        numbers: number of numeric labels (at word level, of all words).
        total, spread, low, high: sum, sum of squared deviations from the mean, and range of the numeric labels.
        decimals: number of numeric labels that are written with decimals.
        three_decimals: number of those that have three, after one to three digits, as numbers with a thousands
            separator have.
        repaired: number of orphan I- tags turned into B- tags.
        repaired_at: place of the first of them.
        shortest, longest: least and greatest number of labels in a row's list, if rows list labels.
        joined: number of rows whose labels are text joined by a separator.
        places: place of each label's first occurrence.
        respelled: labels that are read in another spelling, such as `1.0` as `1`, with that spelling.
        respelled_at: place of the first of them.
        soft: number of labels that are distributions.
        scheme: how the tags are written, if they are read as BIO but not written so.
        lengths: number of spans of each length in words.
        overlap: how far spans of one row overlap, as an index of `nested.LEVELS`.
    """

    labels: Counter[str] = field(default_factory=Counter[str])
    present: int = 0
    missing: int = 0
    numbers: int = 0
    total: float = 0.0
    spread: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    decimals: int = 0
    three_decimals: int = 0
    repaired: int = 0
    repaired_at: str = ""
    shortest: int | None = None
    longest: int = 0
    joined: int = 0
    places: dict[str, str] = field(default_factory=dict[str, str])
    respelled: dict[str, str] = field(default_factory=dict[str, str])
    respelled_at: str = ""
    scheme: str = ""
    soft: int = 0
    lengths: dict[str, int] = field(default_factory=dict[str, int])
    overlap: int = 0

    @property
    def mean(self) -> float:
        """The mean of the numeric labels, of which there has to be at least one."""
        return self.total / self.numbers

    def number(self, value: float) -> None:
        """Count a numeric label."""
        # Welford's update: a difference of sums would lose the deviation of large numbers, such as times in seconds.
        before = self.mean if self.numbers else value
        self.numbers += 1
        self.total += value
        self.spread += (value - before) * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def written_number(self, text: str) -> None:
        """Count how a numeric label is written."""
        if "." in text:
            self.decimals += 1
            self.three_decimals += _LIKE_THOUSANDS.fullmatch(text.strip()) is not None

    def label(self, value: Any) -> str:  # noqa: ANN401
        """Return a cell's label as `label_text` reads it, and note texts that are read in another spelling."""
        label = label_text(value)
        if isinstance(value, str) and label != value:
            self.respelled[value] = label
        return label

    def to_json(self) -> dict[str, Any]:
        """Return the statistics as JSON."""
        low, high = (value if math.isfinite(value) else None for value in (self.low, self.high))
        return {**self.__dict__, "labels": dict(self.labels), "low": low, "high": high}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LabelStats:
        """Rebuild the statistics from `to_json`."""
        # Without numbers the range is infinite, which JSON cannot express.
        rest = {key: value for key, value in data.items() if key != "labels" and value is not None}
        return cls(labels=Counter(data["labels"]), **rest)


class BadLabel(ValueError):
    """A label that does not fit the other labels of its file.

    Attributes:
        place: place of its first occurrence.
    """

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


class Rereading(ABC):
    """Rereads the labels of a file, once all of them are known."""

    @abstractmethod
    def read(self, label: list[str], place: str) -> list[str]:
        """Return the reread labels of a row."""

    @abstractmethod
    def finish(self, stats: LabelStats) -> None:
        """Add notes for the user to the statistics. Raises BadLabel for labels that `strict` refuses."""
