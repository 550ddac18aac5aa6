"""Prediction: groups texts by length, encodes each once, and predicts all tasks from the same states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.data.engine import Engine, outputs_of
from polytask.data.groups import groups_by_length
from polytask.data.tokens import Tokenization, TokenRow
from polytask.data.windows import Long, WindowEngine, count_windows
from polytask.data.words import is_blank
from polytask.errors import ConfigError, DataError, ModelError, OutputError, UserError, nearest
from polytask.inputs import names_in
from polytask.predict.asking import answer_questions, plan_questions, require_state
from polytask.predict.labels import with_labels
from polytask.predict.record import Query, Record, queries_of, shown
from polytask.predict.row_options import RowOptions
from polytask.result import Result, listed
from polytask.tabular import rows_in
from polytask.tasks import Task
from polytask.tasks.answering import Answering
from polytask.tasks.arrays import Outputs

if TYPE_CHECKING:
    from polytask.model.multitask import MultiTaskModel

# Number of records that are read, grouped by length and predicted together.
BLOCK = 1024
# Number of characters after which a block ends, to bound memory for very long texts.
BLOCK_CHARACTERS = 16_000_000


@dataclass(frozen=True)
class TextPrediction:
    """The predictions for one record.

    Attributes:
        text: the text, or the two texts of a pair.
        predictions: prediction of each task: a class, labels, a value, or entities.
        truncated: whether the text was cut, since it was longer than the model reads.
        windows: number of windows; 1 if the text fits.
        tokens: number of tokens that the encoder read, in all encodings of the record.
        outputs: outputs of the row-level heads, before they became predictions.
    """

    text: str | tuple[str, str]
    predictions: dict[str, Any]
    truncated: bool
    windows: int = 1
    tokens: int = 0
    outputs: Mapping[str, Outputs] = field(default_factory=dict[str, Outputs], repr=False, compare=False)

    @property
    def empty(self) -> bool:
        """Whether the text, or each text of a pair, has no visible characters."""
        return all(map(is_blank, [self.text] if isinstance(self.text, str) else self.text))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that `polytask predict` prints."""
        flags: dict[str, Any] = {"truncated": True} if self.truncated else {}
        if self.empty:
            flags["empty"] = True
        if self.windows > 1:
            flags["windows"] = self.windows
        return {"text": self.text, "predictions": self.predictions, **flags}


def chosen_tasks(tasks: Mapping[str, Task], names: Sequence[str] | None) -> dict[str, Task]:
    """Return the chosen tasks, all of them for None. Raises ConfigError for an unknown name, and for no name at all."""
    chosen = list(tasks) if names is None else names_in(names, "tasks")
    if names is not None and not chosen:
        raise ConfigError(f"tasks: found none; {nearest('', tasks)}")
    for name in chosen:
        if name not in tasks:
            raise ConfigError(f"tasks: found {name!r}; {nearest(name, tasks)}")
    return {name: tasks[name] for name in chosen}


