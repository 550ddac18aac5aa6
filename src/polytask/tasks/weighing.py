"""Row weights in the loss (`label_weight`).

A summed loss is additive over rows, so the losses of rows with equal weight are summed and the sums weighted. No task
type needs to know about weights, and a step without weights costs nothing extra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def weighed_loss(loss: Callable[..., Tensor], weights: Tensor | None, *tensors: Tensor) -> Tensor:
    """Return the summed loss of tensors with one line per target, each target weighted by its row.

    Lines after those of the targets belong to the head as a whole (`Head.for_loss`), and every part gets them.

    Args:
        weights: weight of each target; None if all weigh 1.
    """
    if weights is None:
        return loss(*tensors)
    import torch

    def lines(tensor: Tensor, chosen: Tensor) -> Tensor:
        own = tensor[: len(chosen)][chosen]
        return own if len(tensor) == len(chosen) else torch.cat([own, tensor[len(chosen) :]])

    parts = [weight * loss(*(lines(tensor, chosen) for tensor in tensors)) for weight, chosen in _groups(weights)]
    return torch.stack(parts).sum() if parts else tensors[0].sum() * 0.0


def weighed_denominator(denominator: Callable[[Tensor], float], weights: Tensor | None, targets: Tensor) -> float:
    """Return the denominator that turns `weighed_loss` into a mean: the sum of the targets' weights."""
    if weights is None:
        return denominator(targets)
    return sum(weight * denominator(targets[chosen]) for weight, chosen in _groups(weights))


def _groups(weights: Tensor) -> Iterator[tuple[float, Tensor]]:
    """Yield each weight above 0 with a mask of the targets that have it."""
    for weight in weights.unique().tolist():
        if weight > 0:
            yield weight, weights == weight
