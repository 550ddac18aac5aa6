"""The layers of a sharing plan: at each one, every part has its own copy of the layer, or its own small adapter."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask.model.adapters import ADAPTERS
from polytask.model.family import Family
from polytask.model.forward_context import (
    ContextHolder,
    ForwardContext,
    LayerArguments,
    RowGroup,
    first_of,
    joined,
    like,
)
from polytask.model.shared_layer import Origins, SharedLayer, divided, size
from polytask.sharing.plan import Part, Partition
from polytask.sharing.sharing import PartKind


class BranchedLayer(SharedLayer):
    """One layer under a plan."""

    partition: Partition

    @property
    def runs(self) -> int:
        return len(self.partition)

    def forward(self, states: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run each part once, on exactly the rows that its tasks read.

        Args:
            states: states of the row groups below, of shape (rows, tokens, width).
        """
        context = self.holder.current
        states = context.entered(states)
        pairs = context.groups_of(self.partition)
        groups = tuple(group for _, group in pairs)
        output = self._run(context, [part for part, _ in pairs], groups, states, LayerArguments(args, options))
        context.groups = groups
        return output

    @abstractmethod
    def _run(
        self,
        context: ForwardContext,
        parts: Sequence[Part],
        groups: tuple[RowGroup, ...],
        states: Tensor,
        extras: LayerArguments,
    ) -> Any:  # noqa: ANN401
        """Return the states of the groups, concatenated."""

    @abstractmethod
    def follow(self, partition: Partition) -> Origins:
        """Apply a new partition: a part that is split is cloned, parts that are merged are averaged."""

    @abstractmethod
    def measured(self, part: Part) -> list[nn.Parameter]:
        """Return the parameters in which tasks' gradients are compared; they have the same shapes in every part."""

    @abstractmethod
    def own(self, part: Part) -> list[nn.Parameter]:
        """Return the parameters that only one part has."""

    def distance(self, left: Part, right: Part) -> float:
        """Return the distance of two parts' own weights, relative to their mean norm; 0 if all weights are zero."""
        first, second = (torch.cat([w.detach().flatten() for w in self.own(part)]) for part in (left, right))
        length = float(first.norm() + second.norm()) / 2
        return float((first - second).norm()) / length if length else 0.0

    @abstractmethod
    def size(self, parts: int) -> int:
        """Return the number of parameters with this number of parts."""


class CopiedLayer(BranchedLayer):
    """Each part has its own copy of the layer."""

    def __init__(self, layer: nn.Module, partition: Partition, holder: ContextHolder) -> None:
        super().__init__(layer, holder)
        self.partition = partition
        self.parts = nn.ModuleList([layer, *(copy.deepcopy(layer) for _ in partition[1:])])

    def _run(
        self,
        context: ForwardContext,
        parts: Sequence[Part],
        groups: tuple[RowGroup, ...],
        states: Tensor,
        extras: LayerArguments,
    ) -> Any:  # noqa: ANN401
        outputs = [
            self.call_group(self.layer_of(part), context, group, context.take(states, group), extras)
            for part, group in zip(parts, groups, strict=True)
        ]
        return like(outputs[0], joined(groups, map(first_of, outputs)))

    def layer_of(self, part: Part) -> nn.Module:
        """Return the layer of a part."""
        return self.parts[self.partition.index(part)]

    def units(self) -> list[nn.Module]:
        return list(self.parts)

    def take(self, other: SharedLayer) -> None:
        assert isinstance(other, CopiedLayer)
        for part, sources in zip(self.partition, _sources(other.partition, self.partition), strict=True):
            if sources:
                self.layer_of(part).load_state_dict(other.parts[sources[0]].state_dict())

    def follow(self, partition: Partition) -> Origins:
        origins: Origins = {}
        self.parts = divided(list(self.parts), _sources(self.partition, partition), origins)
        self.partition = partition
        return origins

    def measured(self, part: Part) -> list[nn.Parameter]:
        return self.own(part)

    def own(self, part: Part) -> list[nn.Parameter]:
        return list(self.layer_of(part).parameters())

    def size(self, parts: int) -> int:
        return parts * size(self.parts[0])

    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        for part, layer in zip(self.partition, self.parts, strict=True):
            yield list(layer.parameters()), part


