"""Rows given as Python objects: mappings, or a table of pandas, polars or pyarrow, as plain Python values.

None of these libraries is imported: an object of theirs can only be given where it has been imported already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

# How a table becomes a list of mappings, by the library and the class.
_TABLES: dict[tuple[str, str], Callable[[Any], list[dict[Any, Any]]]] = {
    ("pandas", "DataFrame"): lambda table: table.to_dict("records"),
    ("polars", "DataFrame"): lambda table: table.to_dicts(),
    ("pyarrow", "Table"): lambda table: table.to_pylist(),
}
_PLAIN = (str, int, bool, type(None))
# What pandas writes in an empty cell, beside NaN.
_NOTHING = frozenset({"NAType", "NaTType"})


def rows_of_table(value: Any) -> Any:  # noqa: ANN401
    """Return the rows of a table as plain mappings; anything else as it is.

    >>> rows_of_table(["train.csv"])
    ['train.csv']
    """
    for (library, name), read in _TABLES.items():
        module = sys.modules.get(library)
        if module is not None and isinstance(value, getattr(module, name)):
            return plain_rows(read(value))
    return value


def plain_rows(rows: list[Any]) -> list[Any]:
    """Return rows with plain Python values; what is no row stays as it is."""
    return [{str(key): plain(value) for key, value in row.items()} if isinstance(row, Mapping) else row for row in rows]


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return a cell as a plain Python value: NumPy's scalars and arrays, tuples, and what stands for nothing.

    >>> plain((1, float("nan"))), plain(float("nan"))
    ([1, None], None)
    """
    if type(value) in _PLAIN:
        return value
    if is_nothing(value):
        return None
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        return plain(value.tolist())
    return value


def is_nothing(value: object) -> bool:
    """Whether a cell is NaN, NaT or NA, which is how tables in Python say that it is empty."""
    return (isinstance(value, float) and value != value) or type(value).__name__ in _NOTHING


def cells_of(values: Mapping[str, Any], levels: int = 3) -> dict[str, Any]:
    """Return a row's cells: None for what says that it is empty, and nested ones under names such as meta.label.

    Args:
        levels: how deep names are given; what lies deeper is reached by nothing.
    """
    cells: dict[str, Any] = {}
    for column, value in values.items():
        cells[column] = None if is_nothing(value) else value
        if isinstance(value, dict) and levels:
            inner = {f"{column}.{name}": cell for name, cell in cells_of(value, levels - 1).items()}
            cells |= {name: cell for name, cell in inner.items() if name not in values}
    return cells
