"""Rows of an Arrow file on disk, memory-mapped, so that only the rows in use are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class ArrowRows:
    """The rows of a table, as Python values.

    Attributes:
        data: the table.
    """

    def __init__(self, data: pa.Table) -> None:
        self.data = data
        self._batches = data.to_batches()
        self._starts = np.cumsum([0, *map(len, self._batches)])

    @classmethod
    def of(cls, file: Path) -> ArrowRows:
        """Memory-map a file in the Arrow stream format."""
        return cls(pa.ipc.open_stream(pa.memory_map(str(file))).read_all())

    def __len__(self) -> int:
        return self.data.num_rows

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> dict[str, list[Any]]: ...
    def __getitem__(self, key: str | int | slice) -> Any:
        """Return a column as a list, a row as a mapping, or a slice of rows as a mapping of lists."""
        if isinstance(key, str):
            return self.data.column(key).to_pylist()
        if isinstance(key, slice):
            start, stop, _ = key.indices(len(self))
            return self.data.slice(start, stop - start).to_pydict()
        place = range(len(self))[key]
        return {name: column[0] for name, column in self[place : place + 1].items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._batches:
            yield from batch.to_pylist()

    def columns(self, names: Sequence[str], rows: Sequence[int] | NDArray[np.integer]) -> Mapping[str, list[Any]]:
        """Return some columns of some rows; the row numbers have to be in ascending order."""
        chosen = np.asarray(rows, np.int64)
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for batch, start in zip(self._batches, self._starts.tolist(), strict=False):
            low, high = np.searchsorted(chosen, (start, start + len(batch))).tolist()
            if low < high:
                places = pa.array(chosen[low:high] - start)
                for name, values in columns.items():
                    values.extend(batch.column(name).take(places).to_pylist())
        return columns