class AdapterLayer(BranchedLayer):
    """One layer for all parts, and a small adapter for each: rows of all parts pass through the layer at once."""

    def __init__(
        self, layer: nn.Module, partition: Partition, holder: ContextHolder, kind: PartKind, family: Family, number: int
    ) -> None:
        super().__init__(layer, holder)
        self.partition = partition
        self.layer = layer
        self.number = number
        self.kind = kind
        self.adapters = ADAPTERS[kind.name].insert(layer, kind, family)
        for adapter in self.adapters:
            adapter.grow(len(partition) if self._adds(len(partition)) else 0)
        self._freeze()

    def _adds(self, parts: int) -> bool:
        return self.kind.adds(self.number, parts)

    def _freeze(self) -> None:
        for parameter in self.base_parameters():
            parameter.requires_grad_(not (self.kind.frozen and self._adds(len(self.partition))))

    def base_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that all parts share."""
        own = {parameter for adapter in self.adapters for parameter in adapter.own_parameters()}
        return [parameter for parameter in self.layer.parameters() if parameter not in own]

    def _run(
        self,
        context: ForwardContext,
        parts: Sequence[Part],
        groups: tuple[RowGroup, ...],
        states: Tensor,
        extras: LayerArguments,
    ) -> Any:  # noqa: ANN401
        index = context.indices(groups)
        selected = states if index is None else states[index]
        arguments = context.arguments(groups, extras)
        indices = [self.partition.index(part) for part in parts]
        return self.call(_Divided(self, indices, groups), selected, arguments)

    def take(self, other: SharedLayer) -> None:
        assert isinstance(other, AdapterLayer)
        sources = _sources(other.partition, self.partition)
        for own, old in zip(self.adapters, other.adapters, strict=True):
            for part, indices in zip(own.parts, sources, strict=False):
                if indices:
                    part.load_state_dict(old.parts[indices[0]].state_dict())
        with torch.no_grad():
            for own, old in zip(self.base_parameters(), other.base_parameters(), strict=True):
                own.copy_(old)

    def follow(self, partition: Partition) -> Origins:
        origins: Origins = {}
        sources = _sources(self.partition, partition) if self._adds(len(partition)) else []
        for adapter in self.adapters:
            adapter.follow(sources, origins)
        self.partition = partition
        self._freeze()
        return origins

    def measured(self, part: Part) -> list[nn.Parameter]:
        del part
        return self.base_parameters()

    def own(self, part: Part) -> list[nn.Parameter]:
        index = self.partition.index(part)
        return [parameter for adapter in self.adapters for parameter in adapter.parameters_of(index)]

    def size(self, parts: int) -> int:
        own = sum(adapter.size_of_part for adapter in self.adapters)
        return sum(parameter.numel() for parameter in self.base_parameters()) + (
            parts * own if self._adds(parts) else 0
        )

    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        everyone = frozenset(task for part in self.partition for task in part)
        yield self.base_parameters(), everyone
        for part in self.partition:
            yield self.own(part), part


class _Divided:
    """A layer with adapters that sets which rows belong to which part at each call, also when it is recomputed."""

    def __init__(self, level: AdapterLayer, places: Sequence[int], groups: Sequence[RowGroup]) -> None:
        self._level = level
        self._sections = tuple((place, group.count) for place, group in zip(places, groups, strict=True))
        self._no_grad_parts = frozenset(place for place, group in zip(places, groups, strict=True) if group.no_grad)

    def __call__(self, states: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        for adapter in self._level.adapters:
            adapter.sections, adapter.no_grad_parts = self._sections, self._no_grad_parts
        return self._level.layer(states, *args, **options)


def _sources(old: Partition, new: Partition) -> list[list[int]]:
    """Return for each new part the indices of the old parts that its tasks come from."""
    return [[index for index, before in enumerate(old) if before & part] for part in new]


def build_branched_layer(
    layer: nn.Module, partition: Partition, holder: ContextHolder, kind: PartKind, family: Family, number: int
) -> BranchedLayer:
    """Build the shared layer for layer `number` (from 1) of a plan."""
    if kind.shares_layer:
        return AdapterLayer(layer, partition, holder, kind, family, number)
    return CopiedLayer(layer, partition, holder)
