"""The model: encoders that follow the sharing plan, and a head for each task."""

from __future__ import annotations

import copy
from collections.abc import Mapping
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
    """One forward serves all tasks of a mixed batch: each row passes once through each encoder that one of its tasks uses."""

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
        for chunk in batch.chunks:
            for index, part in enumerate(self.plan.trunks):
                tasks = {task: rows for task, rows in chunk.tasks.items() if task in part}
                if tasks:
                    self._encode(index, chunk, tasks, outputs)
        return {task: torch.cat(found) for task, found in outputs.items()}

    def _encode(
        self, index: int, chunk: Chunk, tasks: Mapping[str, TaskRows], outputs: dict[str, list[Tensor]]
    ) -> None:
        """Run one encoder over the rows of a chunk that its tasks read, and their heads."""
        ids, mask, type_ids = chunk.ids, chunk.mask, chunk.type_ids
        if len(self.plan.trunks) > 1:
            needed = torch.unique(torch.cat([rows.rows for rows in tasks.values()]))
            if len(needed) < len(ids):
                place = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)
                place[needed] = torch.arange(len(needed), device=ids.device)
                ids, mask = ids[needed], mask[needed]
                type_ids = None if type_ids is None else type_ids[needed]
                tasks = {task: _moved(rows, place) for task, rows in tasks.items()}
        states = self.encoders[index](ids, mask, type_ids)
        # Heads are small: full precision costs nothing there and keeps probabilities exact.
        with torch.autocast(states.device.type, enabled=False):
            states = states.float()
            for task, rows in tasks.items():
                outputs.setdefault(task, []).append(self.heads[f"task-{task}"](states, mask, rows))

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


def _moved(rows: TaskRows, place: Tensor) -> TaskRows:
    words = None if rows.words is None else torch.stack([place[rows.words[0]], rows.words[1]])
    return TaskRows(place[rows.rows], words)
