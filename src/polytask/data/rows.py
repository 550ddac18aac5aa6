"""Rows: reads a feed once into an Arrow table on disk, with texts, words, and each task's labels."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from polytask.data.arrow import ArrowRows
from polytask.data.cache import cached
from polytask.data.feed import Feed
from polytask.data.files import ReadingNotes
from polytask.data.paths import require_file
from polytask.data.reading import FeedReading
from polytask.errors import DataError
from polytask.tasks import LabelStats


@dataclass(frozen=True)
class DataTable:
    """The rows of a feed, memory-mapped, and the counts from reading them.

    Attributes:
        rows: columns place, text, pair, fingerprint, starts, ends, companion_of, and label.<task>.
        label_stats: label statistics by task.
        empty: number of rows whose text has no visible character, and the place of the first.
        apart: number of rows encoded separately because a task's tokens do not spell out the text, and the first place.
        remarks: notes for the user on how the files were read.
    """

    feed: Feed
    digest: str
    rows: ArrowRows
    label_stats: Mapping[str, LabelStats]
    empty: tuple[int, str]
    apart: tuple[int, str]
    remarks: ReadingNotes


def read_table(feed: Feed) -> DataTable:
    """Read a feed, or load it from the cache. Raises DataError or ConfigError that name the place of the mistake."""
    for file in () if feed.hub else feed.files:
        try:
            require_file(Path(file))
        except DataError as error:
            raise DataError(f"tasks.{min(feed.tasks)}.data.{feed.split}: {error}") from None
    digest = feed.digest()
    counted: dict[str, Any] = {}

    def make(path: Path) -> None:
        counted.update(_write_rows(path, feed))

    arrow = cached(f"{digest}.rows.arrow", make)
    notes = cached(f"{digest}.rows.json", lambda path: _write_counts(path, feed, counted))
    summary = json.loads(notes.read_text("utf-8"))
    label_stats = {name: LabelStats.from_json(data) for name, data in summary["label_stats"].items()}
    empty, apart, remarks = tuple(summary["empty"]), tuple(summary["apart"]), ReadingNotes(summary["remarks"])
    return DataTable(feed, digest, ArrowRows.of(arrow), label_stats, empty, apart, remarks)


def _write_counts(path: Path, feed: Feed, counted: dict[str, Any]) -> None:
    if not counted:  # the rows are cached but the counts were lost: count again
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
            counted = _write_rows(Path(folder, "rows"), feed)
    path.write_text(json.dumps(counted, allow_nan=False), "utf-8")


def _write_rows(path: Path, feed: Feed) -> dict[str, Any]:
    """Write a feed's rows to an Arrow file, and return the counts."""
    reading = FeedReading(feed)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, reading.schema) as writer:
        for batch in reading.batches():
            writer.write_batch(batch)
    reading.columns.require_all()
    reading.columns.note_files_without()
    again = reading.rereadings()
    if again:
        # The meaning of these labels is only known after all of them have been read.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
            new = Path(folder, "rows")
            with (
                pa.OSFile(str(path)) as source,
                pa.OSFile(str(new), "wb") as sink,
                pa.ipc.new_stream(sink, reading.schema) as writer,
            ):
                for batch in pa.ipc.open_stream(source):
                    writer.write_batch(reading.read_again(batch, again))
            new.replace(path)
        reading.finish(again)
    return reading.counts.to_json()
