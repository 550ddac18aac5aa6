"""Columns of the rows to predict: which ones hold the texts, and which ones are copied to the predictions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from polytask.data.words import join_words
from polytask.errors import ConfigError, DataError, nearest
from polytask.tabular import cells_of, is_nothing
from polytask.tasks import Task

# Names of a prediction's own values.
_OWN = ("text", "text_pair", "predictions", "truncated", "empty", "windows")
_ID = re.compile(r"(?:.*[-_. ])?(?:id|guid|uuid|uid|idx)|index")
_CAMEL_ID = re.compile(r".*[a-z]I[dD]")


def is_id(name: str) -> bool:
    """Whether the name of a column suggests that it identifies rows.

    >>> is_id("id"), is_id("doc_id"), is_id("docId"), is_id("valid")
    (True, True, True, False)
    """
    return _ID.fullmatch(name.casefold()) is not None or _CAMEL_ID.fullmatch(name) is not None


@dataclass(frozen=True)
class Columns:
    """The columns chosen by the user.

    Attributes:
        texts: column of the text, or the two columns of a pair; by default those of the tasks.
        keep: columns to copy to the predictions, in addition to those that identify a row.
    """

    texts: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def require_possible(self, tasks: Iterable[Task]) -> None:
        """Raise ConfigError if the tasks cannot read this number of columns, or a kept name is taken."""
        if len(self.texts) > 2:
            raise ConfigError(f"text: found {len(self.texts)} columns; accepted: one, or two for pairs of texts")
        wanted = {1 if task.options.inputs.second is None else 2 for task in tasks}
        if self.texts and len(self.texts) not in wanted:
            kinds = "a pair of texts: give two columns" if wanted == {2} else "one text: give one column"
            raise ConfigError(f"text: found {len(self.texts)}, but the tasks read {kinds}")
        for name in self.keep:
            if name in _OWN or name.startswith("predictions."):
                raise ConfigError(f"keep: found {name!r}, but a prediction has its own value under this name")

    def record(self, row: Mapping[str, Any], tasks: Iterable[Task]) -> dict[str, Any]:
        """Return a row with its texts in the columns that the tasks read. Raises DataError if a column is missing."""
        cells = cells_of(row)
        if not self.texts:
            return cells
        for name in self.texts:
            if name not in cells:
                raise DataError(f"no column {name!r}, which holds the text ({nearest(name, cells)})")
        values = [cells[name] for name in self.texts]
        for task in tasks:
            inputs = task.options.inputs
            columns = (inputs.first,) if inputs.second is None else (inputs.first, inputs.second)
            if len(columns) != len(values):
                continue
            cells.update(zip(columns, map(_joined, values), strict=True))
            if task.level == "word" and isinstance(values[0], list):
                cells[task.options.tokens] = values[0]
        return cells

    def read(self, row: Mapping[str, Any], tasks: Iterable[Task]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a row with its texts in the columns that the tasks read, and the values to keep. Raises DataError."""
        try:
            return self.record(row, tasks), self.kept(row)
        except RecursionError:
            raise DataError("a value is nested too deeply") from None

    def kept(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a row to keep, as JSON values. Raises DataError for a value that cannot be written."""
        values = {name: value for name, value in row.items() if is_id(name) and _is_plain(value)}
        if self.keep:
            cells = cells_of(row)
            values |= {name: cells.get(name) for name in self.keep}
        return {name: _as_json(name, value) for name, value in values.items()}

    def require_kept(self, row: Mapping[str, Any]) -> None:
        """Raise DataError if a row of a table lacks a column to keep."""
        cells = cells_of(row) if self.keep else {}
        for name in self.keep:
            if name not in cells:
                raise DataError(f"no column {name!r} to keep ({nearest(name, cells)})")


def _joined(value: Any) -> Any:  # noqa: ANN401
    """Join a list of words to a text; return anything else unchanged."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return join_words(value)[0]
    return value


def _is_plain(value: Any) -> bool:  # noqa: ANN401
    return not isinstance(value, list | dict | tuple | bytes)


def _as_json(name: str, value: Any) -> Any:  # noqa: ANN401
    """Return a value as a JSON value, with dates and the like as text."""
    if value is None or is_nothing(value):
        return None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name!r} cannot be kept ({error}); correct it") from None
    return json.loads(text)
