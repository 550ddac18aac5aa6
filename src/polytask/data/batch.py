"""The batch: rows of several tasks in one step, padded in chunks of similar length."""

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
    """Where in a chunk one task reads its states; its length is the number of the task's outputs.

    Attributes:
        rows: n indices of the chunk's rows.
        words: for word level, m pairs (row, token) as 2 x m; None for row level.
        hidden: of a task that guesses hidden tokens, where they stand and what they were: (row, token, id) as 3 x m.
    """

    rows: Tensor
    words: Tensor | None
    hidden: Tensor | None = None

    def within(self, chosen: Tensor) -> TaskRows:
        """Return where the rows stand among chosen ones, which are in ascending order and hold them all."""
        words = None
        if self.words is not None:
            words = torch.stack([torch.searchsorted(chosen, self.words[0].contiguous()), self.words[1]])
        hidden = self.hidden
        if hidden is not None:
            hidden = torch.cat([torch.searchsorted(chosen, hidden[0].contiguous())[None], hidden[1:]])
        return TaskRows(torch.searchsorted(chosen, self.rows), words, hidden)

    @classmethod
    def union(cls, parts: Sequence[TaskRows], tokens: int | None = None) -> TaskRows:
        """Return where any of several tasks reads, ascending and each place once.

        Args:
            tokens: of a row of the chunk, where words are read, which then all parts have; None where rows are.
        """
        rows = torch.unique(torch.cat([one.rows for one in parts]))
        if tokens is None:
            return cls(rows, None)
        # As single numbers: torch sorts pairs thirty times as long.
        found = [one.words[0] * tokens + one.words[1] for one in parts if one.words is not None]
        words = torch.unique(torch.cat(found))
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
    """Rows padded together: one pass through the encoder.

    Attributes:
        ids: rows x tokens, int64.
        mask: rows x tokens, 1 for a token and 0 for padding.
        type_ids: rows x tokens, or None where the encoder takes none.
        no_grad_tasks: the tasks of which nothing is asked but what others read of them without a gradient.
        passing: where layers are sharded, the tasks that any process passes beside this chunk: the layers that they
            use run here too, on the first row where they have none.
    """

    ids: Tensor
    mask: Tensor
    type_ids: Tensor | None
    tasks: Mapping[str, TaskRows]
    no_grad_tasks: frozenset[str] = frozenset()
    passing: frozenset[str] = frozenset()

    def only(self, wanted: Collection[str]) -> Chunk | None:
        """Return the rows that some tasks read, or None where there are none."""
        tasks = {task: rows for task, rows in self.tasks.items() if task in wanted}
        passing = self.passing.intersection(wanted)
        if len(tasks) == len(self.tasks) and passing == self.passing:
            return self
        if not tasks and not passing:
            return None
        read = [rows.rows for rows in tasks.values()] or [self.ids.new_zeros(1)]
        needed = torch.unique(torch.cat(read))
        type_ids = None if self.type_ids is None else self.type_ids[needed]
        moved = {task: rows.within(needed) for task, rows in tasks.items()}
        return Chunk(self.ids[needed], self.mask[needed], type_ids, moved, self.no_grad_tasks, passing)

    def to(self, device: torch.device) -> Chunk:
        """Move to a device."""
        type_ids = None if self.type_ids is None else self.type_ids.to(device, non_blocking=True)
        tasks = {name: rows.to(device) for name, rows in self.tasks.items()}
        ids, mask = self.ids.to(device, non_blocking=True), self.mask.to(device, non_blocking=True)
        return Chunk(ids, mask, type_ids, tasks, self.no_grad_tasks, self.passing)


@dataclass(frozen=True)
class OtherRows:
    """Rows of a step that pass in other pieces, or on other processes, than the batch does.

    Attributes:
        outputs: what the model says of them, without a gradient: rows x size.
        targets, teacher_logits: as in a batch.
        parts: in how many batches the task's rows of the step pass, this one included.
    """

    outputs: Tensor
    targets: Tensor
    teacher_logits: Tensor | None
    parts: int


@dataclass(frozen=True)
class Batch:
    """What one step trains on, or one call predicts.

    Attributes:
        chunks: every row stands in exactly one of them.
        order: the rows in the order of the chunks, as indices of the list that the batch was built from.
        targets: for each task what its loss takes, in the order of the chunks (and of the words in a row).
        rows: number of rows.
        tokens: number of tokens that are not padding.
        padded: number of tokens with padding.
        teacher_logits: for each task that has a teacher the teacher's outputs, beside the targets: n x size.
        label_weight: what the labels weigh in the losses of these tasks; the teachers weigh the rest.
        others: for tasks whose loss compares the rows of a step, those that are not in the batch.
        row_weights: for each task that weighs its rows, what each target weighs in the loss.
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
        """Return what one task reads and learns from; `order` and the counts stay those of the whole batch."""
        chunks = tuple(found for chunk in self.chunks if (found := chunk.only((task,))) is not None)
        teacher_logits = {task: self.teacher_logits[task]} if task in self.teacher_logits else {}
        row_weights = {task: self.row_weights[task]} if task in self.row_weights else {}
        targets = {task: self.targets[task]} if task in self.targets else {}
        return replace(self, chunks=chunks, targets=targets, teacher_logits=teacher_logits, row_weights=row_weights)

    def passes(self, task: str) -> bool:
        """Whether a task's layers run: it has rows here, or on another process that runs in step with this one."""
        return task in self.targets or any(task in chunk.passing for chunk in self.chunks)

    def count(self, task: str) -> int:
        """Return how many rows a task reads."""
        return sum(len(chunk.tasks[task].rows) for chunk in self.chunks if task in chunk.tasks)

    def with_label_weight(self, label_weight: float) -> Batch:
        """Return the same batch with another weight of the labels against the teachers, if there are any."""
        return replace(self, label_weight=label_weight) if self.teacher_logits else self

    def to(self, device: torch.device) -> Batch:
        """Move to a device."""
        if device.type == "cpu":
            return self
        targets = {name: target.to(device, non_blocking=True) for name, target in self.targets.items()}
        teacher_logits = {name: found.to(device, non_blocking=True) for name, found in self.teacher_logits.items()}
        row_weights = {name: found.to(device, non_blocking=True) for name, found in self.row_weights.items()}
        chunks = tuple(chunk.to(device) for chunk in self.chunks)
        return replace(self, chunks=chunks, targets=targets, teacher_logits=teacher_logits, row_weights=row_weights)


@dataclass(frozen=True)
class BatchRow:
    """A row to be put into a batch, with the tasks that read it.

    Attributes:
        teacher_logits: a teacher's outputs by task: one line, or one a word.
        row_weights: what the row weighs, by task that weighs its rows.
        hidden: the row with words hidden, of which its only task guesses the tokens; `ids` are then those of this.
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
        """Return the row with what is known of it for some of its tasks alone."""

        def of(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in values.items() if name in tasks}

        return replace(
            self,
            tasks=tasks,
            targets=of(self.targets),
            teacher_logits=of(self.teacher_logits),
            row_weights=of(self.row_weights),
        )
