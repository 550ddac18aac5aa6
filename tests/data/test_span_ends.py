"""Ends of spans that include the last character, where each character is a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polytask.config import validate
from polytask.data.prepare import read_tables

# Texts with their entities.
TEXTS = [
    ("他去北京大学读书，住在海淀区。", ["北京大学", "海淀区"]),
    ("王小明在上海工作，李雷在广州。", ["王小明", "上海", "李雷", "广州"]),
    ("昨天华为公司发布了新手机", ["华为公司"]),
]
ONE_SHORT = "the last character of each may be missing"


def spans_of(text: str, names: list[str], included: int) -> list[list[Any]]:
    places = [text.index(name) for name in names]
    return [[start, start + len(name) - included, "X"] for start, name in zip(places, names, strict=True)]


def notes(folder: Path, rows: list[dict[str, Any]], options: dict[str, Any]) -> list[str]:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    data = {"train": str(path), "dev": str(path)}
    config = validate({"encoder": "x", "tasks": {"entities": {"data": data, **options}}})
    return [note.message for note in read_tables(config.tasks).notes]


@pytest.mark.parametrize("options", [{"type": "tagging", "tags": "spans"}, {"type": "spans", "spans": "spans"}])
@pytest.mark.parametrize("included", [0, 1])
def test_ends_that_include_the_last_character_are_told(tmp_path: Path, options: dict[str, Any], included: int) -> None:
    rows = [{"text": text, "spans": spans_of(text, names, included)} for text, names in TEXTS * 10]
    told = [note for note in notes(tmp_path, rows, options) if ONE_SHORT in note]
    assert len(told) == included
    if told:
        assert told[0].startswith("none of the 70 and 70 spans ends before punctuation")
        assert "rows.jsonl:1" in told[0]


def test_a_few_spans_show_nothing(tmp_path: Path) -> None:
    rows = [{"text": text, "spans": spans_of(text, names, 1)} for text, names in TEXTS]
    assert not any(ONE_SHORT in note for note in notes(tmp_path, rows, {"type": "tagging", "tags": "spans"}))


def test_words_between_spaces_are_no_such_characters(tmp_path: Path) -> None:
    text = "Ann went to Bonn by car today"
    rows = [{"text": text, "spans": [[0, 3, "X"], [12, 16, "X"]]}] * 40
    assert not any(ONE_SHORT in note for note in notes(tmp_path, rows, {"type": "tagging", "tags": "spans"}))
