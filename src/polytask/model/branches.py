"""The layers of a sharing plan: at each one, every part of the tasks has its own copy, or its own small addition."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask.model.additions import ADDITIONS
from polytask.model.family import Family
from polytask.model.lanes import Lane, Pass, Route, first_of, joined, like
from polytask.model.slot import Extras, Origins, Slot, divided, size
from polytask.sharing.plan import Part, Partition
from polytask.sharing.sharing import Kind


class Level(Slot):
    """One layer under a plan."""

    partition: Partition

    def forward(self, states: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run each part once, on exactly the rows that its tasks read.

        Args:
            states: rows of the lanes below x tokens x width.
        """
        now = self.route.current
        found = now.present(self.partition)
        lanes = tuple(lane for _, lane in found)
        output = self._run(now, [part for part, _ in found], lanes, states, Extras(args, options))
        now.lanes = lanes
        return output

    @abstractmethod
    def _run(self, now: Pass, parts: Sequence[Part], lanes: tuple[Lane, ...], states: Tensor, extras: Extras) -> Any:  # noqa: ANN401
        """Return the states of the lanes, one after another."""

    @abstractmethod
    def follow(self, partition: Partition) -> Origins:
        """Divide the tasks anew: a part that is split is cloned, parts that are joined are averaged."""

    @abstractmethod
    def measured(self, part: Part) -> list[nn.Parameter]:
        """Return the parameters in which gradients of tasks are compared: of one shape in every part."""

    @abstractmethod
    def own(self, part: Part) -> list[nn.Parameter]:
        """Return the parameters that a part shares with no other."""

    def distance(self, one: Part, other: Part) -> float:
        """Return how far apart two parts' own weights are, relative to their mean length; 0 where they are all zero."""
        first, second = (torch.cat([w.detach().flatten() for w in self.own(part)]) for part in (one, other))
        length = float(first.norm() + second.norm()) / 2
        return float((first - second).norm()) / length if length else 0.0

    @abstractmethod
    def size(self, parts: int) -> int:
        """Return the number of parameters with so many parts."""


class CopyLevel(Level):
    """Each part has its own copy of the layer."""

    def __init__(self, layer: nn.Module, partition: Partition, route: Route) -> None:
        super().__init__(layer, route)
        self.partition = partition
        self.parts = nn.ModuleList([layer, *(copy.deepcopy(layer) for _ in partition[1:])])

    def _run(self, now: Pass, parts: Sequence[Part], lanes: tuple[Lane, ...], states: Tensor, extras: Extras) -> Any:  # noqa: ANN401
        outputs = [
            self.call_lane(self.layer_of(part), now, lane, now.take(states, lane), extras)
            for part, lane in zip(parts, lanes, strict=True)
        ]
        return like(outputs[0], joined(lanes, map(first_of, outputs)))

    def layer_of(self, part: Part) -> nn.Module:
        """Return the layer of a part."""
        return self.parts[self.partition.index(part)]

    def take(self, other: Slot) -> None:
        assert isinstance(other, CopyLevel)
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


class DeltaLevel(Level):
    """One layer for all parts, and a small addition for each: rows of all parts pass through the layer at once."""

    def __init__(
        self, layer: nn.Module, partition: Partition, route: Route, kind: Kind, family: Family, number: int
    ) -> None:
        super().__init__(layer, route)
        self.partition = partition
        self.layer = layer
        self.number = number
        self.kind = kind
        self.additions = ADDITIONS[kind.name].into(layer, kind, family)
        for addition in self.additions:
            addition.grow(len(partition) if self._adds(len(partition)) else 0)
        self._freeze()

    def _adds(self, parts: int) -> bool:
        return self.kind.adds(self.number, parts)

    def _freeze(self) -> None:
        for parameter in self.base_parameters():
            parameter.requires_grad_(not (self.kind.frozen and self._adds(len(self.partition))))

    def base_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that all parts share."""
        own = {parameter for addition in self.additions for parameter in addition.own_parameters()}
        return [parameter for parameter in self.layer.parameters() if parameter not in own]

    def _run(self, now: Pass, parts: Sequence[Part], lanes: tuple[Lane, ...], states: Tensor, extras: Extras) -> Any:  # noqa: ANN401
        index = now.indices(lanes)
        given = states if index is None else states[index]
        picked = extras.map(lambda value: now.pick_all(lanes, value))
        places = [self.partition.index(part) for part in parts]
        return self.call(_Divided(self, places, lanes), given, picked)

    def take(self, other: Slot) -> None:
        assert isinstance(other, DeltaLevel)
        sources = _sources(other.partition, self.partition)
        for own, old in zip(self.additions, other.additions, strict=True):
            for part, found in zip(own.parts, sources, strict=False):
                if found:
                    part.load_state_dict(old.parts[found[0]].state_dict())
        with torch.no_grad():
            for own, old in zip(self.base_parameters(), other.base_parameters(), strict=True):
                own.copy_(old)

    def follow(self, partition: Partition) -> Origins:
        origins: Origins = {}
        sources = _sources(self.partition, partition) if self._adds(len(partition)) else []
        for addition in self.additions:
            addition.follow(sources, origins)
        self.partition = partition
        self._freeze()
        return origins

    def measured(self, part: Part) -> list[nn.Parameter]:
        del part
        return self.base_parameters()

    def own(self, part: Part) -> list[nn.Parameter]:
        index = self.partition.index(part)
        return [parameter for addition in self.additions for parameter in addition.parameters_of(index)]

    def size(self, parts: int) -> int:
        own = sum(addition.size_of_part for addition in self.additions)
        return sum(parameter.numel() for parameter in self.base_parameters()) + (
            parts * own if self._adds(parts) else 0
        )

    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        everyone = frozenset(task for part in self.partition for task in part)
        yield self.base_parameters(), everyone
        for part in self.partition:
            yield self.own(part), part


class _Divided:
    """A layer with additions, told which rows belong to which part: also when it is called again for gradients."""

    def __init__(self, level: DeltaLevel, places: Sequence[int], lanes: Sequence[Lane]) -> None:
        self._level = level
        self._sections = tuple((place, lane.count) for place, lane in zip(places, lanes, strict=True))
        self._silent = frozenset(place for place, lane in zip(places, lanes, strict=True) if lane.silent)

    def __call__(self, states: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        for addition in self._level.additions:
            addition.sections, addition.silent = self._sections, self._silent
        return self._level.layer(states, *args, **options)


def _sources(old: Partition, new: Partition) -> list[list[int]]:
    """Return for each new part the places of the old ones that its tasks come from."""
    return [[index for index, before in enumerate(old) if before & part] for part in new]


def build_level(layer: nn.Module, partition: Partition, route: Route, kind: Kind, family: Family, number: int) -> Level:
    """Put one layer, of this number from 1, under a plan."""
    if kind.shares_layer:
        return DeltaLevel(layer, partition, route, kind, family, number)
    return CopyLevel(layer, partition, route)
