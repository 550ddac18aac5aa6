"""A shared layer: replaces one layer in a Hugging Face encoder's loop over its layers."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polytask.model.forward_context import ContextHolder, ForwardContext, LayerArguments, RowGroup

# For each new parameter, the parameters whose state it takes over: one after a split, several after a merge.
Origins: TypeAlias = "dict[nn.Parameter, list[nn.Parameter]]"


class SharedLayer(nn.Module, ABC):
    """Runs the rows of a pass through this layer's weights, group by group.

    Attributes:
        attention_type: which mask the layer uses, if the family has several (ModernBERT).
        checkpointing: whether activations are recomputed in the backward pass instead of kept.
    """

    def __init__(self, layer: nn.Module, holder: ContextHolder) -> None:
        super().__init__()
        self.holder = holder
        self.attention_type = getattr(layer, "attention_type", None)
        self.checkpointing = False

    def call(self, layer: Callable[..., Any], states: Tensor, extras: LayerArguments) -> Any:  # noqa: ANN401
        """Call a layer as the encoder's loop does, with gradient checkpointing if enabled."""
        if self.checkpointing and self.training:
            return checkpoint(layer, states, *extras.args, use_reentrant=False, **extras.options)
        return layer(states, *extras.args, **extras.options)

    def call_group(
        self, layer: nn.Module, context: ForwardContext, group: RowGroup, states: Tensor, extras: LayerArguments
    ) -> Any:  # noqa: ANN401
        """Call a layer on the states of a group's rows, with the masks of these rows."""
        return self.call(layer, states, context.arguments([group], extras))

    @property
    @abstractmethod
    def runs(self) -> int:
        """Number of times that the layer runs for a text with all tasks."""

    @abstractmethod
    def take(self, other: SharedLayer) -> None:
        """Copy the weights from the same layer of another model, for the tasks that it has."""

    @abstractmethod
    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        """Yield the parameters with the tasks whose outputs depend on them."""

    def units(self) -> list[nn.Module]:
        """Return the modules that are each called as a whole: their weights are gathered together."""
        return [self]

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """Return factors of the learning rate, for parameters whose factor is not 1."""
        return {}


def divided(modules: Sequence[nn.Module], sources: Sequence[Sequence[int]], origins: Origins) -> nn.ModuleList:
    """Return new modules from old ones: a single source is kept, or cloned if already used; several are averaged.

    Args:
        sources: for each new module, the indices of the old ones that it comes from.
        origins: dict to which each new or merged parameter is added.
    """
    means: dict[nn.Parameter, Tensor] = {}
    used: set[int] = set()
    results: list[nn.Module] = []
    for indices in sources:
        kept = modules[indices[0]]
        results.append(copy.deepcopy(kept) if indices[0] in used else kept)
        used.add(indices[0])
        for parameter, *olds in zip(results[-1].parameters(), *(modules[i].parameters() for i in indices), strict=True):
            if len(olds) > 1 or olds[0] is not parameter:
                means[parameter] = torch.stack([old.detach() for old in olds]).mean(0)
                origins[parameter] = olds
    with torch.no_grad():  # last: a merged module may be the source of another one, with its old values
        for parameter, mean in means.items():
            parameter.copy_(mean)
    return nn.ModuleList(results)


def size(module: nn.Module) -> int:
    """Return the number of a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
