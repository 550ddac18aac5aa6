"""Heads first: fit the heads to an encoder that stays as it is.

Under a random head a task's gradient in the encoder points anywhere. A fitted head makes it point to what the task
needs, and fitting one is cheap: the encoder passes each row once, forward only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polytask.model.multitask import MultiTaskModel
from polytask.tasks import Task

# Weight of the L2 penalty on the output layer, in mean variances of a feature. It is strong on purpose. The residuals
# of a head that fits well are uncorrelated with what it reads, so its mean gradient in the encoder is mostly noise; a
# strongly shrunk head points to the difference of the classes' means, and its residuals still hold all of it.
PENALTY = 5.0
ITERATIONS = 30


@dataclass(frozen=True)
class HeadInputs:
    """What the heads are fitted to.

    Attributes:
        pooled: for each task what its head takes from the encoder: rows (or words) x width.
        targets: for each task what its loss takes.
        row_weights: for each task that weighs its rows, what each target weighs.
    """

    pooled: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    row_weights: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


def fit_heads(model: MultiTaskModel, tasks: Mapping[str, Task], rows: Sequence[HeadInputs]) -> None:
    """Fit all heads by L-BFGS."""
    model.eval()
    parameters = list(model.heads.parameters())
    if not parameters:  # vectors that no layer makes
        return
    pooled = {name: torch.cat([one.pooled[name] for one in rows if name in one.pooled]) for name in tasks}
    variances = {name: float(found.var(dim=0, unbiased=False).mean()) for name, found in pooled.items()}
    optimizer = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        with torch.enable_grad():
            norms = [
                PENALTY * variances[name] * model.head(name).squared_norm() for name in tasks
            ]  # a head that several tasks share pays for each of them, as it earns from each
            loss = torch.stack([*_losses(model, tasks, rows).values(), *norms]).sum()
        for one, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            one.grad = gradient
        return loss.detach()

    optimizer.step(closure)  # pyright: ignore[reportArgumentType] - a closure may return a tensor
    model.zero_grad(set_to_none=True)


def _losses(model: MultiTaskModel, tasks: Mapping[str, Task], rows: Sequence[HeadInputs]) -> dict[str, Tensor]:
    """Return each task's mean loss over stored rows."""
    sums: dict[str, list[Tensor]] = {}
    denominators: dict[str, float] = {}
    for one in rows:
        for name, pooled in one.pooled.items():
            task, targets, weights = tasks[name], one.targets[name], one.row_weights.get(name)
            head = model.head(name)
            loss = task.weighed_loss(head.for_loss(head.answer(pooled)), targets, weights)
            sums.setdefault(name, []).append(loss)
            denominators[name] = denominators.get(name, 0.0) + task.weighed_denominator(targets, weights)
    return {
        name: torch.stack(found).sum() / denominators[name] for name, found in sums.items() if denominators[name] > 0
    }
