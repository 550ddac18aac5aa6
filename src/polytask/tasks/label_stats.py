"""What one pass over the rows counts of their labels, and how labels are read again once all of them are known."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from polytask.tasks.labels import label_text


@dataclass
class LabelStats:
    """What one pass over a split counted for one task.

    Attributes:
        labels: occurrences of each label (of each word's tag for tagging).
        present: rows that carry the task's label.
        missing: rows that do not.
        numbers: numeric labels (of each word at word level).
        total, spread, low, high: their sum, sum of squared distances from the mean, and range.
        repaired: orphan I- tags turned into B- tags.
        repaired_at: where the first of them stands.
        shortest, longest: the number of labels that a row lists, where rows list labels.
        joined: rows whose labels are text joined by a separator.
        places: where each label stands first.
        respelled: labels that are read in another spelling, such as `1.0` as `1`: the spelling that is read.
        respelled_at: where the first of them stands.
        soft: labels that are distributions.
        scheme: how the tags are written, where they are read as BIO and are not written so.
        lengths: of spans: how many have so many words.
        overlap: how spans of one row lie to one another, as a place in `nested.LEVELS`.
    """

    labels: Counter[str] = field(default_factory=Counter[str])
    present: int = 0
    missing: int = 0
    numbers: int = 0
    total: float = 0.0
    spread: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
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
        """The mean of the numeric labels, of which there is one or more."""
        return self.total / self.numbers

    def number(self, value: float) -> None:
        """Count a numeric label."""
        # Welford's update: a difference of sums would lose the deviation of large numbers, such as times in seconds.
        before = self.mean if self.numbers else value
        self.numbers += 1
        self.total += value
        self.spread += (value - before) * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def label(self, value: Any) -> str:  # noqa: ANN401
        """Return a cell's label as `label_text` reads it, and remember where a text is read in another spelling."""
        label = label_text(value)
        if isinstance(value, str) and label != value:
            self.respelled[value] = label
        return label

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready form, read back by `LabelStats(**...)` with the labels as a Counter."""
        low, high = (value if math.isfinite(value) else None for value in (self.low, self.high))
        return {**self.__dict__, "labels": dict(self.labels), "low": low, "high": high}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LabelStats:
        """Rebuild the statistics from `to_json`."""
        # Without a number there is no range, for which JSON has no word either.
        rest = {key: value for key, value in data.items() if key != "labels" and value is not None}
        return cls(labels=Counter(data["labels"]), **rest)


class BadLabel(ValueError):
    """A label that does not fit the other labels of its file.

    Attributes:
        place: where it stands first.
    """

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


class Rereading(ABC):
    """How the labels of a file are meant; made once all of them have been seen."""

    @abstractmethod
    def read(self, label: list[str], place: str) -> list[str]:
        """Return the labels of a row as they are meant."""

    @abstractmethod
    def finish(self, stats: LabelStats) -> None:
        """Add to the statistics what a person should know. Raises BadLabel for what `strict` refuses."""
