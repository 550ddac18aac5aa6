"""Answer texts: group them by length, encode each once, read every task's answer from the same states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from polytask.artifact import Bundle, load_bundle
from polytask.data.batch import Collator, Item, groups_by_length
from polytask.data.encode import TokenRow, tokenize
from polytask.data.words import find_words, join_words, split_words
from polytask.errors import ConfigError, DataError, nearest
from polytask.model.device import autocast, choose_device, pass_overhead
from polytask.model.origin import pad_id
from polytask.tasks import Task
from polytask.tasks.task import Outputs
from polytask.terms import Word

Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
# A text, a pair of texts, or a row with the columns that the tasks were trained on.
Record: TypeAlias = "str | tuple[str, str] | Mapping[str, Any]"
# Records that are read, grouped by length and answered together.
WINDOW = 1024


@dataclass(frozen=True)
class Answer:
    """What the model says about one record.

    Attributes:
        text: the text, or the two texts of a pair.
        predictions: by task: a class, labels, a value, or entities.
        truncated: whether the text was longer than the model reads.
    """

    text: str | tuple[str, str]
    predictions: dict[str, Any]
    truncated: bool

    def to_json(self) -> dict[str, Any]:
        """Return the object that `polytask predict` prints."""
        flag = {"truncated": True} if self.truncated else {}
        return {"text": self.text, "predictions": self.predictions, **flag}


@dataclass(frozen=True)
class _Query:
    """One encoding of a record and the tasks that read it."""

    record: int
    text: str
    pair: str | None
    words: list[Word]
    tasks: tuple[str, ...]


class Model:
    """A trained model, ready to answer.

    >>> model = polytask.load("runs/reviews/model")  # doctest: +SKIP
    >>> model.predict(["A moving film by Ang Lee."])  # doctest: +SKIP
    [{"sentiment": {"label": "positive", ...}, "entities": [{"label": "PER", ...}]}]
    """

    def __init__(self, bundle: Bundle, device: str = "auto", precision: Precision | None = None) -> None:
        self.tasks: Mapping[str, Task] = bundle.tasks
        self.about = bundle.about
        self.max_tokens = bundle.max_tokens
        self.network = bundle.model
        self.tokenizer = bundle.tokenizer
        self._device = choose_device(device)
        self._precision: Precision = precision or bundle.precision
        self.network.to(self._device).eval()
        pad = pad_id(bundle.tokenizer)
        self._collator = Collator(bundle.tasks, pad, bundle.model.uses_type_ids, pass_overhead(self._device))

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto", precision: Precision | None = None) -> Model:
        """Load a model folder. Raises ModelError when it is not one, was altered, or is of another version.

        Args:
            precision: by default the one in which the model was scored.
        """
        return cls(load_bundle(Path(folder)), device, precision)

    @property
    def collator(self) -> Collator:
        """What builds this model's batches."""
        return self._collator

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._device

    def precision(self) -> AbstractContextManager[object]:
        """Return the context in which the encoder runs."""
        return autocast(self._device, self._precision)

    def predict(self, texts: Iterable[Record], tasks: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Answer texts (pairs, rows) and return for each one the predictions by task, in the order of the input.

        Raises DataError for a record that no task can read, ConfigError for an unknown task.
        """
        if isinstance(texts, str):
            raise DataError("predict takes a list of texts, and found one text; write model.predict([text])")
        return [answer.predictions for answer in self.answers(texts, tasks)]

    def answers(self, records: Iterable[Record], tasks: Sequence[str] | None = None) -> Iterator[Answer]:
        """Answer a stream of records in their order; no more than a window of them is held at a time."""
        chosen = self._choose(tasks)
        iterator = iter(records)
        number = 0
        while window := list(islice(iterator, WINDOW)):
            yield from self._answer(window, chosen, number)
            number += len(window)

    def _choose(self, tasks: Sequence[str] | None) -> list[str]:
        for task in tasks or ():
            if task not in self.tasks:
                raise ConfigError(f"tasks: found {task!r}; {nearest(task, self.tasks)}")
        return list(self.tasks if tasks is None else tasks)

    def _answer(self, window: Sequence[Record], tasks: Sequence[str], number: int) -> Iterator[Answer]:
        queries: list[_Query] = []
        for index, record in enumerate(window):
            queries.extend(self._queries(index, record, tasks, f"record {number + index + 1}"))
        predictions: list[dict[str, Any]] = [{} for _ in window]
        truncated = [False] * len(window)
        texts, pairs = [query.text for query in queries], [query.pair for query in queries]
        rows = tokenize(self.tokenizer, texts, pairs, [query.words for query in queries], self.max_tokens)
        for group in groups_by_length([len(row.ids) for row in rows]):
            for index, found in self._run([queries[i] for i in group], [rows[i] for i in group]):
                predictions[index].update(found)
        for query, row in zip(queries, rows, strict=True):
            truncated[query.record] |= row.truncated
        for index, record in enumerate(window):
            ordered = {task: predictions[index][task] for task in tasks if task in predictions[index]}
            yield Answer(_shown(record, queries, index), ordered, truncated[index])

    def _queries(self, index: int, record: Record, tasks: Sequence[str], place: str) -> list[_Query]:
        found: dict[tuple[str, str | None], list[str]] = {}
        given: dict[tuple[str, str | None], list[Word]] = {}
        for task in tasks:
            inputs = self.tasks[task].options.inputs
            texts = _texts(record, inputs.first, inputs.second, place)
            if texts is not None:
                found.setdefault(texts, []).append(task)
            elif isinstance(record, Mapping) and self.tasks[task].level == "word":
                tokens = record.get(self.tasks[task].options.tokens)
                if isinstance(tokens, list):
                    text, words = join_words([str(token) for token in tokens])
                    found.setdefault((text, None), []).append(task)
                    given[text, None] = words
        if not found:
            wanted = sorted({column for task in tasks for column in self._columns(task)})
            raise DataError(f"{place}: holds no text for any of the tasks; accepted: {', '.join(wanted)}")
        return [
            _Query(index, text, pair, self._words(record, text, names, given.get((text, pair))), tuple(names))
            for (text, pair), names in found.items()
        ]

    def _columns(self, task: str) -> tuple[str, ...]:
        inputs = self.tasks[task].options.inputs
        return (inputs.first,) if inputs.second is None else (inputs.first, inputs.second)

    def _words(self, record: Record, text: str, names: Sequence[str], given: list[Word] | None) -> list[Word]:
        tagging = [name for name in names if self.tasks[name].level == "word"]
        if given is not None or not tagging:
            return given or []
        tokens = record.get(self.tasks[tagging[0]].options.tokens) if isinstance(record, Mapping) else None
        found = find_words(text, tokens) if isinstance(tokens, list) else None
        return split_words(text) if found is None else found

    def _run(self, queries: Sequence[_Query], rows: Sequence[TokenRow]) -> Iterator[tuple[int, dict[str, Any]]]:
        items = [
            Item(row.ids, row.type_ids, row.word_tokens, query.tasks, {})
            for query, row in zip(queries, rows, strict=True)
        ]
        batch = self._collator.batch(items)
        with torch.inference_mode(), self.precision():
            outputs = {task: found.cpu().numpy() for task, found in self.network(batch.to(self._device)).items()}
        at = dict.fromkeys(outputs, 0)
        for index in batch.order:
            query = queries[index]
            kept = [int(token >= 0) for token in rows[index].word_tokens]
            found: dict[str, Any] = {}
            for task in query.tasks:
                own, at[task] = self._own(outputs, task, at[task], sum(kept))
                found[task] = self.tasks[task].present(own, query.text, query.words, kept)
            yield query.record, found

    def _own(self, outputs: Mapping[str, Outputs], task: str, start: int, words: int) -> tuple[Outputs, int]:
        """Return one row's outputs of a task, and where the next row's begin."""
        if task not in outputs:
            return np.empty((0, 1), np.float32), start
        if self.tasks[task].level == "word":
            return outputs[task][start : start + words], start + words
        return outputs[task][start], start + 1


def _texts(record: Record, first: str, second: str | None, place: str) -> tuple[str, str | None] | None:
    """Return the text (and pair) that a task reads from a record, or None where the record does not hold it."""
    if isinstance(record, str):
        found = (record, None) if second is None else None
    elif isinstance(record, tuple):
        found = None if second is None else (record[0], record[1])
    elif second is None:
        text = record.get(first, record.get("text"))
        found = None if text is None else (text, None)
    else:
        found = (record[first], record[second]) if first in record and second in record else None
    for text in found or ():
        if text is not None and not isinstance(text, str):
            raise DataError(f"{place}: found {text!r}; a text is expected")
    if found is None:
        return None
    # Half of a surrogate pair is no character: the tokenizer would refuse the whole batch for it.
    clean = [None if text is None else text.encode("utf-8", "replace").decode() for text in found]
    return str(clean[0]), clean[1]


def _shown(record: Record, queries: Sequence[_Query], index: int) -> str | tuple[str, str]:
    if isinstance(record, str | tuple):
        return record
    query = next(query for query in queries if query.record == index)
    return query.text if query.pair is None else (query.text, query.pair)
