"""Columns of an Arrow table as NumPy views of the memory-mapped file, so that reading a row copies only that row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Ragged:
    """A column of lists; `column[row]` is an array of the row's values."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._values: list[NDArray[np.generic]] = []
        self._offsets: list[NDArray[np.int64]] = []
        starts = [0]
        for chunk in column.chunks:
            assert isinstance(chunk, pa.ListArray)
            self._values.append(chunk.values.to_numpy(zero_copy_only=True))
            self._offsets.append(chunk.offsets.to_numpy(zero_copy_only=True))
            starts.append(starts[-1] + len(chunk))
        self._starts = np.array(starts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def count(self, value: int) -> int:
        """Return the number of occurrences of a value in all rows."""
        return sum(
            int(np.count_nonzero(values[offsets[0] : offsets[-1]] == value))
            for values, offsets in zip(self._values, self._offsets, strict=True)
        )

    def __getitem__(self, row: int) -> NDArray[np.generic]:
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        offsets = self._offsets[chunk]
        inside = row - int(self._starts[chunk])
        return self._values[chunk][offsets[inside] : offsets[inside + 1]]

    def holds(self, value: float) -> bool:
        """Whether any row contains the value."""
        return any((values == value).any() for values in self._values)


def flat(column: pa.ChunkedArray) -> NDArray[np.generic]:
    """Return a column of numbers as one array; missing numbers become nan (missing integers become -100)."""
    if pa.types.is_integer(column.type):
        column = column.fill_null(-100)
    return column.to_numpy()


class Matrices:
    """A column of matrices of one width; `column[row]` is the matrix of a row, with one line for each word.

    Args:
        values: lines of all rows, one after another: lines x width.
        ends: end of each row's lines in `values`.
    """

    def __init__(self, values: NDArray[np.float32], ends: NDArray[np.int64]) -> None:
        self.values = values
        self.ends = ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        return self.values[int(self.ends[row - 1]) if row else 0 : int(self.ends[row])]
