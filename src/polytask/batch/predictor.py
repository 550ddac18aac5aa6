"""Prediction for batches of columns, as used by engines for large data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np

from polytask.batch.answering import RowPredictor
from polytask.data.windows import Long
from polytask.errors import ConfigError, DataError
from polytask.inputs import folder_of, names_in, texts_in
from polytask.predict.columns import Columns
from polytask.predict.load import load
from polytask.predict.predictor import Model
from polytask.predict.sink import arrow_type, columns_of, flat
from polytask.tabular import plain
from polytask.terms import Precision

# The column with the reasons of rows without a prediction.
ERROR = "error"
# Range of 64-bit integers, and of those that are all exact as floats.
_LEAST_WHOLE, _MOST_WHOLE, _MOST_EXACT = -(2**63), 2**63 - 1, 2**53


class BatchPredictor:
    """Predicts batches of columns with one model, which is loaded once, on first use.

    An engine that distributes batches of columns creates one in each of its processes: only these arguments are sent
    there, never the weights.

    >>> predict = BatchPredictor("runs/reviews/model", tasks=["sentiment"])  # doctest: +SKIP
    >>> predict({"id": [7], "text": ["A moving film."]})  # doctest: +SKIP
    {"id": array([7]), "text": ..., "predictions.sentiment.label": array(["positive"], dtype=object), ...}

    Args:
        model: a model folder, a run or its folder; every machine needs it at this path.
        tasks: names of the tasks, as a list or as a text with commas; all by default.
        long: as for `Model.predict`.
        text: column of the text, or the two columns of a pair; by default those of the tasks.
        keep: columns of the batch to return with the predictions; all by default.
        labels: other labels, as for `Model.with_labels`.
        errors: how to handle a row without a text: `raise` a DataError, or return the reason in a `column`, which is
            None for all other rows, with None for the row's predictions.
        device: auto, cpu, cuda, ...
        precision: by default the one the model was scored in.
        extensions: modules that may be imported.
    """

    def __init__(
        self,
        model: str | PathLike[str],
        tasks: Sequence[str] | None = None,
        *,
        long: Long = "truncate",
        text: str | Sequence[str] = (),
        keep: Sequence[str] | None = None,
        labels: Mapping[str, Any] | None = None,
        errors: str = "raise",
        device: str = "auto",
        precision: Precision | None = None,
        extensions: Sequence[str] = (),
    ) -> None:
        if errors not in ("raise", "column"):
            raise ConfigError(f"errors: found {errors!r}; accepted: column, raise")
        self.model = str(folder_of(model, "model"))
        self._tasks = None if tasks is None else names_in(tasks, "tasks")
        self._long: Long = long
        self._texts = (text,) if isinstance(text, str) else tuple(text)
        self._keep = None if keep is None else tuple(texts_in(keep, "keep", "id"))
        self._labels = labels
        self._errors = errors
        self._device = device
        self._precision: Precision | None = precision
        self._extensions = tuple(names_in(extensions, "extensions"))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("loaded", "_rows", "columns")}

    @cached_property
    def loaded(self) -> Model:
        """The model. Raises UserError if it cannot be loaded."""
        model = load(self.model, self._device, self._precision, extensions=self._extensions)
        return model if self._labels is None else model.with_labels(self._labels)

    @cached_property
    def _rows(self) -> RowPredictor:
        return RowPredictor(self.loaded, self._tasks, long=self._long, columns=Columns(self._texts))

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The columns added to a batch, with an example value for each; they are the same for every batch."""
        columns = columns_of(self._rows.tasks, windows=self._long == "windows")
        selected = {name: value for name, value in columns.items() if name not in ("text", "text_pair")}
        return {**selected, ERROR: ""} if self._errors == "column" else selected

    def schema(self) -> Any:  # noqa: ANN401
        """Return the Arrow schema of the columns added to a batch."""
        import pyarrow as pa

        return pa.schema([(name, arrow_type(value)) for name, value in self.columns.items()])

    def __call__(self, batch: Any) -> Any:  # noqa: ANN401
        """Predict a batch, and return it with the columns of the predictions, in the same order of rows.

        Args:
            batch: a mapping of columns (lists, NumPy or Arrow arrays) of equal length, for which NumPy arrays are
                returned; or a pyarrow Table or RecordBatch, or a pandas DataFrame, for which a Table or DataFrame is
                returned.

        Raises DataError for an invalid batch, and (with errors="raise") for a row without a text.
        """
        if type(batch).__name__ in ("Table", "RecordBatch") and hasattr(batch, "schema"):
            return self._arrow(batch)
        if type(batch).__name__ == "DataFrame" and hasattr(batch, "to_dict"):
            return self._frame(batch)
        columns = _columns_of(batch)
        lists = _lists(columns)
        answers = self.answers(lists)
        kept_columns = {name: _array(columns[name]) for name in self.kept(list(lists))}
        return {**kept_columns, **{name: _typed(values, self.columns[name]) for name, values in answers.items()}}

    def answers(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the predictions, by column, for rows given by columns. Raises DataError like calling the predictor."""
        self.kept(list(columns))
        names = list(columns)
        answers = self.answer_rows(
            [dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        )
        values_by_column: dict[str, list[Any]] = {name: [] for name in self.columns}
        for answer in answers:
            for name, values in values_by_column.items():
                values.append(answer[name])
        return values_by_column

    def answer_rows(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the predictions of rows, each by column. Raises DataError like calling the predictor."""
        for number, answer in enumerate(self._rows.answer(rows), start=1):
            if answer.prediction is None and self._errors == "raise":
                raise DataError(
                    f"row {number} of the batch: {answer.reason}; use errors='column' to predict the others"
                )
            cells = {} if answer.prediction is None else flat(answer.prediction.to_json())
            yield {name: answer.reason if name == ERROR else cells.get(name) for name in self.columns}

    def kept(self, names: Sequence[str]) -> list[str]:
        """Return the columns to keep. Raises DataError if one is missing, or has the name of a prediction's column."""
        kept_names = list(names if self._keep is None else self._keep)
        for name in kept_names:
            if name not in names:
                raise DataError(f"keep: no column {name!r} in the batch, which has: {', '.join(names)}")
            if name in self.columns:
                raise DataError(
                    f"the batch has a column {name!r}, like the predictions; rename it, or leave it out of keep"
                )
        return kept_names

    def _arrow(self, table: Any) -> Any:  # noqa: ANN401
        import pyarrow as pa

        names: list[str] = table.schema.names
        _require_distinct(names)
        answers = self.answers({name: table.column(name).to_pylist() for name in names})
        kept = {name: table.column(name) for name in self.kept(names)}
        fields = [table.schema.field(name) for name in kept] + list(self.schema())
        arrays = [*kept.values(), *(pa.array(answers[field.name], field.type) for field in self.schema())]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _frame(self, frame: Any) -> Any:  # noqa: ANN401
        names = [str(name) for name in frame.columns]
        _require_distinct(names)
        answers = self.answers({name: frame.iloc[:, place].tolist() for place, name in enumerate(names)})
        typed = {name: list(values) if _is_nested(self.columns[name]) else _typed(values, self.columns[name])
                 for name, values in answers.items()}  # fmt: skip
        return frame.iloc[:, [names.index(name) for name in self.kept(names)]].assign(**typed)


def _require_distinct(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two columns of the batch are named {twice!r}; give every column a name of its own")


def _columns_of(batch: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the columns of a mapping by their names as text. Raises DataError for an invalid batch."""
    if not isinstance(batch, Mapping):
        raise DataError(
            f"found a batch of type {type(batch).__name__}; expected a mapping of columns, a pyarrow Table or a pandas "
            'DataFrame, such as {"text": ["A moving film."]}'
        )
    _require_distinct([str(name) for name in batch])
    return {str(name): column for name, column in batch.items()}


def _lists(batch: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return columns as lists of plain values. Raises DataError if one is not a list, or lengths differ."""
    columns: dict[str, list[Any]] = {}
    for name, column in batch.items():
        # A set has no order, so its cells cannot be matched with those of other columns.
        cells = hasattr(column, "__len__") and getattr(column, "ndim", 1) > 0
        if not cells or isinstance(column, str | bytes | Mapping | Set):
            raise DataError(f"the column {name!r} is not a list of cells; a batch of one text is {{{name!r}: [text]}}")
        columns[name] = column.to_pylist() if hasattr(column, "to_pylist") else _plain(column)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns of the batch have different lengths: {lengths}")
    return columns


def _plain(column: Any) -> list[Any]:  # noqa: ANN401
    try:
        return [plain(cell) for cell in column]
    except (ValueError, RecursionError):  # bytes and the like, which no task may read
        return list(column)


def _array(column: Any) -> Any:  # noqa: ANN401
    """Return a column as a NumPy array; lists of lists as an object array."""
    if isinstance(column, np.ndarray):
        return column
    if hasattr(column, "to_numpy"):
        return column.to_numpy(zero_copy_only=False) if hasattr(column, "to_pylist") else column.to_numpy()
    cells = list(column)
    if all(isinstance(cell, bool) for cell in cells) or _are_numbers(cells):
        return np.array(cells)
    return _objects(cells)


def _are_numbers(cells: Sequence[Any]) -> bool:
    """Whether cells are numbers that a NumPy type represents exactly: identifiers must not be rounded."""
    if all(type(cell) is int for cell in cells):
        return all(_LEAST_WHOLE <= cell <= _MOST_WHOLE for cell in cells)
    return all(type(cell) is float or (type(cell) is int and abs(cell) <= _MOST_EXACT) for cell in cells)


def _objects(cells: Sequence[Any]) -> Any:  # noqa: ANN401
    array = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        array[place] = cell
    return array


def _typed(values: Sequence[Any], example: Any) -> Any:  # noqa: ANN401
    """Return a column of predictions, with the same type in every batch; missing numbers are NaN."""
    if isinstance(example, float):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    if type(example) in (bool, int) and None not in values:
        return np.array(values, type(example))
    return _objects(values)


def _is_nested(example: Any) -> bool:  # noqa: ANN401
    return isinstance(example, list | dict)
