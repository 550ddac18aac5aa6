"""Rows given as Python objects: tables and the values of NumPy and pandas are read as what they mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from polytask.config import validate
from polytask.data.feed import feeds_of
from polytask.data.rows import Table, read_table
from polytask.tabular import plain, rows_of_table
from polytask.tasks import TaskOptions

Build = Callable[..., TaskOptions]


def table_of(**tasks: TaskOptions) -> Table:
    (feed,) = feeds_of(tasks, "train")
    return read_table(feed)


ROWS = [
    {"text": "a b", "label": "x", "score": 1.5, "tokens": ["a", "b"], "tags": ["O", "B-X"]},
    {"text": "c", "label": None, "score": None, "tokens": ["c"], "tags": ["O"]},
]


def of_polars(rows: list[dict[str, Any]]) -> Any:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    return polars.DataFrame(rows)


@pytest.mark.parametrize("build", [pd.DataFrame, pa.Table.from_pylist, of_polars])
def test_a_table_is_its_rows(build: Callable[[Any], Any], options: Build) -> None:
    tasks = {"label": options("classification", build(ROWS)), "tags": options("tagging", build(ROWS))}
    table = table_of(**tasks, score=options("regression", build(ROWS)))
    assert table.rows["text"][:] == ["a b", "c"]
    assert table.rows["gold.label"][:] == ["x", None]
    assert table.rows["gold.score"][:] == [1.5, None]
    assert table.rows["gold.tags"][:] == [["O", "B-X"], ["O"]]


def test_values_of_numpy_and_pandas_are_plain(options: Build) -> None:
    rows = [
        {"text": np.str_("a b"), "label": np.int64(3), "score": np.float32(0.5), "labels": np.array(["x", "y"]),
         "tokens": np.array(["a", "b"], dtype=object), "tags": ("O", np.str_("B-X"))},
        {"text": "c", "label": pd.NA, "score": np.nan, "labels": pd.NaT, "tokens": np.array([]), "tags": []},
    ]  # fmt: skip
    kinds = ("classification", "regression", "multilabel", "tagging")
    table = table_of(**{kind: options(kind, rows) for kind in kinds})
    assert [table.rows[f"gold.{kind}"][0] for kind in kinds] == ["3", 0.5, ["x", "y"], ["O", "B-X"]]
    assert [table.rows[f"gold.{kind}"][1] for kind in kinds[:3]] == [None] * 3


def test_plain_values_stay_as_they_are() -> None:
    for value in ("a", 1, True, None, 1.5, ["a", [1]], {"a": {"b": [1]}}):
        assert plain(value) == value
    assert plain(np.array([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    assert type(plain(np.bool_(True))) is bool
    assert plain(pd.Timestamp("2020-01-01")) == pd.Timestamp("2020-01-01")
    assert rows_of_table("train.csv") == "train.csv"


def test_a_configuration_takes_tables_and_can_be_written(tmp_path: Path) -> None:
    data = {"train": pd.DataFrame(ROWS), "dev": pd.DataFrame(ROWS[:1])}
    config = validate({"encoder": "any", "tasks": {"it": {"type": "classification", "data": data}}}, base=tmp_path)
    again = validate(config.to_json(), base=tmp_path)
    assert again.tasks["it"].data.train == config.tasks["it"].data.train
    assert again.to_json() == config.to_json()


def test_what_is_no_rows_is_refused(options: Build) -> None:
    for value in (pd.Series(["a"]), datasets.Dataset.from_list(ROWS), np.array(["a"]), {"text": ["a"]}, [1]):
        with pytest.raises(ValueError, match=r"expected a file, a list of files, or a list of rows .*DataFrame"):
            options("classification", value)
