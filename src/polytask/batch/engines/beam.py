"""A model of Beam's `RunInference`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from polytask.batch.predictor import BatchPredictor
from polytask.errors import DataError, missing_extra

try:
    _base: Any = import_module("apache_beam.ml.inference.base")
except ModuleNotFoundError as error:
    if (missing := missing_extra(error, "RunInference")) is None:
        raise
    raise missing from None


class PolytaskModelHandler(_base.ModelHandler):
    """Gives `RunInference` the answers of a model; each is a `PredictionResult` of the row and a dict by column.

    >>> handler = PolytaskModelHandler(BatchPredictor("runs/reviews/model", errors="column"))  # doctest: +SKIP
    >>> rows | RunInference(KeyedModelHandler(handler))  # doctest: +SKIP

    The elements are texts, or rows as mappings. `KeyedModelHandler` around it takes (key, row) and gives (key, result):
    a pipeline has no order, so that is how answers find their rows elsewhere.

    Args:
        predictor: every worker needs polytask, and the model at its path. What it keeps does not matter: the result
            holds the whole row. With errors="raise" a row without a text fails its bundle, which Beam repeats; with
            "column" the others are answered.
        batch_size: rows that are answered together, at most.
    """

    def __init__(self, predictor: BatchPredictor, *, batch_size: int = 1024) -> None:
        super().__init__(max_batch_size=batch_size)
        self._predictor = predictor

    def load_model(self) -> BatchPredictor:
        """Load the model, once a process."""
        assert self._predictor.loaded is not None
        return self._predictor

    def run_inference(
        self,
        batch: Sequence[str | Mapping[str, Any]],
        model: BatchPredictor,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterator[Any]:
        """Yield the answers of rows, in their order. Raises DataError for arguments, of which there are none."""
        if inference_args:
            raise DataError(f"inference_args: found {', '.join(inference_args)}; none are accepted")
        answers = model.answer_rows([{"text": row} if isinstance(row, str) else dict(row) for row in batch])
        for row, answer in zip(batch, answers, strict=True):
            yield _base.PredictionResult(row, answer, self._predictor.model)
