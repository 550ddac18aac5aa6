"""Losses of one's own, by name, in place of the loss that a task's type has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polytask.errors import ConfigError
from polytask.registry import Table

if TYPE_CHECKING:
    from torch import Tensor

# Functions, or classes of modules without parameters, that take the outputs and the targets of labelled rows (or words)
# and return one number for each of them.
LOSSES: Table[Any] = Table("loss", {})


def own_loss(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the summed loss of a registered function, which sees no targets that say nothing (-100).

    Args:
        outputs: rows (or words) x size, float32.
        targets: rows (or words), or rows x size for several labels, which the function sees as 0.0 and 1.0.

    Raises ConfigError where it does not return one number for each target.
    """
    import torch

    if targets.ndim == 1 and not targets.is_floating_point():
        known = targets != -100
        outputs, targets = outputs[known], targets[known]
    else:
        targets = targets.to(outputs.dtype)
    function = LOSSES[name]
    if isinstance(function, type):
        function = function()
        if isinstance(function, torch.nn.Module) and any(True for _ in function.parameters()):
            raise ConfigError(f"the loss {name!r} has parameters, which nothing would train; put them into a head")
    found = function(outputs, targets)
    if not isinstance(found, torch.Tensor) or found.shape != targets.shape[:1]:
        shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise ConfigError(
            f"the loss {name!r} returned {shape} for outputs of {list(outputs.shape)} and targets of "
            f"{list(targets.shape)}; expected one number for each of the {len(targets)}, as with reduction='none'"
        )
    return found.sum()
