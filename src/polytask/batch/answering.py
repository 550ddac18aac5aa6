"""Predictions for rows, with reasons for rows without one: a bad row never stops the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from polytask.data.windows import Long
from polytask.errors import DataError
from polytask.predict.columns import Columns
from polytask.predict.predictor import Model, TextPrediction, chosen_tasks
from polytask.predict.record import Record, queries_of

# A text, or a row with columns.
Row: TypeAlias = "str | Mapping[str, Any]"


@dataclass(frozen=True)
class UnreadableRow:
    """A row that its file's reader could not read.

    Attributes:
        rest: whether all rows after it are unreadable too.
    """

    reason: str
    rest: bool = False


@dataclass(frozen=True)
class RowAnswer:
    """The result for a row.

    Attributes:
        kept: values of the row that are copied to the prediction.
        prediction: the prediction; None if there is none.
        reason: why there is none.
    """

    kept: Mapping[str, Any]
    prediction: TextPrediction | None
    reason: str | None = None


class RowPredictor:
    """Predicts rows with one model.

    Args:
        model: the model.
        tasks: names of the tasks; all by default.
        long: how to handle long texts.
        columns: columns that hold the texts, and columns to keep.

    Raises ConfigError for an unknown task, and if the tasks cannot read this number of columns.
    """

    def __init__(self, model: Model, tasks: Sequence[str] | None, *, long: Long, columns: Columns) -> None:
        self.model = model
        self.tasks = chosen_tasks(model.tasks, tasks)
        self._long: Long = long
        self._columns = columns
        model.reader(long)  # raises for an unknown value
        columns.require_possible(self.tasks.values())

    def answer(self, rows: Iterable[Row | UnreadableRow]) -> Iterator[RowAnswer]:
        """Predict rows in order; all of them are in memory."""
        rows_read = [self._read(row) for row in rows]
        records = (record for record, _ in rows_read if not isinstance(record, UnreadableRow))
        answers = self.model.answers(records, list(self.tasks), long=self._long)
        for record, kept in rows_read:
            if isinstance(record, UnreadableRow):
                yield RowAnswer(kept, None, record.reason)
            else:
                yield RowAnswer(kept, next(answers))

    def _read(self, row: Row | UnreadableRow) -> tuple[Record | UnreadableRow, Mapping[str, Any]]:
        """Return the record of a row and its kept values, or why it cannot be predicted."""
        if isinstance(row, UnreadableRow):
            return row, {}
        kept: Mapping[str, Any] = {}
        try:
            record: Record = row
            if not isinstance(row, str):
                record, kept = self._columns.read(row, self.tasks.values())
            queries_of(0, record, self.model.tasks, list(self.tasks), "the row")
        except DataError as error:
            return UnreadableRow(str(error)), kept
        return record, kept
