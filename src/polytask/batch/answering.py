"""Answers of rows, and the reasons of those that have none: one bad row never stops the others."""

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
        rest: whether nothing behind it could be read either.
    """

    reason: str
    rest: bool = False


@dataclass(frozen=True)
class RowAnswer:
    """What became of a row.

    Attributes:
        kept: columns of the row that stand beside its answer.
        prediction: None where there is no answer.
        reason: why there is none.
    """

    kept: Mapping[str, Any]
    prediction: TextPrediction | None
    reason: str | None = None


class RowPredictor:
    """Answers rows with one model.

    Args:
        tasks: by default all.
        columns: which columns hold the texts, and which ones stand beside the answers.

    Raises ConfigError for an unknown task, and where the tasks cannot read so many columns.
    """

    def __init__(self, model: Model, tasks: Sequence[str] | None, *, long: Long, columns: Columns) -> None:
        self.model = model
        self.tasks = chosen_tasks(model.tasks, tasks)
        self._long: Long = long
        self._columns = columns
        model.reader(long)  # refuses an unknown way
        columns.require_possible(self.tasks.values())

    def answer(self, rows: Iterable[Row | UnreadableRow]) -> Iterator[RowAnswer]:
        """Answer rows in their order; they are held together."""
        read = [self._read(row) for row in rows]
        records = (record for record, _ in read if not isinstance(record, UnreadableRow))
        answers = self.model.answers(records, list(self.tasks), long=self._long)
        for record, kept in read:
            if isinstance(record, UnreadableRow):
                yield RowAnswer(kept, None, record.reason)
            else:
                yield RowAnswer(kept, next(answers))

    def _read(self, row: Row | UnreadableRow) -> tuple[Record | UnreadableRow, Mapping[str, Any]]:
        """Return what the model is asked about a row and what is kept of it; or why the model cannot be asked."""
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
