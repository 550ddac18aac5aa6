"""Reads a feed: converts the rows of its files to Arrow batches and counts labels and problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from polytask.data.feed import Feed
from polytask.data.feed_columns import FeedColumns
from polytask.data.feed_counts import FeedCounts
from polytask.data.raw_row import RawRow, fingerprint
from polytask.data.row_reader import RowReader
from polytask.errors import DataError
from polytask.tabular import cells_of
from polytask.tasks import TASKS
from polytask.tasks.label_stats import BadLabel, Rereading
from polytask.tasks.reader import GoldType

_LABEL_TYPES: dict[GoldType, pa.DataType] = {
    "string": pa.string(),
    "double": pa.float64(),
    "list<string>": pa.list_(pa.string()),
    "list<double>": pa.list_(pa.float64()),
}
_BATCH = 1000


class FeedReading:
    """One pass over a feed, and a second pass over labels whose meaning depends on all labels of the file."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.counts = FeedCounts.of(feed)
        self.columns = FeedColumns(feed, self.counts)
        self.reader = RowReader(feed, self.counts)
        labels = [(f"label.{name}", _LABEL_TYPES[TASKS.of(task).label_type]) for name, task in feed.tasks.items()]
        labels += [(f"weight.{name}", pa.float32()) for name in feed.weighed]
        numbers = pa.list_(pa.int32())
        texts = [("place", pa.string()), ("text", pa.string()), ("pair", pa.string()), ("fingerprint", pa.uint64())]
        others = [("starts", numbers), ("ends", numbers), ("companion_of", pa.string())]
        self.schema = pa.schema([*texts, *others, *labels])

    def batches(self) -> Iterator[pa.RecordBatch]:
        waiting: list[RawRow] = []
        for place, row in self.feed.read(self.counts.remarks):
            try:
                values = cells_of(row)
                self.counts.columns.update(dict.fromkeys(values))
                self.columns.see(place.rpartition(":")[0], values)
                if not self.feed.reads(place, values):
                    continue
                waiting.extend(self.reader.rows_of(place, values))
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
            **{f"weight.{name}": [row.weights.get(name) for row in rows] for name in self.feed.weighed},
        }
        return pa.RecordBatch.from_pydict(data, schema=self.schema)

    def rereadings(self) -> dict[str, Rereading]:
        """Return the rereading of each task whose labels only have a meaning together."""
        rereadings: dict[str, Rereading] = {}
        for name, options in self.feed.tasks.items():
            try:
                rereading = TASKS.of(options).rereading(options, self.counts.label_stats[name])
            except BadLabel as error:
                raise DataError(f"{error.place}: task {name!r}: {error}") from None
            if rereading is not None:
                rereadings[name] = rereading
                self.counts.label_stats[name].labels.clear()
                self.counts.label_stats[name].places.clear()
        return rereadings

    def read_again(self, batch: pa.RecordBatch, again: Mapping[str, Rereading]) -> pa.RecordBatch:
        """Return rows with reread labels, and count these labels."""
        places: list[str] = batch.column("place").to_pylist()
        for name, rereading in again.items():
            stats = self.counts.label_stats[name]
            labels: list[list[str] | None] = []
            for place, as_written in zip(places, batch.column(f"label.{name}").to_pylist(), strict=True):
                reread = None if as_written is None else rereading.read(as_written, place)
                labels.append(reread)
                stats.labels.update(reread or ())
                for label in reread or ():
                    stats.places.setdefault(label, place)
            at = batch.schema.get_field_index(f"label.{name}")
            batch = batch.set_column(at, batch.schema.field(at), pa.array(labels, batch.schema.field(at).type))
        return batch

    def finish(self, again: Mapping[str, Rereading]) -> None:
        """Note labels that were read differently from how they are written."""
        for name, rereading in again.items():
            try:
                rereading.finish(self.counts.label_stats[name])
            except BadLabel as error:
                raise DataError(f"{error.place}: task {name!r}: {error}") from None
