"""The work of a worker: loads the model once, and predicts shards; writes no files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polytask.artifact.description import FILE, model_folder
from polytask.batch.answering import RowPredictor
from polytask.batch.shards import Shard
from polytask.data.windows import Long
from polytask.errors import DataError, PolytaskError, UserError
from polytask.files import file_digest, to_json
from polytask.predict.columns import Columns
from polytask.predict.sink import WRITERS, Form, columns_of
from polytask.tasks.arrays import unrounded
from polytask.terms import Precision
from polytask.version import __version__


@dataclass(frozen=True)
class WorkOptions:
    """How rows are predicted and written.

    Attributes:
        model: a model folder, or the folder of a run.
        examples: an example of each column to keep, which determines the types of a table.
    """

    model: str
    form: Form = "jsonl"
    tasks: tuple[str, ...] | None = None
    long: Long = "truncate"
    columns: Columns = field(default_factory=Columns)
    labels: Mapping[str, Any] | None = None
    exact: bool = False
    device: str = "auto"
    precision: Precision | None = None
    extensions: tuple[str, ...] = ()
    examples: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class ShardAnswers:
    """The two output files of a shard.

    Attributes:
        key: key of the shard.
        answers: content of the file of predictions.
        unanswered: content of the file of rows without a prediction, one JSON object per line; may be empty.
    """

    key: tuple[int, int]
    answers: bytes = field(repr=False)
    unanswered: bytes = field(repr=False)
    num_answered: int
    num_unanswered: int


def model_digest(folder: str | Path) -> str:
    """Return the hash of a model folder's description, which contains the hashes of all other files."""
    return file_digest(model_folder(folder) / FILE)


class ShardPredictor:
    """Predicts shards with one model.

    Args:
        options: how rows are predicted and written.
        place: number of the worker, which distributes workers over the GPUs of a machine.

    Raises UserError for a model that cannot be loaded, and for options that do not fit it.
    """

    def __init__(self, options: WorkOptions, place: int = 0) -> None:
        from polytask.predict.load import load

        self.facts = {"model": model_digest(options.model), "polytask": __version__}
        model = load(options.model, _device(options.device, place), options.precision, extensions=options.extensions)
        if options.labels is not None:
            model = model.with_labels(options.labels)
        self._options = options
        self._rows = RowPredictor(model, options.tasks, long=options.long, columns=options.columns)
        windows = options.long == "windows"
        self._columns = {} if options.form == "jsonl" else columns_of(self._rows.tasks, windows=windows)
        WRITERS[options.form].require_packages()

    def answer(self, shard: Shard) -> ShardAnswers:
        """Predict a shard."""
        form = self._options.form
        stream: Any = io.BytesIO() if form == "parquet" else io.StringIO()
        writer = WRITERS[form](stream, self._columns)
        writer.begin({"row": 0, **self._options.examples})
        unanswered: list[str] = []
        num_answered = 0
        with unrounded() if self._options.exact else nullcontext():
            answers = self._rows.answer(row for _, row in shard.rows)
            for (number, _), answer in zip(shard.rows, answers, strict=True):
                reason = answer.reason
                if answer.prediction is not None:
                    try:
                        writer.write({"row": number, **answer.kept}, answer.prediction.to_json())
                        num_answered += 1
                    except DataError as error:  # a value that does not fit the table
                        reason = str(error)
                if reason is not None:
                    record = {"file": shard.path, "row": number, "reason": reason, "kept": answer.kept}
                    unanswered.append(to_json(record, "row") + "\n")
        writer.close()
        written = stream.getvalue()
        return ShardAnswers(
            shard.key,
            written.encode() if isinstance(written, str) else written,
            "".join(unanswered).encode("utf-8", "replace"),
            num_answered,
            len(unanswered),
        )


def _device(name: str, place: int) -> str:
    """Return the device of a worker; with `auto`, the workers share the GPUs of the machine."""
    if name != "auto":
        return name
    try:
        import torch
    except ModuleNotFoundError:  # an ONNX model does not need torch
        return name
    count = torch.cuda.device_count()
    return f"cuda:{place % count}" if count > 1 else name


@dataclass(frozen=True)
class Failure:
    """An error of a worker, for the process that started it."""

    message: str
    user: bool

    @classmethod
    def of(cls, error: PolytaskError) -> Failure:
        """Store the message of an error, and whether the input is invalid."""
        return cls(str(error), isinstance(error, UserError))

    def raised(self) -> PolytaskError:
        """Return the error."""
        return UserError(self.message) if self.user else PolytaskError(self.message)
