"""Fit the heads to the frozen encoder first.

With a random head, a task's gradient in the encoder has a random direction. With a fitted head it points to what the
task needs, and fitting is cheap: each row passes the encoder once, forward only.
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
    """Stored inputs of the heads, for fitting them.

    Attributes:
        pooled: for each task, its head's pooled states, of shape (rows or words, width).
        targets: for each task, the targets of its loss.
        row_weights: weights of the targets, for each task with row weights.
    """

    pooled: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    row_weights: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


def fit_heads(model: MultiTaskModel, tasks: Mapping[str, Task], rows: Sequence[HeadInputs]) -> None:
    """Fit all heads by L-BFGS."""
    model.eval()
    parameters = list(model.heads.parameters())
    if not parameters:  # vectors without a layer
        return
    pooled = {name: torch.cat([batch.pooled[name] for batch in rows if name in batch.pooled]) for name in tasks}
    variances = {name: float(states.var(dim=0, unbiased=False).mean()) for name, states in pooled.items()}
    optimizer = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        with torch.enable_grad():
            norms = [
                PENALTY * variances[name] * model.head(name).squared_norm() for name in tasks
            ]  # a head that several tasks share pays for each of them, as it earns from each
            loss = torch.stack([*_losses(model, tasks, rows).values(), *norms]).sum()
        for batch, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            batch.grad = gradient
        return loss.detach()

    optimizer.step(closure)  # pyright: ignore[reportArgumentType] - a closure may return a tensor
    model.zero_grad(set_to_none=True)


def _losses(model: MultiTaskModel, tasks: Mapping[str, Task], rows: Sequence[HeadInputs]) -> dict[str, Tensor]:
    """Return each task's mean loss over stored rows."""
    sums: dict[str, list[Tensor]] = {}
    denominators: dict[str, float] = {}
    for batch in rows:
        for name, pooled in batch.pooled.items():
            task, targets, weights = tasks[name], batch.targets[name], batch.row_weights.get(name)
            head = model.head(name)
            loss = task.weighed_loss(head.for_loss(head.answer(pooled)), targets, weights)
            sums.setdefault(name, []).append(loss)
            denominators[name] = denominators.get(name, 0.0) + task.weighed_denominator(targets, weights)
    return {
        name: torch.stack(losses).sum() / denominators[name] for name, losses in sums.items() if denominators[name] > 0
    }
