"""Answer texts: group them by length, encode each once, read every task's answer from the same states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from polytask.data.engine import Engine
from polytask.data.groups import groups_by_length
from polytask.data.tokens import Tokenization, TokenRow
from polytask.errors import ConfigError, DataError, ModelError, nearest
from polytask.predict.record import Query, Record, queries_of, shown
from polytask.tasks import Task

if TYPE_CHECKING:
    from polytask.model.multitask import MultiTaskModel

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


class Model:
    """A trained model, ready to answer: in torch, or in ONNX Runtime.

    >>> model = polytask.load("runs/reviews/model")  # doctest: +SKIP
    >>> model.predict(["A moving film by Ang Lee."])  # doctest: +SKIP
    [{"sentiment": {"label": "positive", ...}, "entities": [{"label": "PER", ...}]}]

    Attributes:
        tasks: by name, in the order in which they are answered.
        tokens: how texts become tokens; a text has at most `tokens.max_tokens` of them.
        engine: what runs it.
        about: scores, versions and the encoder's name.
    """

    def __init__(
        self, tasks: Mapping[str, Task], tokens: Tokenization, engine: Engine, about: Mapping[str, Any]
    ) -> None:
        self.tasks = tasks
        self.tokens = tokens
        self.engine = engine
        self.about = about

    @property
    def network(self) -> MultiTaskModel:
        """The network of a model that runs in torch. Raises ModelError for one that does not."""
        from polytask.model.engine import TorchEngine

        if not isinstance(self.engine, TorchEngine):
            raise ModelError(f"network: found a model for {self.engine.describe()['runtime']}; only torch has one")
        return self.engine.network

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
        queries: list[Query] = []
        for index, record in enumerate(window):
            queries.extend(queries_of(index, record, self.tasks, tasks, f"record {number + index + 1}"))
        rows = self.tokens.rows(
            [query.text for query in queries], [query.pair for query in queries], [query.words for query in queries]
        )
        predictions: list[dict[str, Any]] = [{} for _ in window]
        for group in groups_by_length([len(row.ids) for row in rows]):
            for index, found in self._run([queries[i] for i in group], [rows[i] for i in group]):
                predictions[index].update(found)
        by_record: list[list[int]] = [[] for _ in window]
        for place, query in enumerate(queries):
            by_record[query.record].append(place)
        for index, record in enumerate(window):
            ordered = {task: predictions[index][task] for task in tasks if task in predictions[index]}
            truncated = any(rows[place].truncated for place in by_record[index])
            yield Answer(shown(record, [queries[place] for place in by_record[index]]), ordered, truncated)

    def _run(self, queries: Sequence[Query], rows: Sequence[TokenRow]) -> Iterator[tuple[int, dict[str, Any]]]:
        for query, row, outputs in zip(
            queries, rows, self.engine.run(rows, [query.tasks for query in queries]), strict=True
        ):
            kept = [int(token >= 0) for token in row.word_tokens]
            yield (
                query.record,
                {task: self.tasks[task].present(outputs[task], query.text, query.words, kept) for task in query.tasks},
            )
