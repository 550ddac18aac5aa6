"""Prediction for the rows of a Spark DataFrame.

It uses `mapInArrow`: columns keep their types (`mapInPandas` turns integers of a column with nulls into floats), nested
predictions stay lists, and rows keep their ids (`predict_batch_udf` gets only the named columns, as NumPy arrays, and
returns only the predictions).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

from polytask.batch.predictor import BatchPredictor
from polytask.errors import missing_extra


def predict_frame(frame: Any, predictor: BatchPredictor) -> Any:  # noqa: ANN401
    """Return a DataFrame with the columns that the predictor keeps and those of its predictions.

    >>> predictor = BatchPredictor("runs/reviews/model", keep=["id"], errors="column")  # doctest: +SKIP
    >>> predict_frame(spark.read.parquet("reviews"), predictor).write.parquet("answers")  # doctest: +SKIP

    Args:
        frame: a DataFrame with a text column. Rows are predicted in place, without a shuffle.
        predictor: the predictor. Every machine needs polytask, and the model at its path. The model is loaded here, for
            the names and types of its predictions, and once in each of Spark's Python workers.

    Raises MissingExtra, and DataError if a column to keep is missing or has the name of a prediction's column.
    """
    try:
        from_arrow = import_module("pyspark.sql.pandas.types").from_arrow_schema
        types: Any = import_module("pyspark.sql.types")
    except ModuleNotFoundError as error:
        missing = missing_extra(error, "a Spark DataFrame")
        if missing is None:
            raise
        raise missing from None
    kept_fields = [frame.schema[name] for name in predictor.kept(frame.columns)]
    answers = from_arrow(predictor.schema()).fields
    return frame.mapInArrow(partial(_answer, pickle.dumps(predictor)), types.StructType([*kept_fields, *answers]))


def _answer(predictor: bytes, batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        yield from _loaded(predictor)(batch).to_batches()


@lru_cache(maxsize=1)
def _loaded(predictor: bytes) -> BatchPredictor:
    """Return the predictor, cached per process: Spark calls this for each partition in the same process."""
    return pickle.loads(predictor)
