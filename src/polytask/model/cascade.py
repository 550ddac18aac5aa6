"""The cascade: heads that read the outputs of other heads, in the order of the graph.

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
    # By logarithms: ONNX has a cumulative sum, and a cumulative product in its newest versions only.
    "cumulative": lambda outputs: torch.nn.functional.logsigmoid(outputs).cumsum(-1).exp(),
    "identity": lambda outputs: outputs,
}


class Cascade:
    """Which heads read which. A head that is read also runs on the rows of its readers, directly or through others.

    Attributes:
        order: all tasks, each after those that it reads.
        readers: the tasks that read, each after those that it reads.
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
        """Let every task that is read see the rows, or words, of its readers as well."""
        if not self.readers:
            return batch
        return replace(batch, chunks=tuple(map(self._widen, batch.chunks)))

    def _widen(self, chunk: Chunk) -> Chunk:
        tasks = dict(chunk.tasks)
        for task in reversed(self.order):  # readers first: they may be read themselves
            seen = [tasks[one] for one in (task, *self._readers_of[task]) if one in tasks]
            if seen and self._readers_of[task]:
                tokens = chunk.ids.shape[1] if self._heads[task].level == "word" else None
                tasks[task] = TaskRows.union(seen, tokens)
        passing = set(chunk.passing)
        for task in reversed(self.order):
            if not passing.isdisjoint(self._readers_of[task]):
                passing.add(task)
        asked = chunk.passing.union(chunk.tasks)
        no_grad_tasks = (task for task in passing.union(tasks) if not self.trained_by(frozenset([task])) & asked)
        return replace(chunk, tasks=tasks, no_grad_tasks=frozenset(no_grad_tasks), passing=frozenset(passing))

    def read(self, reader: str, wide: Batch, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return what a task's head is given of others: its rows (or words) x the sizes of all that it reads.

        Args:
            wide: from `widen`.
            outputs: of the tasks that are read, for the wide batch.
        """
        found: list[Tensor] = []
        for reading in self._heads[reader].reads:
            # A row's distribution is given to each of its words.
            by_word = self._heads[reading.task].level == "word"
            place = _places(wide.chunks, reading.task, by_word=by_word)
            index = torch.searchsorted(place, _places(wide.chunks, reader, by_word=by_word))
            given = outputs[reading.task].detach() if reading.detach else outputs[reading.task]
            found.append(ACTIVATIONS[reading.activation](given)[index])
        return torch.cat(found, dim=-1)

    def read_everywhere(self, reader: str, outputs: Mapping[str, Tensor], tokens: int) -> Tensor | None:
        """Return what a task's head is given of others, where every task reads all rows; None where it reads nothing.

        Args:
            outputs: of the tasks that are read: rows x size, or rows x tokens x size.
            tokens: of a row.

        Returns:
            Rows x the sizes of all that is read, for word level rows x tokens x these sizes.
        """
        spec = self._heads[reader]
        if not spec.reads:
            return None
        found = [ACTIVATIONS[reading.activation](outputs[reading.task]) for reading in spec.reads]
        if spec.level == "word":  # a row's distribution is given to each of its words
            found = [one if one.ndim == 3 else one.unsqueeze(1).expand(-1, tokens, -1) for one in found]
        return torch.cat(found, dim=-1)

    def own(self, batch: Batch, wide: Batch, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return of a wide batch's outputs those that the batch itself asks for."""
        if wide is batch:
            return dict(outputs)
        asked = {task for chunk in batch.chunks for task in chunk.tasks}
        found: dict[str, Tensor] = {}
        for task in (task for task in outputs if task in asked):
            found[task] = outputs[task]
            if self._readers_of[task]:
                by_word = self._heads[task].level == "word"
                place = _places(wide.chunks, task, by_word=by_word)
                found[task] = outputs[task][torch.searchsorted(place, _places(batch.chunks, task, by_word=by_word))]
        return found

    def trained_by(self, tasks: frozenset[str]) -> frozenset[str]:
        """Return the tasks whose losses train what these tasks' outputs depend on: they, and who reads undetached."""
        found = set(tasks)
        for task in self.order:
            if any(reading.task in found and not reading.detach for reading in self._heads[task].reads):
                found.add(task)
        return frozenset(found)


def _places(chunks: Sequence[Chunk], task: str, *, by_word: bool) -> Tensor:
    """Return for each output of a task where it is read: a number for each row of the chunks, or for each token."""
    width = max(chunk.ids.shape[1] for chunk in chunks)
    found: list[Tensor] = []
    for start, chunk in zip(accumulate((len(chunk.ids) for chunk in chunks), initial=0), chunks, strict=False):
        if task in chunk.tasks:
            rows, words = chunk.tasks[task].rows, chunk.tasks[task].words
            at = start + (rows if words is None else words[0])
            found.append(at * width + words[1] if by_word and words is not None else at)
    return torch.cat(found)
