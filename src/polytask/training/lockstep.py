"""Batches of a step for processes with sharded layers: each process runs every layer as often as all others.

Processes have different rows, so one may have more chunks than another, or lack a task. It then runs what it lacks on a
dummy row whose outputs are ignored (`Chunk.passing`), and contributes a gradient of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch

from polytask.data.batch import Batch, Chunk
from polytask.training.distribution import World

# Tokens of a dummy row; more than one, since some encoder families look at neighbouring tokens.
_IDLE_TOKENS = 2


@dataclass(frozen=True)
class _ChunkPlan:
    """The number of chunks that run for a batch, and the tasks that they serve."""

    chunks: int = 0
    tasks: frozenset[str] = frozenset()

    @classmethod
    def of(cls, batch: Batch) -> _ChunkPlan:
        return cls(len(batch.chunks), frozenset(task for chunk in batch.chunks for task in chunk.tasks))

    def __or__(self, other: _ChunkPlan) -> _ChunkPlan:
        return _ChunkPlan(max(self.chunks, other.chunks), self.tasks | other.tasks)

    def extend(self, batch: Batch, idle: Chunk) -> Batch:
        """Return the batch, filled up with idle chunks to this plan."""
        chunks = [*batch.chunks, *[idle] * (self.chunks - len(batch.chunks))]
        return replace(batch, chunks=tuple(replace(chunk, passing=self.tasks) for chunk in chunks))


def in_lockstep(
    lists: Sequence[Sequence[Batch]], world: World, device: torch.device, *, type_ids: bool
) -> list[list[Batch]]:
    """Return lists of batches, filled up to what the other processes run. All processes have to call it together.

    Args:
        lists: an update's pieces, or those of each task; the same number of lists on all processes.
        type_ids: whether the encoder takes token type ids.
    """
    everyone = world.gather([[_ChunkPlan.of(batch) for batch in batches] for batches in lists])
    ids = torch.zeros(1, _IDLE_TOKENS, dtype=torch.int64, device=device)
    idle = Chunk(ids, torch.ones_like(ids), torch.zeros_like(ids) if type_ids else None, (_IDLE_TOKENS,), {})
    return [
        [
            passed.extend(batch or Batch((), (), {}, 0, 0, 0), idle)
            for batch, passed in zip_longest(batches, _together([passes[number] for passes in everyone]))
        ]
        for number, batches in enumerate(lists)
    ]


def _together(processes: Sequence[Sequence[_ChunkPlan]]) -> list[_ChunkPlan]:
    """Return what all processes have to run, piece by piece, so that each runs what it needs."""
    plans: list[_ChunkPlan] = []
    for piece in zip_longest(*processes, fillvalue=_ChunkPlan()):
        union = _ChunkPlan()
        for plan in piece:
            union |= plan
        plans.append(union)
    return plans
