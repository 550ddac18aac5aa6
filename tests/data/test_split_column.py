"""One file whose rows name their split: each split reads only its rows, as from files of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polytask as pt
from polytask.config import validate, with_fold, without_test
from polytask.data.prepare import DataTables, read_tables
from polytask.errors import ConfigError, DataError

WORDS = {"train": ("train", "Training", " TRAIN "), "dev": ("dev", "valid", "validation", "val"), "test": ("test",)}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def config(data: dict[str, Any], **others: Any) -> Any:
    task = {"type": "classification", "data": data, "label": "label", **others}
    return validate({"encoder": "none", "tasks": {"it": task, "also": {**task, "label": "also"}}})


def read(tables: DataTables) -> dict[str, list[tuple[str, str, str]]]:
    return {
        split: [(row["text"], row["label.it"], row["label.also"]) for table in listed for row in table.rows]
        for split, listed in tables.tables.items()
    }


def rows_of(splits: list[str]) -> list[dict[str, Any]]:
    return [
        {"text": f"text {n}", "label": "ab"[n % 2], "also": "cd"[n // 2 % 2], "part": part}
        for n, part in enumerate(splits)
    ]


@given(st.lists(st.sampled_from(["train", "dev", "test"]), min_size=3, max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_one_file_is_read_like_one_file_a_split(
    tmp_path_factory: pytest.TempPathFactory, splits: list[str], random: Any
) -> None:
    splits = ["train", "train", "train", "train", "dev", "test", *splits]
    folder = tmp_path_factory.mktemp("split")
    rows = rows_of(splits)
    apart = {
        split: write(folder / f"{split}.jsonl", [row for row, part in zip(rows, splits, strict=True) if part == split])
        for split in WORDS
    }
    written = [{**row, "part": random.choice(WORDS[row["part"]])} for row in rows]
    whole = write(folder / "all.jsonl", written)
    together = {**dict.fromkeys(WORDS, whole), "split_column": "part"}
    assert read(read_tables(config(together).tasks)) == read(read_tables(config(apart).tasks))


def test_rows_that_are_held_out_come_from_the_training_rows(tmp_path: Path) -> None:
    splits = ["train"] * 60 + ["dev"] * 10 + ["test"] * 10
    whole = write(tmp_path / "all.jsonl", rows_of(splits))
    names = {f"text {n}" for n in range(60)}
    held = config({"train": whole, "dev": 0.3, "split_column": "part"})
    found = read(read_tables(held.tasks))
    assert {text for text, *_ in [*found["train"], *found["dev"]]} == names
    assert found["dev"]
    folded = with_fold(without_test(config({**dict.fromkeys(WORDS, whole), "split_column": "part"})), 1, 3)
    found = read(read_tables(folded.tasks))
    assert {text for text, *_ in [*found["train"], *found["test"]]} == names
    assert [text for text, *_ in found["dev"]] == [f"text {n}" for n in range(60, 70)]


def test_python_rows_may_name_their_split() -> None:
    rows = rows_of(["train"] * 4 + ["dev"] * 3 + ["test"] * 2)
    found = read(read_tables(config({**dict.fromkeys(WORDS, rows), "split_column": "part"}).tasks))
    assert {split: len(listed) for split, listed in found.items()} == {"train": 4, "dev": 3, "test": 2}


@pytest.mark.parametrize("word", ["", "unused", None, 3, "train-2"])
def test_a_row_that_names_no_split_is_refused(tmp_path: Path, word: Any) -> None:
    whole = write(tmp_path / "all.jsonl", [*rows_of(["train", "dev"]), {**rows_of(["test"])[0], "part": word}])
    data = {"train": whole, "dev": whole, "split_column": "part"}
    with pytest.raises(DataError, match=r"all.jsonl:3: part \(data.split_column\): found .*; expected train, dev"):
        read_tables(config(data).tasks)


def test_a_missing_column_and_a_split_without_rows_are_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "all.jsonl", rows_of(["train"] * 4 + ["dev"]))
    with pytest.raises(DataError, match=r"all.jsonl:1: no column 'parts' \(.*did you mean 'part'"):
        read_tables(config({"train": whole, "dev": whole, "split_column": "parts"}).tasks)
    with pytest.raises(ConfigError, match="no test row carries a label: rows whose column 'part' names this split"):
        read_tables(config({**dict.fromkeys(WORDS, whole), "split_column": "part"}).tasks)


def test_changing_the_column_changes_the_run(tmp_path: Path, tiny: Path) -> None:
    rows = [{**row, "other": "train" if n < 9 else "dev"} for n, row in enumerate(rows_of(["train"] * 8 + ["dev"] * 4))]
    whole = write(tmp_path / "all.jsonl", rows)
    task = {"type": "classification", "label": "label"}
    values = {
        "encoder": str(tiny),
        "tasks": {"it": {**task, "data": {"train": whole, "dev": whole, "split_column": "part"}}},
        "train": {"max_steps": 1},
    }
    first = pt.train(values, tmp_path / "run")
    assert first.scores["dev"]["it"]
    record = json.loads((tmp_path / "run" / "data.json").read_text("utf-8"))
    assert [(source["split"], source["rows"]) for source in record["sources"]] == [("train", 8), ("dev", 4)]
    values["tasks"]["it"]["data"]["split_column"] = "other"
    pt.train(values, tmp_path / "again")
    record = json.loads((tmp_path / "again" / "data.json").read_text("utf-8"))
    assert [(source["split"], source["rows"]) for source in record["sources"]] == [("train", 9), ("dev", 3)]
