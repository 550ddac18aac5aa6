"""Spark itself: every row once, beside its id, with the types that it had."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import stand_in

from polytask.batch.engines.spark import predict_frame
from polytask.errors import DataError

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore")]
sql: Any = pytest.importorskip("pyspark.sql", reason="needs pip install 'polytask[spark]', and Java")


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        quiet = {
            "spark.ui.enabled": "false",
            "spark.driver.memory": "512m",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.execution.arrow.maxRecordsPerBatch": "7",
        }
        builder = sql.SparkSession.builder.master("local[2]")
        for name, value in quiet.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        yield session
        session.stop()


def test_rows_keep_their_ids_and_types_beside_the_answers(spark: Any) -> None:
    texts = [None if at == 11 else f"text {'x' * at}" for at in range(40)]
    rows = [(at, None if at % 2 else 2**60 + at, text, [at]) for at, text in enumerate(texts)]
    frame = spark.createDataFrame(rows, "id int, big long, text string, list array<int>").repartition(3)
    answered = predict_frame(frame, stand_in.Predictor("model", errors="column"))
    found = sorted((row.asDict(recursive=True) for row in answered.collect()), key=lambda row: row["id"])
    assert [(row["id"], row["big"], row["text"], row["list"]) for row in found] == rows
    assert answered.schema.fields[:4] == frame.schema.fields
    columns = dict(zip(("id", "big", "text", "list"), map(list, zip(*rows, strict=True)), strict=True))
    expected = stand_in.Predictor("model", errors="column")(pa.table(columns)).to_pylist()
    for row, right in zip(found, expected, strict=True):
        assert {name: row[name] for name in right} == right
    assert {row["error"] for row in found} == {None}
    assert [row["id"] for row in found if row["empty"]] == [11]


def test_what_is_kept_is_chosen_and_an_unknown_column_is_told_at_once(spark: Any) -> None:
    frame = spark.createDataFrame([(7, "a")], "id int, body string")
    chosen = predict_frame(frame, stand_in.Predictor("model", ["tone"], text="body", keep=["id"]))
    assert chosen.columns[0] == "id"
    assert "body" not in chosen.columns
    assert chosen.collect()[0]["id"] == 7
    with pytest.raises(DataError, match="no column 'idd' in the batch, which has: id, body"):
        predict_frame(frame, stand_in.Predictor("model", text="body", keep=["idd"]))
