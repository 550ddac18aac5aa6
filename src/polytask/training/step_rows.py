"""The rows of an update: drawn alike on all processes, and cut into the pieces that each passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polytask.data.batch import Batch
from polytask.data.groups import groups_by_length
from polytask.data.stream import DrawnRow
from polytask.training.lockstep import in_lockstep
from polytask.training.parts import TrainerParts


class StepRows:
    """Draws the rows of updates, and makes batches of those that this process passes."""

    def __init__(self, parts: TrainerParts) -> None:
        self._parts = parts

    def draw(self) -> list[DrawnRow]:
        """Draw the rows of the next step, the shortest first, on all processes alike."""
        parts = self._parts
        drawn = parts.streams.draw(parts.schedule.next().portions)
        drawn.sort(key=lambda one: int(parts.sources[one.source].lengths[one.row]))
        return drawn

    def batches(self, drawn: Sequence[DrawnRow], label_weight: float = 1.0) -> list[Batch]:
        """Return the pieces of a step that this process passes.

        Args:
            label_weight: share of the labels beside what teachers answer, from 0 to 1.
        """
        return self._batches([[drawn[index] for index in self._mine(drawn)]], label_weight)

    def batches_by_task(self, drawn: Sequence[DrawnRow], label_weight: float = 1.0) -> list[Batch]:
        """Return them with each task's rows apart: a row that serves several tasks comes once for each."""
        mine = [drawn[index] for index in self._mine(drawn)]
        own = [[replace(row, tasks=(task,)) for row in mine if task in row.tasks] for task in self._parts.tasks]
        return self._batches(own, label_weight)

    def _batches(self, lists: Sequence[Sequence[DrawnRow]], label_weight: float) -> list[Batch]:
        """Return the pieces of lists of rows; where the model is sharded, those that keep the processes in step."""
        parts = self._parts
        made = [self._collate(rows, label_weight) for rows in lists]
        if parts.model.sharded:
            made = in_lockstep(made, parts.world, parts.device, type_ids=parts.model.uses_type_ids)
        return [batch for batches in made for batch in batches]

    def _mine(self, drawn: Sequence[DrawnRow]) -> list[int]:
        """Return which rows this process passes: dealt like cards, or task by task."""
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
        """Cut rows so that each part, padded, has no more tokens than the options allow; rows stay whole."""
        limit = self._parts.options.max_tokens_per_batch
        if limit is None:
            return [rows]
        sizes = [self._size(one) for one in rows]
        groups = groups_by_length([length for _, length in sizes], limit, [count for count, _ in sizes])
        return [[rows[index] for index in group] for group in groups]

    def _size(self, drawn: DrawnRow) -> tuple[int, int]:
        """Return as how many rows of a batch a drawn row passes, with the texts that belong to it, and the longest."""
        source = self._parts.sources[drawn.source]
        hidden = sum(
            self._parts.tasks[task].mask_rate is not None for task in drawn.tasks
        )  # each has a copy of its own
        others = [int(source.lengths[row]) for row, _ in source.companions(drawn.row, drawn.tasks)]
        return hidden + (hidden < len(drawn.tasks)) + len(others), max([int(source.lengths[drawn.row]), *others])
