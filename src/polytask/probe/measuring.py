"""Measurements at one point of the probe: in float32, without dropout, and without changing any weight."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polytask.balance.gram import GradientMeter
from polytask.data.batch import Batch
from polytask.model.forward_context import first_of
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import gradient_groups, shared_parameters
from polytask.relatedness.evidence import Floats
from polytask.tasks import Task


@dataclass(frozen=True)
class LookAhead:
    """Mean losses around steps on one task's loss alone.

    Attributes:
        before: losses before the steps, of shape (T,).
        after: shape (T, T); row i, column j is task j's loss after the step on task i's loss.
    """

    before: Floats
    after: Floats


class Probing:
    """Measures a model's tasks at several points; gradients of all points are kept until `products` is called.

    Args:
        rate: learning rate of the look-ahead's step: plain gradient descent in shared parameters, as in Fifty et al.
            2021, section 3.1. A step of Adam's size on a single task overshoots: it raised every loss, even its own.
        points: number of points.
    """

    def __init__(self, model: MultiTaskModel, tasks: Mapping[str, Task], *, rate: float, points: int) -> None:
        self._model = model
        self._tasks = tasks
        self._rate = rate
        self._points = points
        layers = gradient_groups(model)[: model.layers]
        # Each task at each point is one row of the statistic: products of different points share no noise.
        order = [_name(task, point) for task in tasks for point in range(points)]
        groups = [
            {_name(task, point): own for task, own in layer.items() for point in range(points)} for layer in layers
        ]
        self._meter = GradientMeter(groups, order)

    def measure(self, batch: Batch, ahead: Batch, point: int) -> LookAhead:
        """Compute each task's gradient over its rows of a batch, and look one step ahead on those of another."""
        model = self._model
        together = shared_parameters(model)
        shared = [parameter for parameter in model.parameters() if parameter in together]
        model.eval()
        before: list[float] = []
        steps: list[list[Tensor | None]] = []
        for task in self._tasks:
            model.zero_grad(set_to_none=True)
            self._loss(task, batch.only(task)).backward()
            with torch.no_grad():
                before.append(float(self._loss(task, ahead.only(task))))
            steps.append([parameter.grad for parameter in shared])  # the meter keeps those of the layers as well
            self._meter.take(_name(task, point))
        model.zero_grad(set_to_none=True)
        after = [self._after(shared, step, ahead) for step in steps]
        return LookAhead(np.array(before), np.array(after))

    def products(self) -> Floats:
        """Return inner products of shape (layers, T, K, T, K), after all points have been measured."""
        count = len(self._tasks)
        return self._meter.grams.reshape(-1, count, self._points, count, self._points)

    def _loss(self, task: str, batch: Batch) -> Tensor:
        own = self._tasks[task]
        targets, weights = batch.targets[task], batch.row_weights.get(task)
        # Rows with weight 0 have no gradient, and no mean.
        denominator = own.weighed_denominator(targets, weights) or 1.0
        return own.weighed_loss(self._model(batch)[task], targets, weights) / denominator

    def _after(self, shared: Sequence[nn.Parameter], step: Sequence[Tensor | None], batch: Batch) -> list[float]:
        with torch.no_grad(), _restored(shared):
            for parameter, gradient in zip(shared, step, strict=True):
                if gradient is not None:
                    parameter.sub_(gradient, alpha=self._rate)
            return [float(self._loss(task, batch.only(task))) for task in self._tasks]


@contextmanager
def _restored(parameters: Sequence[nn.Parameter]) -> Generator[None]:
    """Restore the parameters exactly after the block: reversing a step would leave rounding errors."""
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def layer_states(model: MultiTaskModel, batch: Batch) -> Floats:
    """Return every text's mean token state after each layer of a single-task model.

    Returns:
        Shape (layers, texts, width), with the texts in the original order of the batch's rows.
    """
    states: list[list[Tensor]] = [[] for _ in range(model.layers)]

    def keep(level: Any, _given: object, output: Any) -> None:  # noqa: ANN401
        padded = level.holder.current.left(first_of(output))
        states[model.trunks[0].levels.index(level)].append(padded.states)

    hooks = [level.register_forward_hook(keep) for level in model.trunks[0].levels]
    model.eval()
    try:
        with torch.inference_mode():
            model.encode(batch)
    finally:
        for hook in hooks:
            hook.remove()
    masks = [chunk.mask.unsqueeze(-1).float() for chunk in batch.chunks]
    back = np.argsort(batch.order)
    pooled = [
        torch.cat([(hidden.float() * mask).sum(1) / mask.sum(1) for hidden, mask in zip(layer, masks, strict=True)])
        for layer in states
    ]
    return torch.stack(pooled).double().cpu().numpy()[:, back]


def _name(task: str, point: int) -> str:
    return f"{task}@{point}"  # no task's name holds the sign
