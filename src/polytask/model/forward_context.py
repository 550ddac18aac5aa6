"""The context of a forward pass: which groups of rows run through which weights, on their way up the layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = "Tensor | None"  # ascending indices of a pass's rows; None for all of them


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Rows that run through the same weights.

    Attributes:
        tasks: the tasks that read these rows.
        rows: the pass's rows.
        count: their number.
        no_grad: whether they are read without a gradient.
    """

    tasks: frozenset[str]
    rows: Rows
    count: int
    no_grad: bool = False


class ForwardContext:
    """One pass of rows through the encoder. The states of its groups lie one after another in one tensor.

    Attributes:
        count: rows of the pass.
        groups: those in which the states lie now.
        kept: what a mixing method keeps from one layer for a higher one, by its own key.

    Args:
        idle: tasks that read the first row only so that their layers run; a part that others use does without it.
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
        """Return the group of the rows that any of these tasks reads, or None where there are none."""
        found = self._groups.get(tasks)
        if found is None:
            present = tasks & self._reads.keys()
            if not present:
                return None
            reading = [self._reads[task] for task in self._reads if task in (present - self._idle or present)]
            no_grad = present <= self._no_grad_tasks
            if any(len(rows) == self.count for rows in reading):
                found = RowGroup(tasks, None, self.count, no_grad)
            else:
                rows = reading[0] if len(reading) == 1 else torch.unique(torch.cat(reading))
                found = RowGroup(tasks, None if len(rows) == self.count else rows, len(rows), no_grad)
            self._groups[tasks] = found
        return found

    def groups_of(self, parts: Iterable[frozenset[str]]) -> list[tuple[frozenset[str], RowGroup]]:
        """Return the parts that have rows, with their groups."""
        found: list[tuple[frozenset[str], RowGroup]] = []
        for part in parts:  # a `:=` in a comprehension would cut the graph of torch.compile in every layer
            group = self.group(part)
            if group is not None:
                found.append((part, group))
        return found

    def take(self, states: Tensor, group: RowGroup) -> Tensor:
        """Return the states of a group's rows, from the group below that holds its tasks."""
        below, start = self._below(group)
        if below.count != group.count:
            return states[self._index(group)]
        return states if len(self.groups) == 1 else states.narrow(0, start, group.count)

    def indices(self, groups: Sequence[RowGroup]) -> Tensor | None:
        """Return where in the states the rows of these groups lie, or None when they lie there already, in order."""
        if len(groups) == len(self.groups) and all(map(self._same, groups, self.groups)):
            return None
        return torch.cat([self._index(group) for group in groups])

    def pick(self, group: RowGroup, value: Any) -> Any:  # noqa: ANN401
        """Return what a layer is given besides the states (masks, position biases) for a group's rows."""
        if group.rows is None or not self._by_row(value):
            return value
        key = (id(value), id(group.rows))
        if key not in self._picked:
            # The tensors are kept as well: an id is free again once its object is gone.
            self._picked[key] = (value[group.rows], value, group.rows)
        return self._picked[key][0]

    def pick_all(self, groups: Sequence[RowGroup], value: Any) -> Any:  # noqa: ANN401
        """Return what `pick` returns for groups one after another."""
        if not self._by_row(value) or (len(groups) == 1 and groups[0].rows is None):
            return value
        return torch.cat([self.pick(group, value) for group in groups])

    def _by_row(self, value: Any) -> bool:  # noqa: ANN401
        # rows x heads x tokens x tokens; relative positions and their embeddings have fewer dimensions.
        return isinstance(value, Tensor) and value.ndim == 4 and value.shape[0] == self.count

    def _same(self, group: RowGroup, other: RowGroup) -> bool:
        # Below the first layer lie all rows, also those that nobody reads.
        present = self._reads.keys()
        return group.count == other.count and group.tasks & present == other.tasks & present

    def _below(self, group: RowGroup) -> tuple[RowGroup, int]:
        """Return the group below that holds a group's tasks, and where it begins."""
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
    """A pass in which every task reads all rows, and their number is not known yet: a graph is drawn (torch.export)."""

    def __init__(self, count: int, tasks: Iterable[str], device: torch.device) -> None:
        everyone = torch.arange(count, device=device)
        super().__init__(count, dict.fromkeys(tasks, everyone))

    def group(self, tasks: frozenset[str]) -> RowGroup | None:
        """Return the group of all rows; `len` would turn their number into a constant of the graph."""
        return RowGroup(tasks, None, self.count)


@dataclass
class ContextHolder:
    """Where the modules of one encoder find the pass that is under way."""

    context: ForwardContext | None = None

    @property
    def current(self) -> ForwardContext:
        """The pass that is under way."""
        assert self.context is not None
        return self.context


@dataclass(frozen=True)
class Encoded:
    """The top of a pass.

    Attributes:
        states: rows of all groups x tokens x width.
        groups: the groups that the states lie in.
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
    """Return the states from what a layer returned: they alone, or first of several."""
    return output[0] if isinstance(output, tuple) else output


def like(output: Any, states: Tensor) -> Any:  # noqa: ANN401
    """Return states in the form in which a layer returned its own."""
    return (states, *output[1:]) if isinstance(output, tuple) else states


def joined(groups: Sequence[RowGroup], states: Iterable[Tensor]) -> Tensor:
    """Concatenate the states of groups, or return those of a single one.

    The graph of groups read without a gradient ends here: the others' gradient would pass through their weights as
    zeros, which costs as much as any, and which an optimizer takes for a reason to decay them.
    """
    found = [part.detach() if group.no_grad else part for group, part in zip(groups, states, strict=True)]
    return found[0] if len(found) == 1 else torch.cat(found)
