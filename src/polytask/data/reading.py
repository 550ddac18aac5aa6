"""Reading a feed: the rows of its files become batches of Arrow, and what was found in them is counted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from polytask.data.annotations import nest_words, spans_in, tag_words
from polytask.data.feed import Feed, missing_column
from polytask.data.files import Remarks
from polytask.data.garbled import damage_in
from polytask.data.words import find_words, is_blank, join_words
from polytask.errors import ConfigError, DataError, UserError
from polytask.tabular import cells_of
from polytask.tasks import TASKS, LabelStats, TaskOptions
from polytask.tasks.cells import brief
from polytask.tasks.label_stats import BadLabel, Rereading
from polytask.tasks.labels import number_in
from polytask.tasks.reader import GoldType
from polytask.tasks.tagging import as_words
from polytask.tasks.word import WordOptions
from polytask.terms import Label, WordSpan

_LABEL_TYPES: dict[GoldType, pa.DataType] = {
    "string": pa.string(),
    "double": pa.float64(),
    "list<string>": pa.list_(pa.string()),
    "list<double>": pa.list_(pa.float64()),
}
_BATCH = 1000
# Weights of rows between which float32 loses nothing, beside 0.
LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1e9
# Names of documents have it, and words that people repeat do not.
_NAME = re.compile(r"[0-9_/]")
_REPEATED = (
    "{count} rows repeat one word, the first at {place}; where that is not the word but a name of the document or the "
    "like, name the column of the words in `tokens`"
)


@dataclass
class RawRow:
    """A text (or pair) with the words it is cut into, and the label of each task that reads it.

    Attributes:
        companion_of: the task that reads this text beside that of the nearest row before it that is no companion.
    """

    place: str
    text: str
    pair: str | None
    words: list[WordSpan] | None
    labels: dict[str, Label] = field(default_factory=dict[str, Label])
    companion_of: str | None = None
    weights: dict[str, float] = field(default_factory=dict[str, float])


def fingerprint(text: str, pair: str | None) -> int:
    """Return a 64-bit hash of a row's text, with case and white space made equal."""
    plain = " ".join(f"{text} \0 {pair or ''}".lower().split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest())


