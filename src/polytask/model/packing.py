"""Rows without their padding: all tokens of a pass form one sequence, and only attention knows where a row ends.

Everything else in a layer treats each token alone, so padding would be computed for nothing. Attention runs on a few
sections of rows of similar length, each padded to its longest row. Source: the unpadded BERT of Zeng et al. 2022,
"Boosting Distributed Training Performance of the Unpadded BERT Model".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polytask.data.groups import cut
from polytask.model.forward_context import Encoded, ForwardContext, LayerArguments, RowGroup

# Cost of one more section of an attention, in padded tokens.
SECTION = 512


@dataclass(frozen=True, eq=False)
class Padding:
    """Rows in a sequence of tokens, and in a table that is padded to the longest of them.

    Attributes:
        rows: number of rows.
        longest: number of tokens of a row of the table.
        tokens: number of tokens of all rows.
        places: the index of each token in the flattened table; None if no row needs padding.
    """

    rows: int
    longest: int
    tokens: int
    places: Tensor | None

    @classmethod
    def of(cls, lengths: NDArray[np.int64], longest: int, device: torch.device) -> Padding:
        """Describe rows of these lengths, of which none exceeds `longest`."""
        tokens = int(lengths.sum())
        if tokens == len(lengths) * longest:
            return cls(len(lengths), longest, tokens, None)
        places = _positions(lengths) + np.repeat(np.arange(len(lengths)) * longest, lengths)
        return cls(len(lengths), longest, tokens, torch.from_numpy(places).to(device, non_blocking=True))

    def add(self, states: Tensor) -> Tensor:
        """Return a table of shape (rows, longest, ...) from the states of the tokens; padding is 0."""
        table = states
        if self.places is not None:
            table = states.new_zeros(self.rows * self.longest, *states.shape[1:]).index_copy(0, self.places, states)
        return table.unflatten(0, (self.rows, self.longest))

    def remove(self, table: Tensor) -> Tensor:
        """Return the states of the tokens, of shape (tokens, ...), from a table."""
        states = table.flatten(0, 1)
        return states if self.places is None else states.index_select(0, self.places)


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Consecutive rows of a sequence of tokens, in sections of similar length."""

    sections: tuple[Padding, ...]

    def split(self, states: Tensor) -> list[Tensor]:
        """Return the padded states of each section, of shape (rows, heads, tokens, features).

        Args:
            states: shape (tokens, heads, 1, features).
        """
        states = states.squeeze(2)
        parts = states.split([section.tokens for section in self.sections]) if len(self.sections) > 1 else (states,)
        return [section.add(part).transpose(1, 2) for section, part in zip(self.sections, parts, strict=True)]

    def masks(self, mask: Tensor | None) -> list[Tensor | None]:
        """Return each section's part of an attention mask of shape (rows, 1, 1 or longest, longest)."""
        if mask is None:
            return [None] * len(self.sections)
        masks: list[Tensor | None] = []
        start = 0
        for section in self.sections:
            queries = section.longest if mask.shape[-2] > 1 else 1
            masks.append(mask[start : start + section.rows, :, :queries, : section.longest])
            start += section.rows
        return masks

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return states of shape (tokens, 1, heads, features) from those of the sections, padded."""
        states = [section.remove(part) for section, part in zip(self.sections, parts, strict=True)]
        return _joined(states).unsqueeze(1)


class PackedContext(ForwardContext):
    """A pass in which each token is a row of one token: groups, counts and indices are those of tokens.

    Args:
        lengths: number of tokens of each row; padding follows them.
        longest: number of tokens of a padded row.
        reads: for each task, the indices of the rows that it reads, ascending.
        no_grad_tasks, idle: as in `ForwardContext`.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        longest: int,
        reads: Mapping[str, Tensor],
        no_grad_tasks: frozenset[str] = frozenset(),
        idle: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(sum(lengths), reads, no_grad_tasks, idle)
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._rows = ForwardContext(len(lengths), reads, no_grad_tasks, idle)
        self._device = next(iter(reads.values())).device
        self._widths = _widths(self._lengths)
        self._whole = Padding.of(self._lengths, longest, self._device)
        self._packed: dict[tuple[frozenset[str], ...], PackedRows] = {}
        self._positions: dict[int, tuple[Tensor, Tensor]] = {}

    def entered(self, states: Tensor) -> Tensor:
        """Return states of shape (tokens, 1, width); below the first layer they are still padded."""
        return states if states.shape[1] == 1 else self._whole.remove(states).unsqueeze(1)

    def left(self, states: Tensor) -> Encoded:
        groups = tuple(map(self._row_group, self.groups))
        lengths = np.concatenate([self._lengths_of(group) for group in groups])
        return Encoded(Padding.of(lengths, self._whole.longest, self._device).add(states.squeeze(1)), groups)

    def group(self, tasks: frozenset[str]) -> RowGroup | None:
        """Return the group of the tokens that any of these tasks reads, or None if there are none."""
        group = self._groups.get(tasks)
        if group is None:
            rows = self._rows.group(tasks)
            if rows is None:
                return None
            tokens = None
            count = self.count
            if rows.rows is not None:
                starts = np.cumsum(self._lengths) - self._lengths
                read = rows.rows.cpu().numpy()
                own = _positions(self._lengths[read]) + np.repeat(starts[read], self._lengths[read])
                tokens, count = torch.from_numpy(own).to(self._device, non_blocking=True), len(own)
            self._groups[tasks] = group = RowGroup(tasks, tokens, count, rows.no_grad)
        return group

    def arguments(self, groups: Sequence[RowGroup], given: LayerArguments) -> LayerArguments:
        """Return a layer's arguments: masks of the padded rows, rotary positions of tokens, and where rows are."""
        rows = [self._row_group(group) for group in groups]
        own = self._rows.arguments(rows, given)
        options = {**own.options, "packed": self._rows_in(rows)}
        rotary = given.options.get("position_embeddings")
        if rotary is not None:
            options["position_embeddings"] = tuple(
                _joined([self._rotary(group, table) for group in groups]) for table in rotary
            )
        return LayerArguments(own.args, options)

    def _rotary(self, group: RowGroup, table: Tensor) -> Tensor:
        """Return rows of a table of shape (1 or rows, longest, features) by token, of shape (tokens, 1, features)."""
        key = id(table)
        if key not in self._positions:
            flat = self._whole.remove(table.expand(len(self._lengths), -1, -1)).unsqueeze(1)
            self._positions[key] = flat, table  # kept: an id can be reused once its object is gone
        flat = self._positions[key][0]
        return flat if group.rows is None else flat[group.rows]

    def _row_group(self, group: RowGroup) -> RowGroup:
        """Return the group of rows of a group of tokens."""
        rows = self._rows.group(group.tasks)
        assert rows is not None
        return rows

    def _lengths_of(self, rows: RowGroup) -> NDArray[np.int64]:
        return self._of(rows, self._lengths)

    @staticmethod
    def _of(rows: RowGroup, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the values of a group's rows."""
        return values if rows.rows is None else values[rows.rows.cpu().numpy()]

    def _rows_in(self, groups: Sequence[RowGroup]) -> PackedRows:
        """Return where the rows of some groups are, one group after another."""
        key = tuple(rows.tasks for rows in groups)
        if key not in self._packed:
            self._packed[key] = PackedRows(tuple(section for rows in groups for section in self._sections(rows)))
        return self._packed[key]

    def _sections(self, group: RowGroup) -> list[Padding]:
        """Return the sections of a group's rows: a row is padded to the same length in every group."""
        lengths, widths = self._lengths_of(group), self._of(group, self._widths)
        edges = np.flatnonzero(np.diff(widths)) + 1
        parts = zip(np.split(lengths, edges), np.split(widths, edges), strict=True)
        return [Padding.of(part, int(width[0]), self._device) for part, width in parts]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _widths(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the length to which attention pads each row; rows that are not in ascending order are all padded alike."""
    if (lengths[1:] < lengths[:-1]).any():
        return np.full(len(lengths), lengths.max())
    ends = np.asarray(cut(lengths.tolist(), SECTION))
    return np.repeat(lengths[ends - 1], np.diff(ends, prepend=0))


def _positions(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each token's position in its row."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
