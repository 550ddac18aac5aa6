"""Files: read as training reads them, answered in order, written whole or kept as far as they came."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.data.windows import Long
from polytask.errors import ConfigError, DataError
from polytask.predict.columns import Columns
from polytask.predict.predictor import Model, TextPrediction
from polytask.predict.record import Record
from polytask.predict.sink import columns_of, form_of, writing
from polytask.predict.source import PredictionSource
from polytask.predict.spans import require_room, span_writer
from polytask.progress import FileBar
from polytask.tabular import cells_of
from polytask.tasks import Task
from polytask.tasks.arrays import unrounded


@dataclass(frozen=True)
class Place:
    """Where a record stands, and what its answer keeps.

    Attributes:
        line: its number, from 1; the row's in parquet.
        position: bytes of the file that were read up to it.
        kept: columns of its row that go into the answer.
        columns: whether it is a row with columns.
    """

    line: int
    position: int
    kept: Mapping[str, Any]
    columns: bool


def answer_lines(
    model: Model,
    file: str,
    tasks: Sequence[str] | None = None,
    *,
    long: Long = "truncate",
    out: Path | None = None,
    to: str | None = None,
    spans: str | None = None,
    columns: Columns | None = None,
    written: Mapping[str, str] | None = None,
    exact: bool = False,
    say: Callable[[str], None],
) -> None:
    """Answer a file in its order, with memory for a block of records however long the file is.

    Args:
        file: texts (one a line), jsonl, or a file that training reads; `-` for stdin.
        out: file for the answers; without one they go to stdout. It appears when it is whole.
        to: jsonl, csv or parquet; by default the name of `out` tells.
        spans: the tool for which the entities of one task are written as annotations, in place of all answers.
        columns: which columns hold the texts, and which ones the answers keep.
        written: how the file is written, such as {"separator": ";"}.
        exact: whether numbers keep all their digits.
        say: is told how the file was read, and where the answers are that were written before something went wrong.

    Raises:
        UserError: the file is not there, or a line of it cannot be read; those before it have been answered.
    """
    form = form_of(out, to)
    if spans is not None and form != "jsonl":
        raise ConfigError(f"spans: annotations are written as jsonl, not as {form}; name the file .jsonl")
    shown = TextPrediction.to_json if spans is None else span_writer(model, tasks, spans)
    if spans is not None:
        require_room(spans, () if columns is None else columns.keep)
    examples = {} if form == "jsonl" else columns_of(_chosen(model, tasks), windows=long == "windows")
    source = PredictionSource.of(file, written)
    places: deque[Place] = deque()
    given = _records(source, columns or Columns(), lambda: _chosen(model, tasks), places)
    size = source.size
    show = sys.stderr.isatty() and size is not None and (out is not None or not sys.stdout.isatty())
    try:
        with (
            writing(out, form, examples, say) as sink,
            FileBar(size or 0, show=show) as bar,
            unrounded() if exact else nullcontext(),
        ):
            for answer in model.answers(given, tasks, long=long):
                sink.write(places[0].kept, shown(answer))
                bar.advance(places.popleft().position)
    except DataError as error:  # of the first record that has no answer
        raise DataError(_located(error, file, places)) from None
    finally:
        source.close()
    for remark in source.remarks.messages():
        say(f"note: {remark}")


def _chosen(model: Model, tasks: Sequence[str] | None) -> dict[str, Task]:
    """Return the tasks that answer; an unknown name is told by the model."""
    return {name: task for name, task in model.tasks.items() if tasks is None or name in tasks}


def _records(
    source: PredictionSource, columns: Columns, tasks: Callable[[], Mapping[str, Task]], places: deque[Place]
) -> Iterator[Record]:
    """Yield what a file holds, and say where each record stands.

    Raises DataError for what cannot be read, and where columns are named and the file has none.
    """
    chosen: Mapping[str, Task] | None = None
    absent = set(columns.keep)
    for number, row in source.rows():
        if isinstance(row, str):
            if columns != Columns():
                raise DataError(f"{source.place(number)}: the file is read as texts, one a line; it has no columns")
            places.append(Place(number, source.position, {}, columns=False))
            yield row
            continue
        try:
            if chosen is None:
                chosen = tasks()
                columns.require_possible(chosen.values())
                if source.known_format in ("csv", "tsv", "parquet"):
                    columns.require_kept(row)
            record, kept = columns.read(row, chosen.values())
            absent -= cells_of(row).keys() if absent else set()
        except DataError as error:
            raise DataError(f"{source.place(number)}: {error}") from None
        places.append(Place(number, source.position, kept, columns=True))
        yield record
    if chosen is not None and absent:
        raise DataError(f"{source.path}: no row has the column {min(absent)!r}, which is to be kept")


def _located(error: DataError, file: str, places: Sequence[Place]) -> str:
    """Return what went wrong with its place, and how the command line says what stands beside a path elsewhere."""
    message = str(error)
    if places:
        message = f"{file}:{places[0].line}: {message}"
        if "holds no text for any" in message and places[0].columns:
            message += "; --text COLUMN names the column that holds the text"
    if "`encoding" in message or "`format" in message or "`separator" in message or "`quoting" in message:
        message += " (here: --written KEY=VALUE, such as --written encoding=cp1252)"
    return message
