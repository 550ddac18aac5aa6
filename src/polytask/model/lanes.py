"""Lanes: which rows of a pass run through which weights, on their way up the layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = "Tensor | None"  # ascending indices of a pass's rows; None for all of them


@dataclass(frozen=True, eq=False)
class Lane:
    """Rows that run through the same weights.

    Attributes:
        tasks: the tasks that read these rows.
        rows: the pass's rows.
        count: their number.
        silent: whether they are read without a gradient.
    """

    tasks: frozenset[str]
    rows: Rows
    count: int
    silent: bool = False


class Pass:
    """One pass of rows through the encoder. The states of its lanes lie one after another in one tensor.

    Attributes:
        count: rows of the pass.
        lanes: those in which the states lie now.
        kept: what a mixing method keeps from one layer for a higher one, by its own key.
    """

    def __init__(self, count: int, reads: Mapping[str, Tensor], silent: frozenset[str] = frozenset()) -> None:
        self.count = count
        self._reads = reads
        self._silent = silent
        self._lanes: dict[frozenset[str], Lane] = {}
        self._picked: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        self.lanes: tuple[Lane, ...] = (Lane(frozenset(reads), None, count),)
        self.kept: dict[Any, Any] = {}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that read rows of this pass."""
        return tuple(self._reads)

    def lane(self, tasks: frozenset[str]) -> Lane | None:
        """Return the lane of the rows that any of these tasks reads, or None where there are none."""
        found = self._lanes.get(tasks)
        if found is None:
            reading = [rows for task, rows in self._reads.items() if task in tasks]
            if not reading:
                return None
            silent = (tasks & self._reads.keys()) <= self._silent
            if any(len(rows) == self.count for rows in reading):
                found = Lane(tasks, None, self.count, silent)
            else:
                rows = reading[0] if len(reading) == 1 else torch.unique(torch.cat(reading))
                found = Lane(tasks, None if len(rows) == self.count else rows, len(rows), silent)
            self._lanes[tasks] = found
        return found

    def present(self, parts: Iterable[frozenset[str]]) -> list[tuple[frozenset[str], Lane]]:
        """Return the parts that have rows, with their lanes."""
        found: list[tuple[frozenset[str], Lane]] = []
        for part in parts:  # a `:=` in a comprehension would cut the graph of torch.compile in every layer
            lane = self.lane(part)
            if lane is not None:
                found.append((part, lane))
        return found

    def take(self, states: Tensor, lane: Lane) -> Tensor:
        """Return the states of a lane's rows, from the lane below that holds its tasks."""
        below, start = self._below(lane)
        if below.count != lane.count:
            return states[self._index(lane)]
        return states if len(self.lanes) == 1 else states.narrow(0, start, lane.count)

    def indices(self, lanes: Sequence[Lane]) -> Tensor | None:
        """Return where in the states the rows of these lanes lie, or None when they lie there already, in order."""
        if len(lanes) == len(self.lanes) and all(map(self._same, lanes, self.lanes)):
            return None
        return torch.cat([self._index(lane) for lane in lanes])

    def pick(self, lane: Lane, value: Any) -> Any:  # noqa: ANN401
        """Return what a layer is given besides the states (masks, position biases) for a lane's rows."""
        if lane.rows is None or not self._by_row(value):
            return value
        key = (id(value), id(lane.rows))
        if key not in self._picked:
            # The tensors are kept as well: an id is free again once its object is gone.
            self._picked[key] = (value[lane.rows], value, lane.rows)
        return self._picked[key][0]

    def pick_all(self, lanes: Sequence[Lane], value: Any) -> Any:  # noqa: ANN401
        """Return what `pick` returns for lanes one after another."""
        if not self._by_row(value) or (len(lanes) == 1 and lanes[0].rows is None):
            return value
        return torch.cat([self.pick(lane, value) for lane in lanes])

    def _by_row(self, value: Any) -> bool:  # noqa: ANN401
        # rows x heads x tokens x tokens; relative positions and their embeddings have fewer dimensions.
        return isinstance(value, Tensor) and value.ndim == 4 and value.shape[0] == self.count

    def _same(self, one: Lane, other: Lane) -> bool:
        # Below the first layer lie all rows, also those that nobody reads.
        present = self._reads.keys()
        return one.count == other.count and one.tasks & present == other.tasks & present

    def _below(self, lane: Lane) -> tuple[Lane, int]:
        """Return the lane below that holds a lane's tasks, and where it begins."""
        start = 0
        wanted = lane.tasks & frozenset(self._reads)
        for below in self.lanes:
            if wanted <= below.tasks:
                return below, start
            start += below.count
        raise AssertionError(f"no lane below holds {sorted(wanted)}")

    def _index(self, lane: Lane) -> Tensor:
        below, start = self._below(lane)
        device = next(iter(self._reads.values())).device
        if below.count == lane.count:
            return torch.arange(start, start + lane.count, device=device)
        assert lane.rows is not None
        return (lane.rows if below.rows is None else torch.searchsorted(below.rows, lane.rows)) + start


class WholePass(Pass):
    """A pass in which every task reads all rows, and their number is not known yet: a graph is drawn (torch.export)."""

    def __init__(self, count: int, tasks: Iterable[str], device: torch.device) -> None:
        everyone = torch.arange(count, device=device)
        super().__init__(count, dict.fromkeys(tasks, everyone))

    def lane(self, tasks: frozenset[str]) -> Lane | None:
        """Return the lane of all rows; `len` would turn their number into a constant of the graph."""
        return Lane(tasks, None, self.count)


@dataclass
class Route:
    """Where the modules of one encoder find the pass that is under way."""

    now: Pass | None = None

    @property
    def current(self) -> Pass:
        """The pass that is under way."""
        assert self.now is not None
        return self.now


@dataclass(frozen=True)
class Encoded:
    """The top of a pass.

    Attributes:
        states: rows of all lanes x tokens x width.
        lanes: the lanes that the states lie in.
    """

    states: Tensor
    lanes: tuple[Lane, ...]

    def of(self, task: str) -> tuple[Tensor, Lane]:
        """Return the states of the lane that a task reads, and the lane."""
        start = 0
        for lane in self.lanes:
            if task in lane.tasks:
                whole = len(self.lanes) == 1
                return (self.states if whole else self.states.narrow(0, start, lane.count)), lane
            start += lane.count
        raise AssertionError(f"no lane holds {task!r}")


def first_of(output: Any) -> Tensor:  # noqa: ANN401
    """Return the states from what a layer returned: they alone, or first of several."""
    return output[0] if isinstance(output, tuple) else output


def like(output: Any, states: Tensor) -> Any:  # noqa: ANN401
    """Return states in the form in which a layer returned its own."""
    return (states, *output[1:]) if isinstance(output, tuple) else states


def joined(lanes: Sequence[Lane], states: Iterable[Tensor]) -> Tensor:
    """Concatenate the states of lanes, or return those of a single one.

    The graph of silent lanes ends here: the others' gradient would pass through their weights as zeros, which costs as
    much as any, and which an optimizer takes for a reason to decay them.
    """
    found = [one.detach() if lane.silent else one for lane, one in zip(lanes, states, strict=True)]
    return found[0] if len(found) == 1 else torch.cat(found)
