"""Ends of spans that include the last character, where each character is a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polytask.config import validate
from polytask.data.prepare import read_tables

PEOPLE = ["李雷", "王小明", "张伟", "欧阳娜娜", "陈晨", "赵敏", "孙浩然", "周杰", "吴桐", "郑爽"]
PLACES = ["北京市", "上海", "广州市", "海淀区", "四川省", "深圳", "南京路", "西湖", "长江", "泰山"]
DATES = ["1950年", "5月3日", "2024年春", "昨天上午"]
BOOKS = ["《大海》", "《红楼梦》", "《活着》"]
LACKING = "the last character of each may be missing"
Row = tuple[str, list[str]]


def texts() -> list[Row]:
    """Return texts with their entities, as such files have them: dates, titles, some that end before punctuation."""
    rows: list[Row] = []
    for number in range(60):
        person, place = PEOPLE[number % 10], PLACES[number // 2 % 10]
        date, book = DATES[number % 4], BOOKS[number % 3]
        rows += [
            (f"{date}{person}在{place}工作过一段时间", [date, person, place]),
            (f"后来{person}写了{book}这本书，住在{place}。", [person, book, place]),
        ]
    return rows


def written(rows: list[Row], included: int) -> list[dict[str, Any]]:
    def span(text: str, name: str) -> list[Any]:
        start = text.index(name)
        return [start, start + len(name) - included, "X"]

    return [{"text": text, "spans": [span(text, name) for name in names]} for text, names in rows]


def notes(folder: Path, rows: list[dict[str, Any]], options: dict[str, Any]) -> list[str]:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    data = {"train": str(path), "dev": str(path)}
    config = validate({"encoder": "x", "tasks": {"entities": {"data": data, **options}}})
    return [note.message for note in read_tables(config.tasks).notes if LACKING in note.message]


TAGGING = {"type": "tagging", "tags": "spans"}


@pytest.mark.parametrize("options", [TAGGING, {"type": "spans", "spans": "spans"}])
@pytest.mark.parametrize("included", [0, 1])
def test_ends_that_include_the_last_character_are_told(tmp_path: Path, options: dict[str, Any], included: int) -> None:
    told = notes(tmp_path, written(texts(), included), options)
    assert len(told) == included
    if told:
        assert told[0].startswith("0 of ")
        assert "rows.jsonl:1" in told[0]


def test_one_that_is_right_among_many_hides_nothing(tmp_path: Path) -> None:
    rows = [*written(texts(), 1), *written([("我住在北京市。", ["北京市"])], 0)]
    assert len(notes(tmp_path, rows, TAGGING)) == 1


def test_a_few_spans_show_nothing(tmp_path: Path) -> None:
    assert not notes(tmp_path, written(texts()[:6], 1), TAGGING)


@pytest.mark.parametrize(
    "rows",
    [
        [("我想听李雷的歌", ["李雷"])] * 80,  # one text
        [(f"我想听{name}的歌", [name]) for name in (*PEOPLE, *PLACES, *DATES)] * 4,  # one template
        [("Ann went to Bonn by car", ["Ann", "Bonn"])] * 40,  # words between spaces
    ],
    ids=["text", "template", "words"],
)
def test_entities_that_are_always_followed_by_the_same_word_are_no_sign(tmp_path: Path, rows: list[Row]) -> None:
    assert not notes(tmp_path, written(rows, 0), TAGGING)
