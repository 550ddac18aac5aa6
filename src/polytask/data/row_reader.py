"""Converts a row of a file to the rows to encode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from polytask.data.feed import Feed
from polytask.data.feed_columns import FeedColumns
from polytask.data.feed_counts import FeedCounts
from polytask.data.garbled import damage_in
from polytask.data.raw_row import RawRow, require_characters
from polytask.data.word_reader import WordReader
from polytask.data.words import is_blank, join_words
from polytask.errors import DataError
from polytask.tasks import TASKS, TaskOptions
from polytask.tasks.cells import brief
from polytask.tasks.labels import comma_hint, number_in, with_decimal_point
from polytask.tasks.tagging import as_words
from polytask.tasks.word import WordOptions
from polytask.terms import Label

# Keys by which Prodigy's rows are recognized.
_OF_PRODIGY = ("_task_hash", "_input_hash")
# Range of row weights, apart from 0, that float32 represents well.
LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1e9
# Names of documents contain one of these, but words that people repeat do not.
_NAME = re.compile(r"[0-9_/]")
_REPEATED = (
    "{count} rows repeat one word, the first at {place}; if it is not a word but the name of the document or the "
    "like, name the column of the words in `tokens`"
)


def is_refused(values: Mapping[str, Any]) -> bool:
    """Whether a row was rejected or ignored in Prodigy, so that its values are not labels."""
    return values.get("answer") in ("reject", "ignore") and any(mark in values for mark in _OF_PRODIGY)


class RowReader:
    """Converts rows of a file to rows with a text, its words and labels, and counts labels and problems."""

    def __init__(self, feed: Feed, counts: FeedCounts) -> None:
        self._feed, self._counts = feed, counts
        self._columns, self._words = FeedColumns(feed, counts), WordReader(feed, counts)

    def rows_of(self, place: str, values: Mapping[str, Any]) -> list[RawRow]:
        """Convert a row of the file to one row to encode, or to several if tokens do not spell out the text."""
        if self._feed.written.decimal == ",":
            values = self._with_points(place, values)
        text = self._text(place, values, self._feed.inputs.first)
        pair = self._text(place, values, self._feed.inputs.second) if self._feed.inputs.second else None
        if not self._feed.holds(self._words.spelled(place, values) if text is None else text, pair):
            return []
        rows: list[RawRow] = [] if text is None else [RawRow(place, text, pair, None)]
        for name, options in self._feed.tasks.items():
            if isinstance(options, WordOptions):
                row_values = self._words.with_words(place, name, options, values, text)
                label = self._label(place, name, options, row_values)
                words = self._words.words(place, name, options, row_values)
                if words is not None and len(words) > 2 and len(set(words)) == 1 and _NAME.search(words[0]):
                    self._counts.remarks.add(_REPEATED, place)
                self._counts.single[name] += (
                    label is not None and isinstance(row_values[options.tokens], str) and len(words or ()) == 1
                )
                self._words.add_words(rows, place, pair, words, name, label)
            else:
                rows[0].labels[name] = self._label(place, name, options, values)
        self._add_weights(rows, place, values)
        if len(rows) > 1:  # drop a text without labels whose tokens do not spell it out
            rows = [row for row in rows if any(label is not None for label in row.labels.values())]
        rows[1:1] = self._companions(place, rows[0], values) if rows else []
        for row in rows:
            if is_blank(row.text):
                self._counts.add_empty(place)
            damage = damage_in(row.text) or damage_in(row.pair or "")
            if damage is not None:
                self._counts.remarks.add(damage, place)
        return rows

    def _with_points(self, place: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write the numbers in a row's labels and weights with decimal points, leaving its texts alone."""
        columns = {column: name for name, column in self._feed.weighed.items()}
        for name, options in self._feed.tasks.items():
            columns |= dict.fromkeys(TASKS.of(options).numbers_in(options), name)
        respelled: dict[str, Any] = {}
        for column, name in columns.items():
            try:
                respelled[column] = with_decimal_point(values.get(column))
            except ValueError as error:
                raise DataError(f"{place}: task {name!r}: {column!r}: {error}") from None
        return {column: respelled.get(column, cell) for column, cell in values.items()}

    def _companions(self, place: str, row: RawRow, values: Mapping[str, Any]) -> list[RawRow]:
        """Return a row's other texts as separate rows, which follow it directly."""
        rows: list[RawRow] = []
        for name, options in self._feed.tasks.items():
            label = row.labels.get(name)
            for text, own_label in () if label is None else TASKS.of(options).companions(options, values, label):
                require_characters(place, name, text)
                rows.append(RawRow(place, text, None, None, {name: own_label}, name))
        return rows

    def _add_weights(self, rows: list[RawRow], place: str, values: Mapping[str, Any]) -> None:
        """Set the weights of rows in the losses of the tasks whose labels they have."""
        for name, column in self._feed.weighed.items():
            for row in (row for row in rows if row.labels.get(name) is not None):
                row.weights[name] = self._weight_in(place, name, column, values)

    def _weight_in(self, place: str, name: str, column: str, values: Mapping[str, Any]) -> float:
        """Return the weight of a row in the loss of a task."""
        if column not in values:
            raise self._columns.missing(DataError, place, column, list(values), name)
        weight = number_in(values[column])
        if weight is None or not (weight == 0 or LEAST_WEIGHT <= weight <= MOST_WEIGHT):
            raise DataError(
                f"{place}: task {name!r}: found {brief(values[column])} in {column!r}; `label_weight` names a column "
                f"of numbers, 0 or from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}{comma_hint(values[column])}"
            )
        self._counts.weight[name] += weight
        return weight

    def _text(self, place: str, values: Mapping[str, Any], column: str) -> str | None:
        value = values.get(column)
        tagging = {name: task for name, task in self._feed.tasks.items() if isinstance(task, WordOptions)}
        if value is None and len(tagging) == len(self._feed.tasks):
            return None
        for name, task in tagging.items() if isinstance(value, list) else ():
            if task.tokens == column:  # the column of words has the name of the text column
                return join_words(self._words.words(place, name, task, values) or [])[0]
        if column not in values:
            raise self._columns.missing(DataError, place, column, list(values))
        if not isinstance(value, str):
            raise DataError(f"{place}: {column!r} holds {value!r}; expected a text")
        require_characters(place, column, value)
        return value

    def _label(self, place: str, name: str, options: TaskOptions, values: Mapping[str, Any]) -> Label:
        stats = self._counts.label_stats[name]
        respelled = len(stats.respelled)
        try:
            refused = is_refused(values) and "answer" not in TASKS.of(options).columns(options)
            value = None if refused else TASKS.of(options).read(options, values, stats)
        except ValueError as error:
            raise DataError(f"{place}: task {name!r}: {error}") from None
        if len(stats.respelled) > respelled:
            stats.respelled_at = stats.respelled_at or place
        for at, label in () if value is None else TASKS.of(options).names_in(value):
            if label not in stats.places:
                require_characters(place, TASKS.of(options).columns(options)[-1], label)
                stats.places[label] = self._place_of_label(place, at, options, values)
        stats.present += value is not None
        stats.missing += value is None
        return value

    def _place_of_label(self, place: str, at: int, options: TaskOptions, values: Mapping[str, Any]) -> str:
        """Return the place of a label: its row, and for a word's tag also the word."""
        if not isinstance(options, WordOptions):
            return place
        words = as_words(values.get(options.tokens), options.tokens) or []
        return f"{place}: word {at + 1}" + (f" ({words[at][:40]!r})" if at < len(words) else "")
