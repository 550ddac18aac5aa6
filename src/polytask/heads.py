"""Tables of poolings, which turn the states of a text's tokens into one state, and of head classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from polytask.registry import Table

if TYPE_CHECKING:
    from torch import Tensor

# Takes states (rows x tokens x width) and a mask (rows x tokens, 1 for a token, 0 for padding); returns rows x width.
Function: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


def cls(states: Tensor, mask: Tensor) -> Tensor:
    """The first token's state."""
    del mask
    return states[:, 0]


def mean(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of the tokens' states."""
    weight = mask.to(states.dtype).unsqueeze(-1)
    return (states * weight).sum(1) / weight.sum(1)


def last(states: Tensor, mask: Tensor) -> Tensor:
    """The last token's state."""
    import torch

    behind = mask.long() * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    place = behind.argmax(1).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
    return states.gather(1, place).squeeze(1)


_POOLINGS: dict[str, Function] = {"cls": cls, "last": last, "mean": mean}
POOLINGS = Table("pooling", _POOLINGS)
# Chosen by the encoder's family: `last` where tokens attend only to earlier ones, otherwise `mean`.
AUTO = "auto"
# Filled by `polytask.model.heads` when that is imported.
HEADS: Table[Any] = Table("head", {})
