"""The rows of an update: the same on all processes, and split into the pieces that each one runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polytask.data.batch import Batch
from polytask.data.groups import groups_by_length
from polytask.data.stream import DrawnRow
from polytask.training.lockstep import in_lockstep
from polytask.training.parts import TrainerParts


class StepRows:
    """Draws the rows of updates, and collates those of this process into batches."""

    def __init__(self, parts: TrainerParts) -> None:
        self._parts = parts

    def draw(self) -> list[DrawnRow]:
        """Draw the rows of the next step, shortest first; the result is the same on all processes."""
        parts = self._parts
        drawn = parts.streams.draw(parts.schedule.next().portions)
        drawn.sort(key=lambda drawn_row: int(parts.sources[drawn_row.source].lengths[drawn_row.row]))
        return drawn

    def batches(self, drawn: Sequence[DrawnRow], label_weight: float = 1.0) -> list[Batch]:
        """Return the pieces of a step that this process runs.

        Args:
            label_weight: weight of the labels relative to the teachers, from 0 to 1.
        """
        return self._batches([[drawn[index] for index in self._mine(drawn)]], label_weight)

    def batches_by_task(self, drawn: Sequence[DrawnRow], label_weight: float = 1.0) -> list[Batch]:
        """Return the pieces separately for each task: a row with several tasks is repeated for each of them."""
        mine = [drawn[index] for index in self._mine(drawn)]
        own = [[replace(row, tasks=(task,)) for row in mine if task in row.tasks] for task in self._parts.tasks]
        return self._batches(own, label_weight)

    def _batches(self, lists: Sequence[Sequence[DrawnRow]], label_weight: float) -> list[Batch]:
        """Return the pieces of lists of rows; if the model is sharded, filled up so that processes stay in step."""
        parts = self._parts
        pieces = [self._collate(rows, label_weight) for rows in lists]
        if parts.model.sharded:
            pieces = in_lockstep(pieces, parts.world, parts.device, type_ids=parts.model.uses_type_ids)
        return [batch for batches in pieces for batch in batches]

    def _mine(self, drawn: Sequence[DrawnRow]) -> list[int]:
        """Return the indices of this process's rows: every n-th row, or contiguous rows sorted by task."""
        world = self._parts.world
        if self._parts.schedule.placement == "mixed":
            return world.share(range(len(drawn)))
        first = {task: number for number, task in enumerate(self._parts.tasks)}
        order = sorted(range(len(drawn)), key=lambda index: first[drawn[index].tasks[0]])
        lengths = [int(self._parts.sources[drawn[index].source].lengths[drawn[index].row]) for index in order]
        return world.stretch(order, lengths)

    def _collate(self, rows: Sequence[DrawnRow], label_weight: float) -> list[Batch]:
        parts, pieces = self._parts, self._parts.options.gradient_accumulation_steps
        cut = [piece for start in range(pieces) for piece in self._within_limit(rows[start::pieces])]
        batches = [parts.collator.from_sources(parts.sources, piece) for piece in cut]
        return [batch.to(parts.device).with_label_weight(label_weight) for batch in batches if batch.rows]

    def _within_limit(self, rows: Sequence[DrawnRow]) -> list[Sequence[DrawnRow]]:
        """Split rows so that each part, padded, has at most as many tokens as the options allow; rows stay whole."""
        limit = self._parts.options.max_tokens_per_batch
        if limit is None:
            return [rows]
        sizes = [self._size(row) for row in rows]
        groups = groups_by_length([length for _, length in sizes], limit, [count for count, _ in sizes])
        return [[rows[index] for index in group] for group in groups]

    def _size(self, drawn: DrawnRow) -> tuple[int, int]:
        """Return the number of batch rows that a drawn row and its companions need, and the longest length."""
        source = self._parts.sources[drawn.source]
        hidden = sum(
            self._parts.tasks[task].mask_rate is not None for task in drawn.tasks
        )  # each has a copy of its own
        others = [int(source.lengths[row]) for row, _ in source.companions(drawn.row, drawn.tasks)]
        return hidden + (hidden < len(drawn.tasks)) + len(others), max([int(source.lengths[drawn.row]), *others])