class FeedReading:
    """One pass over a feed, and another one over the labels that only all labels of the file explain."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.label_stats = {name: LabelStats() for name in feed.tasks}
        self.columns: dict[str, None] = {}
        self.empty, self.empty_at = 0, ""
        self.apart, self.apart_at = 0, ""
        self.remarks = Remarks()
        # Rows of each task whose words are one word of text.
        self.single = dict.fromkeys(feed.tasks, 0)
        labels = [(f"label.{name}", _LABEL_TYPES[TASKS.of(task).label_type]) for name, task in feed.tasks.items()]
        # Evaluation does not weigh rows, so other splits need no such column.
        self.weighed = {
            name: task.label_weight
            for name, task in feed.tasks.items()
            if task.label_weight is not None and feed.split == "train"
        }
        self.weight = dict.fromkeys(self.weighed, 0.0)
        labels += [(f"weight.{name}", pa.float32()) for name in self.weighed]
        numbers = pa.list_(pa.int32())
        texts = [("place", pa.string()), ("text", pa.string()), ("pair", pa.string()), ("fingerprint", pa.uint64())]
        others = [("starts", numbers), ("ends", numbers), ("companion_of", pa.string())]
        self.schema = pa.schema([*texts, *others, *labels])

    def to_json(self) -> dict[str, Any]:
        return {
            "label_stats": {name: stats.to_json() for name, stats in self.label_stats.items()},
            "empty": [self.empty, self.empty_at],
            "apart": [self.apart, self.apart_at],
            "remarks": self.remarks.to_json(),
        }

    def batches(self) -> Iterator[pa.RecordBatch]:
        waiting: list[RawRow] = []
        for place, found in self.feed.read(self.remarks):
            try:
                values = cells_of(found)
                self.columns.update(dict.fromkeys(values))
                waiting.extend(self.rows_of(place, values))
            except RecursionError:
                raise DataError(f"{place}: a value is nested too deeply; expected texts, numbers and lists") from None
            if len(waiting) >= _BATCH:
                yield self.batch(waiting)
                waiting = []
        if waiting:
            yield self.batch(waiting)

    def batch(self, rows: list[RawRow]) -> pa.RecordBatch:
        data: dict[str, list[Any]] = {
            "place": [row.place for row in rows],
            "text": [row.text for row in rows],
            "pair": [row.pair for row in rows],
            "fingerprint": [fingerprint(row.text, row.pair) for row in rows],
            "starts": [None if row.words is None else [start for start, _ in row.words] for row in rows],
            "ends": [None if row.words is None else [end for _, end in row.words] for row in rows],
            "companion_of": [row.companion_of for row in rows],
            **{f"label.{name}": [row.labels.get(name) for row in rows] for name in self.feed.tasks},
            **{f"weight.{name}": [row.weights.get(name) for row in rows] for name in self.weighed},
        }
        return pa.RecordBatch.from_pydict(data, schema=self.schema)

    def rows_of(self, place: str, values: Mapping[str, Any]) -> list[RawRow]:
        """Turn a row of the file into one encoded row, or into several where tokens do not spell out the text."""
        text = self.text(place, values, self.feed.inputs.first)
        pair = self.text(place, values, self.feed.inputs.second) if self.feed.inputs.second else None
        if not self.belongs(self.spelled(place, values) if text is None else text, pair):
            return []
        found: list[RawRow] = [] if text is None else [RawRow(place, text, pair, None)]
        for name, options in self.feed.tasks.items():
            if isinstance(options, WordOptions):
                own = self.with_words(place, name, options, values, text)
                label = self.label(place, name, options, own)
                words = self.words(place, name, options, own)
                if words is not None and len(words) > 2 and len(set(words)) == 1 and _NAME.search(words[0]):
                    self.remarks.add(_REPEATED, place)
                self.single[name] += (
                    label is not None and isinstance(own[options.tokens], str) and len(words or ()) == 1
                )
                self.add_words(found, place, pair, words, name, label)
            else:
                found[0].labels[name] = self.label(place, name, options, values)
        self.add_weights(found, place, values)
        if len(found) > 1:  # a text that no task reads or labels, beside tokens that do not spell it out
            found = [row for row in found if any(label is not None for label in row.labels.values())]
        found[1:1] = self.companions(place, found[0], values) if found else []
        for row in found:
            if is_blank(row.text):
                self.empty, self.empty_at = self.empty + 1, self.empty_at or place
            damage = damage_in(row.text) or damage_in(row.pair or "")
            if damage is not None:
                self.remarks.add(damage, place)
        return found

    def companions(self, place: str, row: RawRow, values: Mapping[str, Any]) -> list[RawRow]:
        """Return a row's other texts, as rows of their own that stand right behind it."""
        found: list[RawRow] = []
        for name, options in self.feed.tasks.items():
            label = row.labels.get(name)
            for text, own in () if label is None else TASKS.of(options).companions(options, values, label):
                self.require_characters(place, name, text)
                found.append(RawRow(place, text, None, None, {name: own}, name))
        return found

    def add_weights(self, rows: list[RawRow], place: str, values: Mapping[str, Any]) -> None:
        """Give encoded rows what they weigh in the losses of the tasks whose labels they carry."""
        for name, column in self.weighed.items():
            for row in (row for row in rows if row.labels.get(name) is not None):
                row.weights[name] = self.weight_in(place, name, column, values)

    def weight_in(self, place: str, name: str, column: str, values: Mapping[str, Any]) -> float:
        """Return what a row weighs in the loss of a task."""
        if column not in values:
            raise self.no_column(DataError, place, column, list(values), name)
        weight = number_in(values[column])
        if weight is None or not (weight == 0 or LEAST_WEIGHT <= weight <= MOST_WEIGHT):
            raise DataError(
                f"{place}: task {name!r}: found {brief(values[column])} in {column!r}; `label_weight` names a column "
                f"of numbers, 0 or from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}"
            )
        self.weight[name] += weight
        return weight

    def spelled(self, place: str, values: Mapping[str, Any]) -> str:
        """Return the text that the tokens of a row without text spell."""
        for name, options in self.feed.tasks.items():
            assert isinstance(options, WordOptions)
            tokens = values.get(options.tokens)
            self.with_words(place, name, options, values, None)  # spans have no place without a text
            if tokens is not None:
                return join_words(self.words(place, name, options, values) or [])[0]
        column = min(task.tokens for task in self.feed.tasks.values() if isinstance(task, WordOptions))
        if column in values:
            raise DataError(f"{place}: {column!r} is empty, and so is {self.feed.inputs.first!r}; one is needed")
        raise self.no_column(DataError, place, column, list(values))

    def with_words(
        self, place: str, name: str, options: WordOptions, values: Mapping[str, Any], text: str | None
    ) -> Mapping[str, Any]:
        """Return a row with words and tags in place of a tagging task's spans; one without spans as it is."""
        if not options.reads_spans:
            return values
        tokens = values.get(options.tokens)
        try:
            cell = values.get(options.values_column)
            spans = cell if cell == [] and options.nested_spans else spans_in(cell, tokens)
            if spans is None:
                _require_tags(tokens, values.get(options.values_column))
                return values
            if text is None:
                raise ValueError(f"spans count the characters of a text, and {self.feed.inputs.first!r} is empty")
            read = nest_words if options.nested_spans else tag_words
            tagged = read(text, spans, tokens, strict=options.data.strict, offsets=options.data.offsets)
        except ValueError as error:
            raise DataError(f"{place}: task {name!r}: {error}") from None
        self.columns[options.tokens] = None
        for remark in tagged.remarks:
            self.remarks.add(remark, place)
        # What a person refused or passed over in Prodigy is not labelled.
        refused = values.get("answer") in ("reject", "ignore")
        return {**values, options.tokens: tagged.tokens, options.values_column: None if refused else tagged.tags}

    def words(self, place: str, name: str, options: WordOptions, values: Mapping[str, Any]) -> list[str] | None:
        try:
            tokens = as_words(values.get(options.tokens), options.tokens)
        except ValueError as error:
            raise DataError(f"{place}: task {name!r}: {error}") from None
        for token in tokens or ():
            self.require_characters(place, options.tokens, token)
        return tokens

    def require_characters(self, place: str, column: str, text: str) -> None:
        """Raise DataError where a text from a JSON file holds an escape that stands for no character."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{place}: {column!r} holds half of a surrogate pair, which is no character") from None

    def text(self, place: str, values: Mapping[str, Any], column: str) -> str | None:
        value = values.get(column)
        tagging = {name: task for name, task in self.feed.tasks.items() if isinstance(task, WordOptions)}
        if value is None and len(tagging) == len(self.feed.tasks):
            return None
        for name, task in tagging.items() if isinstance(value, list) else ():
            if task.tokens == column:  # a file that calls its words so
                return join_words(self.words(place, name, task, values) or [])[0]
        if column not in values:
            raise self.no_column(DataError, place, column, list(values))
        if not isinstance(value, str):
            raise DataError(f"{place}: {column!r} holds {value!r}; a text is expected")
        self.require_characters(place, column, value)
        return value

    def belongs(self, text: str, pair: str | None) -> bool:
        """Whether a row falls on this side of a held-out share; equal texts always fall on the same side."""
        if self.feed.share is None:
            return True
        share, held = self.feed.share
        digest = hashlib.blake2b(f"{text}\0{pair}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest) < share * 2**64) == held

    def rereadings(self) -> dict[str, Rereading]:
        """Return how the labels of each task are meant, where only all of them tell."""
        found: dict[str, Rereading] = {}
        for name, options in self.feed.tasks.items():
            try:
                rereading = TASKS.of(options).rereading(options, self.label_stats[name])
            except BadLabel as error:
                raise DataError(f"{error.place}: task {name!r}: {error}") from None
            if rereading is not None:
                found[name] = rereading
                self.label_stats[name].labels.clear()
                self.label_stats[name].places.clear()
        return found

    def read_again(self, batch: pa.RecordBatch, again: Mapping[str, Rereading]) -> pa.RecordBatch:
        """Return rows with the labels as they are meant, and count these."""
        places: list[str] = batch.column("place").to_pylist()
        for name, rereading in again.items():
            stats = self.label_stats[name]
            labels: list[list[str] | None] = []
            for place, as_written in zip(places, batch.column(f"label.{name}").to_pylist(), strict=True):
                meant = None if as_written is None else rereading.read(as_written, place)
                labels.append(meant)
                stats.labels.update(meant or ())
                for label in meant or ():
                    stats.places.setdefault(label, place)
            at = batch.schema.get_field_index(f"label.{name}")
            batch = batch.set_column(at, batch.schema.field(at), pa.array(labels, batch.schema.field(at).type))
        return batch

    def finish(self, again: Mapping[str, Rereading]) -> None:
        """Note what was read in another way than it is written."""
        for name, rereading in again.items():
            try:
                rereading.finish(self.label_stats[name])
            except BadLabel as error:
                raise DataError(f"{error.place}: task {name!r}: {error}") from None

    def label(self, place: str, name: str, options: TaskOptions, values: Mapping[str, Any]) -> Label:
        stats = self.label_stats[name]
        respelled = len(stats.respelled)
        try:
            value = TASKS.of(options).read(options, values, stats)
        except ValueError as error:
            raise DataError(f"{place}: task {name!r}: {error}") from None
        if len(stats.respelled) > respelled:
            stats.respelled_at = stats.respelled_at or place
        for at, label in () if value is None else TASKS.of(options).names_in(value):
            if label not in stats.places:
                self.require_characters(place, TASKS.of(options).columns(options)[-1], label)
                stats.places[label] = self.place_of_label(place, at, options, values)
        stats.present += value is not None
        stats.missing += value is None
        return value

    def place_of_label(self, place: str, at: int, options: TaskOptions, values: Mapping[str, Any]) -> str:
        """Say where a label stands: its row, and for a word's tag the word."""
        if not isinstance(options, WordOptions):
            return place
        words = as_words(values.get(options.tokens), options.tokens) or []
        return f"{place}: word {at + 1}" + (f" ({words[at][:40]!r})" if at < len(words) else "")

    def add_words(
        self, rows: list[RawRow], place: str, pair: str | None, tokens: list[str] | None, name: str, label: Label
    ) -> None:
        """Give a tagging task's label to a row whose words are its tokens, or to a row of its own."""
        if tokens is None:
            return
        text, spelled = join_words(tokens)
        for row in rows:
            words = spelled if row.text == text else find_words(row.text, tokens)
            if words is not None and row.words in (None, words):
                row.words = words
                row.labels[name] = label
                return
        if rows and label is None:
            return
        if rows:
            self.apart, self.apart_at = self.apart + 1, self.apart_at or place
        rows.append(RawRow(place, text, pair, spelled, {name: label}))

    def hint(self, options: TaskOptions) -> str:
        """Say which column may hold spans, where a tagging task finds no tags."""
        held = [column for column in ("spans", "entities", "ents", "label", "labels") if column in self.columns]
        if not isinstance(options, WordOptions) or not options.reads_spans:
            return ""
        if options.values_column in self.columns or not held:
            return ""
        return f"; where {held[0]!r} holds spans by character, give `{options.values_option}: {held[0]}`"

    def require_columns(self) -> None:
        """Raise ConfigError where no row at all has a column that a task reads, or every row weighs nothing."""
        for name, column in self.weighed.items():
            if self.label_stats[name].present and not self.weight[name]:
                raise ConfigError(
                    f"tasks.{name}.label_weight: {self.feed.name}: {column!r} is 0 in every labelled row; there is "
                    "nothing to learn"
                )
        for name, options in self.feed.tasks.items():
            for column in TASKS.of(options).columns(options):
                if self.columns and column not in self.columns:
                    raise self.no_column(ConfigError, self.feed.name, column, list(self.columns), name)
            # A few rows to score may well be one word each.
            fewest = 2 if self.feed.split == "train" else 10
            if fewest <= self.label_stats[name].present == self.single[name]:
                raise ConfigError(
                    f"tasks.{name}: {self.feed.name}: each of the {self.single[name]} rows holds one word; where a row "
                    "is one token of a sentence, name the column that tells the sentences apart: `sentence: COLUMN` "
                    f"beside the path (accepted: {', '.join(self.columns)}); otherwise write a sentence a row"
                )

    def no_column(
        self, kind: type[UserError], place: str, column: str, columns: list[str], task: str | None = None
    ) -> UserError:
        """Return the error for a column that is not there; it names the option that asks for it.

        Args:
            task: the one that reads it; by default all do.
        """
        name = task or next(iter(self.feed.tasks))
        options = self.feed.tasks[name]
        own = options.values_option if isinstance(options, WordOptions) else "label"
        asking = (key for key in (own, *_COLUMN_OPTIONS) if column in _several(getattr(options, key, None)))
        path = ("tasks", name, next(asking, "text"))
        message = missing_column(f"{'.'.join(path)}: {place}", column, columns)
        return kind(message + self.hint(options), option=path)


# The options that name columns; `text_pair` before `text`, which it replaces.
_COLUMN_OPTIONS = ("label_weight", "label", "options", "tags", "tokens", "text_pair", "text")


def _several(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return value if isinstance(value, tuple) else (value,)


def _require_tags(tokens: Any, tags: Any) -> None:  # noqa: ANN401
    """Raise ValueError where a tag is empty, or words and tags are joined by commas: they would be one word."""
    if isinstance(tags, list) and "" in tags:
        raise ValueError(f"the tag of word {tags.index('') + 1} is empty; each token needs one tag")
    if isinstance(tokens, str) and isinstance(tags, str) and "[" not in (tokens[:1], tags[:1]):
        commas = tags.count(",")
        if commas and commas == tokens.count(",") and len(tokens.split()) == len(tags.split()) == 1:
            raise ValueError(
                f"found {brief(tokens)} with the tags {brief(tags)}, joined by commas; words and tags are joined by "
                'spaces, or written as lists, such as ["a", "b"]'
            )
