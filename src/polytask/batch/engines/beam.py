"""A model handler for Beam's `RunInference`."""

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
    """Predicts for `RunInference`; each result is a `PredictionResult` of the row and a dict by column.

    >>> handler = PolytaskModelHandler(BatchPredictor("runs/reviews/model", errors="column"))  # doctest: +SKIP
    >>> rows | RunInference(KeyedModelHandler(handler))  # doctest: +SKIP

    The elements are texts, or rows as mappings. Wrapped in `KeyedModelHandler`, it takes (key, row) and returns
    (key, result), which connects results to rows, since a pipeline has no order.

    Args:
        predictor: the predictor. Every worker needs polytask, and the model at its path. Its `keep` has no effect: the
            result contains the whole row. With errors="raise", a row without a text fails its bundle, which Beam
            retries; with "column", the other rows are predicted.
        batch_size: maximum number of rows that are predicted together.
    """

    def __init__(self, predictor: BatchPredictor, *, batch_size: int = 1024) -> None:
        super().__init__(max_batch_size=batch_size)
        self._predictor = predictor

    def load_model(self) -> BatchPredictor:
        """Load the model, once per process."""
        assert self._predictor.loaded is not None
        return self._predictor

    def run_inference(
        self,
        batch: Sequence[str | Mapping[str, Any]],
        model: BatchPredictor,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterator[Any]:
        """Yield the predictions of rows, in order. Raises DataError for arguments, since there are none."""
        if inference_args:
            raise DataError(f"inference_args: found {', '.join(inference_args)}; none are accepted")
        answers = model.answer_rows([{"text": row} if isinstance(row, str) else dict(row) for row in batch])
        for row, answer in zip(batch, answers, strict=True):
            yield _base.PredictionResult(row, answer, self._predictor.model)
