"""The resumable stream: which rows a task sees next is a pure function of (seed, source, epoch, position).

A stream's whole state is one integer a task, the number of rows drawn so far: restarting in mid-epoch costs one
permutation. Every row is drawn exactly once an epoch, and small tasks simply begin their next epoch earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytask.data.encode import Source

# Rows of similar length are drawn together: windows of this many blocks are sorted by length.
WINDOW_BLOCKS = 50


def epoch_order(lengths: NDArray[np.int32], *, seed: int, source: int, epoch: int, block: int) -> NDArray[np.int32]:
    """Return all rows in the order of one epoch: shuffled, with rows of similar length side by side.

    The shuffled rows are cut into windows of `WINDOW_BLOCKS` x `block`, each window is sorted by length and cut into
    blocks, and all blocks are shuffled: the composition of the blocks differs in every epoch.

    Args:
        lengths: tokens of each row.
        block: rows of similar length to keep together, at least 1.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, (source << 32) + epoch]))
    order = generator.permutation(len(lengths)).astype(np.int32)
    window = WINDOW_BLOCKS * block
    blocks: list[NDArray[np.int32]] = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        blocks.extend(rows[at : at + block] for at in range(0, len(rows), block))
    return np.concatenate([blocks[index] for index in generator.permutation(len(blocks))])


class Stream:
    """Draws the rows of the tasks that share a source; tasks at equal positions draw the same rows."""

    def __init__(self, source: Source, number: int, *, seed: int, block: int) -> None:
        self.source = source
        self._number = number
        self._seed = seed
        self._block = block
        self._orders: dict[tuple[str, int], NDArray[np.int32]] = {}

    def order(self, task: str, epoch: int) -> NDArray[np.int32]:
        """Return the rows that carry a task's label in the order of an epoch."""
        if (task, epoch) not in self._orders:
            full = epoch_order(
                self.source.lengths, seed=self._seed, source=self._number, epoch=epoch, block=self._block
            )
            carries = np.zeros(len(self.source), dtype=bool)
            carries[self.source.carries[task]] = True
            # Two epochs a task suffice: the one that ends and the one that begins.
            old = [key for key in self._orders if key[0] == task and abs(key[1] - epoch) > 1]
            for key in old:
                del self._orders[key]
            self._orders[task, epoch] = full[carries[full]]
        return self._orders[task, epoch]

    def take(self, task: str, position: int, count: int) -> list[int]:
        """Return the rows at positions `position` up to `position + count` of a task's endless sequence of epochs."""
        size = len(self.source.carries[task])
        rows: list[int] = []
        while count > 0:
            epoch, at = divmod(position, size)
            taken = self.order(task, epoch)[at : at + count].tolist()
            rows.extend(taken)
            position += len(taken)
            count -= len(taken)
        return rows


@dataclass(frozen=True)
class Drawn:
    """A row of a batch to be: where it stands and which tasks it serves."""

    source: int
    row: int
    tasks: tuple[str, ...]


class Streams:
    """The streams of all training sources, and each task's position in its own."""

    def __init__(self, sources: Sequence[Source], *, seed: int, block: int) -> None:
        self._streams = [Stream(source, number, seed=seed, block=block) for number, source in enumerate(sources)]
        self._source_of = {task: number for number, source in enumerate(sources) for task in source.tasks}
        self.positions = {task: 0 for source in sources for task in source.tasks}

    def draw(self, rows: Mapping[str, int]) -> list[Drawn]:
        """Draw so many rows for each task; a row that several tasks of a source draw together comes once."""
        found: dict[tuple[int, int, int], list[str]] = {}
        for task, count in rows.items():
            number = self._source_of[task]
            seen: dict[int, int] = {}
            for row in self._streams[number].take(task, self.positions[task], count):
                # A task that begins its next epoch within a step may draw a row again: it counts twice.
                again = seen[row] = seen.get(row, -1) + 1
                found.setdefault((number, row, again), []).append(task)
            self.positions[task] += count
        return [Drawn(source, row, tuple(tasks)) for (source, row, _), tasks in found.items()]

    def state_dict(self) -> dict[str, int]:
        """Return each task's position."""
        return dict(self.positions)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from saved positions."""
        self.positions = {task: state[task] for task in self.positions}
