"""The engine: what runs a model, whatever it runs in. Answers and scores are made from what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.data.groups import groups_by_length
from polytask.data.tokens import TokenRow

# By task: `size` outputs at row level; words that have a token of their own x size at word level.
RowOutputs: TypeAlias = "dict[str, NDArray[np.float32]]"


class Engine(Protocol):
    """Runs a model."""

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        """Return each row's raw outputs of the tasks that read it, in the order of the rows.

        Args:
            rows: of similar length, so that they can be padded together; as many as fit into memory.
            tasks: for each row the tasks that read it.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return where and in which precision it runs, for people."""
        ...


def outputs_of(engine: Engine, task: str, rows: Sequence[TokenRow]) -> NDArray[np.float32]:
    """Return what a task of whole texts says of rows of any lengths: rows x size."""
    found: dict[int, NDArray[np.float32]] = {}
    for group in groups_by_length([len(row.ids) for row in rows]):
        said = engine.run([rows[index] for index in group], [(task,)] * len(group))
        found.update(zip(group, (one[task] for one in said), strict=True))
    return np.stack([found[index] for index in range(len(rows))])
