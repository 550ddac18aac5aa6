"""Counts from reading a feed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from polytask.data.feed import Feed
from polytask.data.files import ReadingNotes
from polytask.tasks import LabelStats


@dataclass
class FeedCounts:
    """Counts from reading a feed.

    Attributes:
        label_stats: label statistics by task.
        columns: all columns that occur in any row.
        empty: number of rows whose text has no visible character; `empty_at` is the place of the first.
        apart: number of rows encoded separately because a task's tokens do not spell out the text; `apart_at` likewise.
        single: number of labelled rows of each task whose words are a single word of text.
        weight: sum of the weights of each task with row weights.
        remarks: notes for the user on how the files were read.
    """

    label_stats: dict[str, LabelStats]
    single: dict[str, int]
    weight: dict[str, float]
    columns: dict[str, None] = field(default_factory=dict[str, None])
    empty: int = 0
    empty_at: str = ""
    apart: int = 0
    apart_at: str = ""
    remarks: ReadingNotes = field(default_factory=ReadingNotes)

    @classmethod
    def of(cls, feed: Feed) -> FeedCounts:
        """Return the counts of a feed before reading."""
        return cls(
            {name: LabelStats() for name in feed.tasks}, dict.fromkeys(feed.tasks, 0), dict.fromkeys(feed.weighed, 0.0)
        )

    def add_empty(self, place: str) -> None:
        """Count a row without a visible character."""
        self.empty, self.empty_at = self.empty + 1, self.empty_at or place

    def add_apart(self, place: str) -> None:
        """Count a row whose tokens do not spell out its text."""
        self.apart, self.apart_at = self.apart + 1, self.apart_at or place

    def to_json(self) -> dict[str, Any]:
        return {
            "label_stats": {name: stats.to_json() for name, stats in self.label_stats.items()},
            "empty": [self.empty, self.empty_at],
            "apart": [self.apart, self.apart_at],
            "remarks": self.remarks.to_json(),
        }
