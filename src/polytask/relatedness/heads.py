"""Heads first: fit the heads to an encoder that stays as it is.

Under a random head a task's gradient in the encoder points anywhere. A fitted head makes it point to what the task
needs, and fitting one is cheap: the encoder passes each row once, forward only.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polytask.model.multitask import MultiTaskModel
from polytask.tasks import Task

# Weights of the L2 penalty; each head keeps the one with the lowest loss on held-out rows.
PENALTIES = (1e-3, 1e-2, 1e-1)
ITERATIONS = 30


@dataclass(frozen=True)
class Stored:
    """What the heads are fitted to.

    Attributes:
        pooled: for each task what its head takes from the encoder: rows (or words) x width.
        targets: for each task what its loss takes.
    """

    pooled: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]


def fit_heads(
    model: MultiTaskModel, tasks: Mapping[str, Task], train: Sequence[Stored], held_out: Sequence[Stored]
) -> dict[str, float]:
    """Fit all heads by L-BFGS, and return each task's held-out mean loss.

    Args:
        held_out: chooses the penalty; where a task has no rows there, its training loss does.
    """
    model.eval()
    start = copy.deepcopy(model.heads.state_dict())
    best: dict[str, tuple[float, dict[str, Tensor]]] = {}
    for penalty in PENALTIES:
        model.heads.load_state_dict(start)
        _fit(model, tasks, train, penalty)
        with torch.no_grad():
            found = {
                name: float(loss)
                for name, loss in (_losses(model, tasks, train) | _losses(model, tasks, held_out)).items()
            }
        for name, loss in found.items():
            if name not in best or loss < best[name][0]:
                best[name] = (loss, copy.deepcopy(model.head(name).state_dict()))
    for name in reversed(list(tasks)):  # the first task of those that share a head decides
        if name in best:
            model.head(name).load_state_dict(best[name][1])
    return {name: loss for name, (loss, _) in best.items()}


def _fit(model: MultiTaskModel, tasks: Mapping[str, Task], rows: Sequence[Stored], penalty: float) -> None:
    parameters = list(model.heads.parameters())
    optimizer = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            norms = [one.square().sum() for one in parameters if one.ndim > 1]
            loss = torch.stack([*_losses(model, tasks, rows).values(), *(penalty * norm for norm in norms)]).sum()
        for one, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            one.grad = gradient
        return loss.detach()

    optimizer.step(closure)  # pyright: ignore[reportArgumentType] - a closure may return a tensor
    optimizer.zero_grad()


def _losses(model: MultiTaskModel, tasks: Mapping[str, Task], rows: Sequence[Stored]) -> dict[str, Tensor]:
    """Return each task's mean loss over stored rows."""
    sums: dict[str, list[Tensor]] = {}
    masses: dict[str, float] = {}
    for one in rows:
        for name, pooled in one.pooled.items():
            targets = one.targets[name]
            sums.setdefault(name, []).append(tasks[name].loss(model.head(name).answer(pooled), targets))
            masses[name] = masses.get(name, 0.0) + tasks[name].mass(targets)
    return {name: torch.stack(found).sum() / masses[name] for name, found in sums.items() if masses[name] > 0}
