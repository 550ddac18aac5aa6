"""Users' own losses, by name, which replace the loss of a task's type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polytask.errors import ConfigError
from polytask.registry import Table

if TYPE_CHECKING:
    from torch import Tensor

# Functions, or module classes without parameters, that take the outputs and the targets of labelled rows (or words)
# and return one number for each of them.
LOSSES: Table[Any] = Table("loss", {})


def own_loss(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the summed loss of a registered function; ignored targets (-100) are left out.

    Args:
        outputs: rows (or words) x size, float32.
        targets: rows (or words), or rows x size for several labels, which the function gets as 0.0 and 1.0.

    Raises ConfigError if it does not return one number for each target.
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
            raise ConfigError(f"the loss {name!r} has parameters, which would not be trained; put them into a head")
    losses = function(outputs, targets)
    if not isinstance(losses, torch.Tensor) or losses.shape != targets.shape[:1]:
        shape = list(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
        raise ConfigError(
            f"the loss {name!r} returned {shape} for outputs of {list(outputs.shape)} and targets of "
            f"{list(targets.shape)}; expected one number for each of the {len(targets)}, as with reduction='none'"
        )
    return losses.sum()
