"""The context of a forward pass: which groups of rows run through which weights, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = "Tensor | None"  # ascending row indices of a pass; None for all rows


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Rows that run through the same weights.

    Attributes:
        tasks: the tasks that read these rows.
        rows: row indices in the pass.
        count: number of rows.
        no_grad: whether they need no gradient.
    """

    tasks: frozenset[str]
    rows: Rows
    count: int
    no_grad: bool = False


@dataclass(frozen=True)
class LayerArguments:
    """The arguments that the encoder passes to a layer in addition to the states: masks, position biases, flags."""

    args: Sequence[Any]
    options: Mapping[str, Any]

    def map(self, change: Callable[[Any], Any]) -> LayerArguments:
        """Return the arguments with `change` applied to each."""
        options = {key: change(value) for key, value in self.options.items()}
        return LayerArguments([change(value) for value in self.args], options)


class ForwardContext:
    """One pass of rows through the encoder. The states of its groups are concatenated in one tensor.

    Attributes:
        count: number of rows of the pass.
        groups: the groups of the current states, in order.
        kept: values that a mixing method stores in one layer for a higher one, by a key of its choice.

    Args:
        reads: for each task, the indices of the rows that it reads, ascending.
        no_grad_tasks: tasks that need no gradient.
        idle: tasks that read the first row only so that their layers run; it is left out if other tasks use the part.
    """

    def __init__(
        self,
        count: int,
        reads: Mapping[str, Tensor],
        no_grad_tasks: frozenset[str] = frozenset(),
        idle: frozenset[str] = frozenset(),
    ) -> None:
        self.count = count
        self._reads = reads
        self._no_grad_tasks = no_grad_tasks
        self._idle = idle
        self._groups: dict[frozenset[str], RowGroup] = {}
        self._picked: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        self.groups: tuple[RowGroup, ...] = (RowGroup(frozenset(reads), None, count),)
        self.kept: dict[Any, Any] = {}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that read rows of this pass."""
        return tuple(self._reads)

    def group(self, tasks: frozenset[str]) -> RowGroup | None:
        """Return the group of the rows that any of these tasks reads, or None if there are none."""
        group = self._groups.get(tasks)
        if group is None:
            present = tasks & self._reads.keys()
            if not present:
                return None
            reading = [self._reads[task] for task in self._reads if task in (present - self._idle or present)]
            no_grad = present <= self._no_grad_tasks
            if any(len(rows) == self.count for rows in reading):
                group = RowGroup(tasks, None, self.count, no_grad)
            else:
                rows = reading[0] if len(reading) == 1 else torch.unique(torch.cat(reading))
                group = RowGroup(tasks, None if len(rows) == self.count else rows, len(rows), no_grad)
            self._groups[tasks] = group
        return group

    def groups_of(self, parts: Iterable[frozenset[str]]) -> list[tuple[frozenset[str], RowGroup]]:
        """Return the parts that have rows, with their groups."""
        pairs: list[tuple[frozenset[str], RowGroup]] = []
        for part in parts:  # a `:=` in a comprehension would break the graph of torch.compile in every layer
            group = self.group(part)
            if group is not None:
                pairs.append((part, group))
        return pairs

    def take(self, states: Tensor, group: RowGroup) -> Tensor:
        """Return the states of a group's rows, from the group below that contains its tasks."""
        below, start = self._below(group)
        if below.count != group.count:
            return states[self._index(group)]
        return states if len(self.groups) == 1 else states.narrow(0, start, group.count)

    def indices(self, groups: Sequence[RowGroup]) -> Tensor | None:
        """Return the indices of these groups' rows in the states, or None if the states are already in this order."""
        if len(groups) == len(self.groups) and all(map(self._same, groups, self.groups)):
            return None
        return torch.cat([self._index(group) for group in groups])

    def entered(self, states: Tensor) -> Tensor:
        """Return the states that a layer was given, in the form in which layers compute."""
        return states

    def left(self, states: Tensor) -> Encoded:
        """Return the states after the last layer, of shape (rows, tokens, width)."""
        return Encoded(states, self.groups)

    def arguments(self, groups: Sequence[RowGroup], given: LayerArguments) -> LayerArguments:
        """Return a layer's arguments for the rows of some groups."""
        return given.map(lambda value: self._pick_all(groups, value))

    def _pick(self, group: RowGroup, value: Any) -> Any:  # noqa: ANN401
        """Return the part of a layer argument (mask, position bias) for a group's rows."""
        if group.rows is None:
            return value
        key = (id(value), id(group.rows))
        if key not in self._picked:
            # The tensors are kept too: an id can be reused once its object is gone.
            self._picked[key] = (value[group.rows], value, group.rows)
        return self._picked[key][0]

    def _pick_all(self, groups: Sequence[RowGroup], value: Any) -> Any:  # noqa: ANN401
        """Return these parts for several groups, concatenated."""
        if not self._by_row(value):
            return value
        parts = [self._pick(group, value) for group in groups]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _by_row(self, value: Any) -> bool:  # noqa: ANN401
        # rows x heads x tokens x tokens; relative positions and their embeddings have fewer dimensions.
        return isinstance(value, Tensor) and value.ndim == 4 and value.shape[0] == self.count

    def _same(self, group: RowGroup, other: RowGroup) -> bool:
        # Below the first layer are all rows, including those that no task reads.
        present = self._reads.keys()
        return group.count == other.count and group.tasks & present == other.tasks & present

    def _below(self, group: RowGroup) -> tuple[RowGroup, int]:
        """Return the group below that contains a group's tasks, and the index of its first row."""
        start = 0
        wanted = group.tasks & frozenset(self._reads)
        for below in self.groups:
            if wanted <= below.tasks:
                return below, start
            start += below.count
        raise AssertionError(f"no group below holds {sorted(wanted)}")

    def _index(self, group: RowGroup) -> Tensor:
        below, start = self._below(group)
        device = next(iter(self._reads.values())).device
        if below.count == group.count:
            return torch.arange(start, start + group.count, device=device)
        assert group.rows is not None
        return (group.rows if below.rows is None else torch.searchsorted(below.rows, group.rows)) + start


