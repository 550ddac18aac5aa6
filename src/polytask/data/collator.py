"""Builds batches: rows of several tasks as tensors, padded in chunks of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polytask.data.batch import Batch, BatchRow, Chunk, TaskRows
from polytask.data.groups import cut
from polytask.data.masking import Masker
from polytask.data.tokens import SHARED
from polytask.tasks import Task
from polytask.terms import NO_TOKEN, OWN_TOKEN, SHARED_TOKEN

if TYPE_CHECKING:
    from polytask.data.encode import Source
    from polytask.data.stream import DrawnRow


@dataclass(frozen=True)
class Collator:
    """Builds batches.

    Attributes:
        tasks: all tasks of the run, by name.
        pad_id: the tokenizer's padding id.
        uses_type_ids: whether the encoder takes type ids.
        overhead: cost of one more pass through the encoder, in tokens (see `cut`).
        masker: masks words for masked language modelling; None if no task needs it.
    """

    tasks: Mapping[str, Task]
    pad_id: int
    uses_type_ids: bool
    overhead: int
    masker: Masker | None = None

    def masked_copies(self, item: BatchRow, copies: Mapping[str, tuple[int, ...]]) -> list[BatchRow]:
        """Return a row for its ordinary tasks, and a masked copy for each task that predicts masked words.

        Args:
            copies: for each of these tasks, which copy it is (see `Masker.hide`); by default the one for evaluation.
        """
        rates = {name: rate for name in item.tasks if (rate := self.tasks[name].mask_rate) is not None}
        if not rates:
            return [item]
        assert self.masker is not None
        plain = tuple(name for name in item.tasks if name not in rates)
        rows = [item.serving(plain)] if plain else []
        for name, rate in rates.items():
            hidden = self.masker.hide(item.ids, rate, copies.get(name, ()))
            rows.append(replace(item.serving((name,)), ids=hidden.ids, hidden=hidden))
        return rows

    def batch(self, items: Sequence[BatchRow], most: int | None = None) -> Batch:
        """Build a batch from rows, the shortest first; a chunk has at most `most` rows."""
        order = sorted(range(len(items)), key=lambda index: len(items[index].ids))
        ends = cut([len(items[index].ids) for index in order], self.overhead, most)
        chunks: list[Chunk] = []
        targets: dict[str, list[Any]] = {}
        teacher_logits: dict[str, list[Any]] = {}
        row_weights: dict[str, list[Any]] = {}
        start = 0
        for end in ends:
            chosen = [items[index] for index in order[start:end]]
            chunks.append(self._chunk(chosen, targets))
            for item in chosen:
                self._read_teacher_logits(item, teacher_logits)
                self._read_row_weights(item, row_weights)
            start = end
        tokens = sum(len(item.ids) for item in items)
        padded = sum(chunk.ids.numel() for chunk in chunks)
        joined = {name: _tensor(values) for name, values in targets.items()}
        logits = {name: _tensor(values) for name, values in teacher_logits.items()}
        weights = {name: _tensor(values) for name, values in row_weights.items()}
        return Batch(tuple(chunks), tuple(order), joined, len(items), tokens, padded, logits, row_weights=weights)

    def _chunk(self, items: Sequence[BatchRow], targets: dict[str, list[Any]]) -> Chunk:
        width = max(len(item.ids) for item in items)
        ids = np.full((len(items), width), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(items), width), dtype=np.int64)
        type_ids = np.zeros((len(items), width), dtype=np.int64) if self.uses_type_ids else None
        rows: dict[str, list[int]] = {}
        words: dict[str, list[Any]] = {}
        hidden: dict[str, list[Any]] = {}
        for index, item in enumerate(items):
            if item.hidden is not None:
                places = item.hidden.places
                masked = np.stack([np.full(len(places), index), places, item.hidden.truth])
                hidden.setdefault(item.tasks[0], []).append(masked)
            ids[index, : len(item.ids)] = item.ids
            mask[index, : len(item.ids)] = 1
            if type_ids is not None and item.type_ids is not None:
                type_ids[index, : len(item.ids)] = item.type_ids
            for name in item.tasks:
                rows.setdefault(name, []).append(index)
                self._read(name, index, item, words, targets)
        tasks = {
            name: TaskRows(torch.tensor(indices), _pairs(words.get(name)), _pairs(hidden.get(name)))
            for name, indices in rows.items()
        }
        types = None if type_ids is None else torch.from_numpy(type_ids)
        lengths = tuple(len(item.ids) for item in items)
        return Chunk(torch.from_numpy(ids), torch.from_numpy(mask), types, lengths, tasks)

    def _read(
        self, name: str, index: int, item: BatchRow, words: dict[str, list[Any]], targets: dict[str, list[Any]]
    ) -> None:
        """Add a row's word positions and targets of one task."""
        target = item.targets.get(name)
        if self.tasks[name].level == "word":
            tokens = np.asarray(item.word_tokens, dtype=np.int64)
            has_token = tokens >= 0
            words.setdefault(name, []).append(np.stack([np.full(int(has_token.sum()), index), tokens[has_token]]))
            if target is not None:
                is_integer = self.tasks[name].target_type == "list<int>"
                values = np.asarray(target, np.int64 if is_integer else np.float32)
                kinds = np.where(has_token, OWN_TOKEN, np.where(tokens == SHARED, SHARED_TOKEN, NO_TOKEN))
                targets.setdefault(name, []).append(self.tasks[name].word_targets(values, kinds))
        elif target is not None:
            values = np.asarray([target])
            missing = self.tasks[name].target_width - values.shape[-1]
            targets.setdefault(name, []).append(np.pad(values, [(0, 0), (0, missing)]) if missing > 0 else values)

    def _read_teacher_logits(self, item: BatchRow, teacher_logits: dict[str, list[Any]]) -> None:
        """Add the teachers' outputs for a row; at word level, like the targets, only for words that have a token."""
        for name, logits in item.teacher_logits.items():
            by_word = self.tasks[name].level == "word"
            teacher_logits.setdefault(name, []).append(logits[np.asarray(item.word_tokens) >= 0] if by_word else logits)

    def _read_row_weights(self, item: BatchRow, row_weights: dict[str, list[Any]]) -> None:
        """Add the weight of a row: once or, like the targets, for each word that has a token."""
        for name, weight in item.row_weights.items():
            by_word = self.tasks[name].level == "word"
            count = int((np.asarray(item.word_tokens) >= 0).sum()) if by_word else 1
            row_weights.setdefault(name, []).append(np.full(count, weight, np.float32))

    def from_sources(self, sources: Sequence[Source], drawn: Sequence[DrawnRow], most: int | None = None) -> Batch:
        """Build a batch from drawn rows and their companions; equal companions of several rows are added once."""
        added = set[tuple[Any, ...]]()
        items = [
            part
            for drawn_row in drawn
            for item in _items(sources[drawn_row.source], drawn_row, added)
            for part in self.masked_copies(item, _copies(drawn_row))
        ]
        names = {task for drawn_row in drawn for task in drawn_row.tasks}
        for source in (source for source in sources if not names.isdisjoint(source.label_rows)):
            for name in (name for name in source.label_rows if name in names):
                items += self._label_items(name, source)
        return self.batch(items, most)

    def _label_items(self, task: str, source: Source) -> list[BatchRow]:
        """Return the texts of a task's labels as rows, without teacher logits (nan)."""
        pairs = zip(self.tasks[task].label_targets, source.label_rows[task], strict=False)
        unknown = np.full((1, self.tasks[task].head.size), np.nan, dtype=np.float32)
        teacher_logits = {task: unknown} if task in source.teacher_logits else {}
        return [
            BatchRow(row.ids, row.type_ids, row.word_tokens, (task,), {task: target}, teacher_logits)
            for target, row in pairs
        ]


