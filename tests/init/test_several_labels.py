"""How `polytask init` tells several labels per row from one: in lists, joined text, exports of annotation tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_init import proposed, sentence, write_csv, write_jsonl
from test_odd_columns import comments

from polytask.config import load_config
from polytask.data.prepare import read_tables

ROWS = 60
TOPICS = (["sport"], ["food"], ["sport", "food"], ["war", "food"])
SHARES = "food 75.0 %, sport 50.0 %, war 25.0 %"


def labels_of(folder: Path) -> set[str]:
    """The labels of the only task of the proposed configuration, read from all rows; and that none is masked."""
    tables = read_tables(load_config(folder / "first.yaml").tasks)
    assert not [note for note in tables.notes if "masked" in note.message]
    (stats,) = tables.label_stats.values()
    return set(stats.labels)


def column(folder: Path, cells: Sequence[Any], name: str = "topics", form: str = "csv") -> dict[str, Any] | None:
    rows = [{"text": sentence(n), name: cells[n % len(cells)], "mood": "ab"[n % 2]} for n in range(ROWS)]
    write = write_csv if form == "csv" else write_jsonl
    return proposed(folder, write(folder / f"rows.{form}", rows)).get(name)


def small(labels: list[str]) -> Any:
    """A cell of JSON-MIN: one choice as text, several as an object."""
    return labels[0] if len(labels) == 1 else {"choices": labels}


def in_csv(labels: list[str]) -> Any:
    return labels[0] if len(labels) == 1 else json.dumps({"choices": labels})


@pytest.mark.parametrize("form", ["json", "csv"])
def test_one_and_several_choices_of_a_small_export_are_one_task(tmp_path: Path, form: str) -> None:
    cell: Callable[[list[str]], Any] = in_csv if form == "csv" else small
    rows = [{"id": n, "text": sentence(n), "topics": cell(TOPICS[n % 4]), "annotator": 1} for n in range(ROWS)]
    path = write_csv(tmp_path / "rows.csv", rows) if form == "csv" else tmp_path / "rows.json"
    if form == "json":
        path.write_text(json.dumps(rows), "utf-8")
    tasks = proposed(tmp_path, path)
    assert {name: (task["type"], task["label"]) for name, task in tasks.items()} == {"topics": ("multilabel", "topics")}
    assert f"several labels per row, 3 in all: {SHARES}" in comments(tmp_path)
    assert labels_of(tmp_path) == {"food", "sport", "war"}


def test_rows_that_all_have_several_choices_are_read_from_their_control(tmp_path: Path) -> None:
    task = column(tmp_path, [{"choices": ["a", "b"]}, {"choices": ["b", "c"]}, {"choices": ["a", "c"]}], form="jsonl")
    assert task is not None
    assert (task["type"], task["label"]) == ("multilabel", "topics")


def test_a_single_choice_with_a_comma_stays_one_label(tmp_path: Path) -> None:
    topics = (["Food, Drinks"], ["Food"], ["Food, Drinks", "Drinks"], ["war", "Food"])
    rows = [{"text": sentence(n), "topics": small(topics[n % 4])} for n in range(ROWS)]
    task = proposed(tmp_path, write_jsonl(tmp_path / "rows.jsonl", rows))["topics"]
    assert task["separator"] == ";"
    assert labels_of(tmp_path) == {"Food, Drinks", "Food", "Drinks", "war"}


def test_joined_text_next_to_lists_is_split(tmp_path: Path) -> None:
    task = column(tmp_path, ["a, b", "a", ["a", "b"], ["b", "c"]], form="jsonl")
    assert task is not None
    assert "separator" not in task
    assert "3 in all: a 75.0 %, b 75.0 %, c 25.0 %" in comments(tmp_path)


def choice_of_label_studio(number: int) -> dict[str, Any]:
    result = {"from_name": "topics", "to_name": "text", "type": "choices", "value": {"choices": TOPICS[number % 4]}}
    return {"id": number, "data": {"text": sentence(number)}, "annotations": [{"result": [result]}]}


def test_one_and_several_choices_of_label_studio_are_one_task(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([choice_of_label_studio(n) for n in range(ROWS)]), "utf-8")
    tasks = proposed(tmp_path, path)
    assert {name: (task["type"], task["label"]) for name, task in tasks.items()} == {"topics": ("multilabel", "topics")}
    assert SHARES in comments(tmp_path)
    assert labels_of(tmp_path) == {"food", "sport", "war"}


def entities_of_label_studio(number: int, controls: Sequence[str]) -> dict[str, Any]:
    text = sentence(number)
    value = {"start": 4, "end": 4 + len(text.split()[1]), "labels": ["THING"]}
    results = [{"from_name": name, "to_name": "text", "type": "labels", "value": value} for name in controls]
    return {"id": number, "data": {"text": text}, "annotations": [{"result": results}]}


@pytest.mark.parametrize(
    ("controls", "tasks", "told"),
    [
        ([["label"]], {"spans"}, "label: the same spans as in spans"),
        ([["label"], []], {"spans"}, "label: the same spans as in spans"),
        ([["a"], ["a", "b"], ["b"]], {"a", "b"}, "spans: the spans of a and b, in the rows that have only one of them"),
    ],
)
def test_spans_of_label_studio_are_proposed_once(
    tmp_path: Path, controls: list[list[str]], tasks: set[str], told: str
) -> None:
    path = tmp_path / "rows.json"
    rows = [entities_of_label_studio(n, controls[n % len(controls)]) for n in range(ROWS)]
    path.write_text(json.dumps(rows), "utf-8")
    assert {task["tags"] for task in proposed(tmp_path, path).values()} == tasks
    assert told in comments(tmp_path)


def test_different_spans_are_different_tasks(tmp_path: Path) -> None:
    rows = [
        {"text": sentence(n), "spans": [[4, 4 + len(sentence(n).split()[1]), "A"]], "other": [[0, 3, "B"]]}
        for n in range(ROWS)
    ]
    assert {task["tags"] for task in proposed(tmp_path, write_jsonl(tmp_path / "rows.jsonl", rows)).values()} == {
        "spans", "other",
    }  # fmt: skip


def test_ratings_of_a_small_export_are_numbers(tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "stars": [{"rating": n % 5 + 1}], "share": [{"number": n / 8}]} for n in range(ROWS)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), "utf-8")
    assert {name: task["type"] for name, task in proposed(tmp_path, path).items()} == {
        "stars": "ordinal", "share": "regression",
    }  # fmt: skip


def test_an_empty_tuple_in_a_cell_is_an_empty_list(tmp_path: Path) -> None:
    task = column(tmp_path, ["('a',)", "('a', 'b')", "()", "('b',)"])
    assert task is not None
    assert task["type"] == "multilabel"
    assert "2 in all: a 50.0 %, b 50.0 %" in comments(tmp_path)


@pytest.mark.parametrize(
    ("cells", "form", "kind", "told"),
    [
        ([["pos"], ["neg"]], "jsonl", "classification", "2 classes: pos 50.0 %, neg 50.0 %"),
        ([["pos"], "neg"], "jsonl", "classification", "2 classes: pos 50.0 %, neg 50.0 %"),
        (["['pos']", "['neg']"], "csv", "multilabel", "one label per row, 2 in all: pos 50.0 %, neg 50.0 %; written "
         "without brackets, they are classes"),
        ([["pos"], ["neg"], []], "jsonl", "multilabel", "at most one label per row, 2 in all: pos 33.3 %, neg 33.3 %; "
         "an empty list means none of them: if such rows are not labelled, use `type: classification`"),
        ([["pos"] * 30, ["neg", "pos"]], "jsonl", "multilabel", "2 in all: pos 100.0 %, neg 50.0 %"),
    ],
)  # fmt: skip
def test_comments_tell_how_many_labels_rows_have(
    tmp_path: Path, cells: list[Any], form: str, kind: str, told: str
) -> None:
    task = column(tmp_path, cells, form=form)
    assert task is not None
    assert task["type"] == kind
    assert told in comments(tmp_path)


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["sport", "sport#food", "food", "war#sport"], "#"),
        (["#a", "#a #b", "#b", "#c #a"], "#"),
        (["sport", "sport/food", "food", "food/war", "war"], "/"),
        (["sport", "sport + food", "food", "food + war", "war"], "+"),
        (["sport", "sport\nfood", "food", "war\nsport"], "\n"),
        (["体育", "体育、科技", "财经、科技"], "、"),
        (["war; drama", "drama; war", "war; comedy", "comedy; drama"], ";"),
    ],
)
def test_labels_joined_in_other_ways_are_several(tmp_path: Path, cells: list[str], separator: str) -> None:
    task = column(tmp_path, cells)
    assert task is not None
    assert (task["type"], task["separator"]) == ("multilabel", separator)
    assert "several labels per row, " in comments(tmp_path)


@pytest.mark.parametrize(
    "cells",
    [
        ["C", "C#", "C++", "F#", "Java"], ["sci/tech", "world", "business"], ["sci/tech", "tech", "sport"],
        ["A", "B", "N/A", "A+", "B+"], ["n", "a", "n/a"], ["GTE", "GTE+", "LTE"], ["and/or", "x", "y"],
        ["comp.sys.ibm.pc.hardware", "sci.med"], ["en/de", "de/en", "en/fr", "fr/en"],
        ["he/him", "they/them", "he/they"],
        ["Austin, Texas", "Dayton, Ohio", "Akron, Ohio"], ["#1", "#2", "#3"], ["18+", "12+"], ["1", "1/2", "2"],
    ],
    ids=str,
)  # fmt: skip
def test_separators_in_the_names_of_classes_separate_nothing(tmp_path: Path, cells: list[str]) -> None:
    task = column(tmp_path, cells)
    assert task is not None
    assert task["type"] == "classification"
    assert "several" not in comments(tmp_path)
    assert not [
        note for note in read_tables(load_config(tmp_path / "first.yaml").tasks).notes if "several" in str(note)
    ]


def test_one_combination_may_be_a_class_of_its_own(tmp_path: Path) -> None:
    task = column(tmp_path, ["A", "B", "A/B"])
    assert task is not None
    assert task["type"] == "classification"
    assert "the label 'A/B' may be several labels joined by '/'" in comments(tmp_path)


SOFT = ({"pos": 0.8, "neg": 0.2}, {"pos": 0.4, "neg": 0.6}, {"pos": 0.33, "neg": 0.33, "mixed": 0.33})


@pytest.mark.parametrize("cells", [SOFT, [*SOFT, "pos"], [*map(json.dumps, SOFT)], [*map(str, SOFT)]], ids=str)
def test_probabilities_that_add_up_to_one_are_soft_labels(tmp_path: Path, cells: Sequence[Any]) -> None:
    task = column(tmp_path, cells, form="jsonl")
    assert task is not None
    assert (task["type"], task["label"]) == ("classification", "topics")
    assert "soft labels, the probabilities of 3 classes, which add up to 1 in every row; their means: pos" in comments(
        tmp_path
    )
    assert set(load_config(tmp_path / "first.yaml").tasks) == {"topics", "mood"}


def test_other_objects_of_numbers_are_columns(tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "size": {"width": n / 7, "height": n % 5 / 3}} for n in range(ROWS)]
    tasks = proposed(tmp_path, write_jsonl(tmp_path / "rows.jsonl", rows))
    assert {task["label"] for task in tasks.values()} == {"size.width", "size.height"}
    assert "soft labels" not in comments(tmp_path)
