"""Columns of the rows that are answered: which ones hold the texts, and which ones the answers keep."""

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

# What an answer has of its own.
_OWN = ("text", "text_pair", "predictions", "truncated", "empty", "windows")
_ID = re.compile(r"(?:.*[-_. ])?(?:id|guid|uuid|uid|idx)|index")
_CAMEL_ID = re.compile(r".*[a-z]I[dD]")


def is_id(name: str) -> bool:
    """Whether a column is called as those are that identify a row.

    >>> is_id("id"), is_id("doc_id"), is_id("docId"), is_id("valid")
    (True, True, True, False)
    """
    return _ID.fullmatch(name.casefold()) is not None or _CAMEL_ID.fullmatch(name) is not None


@dataclass(frozen=True)
class Columns:
    """What a person says of the columns.

    Attributes:
        texts: the column that holds the text, or the two of a pair; by default the tasks' own.
        keep: columns that the answers keep beside those that identify a row.
    """

    texts: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def require_possible(self, tasks: Iterable[Task]) -> None:
        """Raise ConfigError where the tasks cannot read so many columns, or an answer has one of its own."""
        if len(self.texts) > 2:
            raise ConfigError(f"text: found {len(self.texts)} columns; accepted: one, or two for pairs of texts")
        wanted = {1 if task.options.inputs.second is None else 2 for task in tasks}
        if self.texts and len(self.texts) not in wanted:
            kinds = "a pair of texts: give two columns" if wanted == {2} else "one text: give one column"
            raise ConfigError(f"text: found {len(self.texts)}, and the tasks read {kinds}")
        for name in self.keep:
            if name in _OWN or name.startswith("predictions."):
                raise ConfigError(f"keep: found {name!r}, and an answer has a value of its own under this name")

    def record(self, row: Mapping[str, Any], tasks: Iterable[Task]) -> dict[str, Any]:
        """Return a row with its texts where the tasks look for them. Raises DataError where a column is missing."""
        cells = cells_of(row)
        if not self.texts:
            return cells
        for name in self.texts:
            if name not in cells:
                raise DataError(f"no column {name!r}, which holds the text ({nearest(name, cells)})")
        values = [cells[name] for name in self.texts]
        for task in tasks:
            inputs = task.options.inputs
            own = (inputs.first,) if inputs.second is None else (inputs.first, inputs.second)
            if len(own) != len(values):
                continue
            cells.update(zip(own, map(_joined, values), strict=True))
            if task.level == "word" and isinstance(values[0], list):
                cells[task.options.tokens] = values[0]
        return cells

    def read(self, row: Mapping[str, Any], tasks: Iterable[Task]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a row with its texts where the tasks look for them, and what its answer keeps. Raises DataError."""
        try:
            return self.record(row, tasks), self.kept(row)
        except RecursionError:
            raise DataError("a value is nested too deeply") from None

    def kept(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the answer keeps of a row, as JSON knows it. Raises DataError for what is not to be written."""
        found = {name: value for name, value in row.items() if is_id(name) and _is_plain(value)}
        if self.keep:
            cells = cells_of(row)
            found |= {name: cells.get(name) for name in self.keep}
        return {name: _as_json(name, value) for name, value in found.items()}

    def require_kept(self, row: Mapping[str, Any]) -> None:
        """Raise DataError where a row of a table lacks a column that is to be kept."""
        cells = cells_of(row) if self.keep else {}
        for name in self.keep:
            if name not in cells:
                raise DataError(f"no column {name!r}, which is to be kept ({nearest(name, cells)})")


def _joined(value: Any) -> Any:  # noqa: ANN401
    """Return the text that a list of words spells; anything else as it is."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return join_words(value)[0]
    return value


def _is_plain(value: Any) -> bool:  # noqa: ANN401
    return not isinstance(value, list | dict | tuple | bytes)


def _as_json(name: str, value: Any) -> Any:  # noqa: ANN401
    """Return a value as JSON can hold it: dates and the like as text."""
    if value is None or is_nothing(value):
        return None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name!r} cannot be kept ({error}); correct it") from None
    return json.loads(text)
