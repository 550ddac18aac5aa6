"""Rows given as Python objects: tables and the values of NumPy and pandas are read as what they mean."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.config import validate
from polytask.data.feed import feeds_of
from polytask.data.rows import DataTable, read_table
from polytask.tabular import plain, rows_of_table
from polytask.tasks import TaskOptions

Build = Callable[..., TaskOptions]


def table_of(**tasks: TaskOptions) -> DataTable:
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
    assert table.rows["label.label"][:] == ["x", None]
    assert table.rows["label.score"][:] == [1.5, None]
    assert table.rows["label.tags"][:] == [["O", "B-X"], ["O"]]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([Decimal("1.0"), Decimal("2.0"), None], ["1", "2", None]),
        ([date(2020, 1, 1), date(2020, 1, 2), None], ["2020-01-01", "2020-01-02", None]),
        ([timedelta(1), timedelta(2), timedelta(1)], ["1 day, 0:00:00", "2 days, 0:00:00", "1 day, 0:00:00"]),
    ],
)
def test_a_parquet_file_is_read_as_the_rows_that_it_holds(
    values: list[Any], labels: list[str | None], options: Build, tmp_path: Path
) -> None:
    rows = [{"text": str(at), "label": value} for at, value in enumerate(values)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for source in (rows, str(tmp_path / "rows.parquet")):
        assert table_of(label=options("classification", source)).rows["label.label"][:] == labels


def test_values_of_numpy_and_pandas_are_plain(options: Build) -> None:
    rows = [
        {"text": np.str_("a b"), "label": np.int64(3), "score": np.float32(0.5), "labels": np.array(["x", "y"]),
         "tokens": np.array(["a", "b"], dtype=object), "tags": ("O", np.str_("B-X"))},
        {"text": "c", "label": pd.NA, "score": np.nan, "labels": pd.NaT, "tokens": np.array([]), "tags": []},
    ]  # fmt: skip
    kinds = ("classification", "regression", "multilabel", "tagging")
    table = table_of(**{kind: options(kind, rows) for kind in kinds})
    assert [table.rows[f"label.{kind}"][0] for kind in kinds] == ["3", 0.5, ["x", "y"], ["O", "B-X"]]
    assert [table.rows[f"label.{kind}"][1] for kind in kinds[:3]] == [None] * 3


def test_plain_values_stay_as_they_are() -> None:
    for value in ("a", 1, True, None, 1.5, ["a", [1]], {"a": {"b": [1]}}):
        assert plain(value) == value
    assert plain(np.array([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    assert type(plain(np.bool_(True))) is bool
    assert rows_of_table("train.csv") == "train.csv"


def test_a_configuration_takes_tables_and_can_be_written(tmp_path: Path) -> None:
    data = {"train": pd.DataFrame(ROWS), "dev": pd.DataFrame(ROWS[:1])}
    config = validate({"encoder": "any", "tasks": {"it": {"type": "classification", "data": data}}}, base=tmp_path)
    again = validate(config.to_json(), base=tmp_path)
    assert again.tasks["it"].data.train == config.tasks["it"].data.train
    assert again.to_json() == config.to_json()


def test_what_is_no_rows_is_refused(options: Build) -> None:
    for value in (pd.Series(["a"]), np.array(["a"]), {"text": ["a"]}, [1]):
        with pytest.raises(ValueError, match=r"expected a file, a list of files, or a list of rows .*DataFrame"):
            options("classification", value)


def told(options: Build, value: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at by the tests
        options("classification", value)
    return str(caught.value)


def test_a_data_set_is_its_rows_with_the_names_of_its_classes(options: Build) -> None:
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]),
        tags=datasets.List(datasets.ClassLabel(names=["O", "B-X"])), tokens=datasets.List(datasets.Value("string")),
        scan=datasets.Image(),
    )  # fmt: skip
    rows = [{"text": "a b", "label": 1, "tags": [0, 1], "tokens": ["a", "b"], "scan": None},
            {"text": "c", "label": -1, "tags": [0], "tokens": ["c"], "scan": None}]  # fmt: skip
    data = datasets.Dataset.from_list(rows, features=features)
    for form in (data, data.with_format("numpy"), data.to_iterable_dataset()):
        table = table_of(label=options("classification", form), tags=options("tagging", form))
        assert table.rows["label.label"][:] == ["good", None]
        assert table.rows["label.tags"][:] == [["O", "B-X"], ["O"]]
    with_splits = datasets.DatasetDict(train=data, test=data)
    assert "found a dataset with several splits (train, test); give one of them" in told(options, with_splits)


def test_an_iterator_is_read_once_for_all_tasks(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n", "utf-8")
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file)
        task = {"type": "classification", "data": {"train": rows, "dev": iter([{"text": "c", "label": "x"}])}}
        config = validate({"encoder": "any", "tasks": {"one": task, "other": dict(task)}}, base=tmp_path)
    for name in ("one", "other"):
        assert config.tasks[name].data.train == ({"text": "a", "label": "x"}, {"text": "b", "label": "y"})
        assert config.tasks[name].data.dev == ({"text": "c", "label": "x"},)


def test_an_iterator_that_was_read_before_is_refused(options: Build) -> None:
    rows = iter([{"text": "a", "label": "x"}])
    options("classification", rows)
    assert "found an iterator without rows; it may have been used up already" in told(options, rows)
    assert "found a DataFrame without rows" in told(options, pd.DataFrame({"text": []}))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "found two columns named 'text'"),
        ([{0: "a", "0": "b"}], "row 1: found two columns named '0'"),
        ([{"text": "a"}, ["b"]], "row 2: found a value of type list; expected a mapping"),
        ([{"text": "a", "scan": b"xx"}], "row 1: 'scan' holds a value of type bytes, .*leave the column out"),
        ([{"text": "a", "model": object()}], "row 1: 'model' holds a value of type object"),
        ([{"text": "a", "x": np.array([b"x"])}], "'x' holds a value of NumPy's type"),
    ],
)
def test_what_has_no_certain_meaning_is_refused_with_its_place(rows: Any, message: str, options: Build) -> None:
    with pytest.raises(ValueError, match=message):
        options("classification", rows)


def test_cells_are_read_as_a_file_would_hold_them() -> None:
    identity = uuid.UUID(int=1)
    for value, expected in (
        (pd.Timestamp("2020-01-01"), "2020-01-01 00:00:00"), (date(2020, 1, 2), "2020-01-02"),
        (np.datetime64("2020-01-01"), "2020-01-01"), (np.datetime64("NaT"), None),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), ["2020-01-01", None]), (timedelta(days=1), "1 day, 0:00:00"),
        (Decimal("4"), 4), (Decimal("4.5"), 4.5), (Decimal("1e999999999"), float("inf")),
        (Decimal("-Infinity"), float("-inf")), (Decimal("sNaN"), None), (Decimal("1e20"), 10**20),
        (identity, str(identity)), (Path("a/b"), "a/b"),
        ({"y", "x"}, ["x", "y"]), (pd.Interval(0, 1), "(0, 1]"), (pd.Series(["a", None]), ["a", None]),
        (torch.tensor([1, 2]), [1, 2]), (torch.tensor(0.5), 0.5), (np.float64(2.5), 2.5), (np.array(3), 3),
        (np.ma.masked_array([1, 2], [False, True]), [1, None]),
    ):  # fmt: skip
        assert plain(value) == expected, value
        assert type(plain(value)) is type(expected)


def test_paths_of_files_may_be_path_objects(options: Build, tmp_path: Path) -> None:
    assert options("classification", tmp_path / "a.jsonl").data.train == str(tmp_path / "a.jsonl")
    assert options("classification", [tmp_path / "a.jsonl"]).data.train == (str(tmp_path / "a.jsonl"),)
    task = {"type": "classification", "data": {"train": Path("a.jsonl"), "dev": 0.1}}
    config = validate({"encoder": "any", "tasks": {"it": task}}, base=tmp_path)
    assert config.tasks["it"].data.train == str(tmp_path / "a.jsonl")


CELLS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.lists(st.fixed_dictionaries({"text": st.text(), "a": CELLS, "b": st.lists(CELLS, max_size=3)}), min_size=1))
def test_plain_rows_stay_as_they_are(rows: list[dict[str, Any]]) -> None:
    assert rows_of_table(iter(rows)) == rows
    assert rows_of_table(rows) is rows
