"""Checks for columns that are missing, or have nothing to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.data.feed import Feed, missing_column
from polytask.data.feed_counts import FeedCounts
from polytask.errors import ConfigError, UserError, nearest
from polytask.tasks import TASKS, TaskOptions
from polytask.tasks.word import WordOptions

# The options that name columns; `text_pair` comes before `text`, which it replaces.
_COLUMN_OPTIONS = ("label_weight", "label", "options", "tags", "tokens", "text_pair", "text")


class FeedColumns:
    """The columns of a feed that were found so far."""

    def __init__(self, feed: Feed, counts: FeedCounts) -> None:
        self._feed, self._counts = feed, counts
        # The label columns, with the tasks that read each.
        self._labelling: dict[str, list[str]] = {}
        for name, options in feed.tasks.items():
            self._labelling.setdefault(TASKS.of(options).columns(options)[-1], []).append(name)
        # By file: the label columns that its rows have, and all columns of its first row.
        self._seen: dict[str, tuple[set[str], list[str]]] = {}

    def see(self, file: str, values: Mapping[str, Any]) -> None:
        """Record the label columns of a row of a file."""
        present = self._seen.setdefault(file, (set(), list(values)))[0]
        if len(present) < len(self._labelling):
            present.update(column for column in self._labelling if column in values)

    def note_files_without(self) -> None:
        """Note files without the label column of a task, if other files have it."""
        for column, names in self._labelling.items():
            without = [file for file, (present, _) in self._seen.items() if column not in present]
            if not 0 < len(without) < len(self._seen):
                continue
            text = f"no column {column!r} ({nearest(column, self._seen[without[0]][1])}), where {', '.join(names)}"
            text = text.replace("{", "{{").replace("}", "}}")
            for file in without:
                self._counts.remarks.add(
                    f"{{count}} files have {text} has its labels: their rows are not labelled, the first is {{place}}",
                    file,
                )

    def require_all(self) -> None:
        """Raise ConfigError if no row has a column that a task reads, or all rows have a weight of 0."""
        for name, column in self._feed.weighed.items():
            if self._counts.label_stats[name].present and not self._counts.weight[name]:
                raise ConfigError(
                    f"tasks.{name}.label_weight: {self._feed.name}: {column!r} is 0 in every labelled row; there is "
                    "nothing to learn"
                )
        for name, options in self._feed.tasks.items():
            for column in TASKS.of(options).columns(options):
                if self._counts.columns and column not in self._counts.columns:
                    raise self.missing(ConfigError, self._feed.name, column, list(self._counts.columns), name)
            # A few dev or test rows may well have one word each.
            fewest = 2 if self._feed.split == "train" else 10
            if fewest <= self._counts.label_stats[name].present == self._counts.single[name]:
                raise ConfigError(
                    f"tasks.{name}: {self._feed.name}: each of the {self._counts.single[name]} rows holds one word; "
                    "if a row is one token of a sentence, name the column that identifies the sentence: "
                    f"`sentence: COLUMN` next to the path (accepted: {', '.join(self._counts.columns)}); otherwise "
                    "write one sentence per row"
                )

    def missing(
        self, kind: type[UserError], place: str, column: str, columns: list[str], task: str | None = None
    ) -> UserError:
        """Return the error for a missing column; it names the option that asks for the column.

        Args:
            task: name of the task that reads it; by default all tasks do.
        """
        name = task or next(iter(self._feed.tasks))
        options = self._feed.tasks[name]
        values_option = options.values_option if isinstance(options, WordOptions) else "label"
        asking = (key for key in (values_option, *_COLUMN_OPTIONS) if column in _several(getattr(options, key, None)))
        path = ("tasks", name, next(asking, "text"))
        message = missing_column(f"{'.'.join(path)}: {place}", column, columns)
        return kind(message + self._hint(options), option=path)

    def _hint(self, options: TaskOptions) -> str:
        """Return a hint at a column that may hold spans, for tagging tasks without tags."""
        candidates = [
            column for column in ("spans", "entities", "ents", "label", "labels") if column in self._counts.columns
        ]
        if not isinstance(options, WordOptions) or not options.reads_spans:
            return ""
        if options.values_column in self._counts.columns or not candidates:
            return ""
        return f"; if {candidates[0]!r} holds character spans, give `{options.values_option}: {candidates[0]}`"


def _several(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return value if isinstance(value, tuple) else (value,)
