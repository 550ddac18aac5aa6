"""A shared layer: replaces one layer in a Hugging Face encoder's own loop over its layers."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polytask.model.forward_context import ContextHolder, ForwardContext, RowGroup

# For each parameter that is new, those whose state it takes over: one after a split, several after a merge.
Origins: TypeAlias = "dict[nn.Parameter, list[nn.Parameter]]"


@dataclass(frozen=True)
class LayerArguments:
    """What the encoder's loop gives a layer besides the states: masks, position biases and switches."""

    args: Sequence[Any]
    options: Mapping[str, Any]

    def map(self, change: Callable[[Any], Any]) -> LayerArguments:
        """Return each of them changed."""
        options = {key: change(value) for key, value in self.options.items()}
        return LayerArguments([change(value) for value in self.args], options)


class SharedLayer(nn.Module, ABC):
    """Runs the rows of a pass through this layer's weights, group by group.

    Attributes:
        attention_type: which mask the layer asks for, where the family has several (ModernBERT).
        checkpointing: whether activations are computed again in the backward pass instead of kept.
    """

    def __init__(self, layer: nn.Module, holder: ContextHolder) -> None:
        super().__init__()
        self.holder = holder
        self.attention_type = getattr(layer, "attention_type", None)
        self.checkpointing = False

    def call(self, layer: Callable[..., Any], states: Tensor, extras: LayerArguments) -> Any:  # noqa: ANN401
        """Call a layer as the encoder's own loop does."""
        if self.checkpointing and self.training:
            return checkpoint(layer, states, *extras.args, use_reentrant=False, **extras.options)
        return layer(states, *extras.args, **extras.options)

    def call_group(
        self, layer: nn.Module, context: ForwardContext, group: RowGroup, states: Tensor, extras: LayerArguments
    ) -> Any:  # noqa: ANN401
        """Call a layer on the states of a group's rows, with the masks of these rows."""
        return self.call(layer, states, extras.map(lambda value: context.pick(group, value)))

    @property
    @abstractmethod
    def runs(self) -> int:
        """How often a layer runs for a text that asks for all tasks."""

    @abstractmethod
    def take(self, other: SharedLayer) -> None:
        """Take the weights over from the same layer of another model, for the tasks that it has."""

    @abstractmethod
    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        """Yield the parameters with the tasks whose outputs depend on them."""

    def units(self) -> list[nn.Module]:
        """Return the modules of which each is called as a whole: those whose weights are gathered at a time."""
        return [self]

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """Return factors of the learning rate for parameters that need one."""
        return {}


def divided(modules: Sequence[nn.Module], sources: Sequence[Sequence[int]], origins: Origins) -> nn.ModuleList:
    """Return modules that take over older ones: one source is kept, or cloned where it is taken; several are averaged.

    Args:
        sources: for each new module the places of those that it comes from.
        origins: gets each parameter that is new or joined.
    """
    means: dict[nn.Parameter, Tensor] = {}
    taken: set[int] = set()
    made: list[nn.Module] = []
    for found in sources:
        kept = modules[found[0]]
        made.append(copy.deepcopy(kept) if found[0] in taken else kept)
        taken.add(found[0])
        for parameter, *olds in zip(made[-1].parameters(), *(modules[i].parameters() for i in found), strict=True):
            if len(olds) > 1 or olds[0] is not parameter:
                means[parameter] = torch.stack([old.detach() for old in olds]).mean(0)
                origins[parameter] = olds
    with torch.no_grad():  # last: a module that is joined may be another one's source as it was
        for parameter, mean in means.items():
            parameter.copy_(mean)
    return nn.ModuleList(made)


def size(module: nn.Module) -> int:
    """Return the number of a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
