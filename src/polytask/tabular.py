"""Conversion of Python rows (mappings, or tables of pandas, polars, pyarrow or datasets) to plain values.

None of these libraries is imported here: their objects can only exist if they have been imported already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import chain
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

from polytask.classes import ClassNames

Read: TypeAlias = Callable[[Any], Iterator[Mapping[Any, Any]]]

_PLAIN = (str, int, float, bool, type(None))
# What pandas writes in an empty cell, in addition to NaN.
_NOTHING = frozenset({"NAType", "NaTType"})
# Cells that become the text that a csv file would hold: times, names, and the bins of pandas.cut.
_WRITTEN = (date, time, timedelta, UUID, PurePath)
_WRITTEN_NAMES = frozenset({"Interval", "Period"})
# Columns of a dataset that hold no text, number or label, and would decode files when read.
_MEDIA = frozenset({"Image", "Audio", "Video", "Pdf"})
# Number of rows that are converted to Python objects at a time.
_BATCH = 1000
# Maximum number of digits of a decimal that becomes an integer; longer ones become floats.
_MOST_DIGITS = 300


def rows_in(value: Any) -> Iterator[dict[str, Any]] | None:  # noqa: ANN401
    """Return the rows of a table or an iterator, with plain values; None for anything else.

    Raises ValueError, here or during iteration, for a table that has no rows, and for a value that is not a row.

    >>> list(rows_in(iter([{"text": "a", "score": float("nan")}])))
    [{'text': 'a', 'score': None}]
    >>> rows_in(["train.csv"]) is None
    True
    """
    for (library, name), reader in _TABLES.items():
        module = sys.modules.get(library)
        if module is not None and isinstance(value, getattr(module, name, ())):
            return _with_one_row(plain_rows(reader(value)), f"a {name}")
    if isinstance(value, Iterator):
        return _with_one_row(plain_rows(value), "an iterator")
    return None


def rows_of_table(value: Any, known: dict[int, tuple[Any, Any]] | None = None) -> Any:  # noqa: ANN401
    """Return the rows of a table or an iterator as a list; anything else unchanged.

    Args:
        value: the value of a configuration.
        known: rows that were read already, by identity; extended here, since several tasks share one table, and an
            iterator can be read only once.

    >>> rows_of_table(["train.csv"])
    ['train.csv']
    """
    if known is not None and id(value) in known:
        return known[id(value)][1]
    rows = rows_in(value)
    if rows is None:
        return value
    row_list = list(rows)
    if known is not None:
        known[id(value)] = value, row_list  # keeps the object alive, so that no other one gets its identity
    return row_list


def _with_one_row(rows: Iterator[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    first = next(rows, None)
    if first is None:
        hint = "; it may have been used up already: give a list" if name == "an iterator" else ""
        raise ValueError(f"found {name} without rows{hint}")
    return chain([first], rows)


def plain_rows(rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield rows with plain Python values. Raises ValueError for a value that is not a row, or not a cell."""
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            if isinstance(row, str):
                raise ValueError(f"row {number}: found a text; expected a file, a list of files, or a list of rows")
            kind = type(row).__name__
            raise ValueError(f"row {number}: found a value of type {kind}; expected a mapping of columns to values")
        try:
            yield plain_row(row)
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from None


def plain_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row with plain Python values. Raises ValueError naming the column of an unsupported value."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        name = str(key)
        if name in cells:
            raise ValueError(f"found two columns named {name!r}; rename one")
        try:
            cells[name] = plain(value)
        except ValueError as error:
            raise ValueError(f"{name!r} holds {error}; leave the column out") from None
        except RecursionError:
            raise ValueError(f"{name!r} holds a value that is nested too deeply; leave the column out") from None
    return cells


def plain(value: Any) -> Any:  # noqa: ANN401
    """Convert a cell to plain Python: NumPy scalars and arrays, tuples, sets, and markers of empty cells.

    Raises ValueError for an object that is not a text, number, list or mapping of these.

    >>> plain((1, float("nan"))), plain(float("nan")), plain({"b", "a"})
    ([1, None], None, ['a', 'b'])
    """
    if is_nothing(value):
        return None
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Mapping):
        return plain_row(value)
    return _plain_object(value)