class Model(Result):
    """A trained model that is ready to predict, in torch or in ONNX Runtime.

    >>> model = polytask.load("runs/reviews/model")  # doctest: +SKIP
    >>> model.predict(["A moving film by Ang Lee."])  # doctest: +SKIP
    [{"sentiment": {"label": "positive", ...}, "entities": [{"label": "PER", ...}]}]

    Attributes:
        tasks: tasks by name, in the order of the predictions.
        tokens: the tokenization; a text has at most `tokens.max_tokens` tokens.
        engine: the engine that runs the model.
        about: scores, versions and the name of the encoder.

    Args:
        write: writes the model into a folder.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        tokens: Tokenization,
        engine: Engine,
        about: Mapping[str, Any],
        write: Callable[[Path], None] | None = None,
    ) -> None:
        self.tasks = tasks
        self.tokens = tokens
        self.engine = engine
        self.about = about
        self._write = write
        # Outputs for the labels of each task whose labels are texts, computed on first use.
        self._label_outputs: dict[str, Outputs] = {}

    @property
    def network(self) -> MultiTaskModel:
        """The network, if the model runs in torch. Raises ModelError otherwise."""
        from polytask.model.engine import TorchEngine

        if not isinstance(self.engine, TorchEngine):
            raise ModelError(f"network: found a model for {self.engine.describe()['runtime']}; only torch has one")
        return self.engine.network

    def save(self, folder: str | Path) -> Path:
        """Write a model folder that `polytask.load` reads, and return its path.

        Raises OutputError if the folder exists or cannot be written.
        """
        if self._write is None:
            raise OutputError(f"{folder}: this model was built by hand, from parts that cannot be saved")
        self._write(Path(folder))
        return Path(folder)

    def summary(self) -> str:
        where = self.engine.describe()
        return f"{listed(self.tasks)}; {where['runtime']} on {where['device']} in {where['precision']}"

    def records(self) -> list[dict[str, Any]]:
        scores: Mapping[str, Any] = self.about.get("scores", {})
        return [
            {
                "task": name, "type": task.type_name, "labels": len(task.labels) or None, "metric": task.metric,
                **{split: scores.get(split, {}).get(name, {}).get(task.metric) for split in ("dev", "test")},
            }
            for name, task in self.tasks.items()
        ]  # fmt: skip

    def with_labels(self, labels: Mapping[str, Any]) -> Model:
        """Return a model with other labels, for tasks whose labels are texts (`type: matching`).

        Args:
            labels: labels with their texts by task, to add or describe anew; None removes a label. For a model with a
                single such task, the labels alone.

        Raises ConfigError naming the problem.
        """
        try:
            return Model(with_labels(self.tasks, labels), self.tokens, self.engine, self.about)
        except ValueError as error:
            raise ConfigError(f"labels: {error}") from None

    def predict(
        self,
        texts: Iterable[Record],
        tasks: Sequence[str] | None = None,
        *,
        long: Long = "truncate",
        labels: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Predict texts (or pairs, or rows), and return the predictions by task for each, in the order of the input.

        Args:
            texts: texts, tuples of two texts, mappings of columns to values; or a table of pandas, polars, pyarrow or
                datasets.
            tasks: names of the tasks, as a list or as a text with commas; all by default.
            long: how to handle a text that is longer than the model reads: read its beginning, or all of it in
                overlapping windows whose predictions are merged. Pairs are always truncated.
            labels: other labels, as for `with_labels`.

        Raises DataError for a record that no task can read, ConfigError for an unknown task.
        """
        if isinstance(texts, str):
            raise DataError("predict takes a list of texts, but found one text; write model.predict([text])")
        model = self if labels is None else self.with_labels(labels)
        return [answer.predictions for answer in model.answers(texts, tasks, long=long)]

    def ask(
        self, state: Record, questions: Mapping[str, Mapping[str, Any]], *, long: Long = "truncate"
    ) -> dict[str, dict[str, Any]]:
        """Answer typed questions about one text (or pair, or row) in a single pass, and return the answers by name.

        >>> model.ask("A moving film.", {"sentiment": {"type": "noul"}})  # doctest: +SKIP
        {"sentiment": {"type": "noul", "noul": 0.97}}

        Args:
            state: the text, pair or row.
            questions: questions by name, in the form of `POST /v1/systemone`: `choice`, `score` or `noul`; each has the
                name of the task that answers it, or names the task in its instructions.
            long: how to handle long texts, as for `predict`.

        Raises DataError for a question that no head can answer, with the list of possible questions.
        """
        planned = plan_questions(self.tasks, questions)
        require_state(state, self.tasks, planned)
        (prediction,) = self.answers([state], list(dict.fromkeys(question.task for question in planned)), long=long)
        return answer_questions(planned, prediction.outputs)

    def answers(
        self, records: Iterable[Record], tasks: Sequence[str] | None = None, *, long: Long = "truncate"
    ) -> Iterator[TextPrediction]:
        """Predict a stream of records in order; at most BLOCK of them are in memory at a time."""
        reader = self.reader(long)
        chosen = list(chosen_tasks(self.tasks, tasks))
        iterator = _records_in(records)
        number = 0
        wrong: UserError | None = None
        while wrong is None:
            block, wrong = _read_block(iterator)
            if not block and wrong is None:
                return
            yield from self._answer(block, chosen, number, reader)
            number += len(block)
        raise wrong

    def reader(self, long: Long) -> tuple[Tokenization, Engine]:
        """Return the tokenization and the engine for a way of handling long texts. Raises ConfigError."""
        if long not in READERS:
            raise ConfigError(f"long: found {long!r}; {nearest(long, READERS)}")
        return READERS[long](self)

    def _answer(
        self, block: Sequence[Record], tasks: Sequence[str], number: int, reader: tuple[Tokenization, Engine]
    ) -> Iterator[TextPrediction]:
        tokens, engine = reader
        queries: list[Query] = []
        wrong: DataError | None = None
        for index, record in enumerate(block):
            try:
                queries.extend(queries_of(index, record, self.tasks, tasks, f"record {number + index + 1}"))
            except DataError as error:  # the records before it are predicted first
                block, wrong = block[:index], error
                break
        rows = tokens.rows(
            [query.text for query in queries], [query.pair for query in queries], [query.words for query in queries]
        )
        row_options = RowOptions.of(queries, tokens, engine)
        for task, task_outputs in row_options.outputs.items():
            require_finite(task, task_outputs, "the rows' options")
        predictions: list[dict[str, Any]] = [{} for _ in block]
        outputs: list[dict[str, Outputs]] = [{} for _ in block]
        for group in groups_by_length([len(row.ids) for row in rows]):
            for index, row_predictions, task_outputs in self._run(
                engine, [queries[i] for i in group], [rows[i] for i in group], row_options
            ):
                predictions[index].update(row_predictions)
                outputs[index].update(task_outputs)
        by_record: list[list[int]] = [[] for _ in block]
        for place, query in enumerate(queries):
            by_record[query.record].append(place)
        for index, record in enumerate(block):
            ordered = {task: predictions[index][task] for task in tasks if task in predictions[index]}
            record_rows = [rows[place] for place in by_record[index]]
            record_rows += [row for place in by_record[index] for row in row_options.rows(queries[place])]
            yield TextPrediction(
                shown(record, [queries[place] for place in by_record[index]]),
                ordered,
                any(row.truncated for row in record_rows),
                max(count_windows(row, tokens) for row in record_rows),
                sum(len(row.ids) for row in record_rows),
                outputs[index],
            )
        if wrong is not None:
            raise wrong

    def _run(
        self, engine: Engine, queries: Sequence[Query], rows: Sequence[TokenRow], row_options: RowOptions
    ) -> Iterator[tuple[int, dict[str, Any], dict[str, Outputs]]]:
        outputs_of_rows = engine.run(rows, [query.tasks for query in queries])
        for query, row, outputs in zip(queries, rows, outputs_of_rows, strict=True):
            words = row.words
            for task in query.tasks:
                require_finite(task, outputs[task])
            decoded = {task: self._against(task, outputs[task]) for task in query.tasks}
            answering: dict[str, Answering] = {task: self.tasks[task] for task in query.tasks}
            for task, options in query.options.items():
                answering[task] = self.tasks[task].with_options(options)
                decoded[task] = answering[task].against(decoded[task], row_options.outputs_of(task, options))
            yield (
                query.record,
                {
                    task: answering[task].format_prediction(decoded[task], query.text, query.words, words)
                    for task in query.tasks
                },
                {task: decoded[task] for task in query.tasks if self.tasks[task].level == "row"},
            )

    def _against(self, name: str, outputs: Outputs) -> Outputs:
        """Return a row's outputs as the task decodes them, compared with the labels if these are texts."""
        texts = self.tasks[name].label_texts
        if not texts:
            return outputs
        if name not in self._label_outputs:
            rows = self.tokens.rows(texts, None, [None] * len(texts))
            label_outputs = outputs_of(self.engine, name, rows)
            require_finite(name, label_outputs, "the labels' texts")
            self._label_outputs[name] = label_outputs
        return self.tasks[name].against(outputs, self._label_outputs[name])


