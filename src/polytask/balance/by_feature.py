"""The methods that read the norms of the tasks' gradients at the features that their heads read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from polytask.balance.balancer import BalanceOptions, Floats, Scale, Shape, Statistic, Weigher

# A norm below which a task has no gradient to speak of: its weight would be without bounds.
_LEAST = 1e-12


class EqualNorms(Weigher):
    """Weights that make all tasks' gradients as long as the longest, going by a running mean of their squared norms.

    A step is weighed by what the steps before it measured. So its one backward pass need not wait for its own norms, and
    cutting it into pieces changes nothing. The first step, at the foot of the warm-up, is the plain sum.

    Args:
        decay: of the running mean; its bias towards the first steps is corrected as in Adam.
    """

    def __init__(self, tasks: int, decay: float, length: str) -> None:
        self._decay = decay
        self._length = length
        self._squares = np.zeros(tasks)
        self._steps = np.zeros(tasks, np.int64)

    def weigh(self, statistic: Statistic) -> Floats:
        places = list(statistic.tasks)
        seen = self._steps[places]
        corrected = self._squares[places] / (1 - self._decay ** np.maximum(seen, 1))
        norms = np.sqrt(corrected)
        if (seen == 0).any() or norms.min() < _LEAST:
            return np.ones(len(places))
        return {"max": norms.max(), "min": norms.min(), "mean": 1 / (1 / norms).mean()}[self._length] / norms

    def observe(self, norms: Mapping[int, float]) -> None:
        for place, norm in norms.items():
            self._squares[place] = self._decay * self._squares[place] + (1 - self._decay) * norm**2
            self._steps[place] += 1

    def state_dict(self) -> dict[str, Any]:
        return {"squares": self._squares.tolist(), "steps": self._steps.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._squares = np.array(state["squares"])
        self._steps = np.array(state["steps"], np.int64)


class EqualNormsOptions(BalanceOptions):
    """Gradients of equal norm, measured at the features that the heads read, in the one backward pass of the sum.

    Sources: the scale part of RotoGrad (Javaloy and Valera 2022, section 4.1), which measures at the features; the
    longest gradient as the common norm and a running mean, as in DB-MTL (Lin et al. 2023, section 3.2).
    """

    shape: ClassVar[Shape] = "features"
    scale: ClassVar[Scale] = "own"
    method: Literal["equal_norms"] = "equal_norms"  # pyright: ignore[reportIncompatibleVariableOverride]
    decay: float = Field(default=0.9, ge=0, lt=1, description="of the running mean of the squared norms")

    length: Literal["max", "min", "mean"] = "max"

    def build(self, tasks: tuple[str, ...]) -> Weigher:
        return EqualNorms(len(tasks), self.decay, self.length)
