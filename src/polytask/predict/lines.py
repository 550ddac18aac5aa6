"""Prediction of files, which are read like training files, in order; written atomically, or kept up to an error."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.data.windows import Long
from polytask.errors import ConfigError, DataError
from polytask.predict.columns import Columns
from polytask.predict.predictor import Model, TextPrediction, chosen_tasks
from polytask.predict.record import Record
from polytask.predict.sink import columns_of, form_of, partial_path, writing
from polytask.predict.source import PredictionSource
from polytask.predict.spans import require_room, span_writer
from polytask.progress import FileBar
from polytask.tabular import cells_of
from polytask.tasks import Task
from polytask.tasks.arrays import unrounded


@dataclass(frozen=True)
class Place:
    """The place of a record, and the values that its prediction keeps.

    Attributes:
        line: its line number, from 1; the row number in Parquet.
        position: bytes of the file up to it.
        kept: values of its row that are copied to the prediction.
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
    """Predict a file in order, in memory for one block of records, whatever the size of the file.

    Args:
        model: the model.
        file: texts (one per line), jsonl, or a file that training reads; `-` for stdin.
        tasks: names of the tasks; all by default.
        long: how to handle long texts.
        out: file for the predictions, which appears when it is complete; stdout by default.
        to: jsonl, csv or parquet; by default from the name of `out`.
        spans: tool for which to write the entities of one task as annotations, instead of all predictions.
        columns: columns that hold the texts, and columns to keep.
        written: options for reading the file, such as {"separator": ";"}.
        exact: whether to write numbers with all digits.
        say: prints notes on how the file was read, and where the predictions before an error are.

    Raises:
        UserError: the file is missing, or a line cannot be read; the lines before it have been predicted.
    """
    chosen = chosen_tasks(model.tasks, tasks)
    form = form_of(out, to)
    if spans is not None and form != "jsonl":
        raise ConfigError(f"spans: annotations are written as jsonl, not as {form}; name the file .jsonl")
    to_output = TextPrediction.to_json if spans is None else span_writer(model, tasks, spans)
    if spans is not None:
        require_room(spans, () if columns is None else columns.keep)
    examples = {} if form == "jsonl" else columns_of(_in_order(model, chosen), windows=long == "windows")
    source = PredictionSource.of(file, written)
    _require_apart(source, out)
    places: deque[Place] = deque()
    records = _records(source, columns or Columns(), lambda: _in_order(model, chosen), places)
    size = source.size
    show = sys.stderr.isatty() and size is not None and (out is not None or not sys.stdout.isatty())
    try:
        with (
            writing(out, form, examples, say) as sink,
            FileBar(size or 0, show=show) as bar,
            unrounded() if exact else nullcontext(),
        ):
            for answer in model.answers(records, tasks, long=long):
                sink.write(places[0].kept, to_output(answer))
                bar.advance(places.popleft().position)
    except DataError as error:  # for the first record without a prediction
        raise DataError(_located(error, file, places)) from None
    finally:
        source.close()
    for remark in source.remarks.messages():
        say(f"note: {remark}")


def _require_apart(source: PredictionSource, out: Path | None) -> None:
    """Raise ConfigError if the predictions would be written over the input."""
    if out is None:
        return
    if source.is_at(out):
        raise ConfigError(f"out: {out} is the input file, which the predictions would replace; name another file")
    if source.is_at(partial_path(out)):
        raise ConfigError(f"out: {partial_path(out)}, which is written first, is the input file; name another file")


def _in_order(model: Model, chosen: Container[str]) -> dict[str, Task]:
    """Return the chosen tasks in the model's order."""
    return {name: task for name, task in model.tasks.items() if name in chosen}


def _records(
    source: PredictionSource, columns: Columns, tasks: Callable[[], Mapping[str, Task]], places: deque[Place]
) -> Iterator[Record]:
    """Yield the records of a file, and append their places to `places`.

    Raises DataError for unreadable content, and if columns are named but the file has none.
    """
    chosen: Mapping[str, Task] | None = None
    absent = set(columns.keep)
    for number, row in source.rows():
        if isinstance(row, str):
            if columns != Columns():
                raise DataError(f"{source.place(number)}: the file is read as texts, one per line; it has no columns")
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
        raise DataError(f"{source.path}: no row has the column {min(absent)!r} to keep")


def _located(error: DataError, file: str, places: Sequence[Place]) -> str:
    """Add the place to an error message, and the command-line form of its suggestions."""
    message = str(error)
    if places:
        message = f"{file}:{places[0].line}: {message}"
        if "holds no text for any" in message and places[0].columns:
            message += "; --text COLUMN names the column that holds the text"
    options = any(f"`{option}" in message for option in ("encoding", "format", "separator", "quoting"))
    if options and "--written" not in message:
        message += " (here: --written KEY=VALUE, such as --written encoding=cp1252)"
    return message
