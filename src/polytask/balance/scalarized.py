"""Methods that weight the tasks by their losses alone: TorchJD's scalarizers.

A scalarizer turns the losses into one number; a task's weight is the derivative of that number by the task's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from polytask.balance.balancer import Floats, Statistic, Weighting
from polytask.balance.state import from_json, module_state, restore_module, to_json

if TYPE_CHECKING:
    from torchjd.scalarization import DWA, FAMO, Scalarizer

# Lower bound of losses, so that their logarithms and inverses stay finite.
_LEAST = 1e-8


class Scalarized(Weighting):
    """A scalarizer without a state."""

    def __init__(self, scalarize: Callable[[Tensor], Tensor]) -> None:
        self._scalarize = scalarize

    def weigh(self, statistic: Statistic) -> Floats:
        losses = _tensor(statistic.losses).requires_grad_()
        self._scalarize(losses).backward()
        assert losses.grad is not None
        return losses.grad.numpy()


class StatefulScalarizer(Scalarized):
    """A scalarizer with a state."""

    def __init__(self, scalarizer: Scalarizer) -> None:
        super().__init__(scalarizer)
        self._module = scalarizer.double()

    def state_dict(self) -> dict[str, Any]:
        return {"scalarizer": module_state(self._module)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        restore_module(self._module, state["scalarizer"])


class LearnedScalarizer(StatefulScalarizer):
    """A scalarizer with parameters, which Adam trains."""

    def __init__(self, scalarizer: Scalarizer, rate: float) -> None:
        super().__init__(scalarizer)
        self._optimizer = torch.optim.Adam(scalarizer.parameters(), lr=rate)

    def weigh(self, statistic: Statistic) -> Floats:
        self._optimizer.zero_grad(set_to_none=True)
        weights = super().weigh(statistic)
        self._optimizer.step()
        return weights

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": to_json(self._optimizer)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._optimizer.load_state_dict(from_json(state["optimizer"]))


class DynamicWeightAverage(StatefulScalarizer):
    """DWA, with windows of updates as epochs."""

    def __init__(self, scalarizer: DWA, window: int) -> None:
        super().__init__(scalarizer)
        self._dwa, self._window, self._steps = scalarizer, window, 0

    def weigh(self, statistic: Statistic) -> Floats:
        weights = super().weigh(statistic)
        self._steps += 1
        if self._steps % self._window == 0:
            self._dwa.step()
        return weights

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._steps = state["steps"]


class Famo(StatefulScalarizer):
    """FAMO, which needs the losses of the same rows after the update."""

    wants_after: ClassVar[bool] = True

    def __init__(self, scalarizer: FAMO, tasks: int) -> None:
        super().__init__(scalarizer)
        self._famo, self._tasks = scalarizer, tasks

    def after(self, losses: Floats) -> None:
        self._famo.update(_tensor(losses))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        # Its optimizer is created by its first update.
        ones = np.ones(self._tasks)
        self.weigh(Statistic(ones))
        self.after(ones)
        super().load_state_dict(state)


def _tensor(losses: Floats) -> Tensor:
    return torch.from_numpy(np.maximum(losses, _LEAST))
