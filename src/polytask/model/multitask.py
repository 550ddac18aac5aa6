"""The model: encoders that follow the sharing plan, and a head for each task."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polytask.data.batch import Batch, Chunk, TaskRows
from polytask.model.encoder import Encoder
from polytask.model.heads import build_head
from polytask.sharing.plan import Plan
from polytask.terms import HeadSpec


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters: of all, and for each task those that it shares and those that are its own."""

    total: int
    shared: Mapping[str, int]
    own: Mapping[str, int]


class MultiTaskModel(nn.Module):
    """One forward serves all tasks of a mixed batch: a row passes once through each encoder that its tasks use."""

    def __init__(self, encoder: Encoder, plan: Plan, heads: Mapping[str, HeadSpec]) -> None:
        super().__init__()
        self.plan = plan
        self.specs = dict(heads)
        copies = [encoder, *(copy.deepcopy(encoder) for _ in plan.trunks[1:])]
        self.encoders = nn.ModuleList(copies)
        deviation = float(getattr(encoder.config, "initializer_range", 0.02))
        # A bare name such as "type" or "values" would hide an attribute of the module.
        self.heads = nn.ModuleDict(
            {f"task-{task}": build_head(heads[task], encoder.width, deviation) for task in plan.tasks}
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return for each task its outputs, in the order of the batch's chunks: rows (or words) x size, float32."""
        outputs: dict[str, list[Tensor]] = {}
        for index, part in enumerate(self.plan.trunks):
            chunks = [found for chunk in batch.chunks if (found := _for_tasks(chunk, part)) is not None]
            if chunks:
                self._encode(self.encoders[index], chunks, outputs)
        return {task: torch.cat(found) for task, found in outputs.items()}

    def _encode(self, encoder: nn.Module, chunks: Sequence[Chunk], outputs: dict[str, list[Tensor]]) -> None:
        """Run one encoder over chunks, and the heads that read it."""
        assert isinstance(encoder, Encoder)
        # One look-up for all chunks: each would add a dense gradient of the whole vocabulary in the backward pass.
        flat = encoder.embed(torch.cat([chunk.ids.flatten() for chunk in chunks]))
        embedded = flat.split([chunk.ids.numel() for chunk in chunks])
        for chunk, words in zip(chunks, embedded, strict=True):
            states = encoder(words.view(*chunk.ids.shape, -1), chunk.mask, chunk.type_ids)
            # Heads are small: full precision costs nothing there and keeps probabilities exact.
            with torch.autocast(states.device.type, enabled=False):
                states = states.float()
                for task, rows in chunk.tasks.items():
                    outputs.setdefault(task, []).append(self.heads[f"task-{task}"](states, chunk.mask, rows))

    @property
    def encoder(self) -> Encoder:
        """The first trunk's encoder; all trunks are of one shape."""
        first = self.encoders[0]
        assert isinstance(first, Encoder)
        return first

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the encoders: all that tasks may share."""
        return list(self.encoders.parameters())

    def count_parameters(self) -> ParameterCount:
        """Count parameters, shared and own."""
        shared: dict[str, int] = {}
        own: dict[str, int] = {}
        for index, part in enumerate(self.plan.trunks):
            size = sum(parameter.numel() for parameter in self.encoders[index].parameters())
            for task in part:
                head = sum(parameter.numel() for parameter in self.heads[f"task-{task}"].parameters())
                shared[task] = size if len(part) > 1 else 0
                own[task] = head if len(part) > 1 else head + size
        total = sum(parameter.numel() for parameter in self.parameters())
        order = self.plan.tasks
        return ParameterCount(total, {task: shared[task] for task in order}, {task: own[task] for task in order})


def _for_tasks(chunk: Chunk, part: frozenset[str]) -> Chunk | None:
    """Return the rows of a chunk that tasks of a part read, or None where there are none."""
    tasks = {task: rows for task, rows in chunk.tasks.items() if task in part}
    if len(tasks) == len(chunk.tasks):
        return chunk
    if not tasks:
        return None
    needed = torch.unique(torch.cat([rows.rows for rows in tasks.values()]))
    place = torch.zeros(len(chunk.ids), dtype=torch.int64, device=chunk.ids.device)
    place[needed] = torch.arange(len(needed), device=chunk.ids.device)
    type_ids = None if chunk.type_ids is None else chunk.type_ids[needed]
    moved = {task: _moved(rows, place) for task, rows in tasks.items()}
    return Chunk(chunk.ids[needed], chunk.mask[needed], type_ids, moved)


def _moved(rows: TaskRows, place: Tensor) -> TaskRows:
    words = None if rows.words is None else torch.stack([place[rows.words[0]], rows.words[1]])
    return TaskRows(place[rows.rows], words)
