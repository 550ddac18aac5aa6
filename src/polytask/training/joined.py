"""Losses that compare the rows of a step with one another, where the step is cut: each part is shown all the others.

The vectors of all parts are made first, without a gradient and without dropout; then each part's loss is the one of the
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
    """A task's rows in one batch: outputs, targets, and what a teacher says of them."""

    outputs: Tensor
    targets: Tensor
    teacher_logits: Tensor | None


@dataclass(frozen=True)
class ComparedRows:
    """Shows the tasks whose loss compares rows those rows of a step that pass apart."""

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    world: World
    precision: Callable[[], AbstractContextManager[object]]

    def shown(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return a step's batches with the rows that each lacks; the same batches where none is lacking any.

        All processes call it together.
        """
        found = list(batches)
        for task in (name for name, one in self.tasks.items() if one.joins_rows):
            passing = [place for place, batch in enumerate(found) if batch.passes(task)]
            if self.world.size == 1 and len(passing) < 2:
                continue
            made = {place: self._part(task, found[place]) for place in passing}
            at = [place for place in passing if task in found[place].targets]
            own = [one for place in at if (one := made[place]) is not None]
            before, everything = self._of_all(own)
            for number, place in enumerate(at):
                others = [*everything[: before + number], *everything[before + number + 1 :]]
                if others:
                    rows = _joined(others, len(everything), own[number].outputs.device)
                    found[place] = replace(found[place], others={**found[place].others, task: rows})
        return found

    def _part(self, task: str, batch: Batch) -> _Part | None:
        """Return a task's part of a batch; None where it has none, and its layers ran for other processes only."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self.precision():
                outputs = self.model(batch.only(task))[task]
        finally:
            self.model.train(training)
        return _Part(outputs, batch.targets[task], batch.teacher_logits.get(task)) if task in batch.targets else None

    def _of_all(self, own: Sequence[_Part]) -> tuple[int, list[_Part]]:
        """Return the parts of all processes in their order, and how many of them are before this one's."""
        if self.world.size == 1:
            return 0, list(own)
        kept = [_Part(*(None if one is None else one.cpu() for one in vars(part).values())) for part in own]  # type: ignore[arg-type]
        found = self.world.gather(kept)
        parts = [part for one in found for part in one]
        return sum(len(one) for one in found[: self.world.rank]), parts


def _joined(parts: Sequence[_Part], count: int, device: torch.device) -> OtherRows:
    taught = [part.teacher_logits for part in parts if part.teacher_logits is not None]
    return OtherRows(
        torch.cat([part.outputs.to(device) for part in parts]),
        torch.cat([part.targets.to(device) for part in parts]),
        torch.cat([one.to(device) for one in taught]) if len(taught) == len(parts) else None,
        count,
    )


def step_loss(task: Task, outputs: Tensor, batch: Batch) -> Tensor:
    """Return a task's summed loss over a batch: against its labels, and against its teacher where it has one.

    Where the loss compares rows and the step is cut, its value is the batch's equal share of the step's loss, and its
    gradient is that of the step's loss by the batch's own outputs.
    """
    name = task.name
    targets, teacher_logits, others = batch.targets[name], batch.teacher_logits.get(name), batch.others.get(name)
    if others is not None:
        outputs, targets = torch.cat([outputs, others.outputs]), torch.cat([targets, others.targets])
        if teacher_logits is not None and others.teacher_logits is not None:
            teacher_logits = torch.cat([teacher_logits, others.teacher_logits])
    weights = batch.row_weights.get(name)
    if teacher_logits is None:
        found = task.weighed_loss(outputs, targets, weights)
    else:
        taught = partial(task.loss_with_teacher, label_weight=batch.label_weight)
        found = weighed_loss(taught, weights, outputs, targets, teacher_logits)
    return found if others is None else found - found.detach() * (1.0 - 1.0 / others.parts)