def _copies(drawn: DrawnRow) -> dict[str, tuple[int, ...]]:
    return {task: (drawn.source, drawn.row, epoch) for task, epoch in drawn.epochs.items()}


def _items(source: Source, drawn: DrawnRow, added: set[tuple[Any, ...]]) -> Iterator[BatchRow]:
    yield _item(source, drawn.row, drawn.tasks)
    for row, task in source.companions(drawn.row, drawn.tasks):
        item = _item(source, row, (task,))
        same = (task, *np.asarray(item.targets[task]).tolist())
        if same not in added:
            added.add(same)
            yield item


def _item(source: Source, row: int, tasks: tuple[str, ...]) -> BatchRow:
    return BatchRow(
        ids=source.ids[row],
        type_ids=None if source.type_ids is None else source.type_ids[row],
        word_tokens=source.word_tokens[row],
        tasks=tasks,
        targets={name: source.targets[name][row] for name in tasks},
        teacher_logits={name: source.teacher_logits[name][row] for name in tasks if name in source.teacher_logits},
        row_weights={name: float(source.row_weights[name][row]) for name in tasks if name in source.row_weights},
    )


def _pairs(pairs: list[Any] | None) -> Tensor | None:
    return None if pairs is None else torch.from_numpy(np.concatenate(pairs, axis=1))


def _tensor(values: list[Any]) -> Tensor:
    array = np.concatenate(values)
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))
