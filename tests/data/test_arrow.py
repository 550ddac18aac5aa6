"""Rows of an Arrow file: the same values in whatever way they are asked for, across the batches of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.arrow import ArrowRows

VALUES: list[dict[str, Any]] = [
    {"text": f"text {n}", "label": None if n % 3 == 0 else ["O"] * (n % 4), "number": n / 2} for n in range(11)
]
SCHEMA = pa.schema({"text": pa.string(), "label": pa.list_(pa.string()), "number": pa.float64()})


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> ArrowRows:
    path = tmp_path_factory.mktemp("arrow") / "rows"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        for part in (VALUES[:4], [], VALUES[4:5], VALUES[5:]):
            writer.write_batch(pa.RecordBatch.from_pylist(part, SCHEMA))
    return ArrowRows.of(path)


def test_rows_columns_and_stretches_hold_the_values(rows: ArrowRows) -> None:
    assert len(rows) == len(VALUES)
    assert list(rows) == [rows[n] for n in range(11)] == VALUES
    assert rows[-1] == VALUES[-1]
    assert rows["label"] == [row["label"] for row in VALUES]
    assert rows[3:7]["text"] == rows["text"][3:7]
    assert rows[9:90]["text"] == rows["text"][9:]
    with pytest.raises(IndexError):
        rows[11]


@given(st.lists(st.integers(0, 10), unique=True).map(sorted))
def test_some_rows_are_those_of_all(rows: ArrowRows, chosen: list[int]) -> None:
    found = rows.columns(["number", "label"], chosen)
    assert found == {name: [VALUES[n][name] for n in chosen] for name in ("number", "label")}


def test_a_file_without_rows_has_none(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA):
        pass
    rows = ArrowRows.of(path)
    assert (len(rows), list(rows), rows["text"], rows.columns(["text"], [])) == (0, [], [], {"text": []})