class ExportContext(ForwardContext):
    """A pass for torch.export: every task reads all rows, and their number is not known."""

    def __init__(self, count: int, tasks: Iterable[str], device: torch.device) -> None:
        everyone = torch.arange(count, device=device)
        super().__init__(count, dict.fromkeys(tasks, everyone))

    def group(self, tasks: frozenset[str]) -> RowGroup | None:
        """Return the group of all rows; `len` would make their number a constant of the graph."""
        return RowGroup(tasks, None, self.count)


@dataclass
class ContextHolder:
    """Gives the modules of one encoder access to the current pass."""

    context: ForwardContext | None = None

    @property
    def current(self) -> ForwardContext:
        """The current pass."""
        assert self.context is not None
        return self.context


@dataclass(frozen=True)
class Encoded:
    """The final states of a pass.

    Attributes:
        states: states of all groups, of shape (rows, tokens, width).
        groups: the groups of the states, in order.
    """

    states: Tensor
    groups: tuple[RowGroup, ...]

    def of(self, task: str) -> tuple[Tensor, RowGroup]:
        """Return the states of the group that a task reads, and the group."""
        start = 0
        for group in self.groups:
            if task in group.tasks:
                whole = len(self.groups) == 1
                return (self.states if whole else self.states.narrow(0, start, group.count)), group
            start += group.count
        raise AssertionError(f"no group holds {task!r}")


def first_of(output: Any) -> Tensor:  # noqa: ANN401
    """Return the states from a layer's output: a tensor, or a tuple whose first item they are."""
    return output[0] if isinstance(output, tuple) else output


def like(output: Any, states: Tensor) -> Any:  # noqa: ANN401
    """Return states in the form of a layer's output: a tensor or a tuple."""
    return (states, *output[1:]) if isinstance(output, tuple) else states


def joined(groups: Sequence[RowGroup], states: Iterable[Tensor]) -> Tensor:
    """Concatenate the states of groups, or return those of a single group.

    Groups without a gradient are detached here: otherwise gradients of zeros would pass through their weights, at full
    cost, and weight decay would apply to these weights.
    """
    parts = [part.detach() if group.no_grad else part for group, part in zip(groups, states, strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
