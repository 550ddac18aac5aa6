"""Batches of a step for processes that share out their layers: each passes the same layers as often as all others.

Processes have different rows, so one may have more chunks than another, or lack a task. It then runs what it lacks on a
row that nobody reads (`Chunk.passing`), and contributes a gradient of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch

from polytask.data.batch import Batch, Chunk
from polytask.training.distribution import World

# Tokens of a row that is there for its layers only; more than one, since some families look at neighbours.
_IDLE_TOKENS = 2


@dataclass(frozen=True)
class _ChunkPlan:
    """What runs for a batch: so many chunks, which serve these tasks."""

    chunks: int = 0
    tasks: frozenset[str] = frozenset()

    @classmethod
    def of(cls, batch: Batch) -> _ChunkPlan:
        return cls(len(batch.chunks), frozenset(task for chunk in batch.chunks for task in chunk.tasks))

    def __or__(self, other: _ChunkPlan) -> _ChunkPlan:
        return _ChunkPlan(max(self.chunks, other.chunks), self.tasks | other.tasks)

    def extend(self, batch: Batch, idle: Chunk) -> Batch:
        """Return a batch for which all of this runs."""
        chunks = [*batch.chunks, *[idle] * (self.chunks - len(batch.chunks))]
        return replace(batch, chunks=tuple(replace(chunk, passing=self.tasks) for chunk in chunks))


def in_lockstep(
    lists: Sequence[Sequence[Batch]], world: World, device: torch.device, *, type_ids: bool
) -> list[list[Batch]]:
    """Return lists of batches, filled up to what the other processes pass. All processes call it together.

    Args:
        lists: the same number on all processes: an update's pieces, or those of each task.
        type_ids: whether the encoder takes token type ids.
    """
    everyone = world.gather([[_ChunkPlan.of(batch) for batch in batches] for batches in lists])
    ids = torch.zeros(1, _IDLE_TOKENS, dtype=torch.int64, device=device)
    idle = Chunk(ids, torch.ones_like(ids), torch.zeros_like(ids) if type_ids else None, {})
    return [
        [
            passed.extend(batch or Batch((), (), {}, 0, 0, 0), idle)
            for batch, passed in zip_longest(batches, _together([passes[number] for passes in everyone]))
        ]
        for number, batches in enumerate(lists)
    ]


def _together(processes: Sequence[Sequence[_ChunkPlan]]) -> list[_ChunkPlan]:
    """Return what runs on all processes, piece by piece, for what each needs."""
    pieces = zip_longest(*processes, fillvalue=_ChunkPlan())
    found: list[_ChunkPlan] = []
    for piece in pieces:
        passed = _ChunkPlan()
        for one in piece:
            passed |= one
        found.append(passed)
    return found
