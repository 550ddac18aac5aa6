"""The engine interface: runs a model in any runtime. Answers and scores are made from its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.data.groups import groups_by_length
from polytask.data.tokens import TokenRow

# Outputs by task: `size` numbers at row level; words that have a token of their own x size at word level.
RowOutputs: TypeAlias = "dict[str, NDArray[np.float32]]"


class Engine(Protocol):
    """Runs a model."""

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        """Return the raw outputs of each row for the tasks that read it.

        Args:
            rows: rows of similar length, to be padded together; no more than fit into memory.
            tasks: for each row, the tasks that read it.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return the device and precision, for users."""
        ...


def outputs_of(engine: Engine, task: str, rows: Sequence[TokenRow]) -> NDArray[np.float32]:
    """Return a row-level task's outputs for rows of any length: rows x size."""
    by_row: dict[int, NDArray[np.float32]] = {}
    for group in groups_by_length([len(row.ids) for row in rows]):
        outputs = engine.run([rows[index] for index in group], [(task,)] * len(group))
        by_row.update(zip(group, (row[task] for row in outputs), strict=True))
    return np.stack([by_row[index] for index in range(len(rows))])
