"""Calibrated probabilities: one temperature per task, fitted on dev once the model is chosen.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2 (temperature scaling).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polytask.tasks.arrays import Bools, Floats, Outputs
from polytask.tasks.task_options import TaskOptions

# Range of temperatures; a fit that reaches the upper end is discarded.
LOWEST, HIGHEST = 0.05, 20.0
# With fewer dev decisions than this no temperature is fitted.
LEAST_DECISIONS = 10
# Log-probability of a true class that is impossible by construction, whatever the temperature.
_LEAST_LOG = -1e4

Integers: TypeAlias = NDArray[np.int64]


class CalibratedOptions(TaskOptions):
    """Options of the task types that predict probabilities."""

    calibrate: bool = Field(default=False, description="fit a temperature on dev that calibrates the probabilities")

    learning: ClassVar[tuple[str, ...]] = ("calibrate",)


def fit_temperature(outputs: Outputs | Floats, targets: Integers) -> tuple[float, list[str]]:
    """Return the temperature with the least negative log-likelihood of the targets, and notes for the user.

    The log-likelihood is concave in the inverse temperature, so it has at most one optimum. Without one below HIGHEST,
    or when every decision is right, the temperature stays 1 and a note says why.

    Args:
        outputs: decisions x classes, before the softmax.
        targets: the true class of each decision; -100 (none of the classes is right) is left out.
    """
    values = outputs.astype(np.float64)

    def log_probabilities(temperature: float) -> Floats:
        return log_softmax(values / temperature)

    return fit_temperature_of(log_probabilities, values.argmax(-1), targets)


def fit_temperature_of(
    log_probabilities: Callable[[float], Floats], decisions: Integers, targets: Integers
) -> tuple[float, list[str]]:
    """Do what `fit_temperature` does for probabilities that are not a softmax of single outputs.

    Args:
        log_probabilities: function of a temperature that returns decisions x classes.
        decisions: predicted class of each decision.
        targets: as for `fit_temperature`.
    """
    known = np.flatnonzero(targets >= 0)
    classes = targets[known]

    def cost(temperature: float) -> float:
        return -float(log_probabilities(temperature)[known, classes].clip(min=_LEAST_LOG).mean())

    return best_temperature(cost, decisions[known] == classes)


def best_temperature(negative_log_likelihood: Callable[[float], float], right: Bools) -> tuple[float, list[str]]:
    """Return the temperature with the least negative log-likelihood, and notes for the user.

    Args:
        negative_log_likelihood: function of a temperature, with one optimum.
        right: whether each decision is correct.
    """
    from scipy.optimize import minimize_scalar

    if len(right) < LEAST_DECISIONS:
        count = f"{len(right)} dev decisions" if len(right) else "no dev rows"
        return 1.0, [f"not calibrated: found {count}, and a temperature takes at least {LEAST_DECISIONS}"]

    if right.all():
        return 1.0, ["not calibrated: every dev decision is right, so no temperature fits best"]

    def cost(log_temperature: float) -> float:
        return negative_log_likelihood(float(np.exp(log_temperature)))

    bounds = (float(np.log(LOWEST)), float(np.log(HIGHEST)))
    result: Any = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    fitted = float(result.x)
    if bounds[1] - fitted < 1e-3:
        return 1.0, ["not calibrated: on dev the probabilities are no better than guessing, whatever the temperature"]
    if cost(fitted) >= cost(0.0):
        return 1.0, []
    return float(np.exp(fitted)), []


def log_softmax(outputs: Floats) -> Floats:
    """Return the log-softmax of outputs: decisions x classes."""
    shifted = outputs - outputs.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def negative_log_likelihood(outputs: Floats, targets: Integers) -> float:
    """Return the mean negative log-likelihood of targets under the softmax of outputs (decisions x classes)."""
    return -float(log_softmax(outputs)[np.arange(len(targets)), targets].mean())


def two_classes(outputs: Outputs) -> Outputs:
    """Return binary logits (any shape) as decisions x 2, so that the softmax equals their sigmoid."""
    flat = outputs.reshape(-1, 1)
    return np.concatenate([np.zeros_like(flat), flat], axis=1)
