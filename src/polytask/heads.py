"""What heads are made of, by name: how the states of a text's tokens become one state, and the classes of heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from polytask.registry import Table

if TYPE_CHECKING:
    from torch import Tensor

# Takes rows x tokens x width and rows x tokens (1 for a token, 0 for padding); returns rows x width.
Function: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


def cls(states: Tensor, mask: Tensor) -> Tensor:
    """The first token's state."""
    del mask
    return states[:, 0]


def mean(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of the tokens' states."""
    weight = mask.to(states.dtype).unsqueeze(-1)
    return (states * weight).sum(1) / weight.sum(1)


_WAYS: dict[str, Function] = {"cls": cls, "mean": mean}
POOLINGS = Table("pooling", _WAYS)
# Its rows are classes of `polytask.model.heads`, which fills it when it is imported.
HEADS: Table[Any] = Table("head", {})
