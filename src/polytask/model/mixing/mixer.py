"""A mixing method: replaces the upper layers, and gives each task a mixture of several towers."""

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
        tasks: tasks with towers and gates.
        answered: tasks of these that still have heads; the others have been pruned.
    """

    tasks: tuple[str, ...]
    answered: tuple[str, ...]


class MixingLayer(SharedLayer, ABC):
    """One layer of a mixing method. Between its layers the states consist of several streams, concatenated.

    Attributes:
        tasks: tasks with towers and gates.
        low, top: whether this is the lowest, or the highest, of the replaced layers.
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
        """Return the layers that replace these.

        Args:
            layers: pretrained layers from the lowest to the highest; experts and towers are copies of them.
            width: hidden size.
        """

    @classmethod
    @abstractmethod
    def needed(cls, towers: Towers, levels: int, options: Mapping[str, float]) -> tuple[str, ...]:
        """Return the tasks whose towers and gates the answered tasks' outputs depend on.

        Args:
            levels: number of replaced layers.
        """

    def streams(self, context: ForwardContext, states: Tensor, count: int) -> list[Tensor]:
        """Return `count` streams of all rows: at the lowest layer they are all the same."""
        everyone = self.everyone(context)
        if self.low:
            return [context.take(states, everyone)] * count
        # Not `chunk`: in a graph with a variable number of rows, the number of chunks would be unknown.
        return [states.narrow(0, index * everyone.count, everyone.count) for index in range(count)]

    @property
    def runs(self) -> int:
        return len(self.tasks)

    def take(self, other: SharedLayer) -> None:
        state = other.state_dict()
        self.load_state_dict({name: state[name] for name in self.state_dict()})

    def everyone(self, context: ForwardContext) -> RowGroup:
        """Return the group of all rows that any task reads."""
        group = context.group(frozenset(context.tasks))
        assert group is not None
        return group

    def leave(self, context: ForwardContext) -> list[tuple[str, RowGroup]]:
        """Switch to one group per task, and return these groups."""
        pairs = context.groups_of(frozenset([task]) for task in context.tasks)
        context.groups = tuple(group for _, group in pairs)
        return [(task, group) for (task,), group in pairs]


def copies(layer: nn.Module, count: int) -> nn.ModuleList:
    """Return `count` copies of a layer, without the layer itself."""
    return nn.ModuleList([copy.deepcopy(layer) for _ in range(count)])


def mixture(gate: Tensor, states: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of several states, of shape (rows, tokens, width).

    Args:
        gate: weights of shape (rows, tokens, experts), or (experts,) for the same weights in every token.
        states: each expert's states, of shape (rows, tokens, width).
    """
    mixed = gate[..., 0:1].to(states[0].dtype) * states[0]
    for index, other in enumerate(states[1:], start=1):
        mixed = mixed + gate[..., index : index + 1].to(other.dtype) * other
    return mixed


class ExpertGate(nn.Module):
    """A softmax over experts for each token: g(x) = softmax(W x). Padding gets a gate too, which is never read."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, experts, bias=False)
        nn.init.normal_(self.out.weight, std=0.02)

    def forward(self, states: Tensor) -> Tensor:
        """Return float32 weights of shape (rows, tokens, experts) for states of shape (rows, tokens, width)."""
        return torch.softmax(self.out(states).float(), dim=-1)


def rows_of(group: RowGroup, everyone: RowGroup, states: Tensor) -> Tensor:
    """Return a group's rows from states of the group of all rows."""
    if group.count == everyone.count:
        return states
    assert group.rows is not None
    return states[group.rows if everyone.rows is None else torch.searchsorted(everyone.rows, group.rows)]
