"""Rows that weigh differently in the loss: what `label_weight` names.

A summed loss adds up over rows, so rows of equal weight are summed together and their sums weighed. No task type needs
to know of weights, and a step without them takes no detour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def weighed_loss(loss: Callable[..., Tensor], weights: Tensor | None, *tensors: Tensor) -> Tensor:
    """Return the summed loss of tensors that have a line for each target, each weighed by its row.

    Lines behind those of the targets, which belong to a head as a whole (`Head.for_loss`), are given to every part.

    Args:
        weights: of the targets; None where each counts once.
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
    """Return what divides `weighed_loss` into a mean: the sum of the weights of the targets."""
    if weights is None:
        return denominator(targets)
    return sum(weight * denominator(targets[chosen]) for weight, chosen in _groups(weights))


def _groups(weights: Tensor) -> Iterator[tuple[float, Tensor]]:
    """Yield each weight above 0 and which targets have it."""
    for weight in weights.unique().tolist():
        if weight > 0:
            yield weight, weights == weight
