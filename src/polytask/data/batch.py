"""Batches: rows of several tasks in one step, padded in chunks of similar length."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polytask.data.masking import MaskedRow

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class TaskRows:
    """The positions in a chunk at which a task reads the states; their number is that of the task's outputs.

    Attributes:
        rows: n indices of the chunk's rows.
        words: for word level, m pairs (row, token) as 2 x m; None for row level.
        hidden: for masked language modelling, positions and original ids of masked tokens: (row, token, id) as 3 x m.
    """

    rows: Tensor
    words: Tensor | None
    hidden: Tensor | None = None

    def within(self, chosen: Tensor) -> TaskRows:
        """Return the positions relative to chosen rows, which are in ascending order and include all of these."""
        words = None
        if self.words is not None:
            words = torch.stack([torch.searchsorted(chosen, self.words[0].contiguous()), self.words[1]])
        hidden = self.hidden
        if hidden is not None:
            hidden = torch.cat([torch.searchsorted(chosen, hidden[0].contiguous())[None], hidden[1:]])
        return TaskRows(torch.searchsorted(chosen, self.rows), words, hidden)

    @classmethod
    def union(cls, parts: Sequence[TaskRows], tokens: int | None = None) -> TaskRows:
        """Return the union of several tasks' positions, in ascending order.

        Args:
            tokens: number of tokens per row of the chunk, if all parts read words; None if they read rows.
        """
        rows = torch.unique(torch.cat([part.rows for part in parts]))
        if tokens is None:
            return cls(rows, None)
        # As single numbers: sorting pairs takes torch thirty times as long.
        codes = [part.words[0] * tokens + part.words[1] for part in parts if part.words is not None]
        words = torch.unique(torch.cat(codes))
        return cls(rows, torch.stack([words // tokens, words % tokens]))

    def __len__(self) -> int:
        return len(self.rows) if self.words is None else self.words.shape[1]

    def to(self, device: torch.device) -> TaskRows:
        """Move to a device."""
        words = None if self.words is None else self.words.to(device, non_blocking=True)
        hidden = None if self.hidden is None else self.hidden.to(device, non_blocking=True)
        return TaskRows(self.rows.to(device, non_blocking=True), words, hidden)


@dataclass(frozen=True)
class Chunk:
    """Rows that are padded together, for one pass through the encoder.

    Attributes:
        ids: rows x tokens, int64.
        mask: rows x tokens, 1 for a token and 0 for padding.
        type_ids: rows x tokens, or None if the encoder takes none.
        lengths: number of tokens of each row, which padding follows.
        no_grad_tasks: tasks that run only because others read their outputs, without a gradient.
        passing: with sharded layers, the tasks that any process runs at the same time: their layers run here too, on
            the first row for tasks without rows in this chunk.
    """

    ids: Tensor
    mask: Tensor
    type_ids: Tensor | None
    lengths: tuple[int, ...]
    tasks: Mapping[str, TaskRows]
    no_grad_tasks: frozenset[str] = frozenset()
    passing: frozenset[str] = frozenset()

    def only(self, names: Collection[str]) -> Chunk | None:
        """Return the rows that some tasks read, or None if there are none."""
        tasks = {task: rows for task, rows in self.tasks.items() if task in names}
        passing = self.passing.intersection(names)
        if len(tasks) == len(self.tasks) and passing == self.passing:
            return self
        if not tasks and not passing:
            return None
        used = [rows.rows for rows in tasks.values()] or [self.ids.new_zeros(1)]
        needed = torch.unique(torch.cat(used))
        type_ids = None if self.type_ids is None else self.type_ids[needed]
        moved = {task: rows.within(needed) for task, rows in tasks.items()}
        lengths = tuple(self.lengths[row] for row in needed.tolist())
        return Chunk(self.ids[needed], self.mask[needed], type_ids, lengths, moved, self.no_grad_tasks, passing)

    def to(self, device: torch.device) -> Chunk:
        """Move to a device."""
        type_ids = None if self.type_ids is None else self.type_ids.to(device, non_blocking=True)
        tasks = {name: rows.to(device) for name, rows in self.tasks.items()}
        ids, mask = self.ids.to(device, non_blocking=True), self.mask.to(device, non_blocking=True)
        return Chunk(ids, mask, type_ids, self.lengths, tasks, self.no_grad_tasks, self.passing)


@dataclass(frozen=True)
class OtherRows:
    """Rows of the same step that are in other micro-batches or on other processes.

    Attributes:
        outputs: the model's outputs for them, without a gradient: rows x size.
        targets, teacher_logits: as in a batch.
        parts: number of batches that the task's rows of the step are divided into, including this one.
    """

    outputs: Tensor
    targets: Tensor
    teacher_logits: Tensor | None
    parts: int


@dataclass(frozen=True)
class Batch:
    """The rows of one training step (or micro-batch), or of one call to predict.

    Attributes:
        chunks: the padded rows; every row is in exactly one chunk.
        order: the rows in the order of the chunks, as indices of the list that the batch was built from.
        targets: targets of each task's loss, in the order of the chunks (and of the words in a row).
        rows: number of rows.
        tokens: number of tokens that are not padding.
        padded: number of tokens with padding.
        teacher_logits: for each task with a teacher, the teacher's outputs, one line for each target: n x size.
        label_weight: weight of the labels in the losses of these tasks; that of the teachers is 1 - label_weight.
        others: for tasks whose loss compares all rows of a step, the rows that are not in the batch.
        row_weights: for each task with row weights, the weight of each target in the loss.
    """

    chunks: tuple[Chunk, ...]
    order: tuple[int, ...]
    targets: Mapping[str, Tensor]
    rows: int
    tokens: int
    padded: int
    teacher_logits: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    label_weight: float = 1.0
    others: Mapping[str, OtherRows] = field(default_factory=dict[str, OtherRows])
    row_weights: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def only(self, task: str) -> Batch:
        """Return the part of the batch that one task reads; `order` and the counts stay those of the whole batch."""
        chunks = tuple(part for chunk in self.chunks if (part := chunk.only((task,))) is not None)
        teacher_logits = {task: self.teacher_logits[task]} if task in self.teacher_logits else {}
        row_weights = {task: self.row_weights[task]} if task in self.row_weights else {}
        targets = {task: self.targets[task]} if task in self.targets else {}
        return replace(self, chunks=chunks, targets=targets, teacher_logits=teacher_logits, row_weights=row_weights)

    def passes(self, task: str) -> bool:
        """Whether a task's layers run: it has rows here, or on another process that runs in step with this one."""
        return task in self.targets or any(task in chunk.passing for chunk in self.chunks)

    def count(self, task: str) -> int:
        """Return the number of rows that a task reads."""
        return sum(len(chunk.tasks[task].rows) for chunk in self.chunks if task in chunk.tasks)

    def with_label_weight(self, label_weight: float) -> Batch:
        """Return the same batch with another weight of the labels against the teachers, if there are any."""
        return replace(self, label_weight=label_weight) if self.teacher_logits else self

    def to(self, device: torch.device) -> Batch:
        """Move to a device."""
        if device.type == "cpu":
            return self
        targets = {name: target.to(device, non_blocking=True) for name, target in self.targets.items()}
        teacher_logits = {name: logits.to(device, non_blocking=True) for name, logits in self.teacher_logits.items()}
        row_weights = {name: weights.to(device, non_blocking=True) for name, weights in self.row_weights.items()}
        chunks = tuple(chunk.to(device) for chunk in self.chunks)
        return replace(self, chunks=chunks, targets=targets, teacher_logits=teacher_logits, row_weights=row_weights)


@dataclass(frozen=True)
class BatchRow:
    """A row to put into a batch, with the tasks that read it.

    Attributes:
        teacher_logits: teachers' outputs by task: one line, or one line per word.
        row_weights: weight of the row, for each task with row weights.
        hidden: the masked copy of the row whose tokens its only task predicts; `ids` are then those of the copy.
    """

    ids: Sequence[int] | NDArray[Any]
    type_ids: Sequence[int] | NDArray[Any] | None
    word_tokens: Sequence[int] | NDArray[Any]
    tasks: tuple[str, ...]
    targets: Mapping[str, Any]
    teacher_logits: Mapping[str, NDArray[np.float32]] = field(default_factory=dict[str, NDArray[np.float32]])
    row_weights: Mapping[str, float] = field(default_factory=dict[str, float])
    hidden: MaskedRow | None = None

    def serving(self, tasks: tuple[str, ...]) -> BatchRow:
        """Return the row for some of its tasks only."""

        def of(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in values.items() if name in tasks}

        return replace(
            self,
            tasks=tasks,
            targets=of(self.targets),
            teacher_logits=of(self.teacher_logits),
            row_weights=of(self.row_weights),
        )