def require_finite(task: str, outputs: Outputs, place: str = "the model") -> None:
    """Raise ModelError if a task's outputs are not finite, since they would become an arbitrary label."""
    if not np.isfinite(outputs).all():
        raise ModelError(
            f"{place}: the outputs of {task!r} are not finite, so its predictions are meaningless: the training "
            "diverged, or the precision is too low; train again with a lower train.learning_rate, or "
            "predict with --precision fp32"
        )


def _records_in(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records to predict, or the rows of a table. Raises DataError for a table without rows."""
    if isinstance(records, Mapping):
        raise DataError("predict takes a list of rows, but found one mapping; write model.predict([row])")
    if isinstance(records, Iterator):  # of texts or rows: each is checked when its turn comes
        yield from records
        return
    try:
        rows = rows_in(records)
        yield from records if rows is None else rows
    except ValueError as error:
        raise DataError(str(error)) from None


def _read_block(records: Iterator[Record]) -> tuple[list[Record], UserError | None]:
    """Read the next records, and the error that stopped reading, if any, so that earlier records are not lost."""
    block: list[Record] = []
    size = 0
    try:
        for record in records:
            block.append(record)
            size += _characters(record)
            if len(block) == BLOCK or size >= BLOCK_CHARACTERS:
                break
    except UserError as error:
        return block, error
    return block, None


def _characters(record: Record) -> int:
    if isinstance(record, str):
        return len(record)
    values = record.values() if isinstance(record, Mapping) else record
    if not isinstance(values, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - it is refused in its turn
        return 0
    return sum(len(value) for value in values if isinstance(value, str | list))


def _truncating(model: Model) -> tuple[Tokenization, Engine]:
    return model.tokens, model.engine


def _in_windows(model: Model) -> tuple[Tokenization, Engine]:
    return model.tokens.whole, WindowEngine(model.engine, model.tasks, model.tokens)


READERS: dict[str, Callable[[Model], tuple[Tokenization, Engine]]] = {"truncate": _truncating, "windows": _in_windows}
