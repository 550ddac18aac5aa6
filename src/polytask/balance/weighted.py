"""Methods that weight the tasks by inner products of their gradients: TorchJD's weightings, and some that it lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchjd import Stateful

from polytask.balance.balancer import Aggregator, Floats, Statistic, Weighting
from polytask.balance.solvers import vectors_of
from polytask.balance.state import from_json, module_state, restore_module, to_json
from polytask.tasks.class_errors import ClassErrors

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torchjd.aggregation import Aggregator as JdAggregator

# A task without errors keeps a little of its gradient, so that it does not forget.
_LEAST_ERROR = 1e-3


class SolvedWeighting(Weighting):
    """A function of the inner products."""

    def __init__(self, solve: Callable[[Floats], Floats]) -> None:
        self._solve = solve

    def weigh(self, statistic: Statistic) -> Floats:
        return self._solve(statistic.gram)


class JdWeighting(Weighting):
    """One of TorchJD's weightings.

    Args:
        first: index of the primary task, for weightings that have one.
    """

    def __init__(self, weighting: nn.Module, first: int = 0) -> None:
        self._weighting, self._first = weighting, first

    def weigh(self, statistic: Statistic) -> Floats:
        gram = statistic.gram
        order = np.r_[self._first, np.delete(np.arange(len(gram)), self._first)]
        reordered = self._weighting(torch.from_numpy(gram[np.ix_(order, order)])).numpy()
        weights = np.empty_like(reordered)
        weights[order] = reordered
        return weights

    def state_dict(self) -> dict[str, Any]:
        return module_state(self._weighting) if isinstance(self._weighting, Stateful) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        restore_module(self._weighting, state)


class AggregatorWeighting(Weighting):
    """One of TorchJD's aggregators whose result is in the span of the gradients and rotates with them.

    It gets vectors with the same inner products, and its result is converted to weights of these.
    """

    def __init__(self, aggregator: JdAggregator) -> None:
        self._aggregator = aggregator

    def weigh(self, statistic: Statistic) -> Floats:
        rows = vectors_of(statistic.gram)
        aggregated = self._aggregator(torch.from_numpy(rows)).numpy()
        return np.asarray(np.linalg.pinv(rows.T, rcond=1e-8) @ aggregated, np.float64)


class JdElementwise(Aggregator):
    """One of TorchJD's aggregators that works on every element of the gradients."""

    def __init__(self, aggregator: JdAggregator) -> None:
        self._aggregator = aggregator

    def aggregate(self, gradients: Tensor) -> Tensor:
        return self._aggregator(gradients)


class EqualNorms(Weighting):
    """Scales the tasks' gradients to norms given by their errors, using a running mean of their squared norms.

    Without errors, or if `priority` is 0, the norms are proportional to the tasks' own weights. The resulting weights
    are relative: the greatest is 1.

    Args:
        decay: decay of the running mean; its initial bias is corrected as in Adam.
        priority: exponent of a task's error in the norm of its gradient.
    """

    def __init__(self, tasks: int, decay: float, priority: float) -> None:
        self._decay = decay
        self._priority = priority
        self._squares = np.zeros(tasks)
        self._steps = np.zeros(tasks, np.int64)
        self._errors: dict[int, ClassErrors] = {}

    def weigh(self, statistic: Statistic) -> Floats:
        places = list(statistic.tasks)
        self._squares[places] = self._decay * self._squares[places] + (1 - self._decay) * statistic.gram.diagonal()
        self._steps[places] += 1
        norms = np.sqrt(self._squares[places] / (1 - self._decay ** self._steps[places]))
        lengths = statistic.weights.copy()
        for number, (place, (sums, counts)) in enumerate(zip(places, statistic.errors, strict=False)):
            error = self._errors.setdefault(place, ClassErrors())
            error.add(sums, counts)
            lengths[number] *= max(error.mean, _LEAST_ERROR) ** self._priority
        weights = lengths / norms
        return weights / weights.max()

    def state_dict(self) -> dict[str, Any]:
        errors = [[place, *error.to_json()] for place, error in self._errors.items()]
        return {"squares": self._squares.tolist(), "steps": self._steps.tolist(), "errors": errors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._squares = np.array(state["squares"])
        self._steps = np.array(state["steps"], np.int64)
        self._errors = {place: ClassErrors.from_json(error) for place, *error in state["errors"]}


class GradNorm(Weighting):
    """Trains the weights towards gradient norms that follow the tasks' training rates.

    Source: Chen et al. 2018, "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks",
    algorithm 1. The initial losses are those of the first step; the weights are at least 0.001.

    Args:
        alpha: strength of the pull towards a common training rate.
        rate: learning rate of the weights.
    """

    def __init__(self, tasks: int, alpha: float, rate: float) -> None:
        self._alpha = alpha
        self._weights = torch.ones(tasks, dtype=torch.float64, requires_grad=True)
        self._optimizer = torch.optim.Adam([self._weights], lr=rate)
        self._first: Floats | None = None

    def weigh(self, statistic: Statistic) -> Floats:
        losses = np.maximum(statistic.losses, 1e-8)
        if self._first is None:
            self._first = losses
        weights = self._weights.detach().numpy().copy()
        norms = np.sqrt(statistic.gram.diagonal())
        ratios = losses / self._first
        lengths = weights * norms
        targets = lengths.mean() * (ratios / ratios.mean()) ** self._alpha
        off = lengths - targets
        pull = np.where(np.abs(off) < 1e-9 * targets, 0.0, np.sign(off))  # a rounding error is no direction
        self._weights.grad = torch.from_numpy(norms * pull)
        self._optimizer.step()
        with torch.no_grad():
            self._weights.clamp_(min=1e-3)
            self._weights.mul_(len(weights) / self._weights.sum())
        return weights

    def state_dict(self) -> dict[str, Any]:
        first = None if self._first is None else self._first.tolist()
        return {"weights": to_json(self._weights), "optimizer": to_json(self._optimizer), "first": first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            self._weights.copy_(from_json(state["weights"]))
        self._optimizer.load_state_dict(from_json(state["optimizer"]))
        self._first = None if state["first"] is None else np.array(state["first"])
