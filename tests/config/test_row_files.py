"""Rows that were given as Python objects become files of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import polytask as pt
from polytask.config import Config, validate
from polytask.config.row_files import with_row_files
from polytask.errors import UserError

ROWS = [
    {
        "text": f"{word} {number}",
        "liked": word.replace("\x00", " "),
        "stars": float(number % 5),
        "entities": [{"start": 0, "end": 1}],
    }
    for number, word in enumerate(["yes", "no", "例子", "😀", "nul\x00l"] * 4)
]


def config_of(tiny: Path, rows: list[dict[str, Any]] = ROWS, **task: Any) -> Config:
    data = {"train": rows, "dev": rows[:6]}
    liked = {"type": "classification", "label": "liked", "data": data, **task}
    stars = {"type": "regression", "label": "stars", "data": data}
    train = {"max_steps": 2, "batch_size": 8, "save_steps": 1}
    return validate({"encoder": str(tiny), "max_tokens": 16, "tasks": {"liked": liked, "stars": stars}, "train": train})


def test_rows_come_back_as_they_were_and_equal_rows_are_one_file(tiny: Path, tmp_path: Path) -> None:
    kept = with_row_files(config_of(tiny), tmp_path, write=True)
    assert len(list((tmp_path / "rows").iterdir())) == 2
    for task in kept.tasks.values():
        for split, rows in (("train", ROWS), ("dev", ROWS[:6])):
            path = Path(getattr(task.data, split))
            assert path.parent == tmp_path / "rows"
            assert [json.loads(line) for line in path.read_text("utf-8").split("\n") if line] == rows
    assert validate(kept.to_json()) == kept
    assert with_row_files(kept, tmp_path, write=True) is kept


def test_the_same_call_gives_the_same_configuration_and_mends_a_file(tiny: Path, tmp_path: Path) -> None:
    kept = with_row_files(config_of(tiny), tmp_path, write=True)
    (damaged,) = (tmp_path / "rows").glob("train-*.jsonl")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-20])
    assert with_row_files(config_of(tiny), tmp_path, write=True) == kept
    assert damaged.read_bytes() == whole
    assert with_row_files(config_of(tiny), tmp_path, write=False) == kept


def test_nothing_is_written_for_other_processes_nor_without_rows(tiny: Path, tmp_path: Path) -> None:
    with_row_files(config_of(tiny), tmp_path, write=False)
    files = config_of(tiny).to_json()
    for task in files["tasks"].values():
        task["data"] = {"train": str(tmp_path / "train.jsonl"), "dev": 0.5}
    config = validate(files)
    assert with_row_files(config, tmp_path, write=True) is config
    assert not list(tmp_path.iterdir())


def test_rows_beside_files_written_in_another_way_stay_rows(tiny: Path, tmp_path: Path) -> None:
    data = {"train": ROWS, "dev": str(tmp_path / "dev.csv"), "encoding": "cp1252"}
    kept = with_row_files(config_of(tiny, data=data), tmp_path, write=True)
    assert kept.tasks["liked"].data.train == tuple(ROWS)


def test_half_a_surrogate_pair_is_told_as_it_is_told_of_rows(tiny: Path, tmp_path: Path) -> None:
    config = config_of(tiny, [{**row, "text": "half \ud83d"} for row in ROWS])
    messages: list[str] = []
    for folder in (None, tmp_path / "run"):
        with pytest.raises(UserError) as error:
            pt.train(config, folder)
        messages.append(str(error.value))
    assert all("surrogate" in message for message in messages), messages


def test_a_run_with_rows_trains_as_without_a_folder_and_again_from_its_own_configuration(
    tiny: Path, tmp_path: Path
) -> None:
    config = config_of(tiny)
    loose, kept = pt.train(config), pt.train(config, tmp_path / "run")
    assert loose.scores == kept.scores
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))
    assert written["tasks"]["liked"]["data"]["train"].startswith(str(tmp_path / "run" / "rows" / "train-"))
    again = pt.train(tmp_path / "run" / "config.yaml", tmp_path / "again")
    assert again.scores == kept.scores


def test_a_run_that_was_refused_leaves_the_folder_free(tiny: Path, tmp_path: Path) -> None:
    bad = [{**row, "stars": "many"} for row in ROWS]
    with pytest.raises(UserError, match=r"rows/train-[0-9a-f]{16}\.jsonl:1"):
        pt.train(config_of(tiny, bad), tmp_path / "run")
    assert pt.train(config_of(tiny), tmp_path / "run").scores