def _plain_object(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Decimal):
        return _of_decimal(value)
    if isinstance(value, _WRITTEN) or type(value).__name__ in _WRITTEN_NAMES:
        return str(value)
    for base in (str, bool, int, float):  # a subclass, such as NumPy's str_
        if isinstance(value, base):
            return base(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        return _of_numpy(value)
    for library, name in (("pandas", "Series"), ("polars", "Series"), ("torch", "Tensor")):
        module = sys.modules.get(library)
        if module is not None and isinstance(value, getattr(module, name, ())):
            return plain(value.tolist() if name == "Tensor" else value.to_list())
    raise ValueError(f"a value of type {type(value).__name__}, which is not a text, number, list or mapping")


def _of_decimal(value: Decimal) -> int | float | None:
    if value.is_nan():
        return None
    # An integer of a million digits takes minutes to print.
    is_integer = value.is_finite() and value.adjusted() < _MOST_DIGITS and value == value.to_integral_value()
    return int(value) if is_integer else float(value)


def _of_numpy(value: Any) -> Any:  # noqa: ANN401
    if value.dtype.kind in "mM":  # as numbers they would not be recognisable as times
        return _moments(value.astype(str).tolist())
    if value.dtype.kind in "SVc":
        raise ValueError(f"a value of NumPy's type {value.dtype}, which is neither text nor number")
    return plain(value.tolist())


def _moments(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_moments(item) for item in value]
    return None if value == "NaT" else value


def is_nothing(value: object) -> bool:
    """Whether a cell is NaN, NaT or NA, which mark empty cells of tables in Python."""
    return (isinstance(value, float) and value != value) or type(value).__name__ in _NOTHING


def _of_pandas(table: Any) -> Iterator[Mapping[Any, Any]]:  # noqa: ANN401
    _require_distinct([str(name) for name in table.columns])
    for start in range(0, len(table), _BATCH):
        yield from table.iloc[start : start + _BATCH].to_dict("records")


def _of_polars(table: Any) -> Iterator[Mapping[Any, Any]]:  # noqa: ANN401
    return table.iter_rows(named=True)


def _of_arrow(table: Any) -> Iterator[Mapping[Any, Any]]:  # noqa: ANN401
    _require_distinct(table.column_names)
    for batch in table.to_batches(max_chunksize=_BATCH):
        yield from batch.to_pylist()


def _of_dataset(data: Any) -> Iterator[Mapping[Any, Any]]:  # noqa: ANN401
    """Yield the rows of a dataset, with names instead of class numbers, and without images and audio."""
    features: dict[str, Any] = {} if data.features is None else data.features.to_dict()
    media = [name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") in _MEDIA]
    names = ClassNames({name: feature for name, feature in features.items() if name not in media})
    columns = data.remove_columns(media) if media else data
    return (names.named(row) for row in (columns.with_format(None) if hasattr(columns, "with_format") else columns))


def _of_splits(data: Mapping[str, Any]) -> Iterator[Mapping[Any, Any]]:
    raise ValueError(f"found a dataset with several splits ({', '.join(map(str, data))}); give one of them")


def _require_distinct(names: Collection[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"found two columns named {name!r}; rename one")
        seen.add(name)


# The reader of each table class, by library and class name.
_TABLES: dict[tuple[str, str], Read] = {
    ("pandas", "DataFrame"): _of_pandas,
    ("polars", "DataFrame"): _of_polars,
    ("polars", "LazyFrame"): lambda table: _of_polars(table.collect()),
    ("pyarrow", "Table"): _of_arrow,
    ("datasets", "Dataset"): _of_dataset,
    ("datasets", "IterableDataset"): _of_dataset,
    ("datasets", "DatasetDict"): _of_splits,
    ("datasets", "IterableDatasetDict"): _of_splits,
}


def _as_written(value: Any) -> Any:  # noqa: ANN401
    """Return a cell of a typed file (Parquet) as a csv file would hold it."""
    if type(value) in (str, list):
        return value
    if is_nothing(value):
        return None
    if isinstance(value, Decimal):
        return _of_decimal(value)
    return str(value) if isinstance(value, _WRITTEN) else value


def cells_of(values: Mapping[str, Any], levels: int = 3) -> dict[str, Any]:
    """Return a row's cells: None for empty ones, and nested cells under names such as meta.label.

    Decimals become numbers, and dates and times text, as in rows from Python.

    Args:
        values: the row.
        levels: number of nested levels that get names; deeper cells cannot be addressed.
    """
    cells: dict[str, Any] = {}
    for column, value in values.items():
        cells[column] = _as_written(value)
        if isinstance(value, dict) and levels:
            inner = {f"{column}.{name}": cell for name, cell in cells_of(value, levels - 1).items()}
            cells |= {name: cell for name, cell in inner.items() if name not in values}
    return cells
