"""The cascade: heads that read the outputs of other heads, in topological order.

Source: Hashimoto et al. 2017, "A Joint Many-Task Model", section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from graphlib import TopologicalSorter
from itertools import accumulate

import torch
from torch import Tensor

from polytask.data.batch import Batch, Chunk, TaskRows
from polytask.terms import Activation, HeadSpec

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "softmax": partial(torch.softmax, dim=-1),
    "sigmoid": torch.sigmoid,
    # In log space: ONNX has a cumulative sum, but a cumulative product only in its newest versions.
    "cumulative": lambda outputs: torch.nn.functional.logsigmoid(outputs).cumsum(-1).exp(),
    "identity": lambda outputs: outputs,
}


class Cascade:
    """The graph of heads that read other heads. A head also runs on the rows of its direct and indirect readers.

    Attributes:
        order: all tasks, each after those that it reads.
        readers: the tasks that read others, each after those that it reads.
    """

    def __init__(self, heads: Mapping[str, HeadSpec]) -> None:
        self._heads = heads
        graph = TopologicalSorter({task: [reading.task for reading in spec.reads] for task, spec in heads.items()})
        self.order = tuple(graph.static_order())
        self.readers = tuple(task for task in self.order if heads[task].reads)
        self._readers_of: dict[str, list[str]] = {task: [] for task in heads}
        for task in self.readers:
            for reading in heads[task].reads:
                self._readers_of[reading.task].append(task)

    def widen(self, batch: Batch) -> Batch:
        """Add the rows, or words, of its readers to every task that is read."""
        if not self.readers:
            return batch
        return replace(batch, chunks=tuple(map(self._widen, batch.chunks)))

    def _widen(self, chunk: Chunk) -> Chunk:
        tasks = dict(chunk.tasks)
        for task in reversed(self.order):  # readers first: they may be read themselves
            rows = [tasks[name] for name in (task, *self._readers_of[task]) if name in tasks]
            if rows and self._readers_of[task]:
                tokens = chunk.ids.shape[1] if self._heads[task].level == "word" else None
                tasks[task] = TaskRows.union(rows, tokens)
        passing = set(chunk.passing)
        for task in reversed(self.order):
            if not passing.isdisjoint(self._readers_of[task]):
                passing.add(task)
        requested = chunk.passing.union(chunk.tasks)
        no_grad_tasks = (task for task in passing.union(tasks) if not self.trained_by(frozenset([task])) & requested)
        return replace(chunk, tasks=tasks, no_grad_tasks=frozenset(no_grad_tasks), passing=frozenset(passing))

    def read(self, reader: str, wide: Batch, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return the other tasks' outputs that a head reads, of shape (rows or words, total size of what it reads).

        Args:
            wide: the batch that `widen` returned.
            outputs: outputs of the tasks that are read, for the wide batch.
        """
        activated: list[Tensor] = []
        for reading in self._heads[reader].reads:
            # Every word gets the distribution of its row.
            by_word = self._heads[reading.task].level == "word"
            place = _places(wide.chunks, reading.task, by_word=by_word)
            index = torch.searchsorted(place, _places(wide.chunks, reader, by_word=by_word))
            inputs = outputs[reading.task].detach() if reading.detach else outputs[reading.task]
            activated.append(ACTIVATIONS[reading.activation](inputs)[index])
        return torch.cat(activated, dim=-1)

    def read_everywhere(self, reader: str, outputs: Mapping[str, Tensor], tokens: int) -> Tensor | None:
        """Return the other tasks' outputs that a head reads, if every task reads all rows; None if it reads none.

        Args:
            outputs: outputs of the tasks that are read, of shape (rows, size) or (rows, tokens, size).
            tokens: number of tokens per row.

        Returns:
            Shape (rows, total size of what it reads), or (rows, tokens, total size) for a head on word level.
        """
        spec = self._heads[reader]
        if not spec.reads:
            return None
        activated = [ACTIVATIONS[reading.activation](outputs[reading.task]) for reading in spec.reads]
        if spec.level == "word":  # every word gets the distribution of its row
            activated = [read if read.ndim == 3 else read.unsqueeze(1).expand(-1, tokens, -1) for read in activated]
        return torch.cat(activated, dim=-1)

    def own(self, batch: Batch, wide: Batch, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the part of a wide batch's outputs that the batch itself requests."""
        if wide is batch:
            return dict(outputs)
        requested = {task for chunk in batch.chunks for task in chunk.tasks}
        selected: dict[str, Tensor] = {}
        for task in (task for task in outputs if task in requested):
            selected[task] = outputs[task]
            if self._readers_of[task]:
                by_word = self._heads[task].level == "word"
                place = _places(wide.chunks, task, by_word=by_word)
                selected[task] = outputs[task][torch.searchsorted(place, _places(batch.chunks, task, by_word=by_word))]
        return selected

    def trained_by(self, tasks: frozenset[str]) -> frozenset[str]:
        """Return the tasks whose losses train these tasks' outputs: themselves, and all that read them undetached."""
        trained_by = set(tasks)
        for task in self.order:
            if any(reading.task in trained_by and not reading.detach for reading in self._heads[task].reads):
                trained_by.add(task)
        return frozenset(trained_by)


def _places(chunks: Sequence[Chunk], task: str, *, by_word: bool) -> Tensor:
    """Return the position of each output of a task: a number for each row of the chunks, or for each token."""
    width = max(chunk.ids.shape[1] for chunk in chunks)
    places: list[Tensor] = []
    for start, chunk in zip(accumulate((len(chunk.ids) for chunk in chunks), initial=0), chunks, strict=False):
        if task in chunk.tasks:
            rows, words = chunk.tasks[task].rows, chunk.tasks[task].words
            index = start + (rows if words is None else words[0])
            places.append(index * width + words[1] if by_word and words is not None else index)
    return torch.cat(places)
