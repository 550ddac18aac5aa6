"""Builds batches: rows of several tasks become tensors, padded in chunks of similar length."""

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
        tasks: all tasks of the run.
        pad_id: the tokenizer's padding id.
        uses_type_ids: whether the encoder takes type ids.
        overhead: what one more pass through the encoder costs, in tokens (see `cut`).
        masker: hides words for tasks that guess them; None where there is no such task.
    """

    tasks: Mapping[str, Task]
    pad_id: int
    uses_type_ids: bool
    overhead: int
    masker: Masker | None = None

    def apart(self, item: BatchRow, seen: Mapping[str, tuple[int, ...]]) -> list[BatchRow]:
        """Return a row, and for each task that guesses hidden words a copy of its own.

        Args:
            seen: for each of these tasks which copy it is (see `Masker.hide`); by default the one for scores.
        """
        rates = {name: rate for name in item.tasks if (rate := self.tasks[name].mask_rate) is not None}
        if not rates:
            return [item]
        assert self.masker is not None
        plain = tuple(name for name in item.tasks if name not in rates)
        found = [item.serving(plain)] if plain else []
        for name, rate in rates.items():
            hidden = self.masker.hide(item.ids, rate, seen.get(name, ()))
            found.append(replace(item.serving((name,)), ids=hidden.ids, hidden=hidden))
        return found

    def batch(self, items: Sequence[BatchRow], most: int | None = None) -> Batch:
        """Build a batch from rows, the shortest first."""
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
        taught_tensors = {name: _tensor(values) for name, values in teacher_logits.items()}
        weighed = {name: _tensor(values) for name, values in row_weights.items()}
        return Batch(
            tuple(chunks), tuple(order), joined, len(items), tokens, padded, taught_tensors, row_weights=weighed
        )

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
                found = np.stack([np.full(len(places), index), places, item.hidden.truth])
                hidden.setdefault(item.tasks[0], []).append(found)
            ids[index, : len(item.ids)] = item.ids
            mask[index, : len(item.ids)] = 1
            if type_ids is not None and item.type_ids is not None:
                type_ids[index, : len(item.ids)] = item.type_ids
            for name in item.tasks:
                rows.setdefault(name, []).append(index)
                self._read(name, index, item, words, targets)
        tasks = {
            name: TaskRows(torch.tensor(found), _pairs(words.get(name)), _pairs(hidden.get(name)))
            for name, found in rows.items()
        }
        types = None if type_ids is None else torch.from_numpy(type_ids)
        return Chunk(torch.from_numpy(ids), torch.from_numpy(mask), types, tasks)

    def _read(
        self, name: str, index: int, item: BatchRow, words: dict[str, list[Any]], targets: dict[str, list[Any]]
    ) -> None:
        """Add a row's word positions and targets of one task."""
        target = item.targets.get(name)
        if self.tasks[name].level == "word":
            tokens = np.asarray(item.word_tokens, dtype=np.int64)
            kept = tokens >= 0
            words.setdefault(name, []).append(np.stack([np.full(int(kept.sum()), index), tokens[kept]]))
            if target is not None:
                whole = self.tasks[name].target_type == "list<int>"
                given = np.asarray(target, np.int64 if whole else np.float32)
                kinds = np.where(kept, OWN_TOKEN, np.where(tokens == SHARED, SHARED_TOKEN, NO_TOKEN))
                targets.setdefault(name, []).append(self.tasks[name].word_targets(given, kinds))
        elif target is not None:
            given = np.asarray([target])
            missing = self.tasks[name].target_width - given.shape[-1]
            targets.setdefault(name, []).append(np.pad(given, [(0, 0), (0, missing)]) if missing > 0 else given)

    def _read_teacher_logits(self, item: BatchRow, teacher_logits: dict[str, list[Any]]) -> None:
        """Add what teachers answer for a row: for its words only where they have a token, as the targets."""
        for name, found in item.teacher_logits.items():
            by_word = self.tasks[name].level == "word"
            teacher_logits.setdefault(name, []).append(found[np.asarray(item.word_tokens) >= 0] if by_word else found)

    def _read_row_weights(self, item: BatchRow, row_weights: dict[str, list[Any]]) -> None:
        """Add what a row weighs: once, or for each word that has a token, as the targets."""
        for name, weight in item.row_weights.items():
            by_word = self.tasks[name].level == "word"
            count = int((np.asarray(item.word_tokens) >= 0).sum()) if by_word else 1
            row_weights.setdefault(name, []).append(np.full(count, weight, np.float32))

    def from_sources(self, sources: Sequence[Source], drawn: Sequence[DrawnRow], most: int | None = None) -> Batch:
        """Build a batch from drawn rows, with the texts that belong to them; equal ones that belong to several once."""
        known = set[tuple[Any, ...]]()
        items = [
            part
            for one in drawn
            for item in _items(sources[one.source], one, known)
            for part in self.apart(item, _copies(one))
        ]
        asked = {task for one in drawn for task in one.tasks}
        for source in (source for source in sources if not asked.isdisjoint(source.label_rows)):
            for name in (name for name in source.label_rows if name in asked):
                items += self._label_items(name, source)
        return self.batch(items, most)

    def _label_items(self, task: str, source: Source) -> list[BatchRow]:
        """Return the texts of a task's labels, of which a teacher says nothing."""
        pairs = zip(self.tasks[task].label_targets, source.label_rows[task], strict=False)
        unknown = np.full((1, self.tasks[task].head.size), np.nan, dtype=np.float32)
        taught = {task: unknown} if task in source.teacher_logits else {}
        return [
            BatchRow(row.ids, row.type_ids, row.word_tokens, (task,), {task: target}, taught) for target, row in pairs
        ]


def _copies(drawn: DrawnRow) -> dict[str, tuple[int, ...]]:
    return {task: (drawn.source, drawn.row, epoch) for task, epoch in drawn.epochs.items()}


def _items(source: Source, drawn: DrawnRow, known: set[tuple[Any, ...]]) -> Iterator[BatchRow]:
    yield _item(source, drawn.row, drawn.tasks)
    for row, task in source.companions(drawn.row, drawn.tasks):
        item = _item(source, row, (task,))
        same = (task, *np.asarray(item.targets[task]).tolist())
        if same not in known:
            known.add(same)
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
