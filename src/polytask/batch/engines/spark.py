"""Answers beside the rows of a Spark DataFrame.

It uses `mapInArrow`: columns keep their types (`mapInPandas` turns integers of a column with nulls into floats), nested
answers stay lists, and a row and its id never part (`predict_batch_udf` is given the columns that are named, as NumPy
arrays, and returns the answers alone).
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
    """Return a DataFrame with the columns that the predictor keeps and those of its answers.

    >>> predictor = BatchPredictor("runs/reviews/model", keep=["id"], errors="column")  # doctest: +SKIP
    >>> predict_frame(spark.read.parquet("reviews"), predictor).write.parquet("answers")  # doctest: +SKIP

    Args:
        frame: with a column of texts. Rows are answered where they are: nothing is shuffled.
        predictor: every machine needs polytask, and the model at its path. The model is loaded here, for the names and
            types of its answers, and once in each of Spark's Python workers.

    Raises MissingExtra, and DataError where the predictor keeps a column that is not there or has an answer's name.
    """
    try:
        from_arrow = import_module("pyspark.sql.pandas.types").from_arrow_schema
        types: Any = import_module("pyspark.sql.types")
    except ModuleNotFoundError as error:
        missing = missing_extra(error, "a Spark DataFrame")
        if missing is None:
            raise
        raise missing from None
    kept = [frame.schema[name] for name in predictor.kept(frame.columns)]
    answers = from_arrow(predictor.schema()).fields
    return frame.mapInArrow(partial(_answer, pickle.dumps(predictor)), types.StructType([*kept, *answers]))


def _answer(predictor: bytes, batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        yield from _loaded(predictor)(batch).to_batches()


@lru_cache(maxsize=1)
def _loaded(predictor: bytes) -> BatchPredictor:
    """Return the predictor, the same for every partition: Spark asks anew for each, in a process that stays."""
    return pickle.loads(predictor)
