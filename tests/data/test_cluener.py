"""Rows of CLUENER: entities by label and text, with places whose ends include the last character."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.cluener import with_spans
from polytask.data.readers import read_file
from polytask.init import init

TEXT = "浙商银行的叶老桂说，叶老桂在CSOL。"
LABEL = {"name": {"叶老桂": [[5, 7], [10, 12]]}, "company": {"浙商银行": [[0, 3]]}, "game": {"CSOL": [[14, 17]]}}


def spans_of(row: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(span["start"], span["end"], span["label"]) for span in row["label"]]


def test_every_place_becomes_a_span_with_the_end_excluded() -> None:
    spans = spans_of(with_spans({"text": TEXT, "label": LABEL, "id": 3}))
    assert spans == [(0, 4, "company"), (5, 8, "name"), (10, 13, "name"), (14, 18, "game")]
    assert [TEXT[start:end] for start, end, _ in spans] == ["浙商银行", "叶老桂", "叶老桂", "CSOL"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), st.data())
def test_whatever_is_written_in_this_form_is_read_back(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    for written in ([start, end - 1], [start, end]):
        row = with_spans({"text": text, "label": {"x": {text[start:end]: [written]}}})
        found_start, found_end, label = spans_of(row)[0]
        assert (found_start, label) == (start, "x")
        if written[1] == end - 1 or text[start : end + 1] != text[start:end] != text[start:]:
            assert text[found_start:found_end] == text[start:end]


@pytest.mark.parametrize(
    "label",
    ["x", None, {}, [], ["a"], {"pos": 0.8, "neg": 0.2}, {"a": {"b": 1}}, {"a": {"b": [1, 2]}},
     {"a": {"b": [[1, 2, 3]]}}, {"a": {"b": [[1.0, 2]]}}, {"a": {"b": [[True, 2]]}}, {"a": [[1, 2]]},
     {"a": {"b": [[1, 2]]}, "c": 1}],
    ids=str,
)  # fmt: skip
def test_other_labels_stay_as_they_are(label: Any) -> None:
    row = {"text": "a text", "label": label}
    assert with_spans(row) is row
    assert with_spans({"label": LABEL}) == {"label": LABEL}


def test_files_of_it_are_read_and_proposed(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": f"{TEXT}{n}", "label": LABEL}) + "\n" for n in range(80)), "utf-8")
    rows = [row for _, row in read_file(path)]
    assert all(len(row["label"]) == 4 for row in rows)
    assert set(init([path], tmp_path / "first.yaml").tasks.values()) == {"tagging"}
    assert "character spans: name 160, company 80, game 80" in (tmp_path / "first.yaml").read_text("utf-8")
