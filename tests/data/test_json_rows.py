"""Rows of a JSON file may be the value of a name such as `data`; any other object is one row."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polytask.data.files import DataFile
from polytask.data.readers import READERS
from polytask.errors import DataError
from polytask.options import FileOptions


def json_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    return list(READERS["json"](DataFile(path, FileOptions())))


ROWS_IN_JSON = [{"text": "one", "label": "a"}, {"text": "two", "data": [{"x": 1}]}]


@pytest.mark.parametrize("name", ["data", "rows", "examples", "items", "records", "instances"])
@pytest.mark.parametrize("more", [{}, {"version": "1.1", "meta": {"data": [{"x": 1}]}}])
def test_rows_under_a_name_in_one_object_are_read_with_their_lines(
    name: str, more: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    for whole in ({**more, name: ROWS_IN_JSON}, {name: ROWS_IN_JSON, **more}):
        path.write_text(json.dumps(whole, indent=1))
        found = json_rows(path)
        lines = path.read_text().split("\n")
        assert [row for _, row in found] == ROWS_IN_JSON
        assert [lines[number - 1].strip() for number, _ in found] == ["{", "{"]


@pytest.mark.parametrize(
    "whole",
    [
        {"text": "a row", "data": [{"x": 1}]},
        {"data": [{"x": 1}], "rows": [{"y": 2}]},
        {"data": []},
        {"data": ["a"]},
        {"others": [{"x": 1}]},
    ],
)
def test_any_other_object_is_one_row(whole: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(whole))
    assert [row for _, row in json_rows(path)] == [whole]


@given(st.text(alphabet='{}[]",: \n1a\\', max_size=60))
@example("}{}")
@example(', "a": 1}')
@example(" , }")
def test_a_text_around_rows_is_read_or_refused(rest: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.json")
        path.write_text('{"data": [{"a": 1}]' + rest)
        try:
            found = [row for _, row in json_rows(path)]
        except DataError:
            return
        try:
            whole = json.loads(path.read_text())
        except ValueError:  # one object after another, or a comma after the last member
            if found == [{"a": 1}]:
                assert "".join(rest.split()) == ",}"
                return
            assert found[0] == {"data": [{"a": 1}]}
            assert len(found) > 1
        else:
            assert found in ([{"a": 1}], [whole])
