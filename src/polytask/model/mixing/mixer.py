"""A mixing method: takes the place of the upper layers, and gives each task a mixture of several towers."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polytask.model.forward_context import ContextHolder, ForwardContext, RowGroup
from polytask.model.shared_layer import SharedLayer


@dataclass(frozen=True)
class Towers:
    """The tasks of a mixing method.

    Attributes:
        tasks: those that towers and gates are there for.
        answered: those of them that still have heads; the others were pruned away.
    """

    tasks: tuple[str, ...]
    answered: tuple[str, ...]


class MixingLayer(SharedLayer, ABC):
    """One replaced layer of a mixing method. Between its layers the states are several streams, one after another.

    Attributes:
        tasks: those that towers and gates are there for.
        low, top: whether this is the lowest of the replaced layers, and the highest.
    """

    def __init__(self, layer: nn.Module, tasks: Sequence[str], holder: ContextHolder, *, low: bool, top: bool) -> None:
        super().__init__(layer, holder)
        self.tasks = tuple(tasks)
        self.low, self.top = low, top

    @classmethod
    @abstractmethod
    def replacements(
        cls,
        layers: Sequence[nn.Module],
        towers: Towers,
        width: int,
        holder: ContextHolder,
        options: Mapping[str, float],
    ) -> list[SharedLayer]:
        """Return what stands in the places of these layers.

        Args:
            layers: pretrained, from the lowest to the top one; experts and towers are copies of them.
            width: features of a token's state.
        """

    @classmethod
    @abstractmethod
    def needed(cls, towers: Towers, levels: int, options: Mapping[str, float]) -> tuple[str, ...]:
        """Return the tasks whose towers and gates the answered tasks' outputs depend on.

        Args:
            levels: number of replaced layers.
        """

    def streams(self, context: ForwardContext, states: Tensor, count: int) -> list[Tensor]:
        """Return so many streams of all rows: below the lowest replaced layer they are all the same."""
        everyone = self.everyone(context)
        if self.low:
            return [context.take(states, everyone)] * count
        # Not `chunk`: a graph of any number of rows cannot say how many chunks that makes.
        return [states.narrow(0, index * everyone.count, everyone.count) for index in range(count)]

    @property
    def runs(self) -> int:
        return len(self.tasks)

    def take(self, other: SharedLayer) -> None:
        found = other.state_dict()
        self.load_state_dict({name: found[name] for name in self.state_dict()})

    def everyone(self, context: ForwardContext) -> RowGroup:
        """Return the group of all rows that any task reads."""
        group = context.group(frozenset(context.tasks))
        assert group is not None
        return group

    def leave(self, context: ForwardContext) -> list[tuple[str, RowGroup]]:
        """Let the states lie in a group for each task from here on, and return these groups."""
        found = context.groups_of(frozenset([task]) for task in context.tasks)
        context.groups = tuple(group for _, group in found)
        return [(task, group) for (task,), group in found]


def copies(layer: nn.Module, count: int) -> nn.ModuleList:
    """Return so many copies of a layer, none of them the layer itself."""
    return nn.ModuleList([copy.deepcopy(layer) for _ in range(count)])


def mixture(gate: Tensor, states: Sequence[Tensor]) -> Tensor:
    """Return the sum of several states by weights: rows x tokens x width.

    Args:
        gate: rows x tokens x experts, or experts alone: the same for every token.
        states: for each expert rows x tokens x width.
    """
    found = gate[..., 0:1].to(states[0].dtype) * states[0]
    for index, other in enumerate(states[1:], start=1):
        found = found + gate[..., index : index + 1].to(other.dtype) * other
    return found


class ExpertGate(nn.Module):
    """A softmax over experts for each token: g(x) = softmax(W x). Padding gets a gate too, which nobody reads."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, experts, bias=False)
        nn.init.normal_(self.out.weight, std=0.02)

    def forward(self, states: Tensor) -> Tensor:
        """Return rows x tokens x experts, in float32, from rows x tokens x width."""
        return torch.softmax(self.out(states).float(), dim=-1)


def rows_of(group: RowGroup, everyone: RowGroup, states: Tensor) -> Tensor:
    """Return a group's rows from states of the group of all rows."""
    if group.count == everyone.count:
        return states
    assert group.rows is not None
    return states[group.rows if everyone.rows is None else torch.searchsorted(everyone.rows, group.rows)]
