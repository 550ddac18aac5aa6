"""Losses that compare the rows of a step with one another, if the step is cut: each part also gets all other rows.

The vectors of all parts are computed first, without gradients and dropout; then the loss of each part is that of the
whole step, as a function of its own vectors. The gradients of the parts add up to the gradient of the whole step.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from polytask.data.batch import Batch, OtherRows
from polytask.model.multitask import MultiTaskModel
from polytask.tasks import Task
from polytask.tasks.weighing import weighed_loss
from polytask.training.distribution import World


@dataclass(frozen=True)
class _Part:
    """A task's rows in one batch: outputs, targets, and the teacher's logits."""

    outputs: Tensor
    targets: Tensor
    teacher_logits: Tensor | None


@dataclass(frozen=True)
class ComparedRows:
    """Adds the other rows of the step to the batches of tasks whose loss compares rows."""

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    world: World
    precision: Callable[[], AbstractContextManager[object]]

    def shown(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return a step's batches with the rows that each lacks; batches that lack none are returned unchanged.

        All processes have to call it together.
        """
        completed = list(batches)
        for name in (name for name, task in self.tasks.items() if task.joins_rows):
            passing = [index for index, batch in enumerate(completed) if batch.passes(name)]
            if self.world.size == 1 and len(passing) < 2:
                continue
            parts = {index: self._part(name, completed[index]) for index in passing}
            labelled = [index for index in passing if name in completed[index].targets]
            own = [part for index in labelled if (part := parts[index]) is not None]
            before, everything = self._of_all(own)
            for number, index in enumerate(labelled):
                others = [*everything[: before + number], *everything[before + number + 1 :]]
                if others:
                    rows = _joined(others, len(everything), own[number].outputs.device)
                    completed[index] = replace(completed[index], others={**completed[index].others, name: rows})
        return completed

    def _part(self, task: str, batch: Batch) -> _Part | None:
        """Return a task's part of a batch; None if it has no labels and its layers run for other processes only."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self.precision():
                outputs = self.model(batch.only(task))[task]
        finally:
            self.model.train(training)
        return _Part(outputs, batch.targets[task], batch.teacher_logits.get(task)) if task in batch.targets else None

    def _of_all(self, own: Sequence[_Part]) -> tuple[int, list[_Part]]:
        """Return how many parts precede this process's own, and the parts of all processes in order of rank."""
        if self.world.size == 1:
            return 0, list(own)
        on_cpu = [_Part(*(None if value is None else value.cpu() for value in vars(part).values())) for part in own]  # type: ignore[arg-type]
        by_rank = self.world.gather(on_cpu)
        return sum(len(parts) for parts in by_rank[: self.world.rank]), [part for parts in by_rank for part in parts]


def _joined(parts: Sequence[_Part], count: int, device: torch.device) -> OtherRows:
    logits = [part.teacher_logits for part in parts if part.teacher_logits is not None]
    return OtherRows(
        torch.cat([part.outputs.to(device) for part in parts]),
        torch.cat([part.targets.to(device) for part in parts]),
        torch.cat([tensor.to(device) for tensor in logits]) if len(logits) == len(parts) else None,
        count,
    )


def step_loss(task: Task, outputs: Tensor, batch: Batch) -> Tensor:
    """Return a task's summed loss over a batch: against its labels, and against its teacher if it has one.

    If the loss compares rows and the step is cut, its value is the step's loss divided by the number of parts, and its
    gradient is that of the step's loss with respect to the batch's own outputs.
    """
    name = task.name
    targets, teacher_logits, others = batch.targets[name], batch.teacher_logits.get(name), batch.others.get(name)
    if others is not None:
        outputs, targets = torch.cat([outputs, others.outputs]), torch.cat([targets, others.targets])
        if teacher_logits is not None and others.teacher_logits is not None:
            teacher_logits = torch.cat([teacher_logits, others.teacher_logits])
    weights = batch.row_weights.get(name)
    if teacher_logits is None:
        loss = task.weighed_loss(outputs, targets, weights)
    else:
        loss_with_teacher = partial(task.loss_with_teacher, label_weight=batch.label_weight)
        loss = weighed_loss(loss_with_teacher, weights, outputs, targets, teacher_logits)
    return loss if others is None else loss - loss.detach() * (1.0 - 1.0 / others.parts)
