"""Soft labels and rows that weigh differently, from files to scores: laws of whole runs and of gradients."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_distribution import gradients, in_pieces, require_same, without_dropout

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.errors import ConfigError, DataError
from samples import corpus_rows, write_jsonl

SUM = {"method": "sum"}


def rows(count: int = 16) -> list[dict[str, Any]]:
    return [
        {"text": row["text"], "tone": {"pos": (at % 5) / 4, "neg": 1 - (at % 5) / 4}, "side": "ab"[at % 2], "n": at % 7,
         "tags": ["B-X" if word[0].isupper() else "O" for word in row["text"].split()], "tokens": row["text"].split(),
         "w": at % 3}
        for at, row in enumerate(corpus_rows(count))
    ]  # fmt: skip


def job(tiny: Path, folder: Path, listed: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Return a job of a task of each kind on one file, all rows in one step."""
    folder.mkdir(exist_ok=True)
    train, dev = (
        str(write_jsonl(folder / f"{name}.jsonl", part)) for name, part in (("train", listed), ("dev", rows()))
    )
    kinds = {"tone": ("classification", "tone"), "side": ("classification", "side"), "n": ("regression", "n")}
    tasks: dict[str, Any] = {name: {"type": kind, "label": column, **options} for name, (kind, column) in kinds.items()}
    tasks["tags"] = {"type": "tagging", **options}
    for task in tasks.values():
        task["data"] = {"train": train, "dev": dev}
    size = len(listed)
    return without_dropout(
        {"encoder": str(tiny), "max_tokens": 32, "tasks": tasks, "balance": SUM,
         "train": {"max_steps": 2, "batch_size": size, "learning_rate": 1e-3, "precision": "fp32"}}
    )  # fmt: skip


def test_a_soft_task_trains_scores_and_writes_the_most_probable_labels(tiny: Path, tmp_path: Path) -> None:
    values = job(tiny, tmp_path / "data", rows())
    run = pt.train(values, tmp_path / "run")
    scores = run.scores["dev"]["tone"]
    assert list(scores) == ["accuracy", "macro_f1", "micro_f1", "mcc", "ece", "cross_entropy"]
    assert list(run.scores["dev"]["side"])[-1] == "ece"
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions" / "tone.jsonl").read_text().splitlines()]
    assert {line["label"] for line in lines} == {"pos", "neg"}
    assert pt.evaluate(tmp_path / "run", {"all": str(tmp_path / "data" / "dev.jsonl")}).scores["tone"] == scores
    (source,) = assemble(validate(values)).sources["train"]
    assert source.targets["side"].ndim == 1  # hard labels stay numbers
    assert list(source.targets["tone"][1]) == [0.75, 0.25]


def test_json_text_in_a_cell_of_csv_is_the_same_as_an_object(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "tone"])
        writer.writerows([row["text"], json.dumps(row["tone"])] for row in rows())
    values = job(tiny, tmp_path / "data", rows())
    tone = {**values["tasks"]["tone"], "data": {"train": str(path), "dev": str(path)}}
    sources = [assemble(validate({**values, "tasks": {"tone": one}})).sources["train"][0]
               for one in (tone, values["tasks"]["tone"])]  # fmt: skip
    for row in range(16):
        assert list(sources[0].targets["tone"][row]) == list(sources[1].targets["tone"][row])


def test_a_bad_distribution_is_refused_with_its_line(tiny: Path, tmp_path: Path) -> None:
    broken = rows()
    broken[4]["tone"] = {"pos": 0.8, "neg": 0.1}
    with pytest.raises(DataError, match=r"train\.jsonl:5: task 'tone': found .* adds up to 0\.9"):
        assemble(validate(job(tiny, tmp_path / "data", broken)))


def test_a_weight_is_that_many_rows_and_zero_is_none(tiny: Path, tmp_path: Path) -> None:
    """The gradient of weighed rows is that of rows that stand as often as they weigh."""
    weighed = job(tiny, tmp_path / "one", rows(), label_weight="w")
    repeated = job(tiny, tmp_path / "two", [row for row in rows() for _ in range(row["w"])])
    facts = [assemble(validate(one)).tasks["n"].to_json()["fitted"] for one in (weighed, repeated)]
    assert facts[0] != facts[1]  # the mean of all numbers and of repeated ones: the one task that differs
    for one in (weighed, repeated):
        del one["tasks"]["n"]
    found = gradients({"it": weighed}, tmp_path / "weighed", 1)
    require_same(found, gradients({"it": repeated}, tmp_path / "repeated", 1))


def test_a_weight_of_one_changes_nothing(tiny: Path, tmp_path: Path) -> None:
    plain = job(tiny, tmp_path / "plain", rows())
    ones = job(tiny, tmp_path / "ones", [row | {"w": 1} for row in rows()], label_weight="w")
    pt.train(plain, tmp_path / "a")
    pt.train(ones, tmp_path / "b")
    first, second = (load_file(tmp_path / name / "model" / "model.safetensors") for name in "ab")
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.usefixtures("quick_processes")
def test_pieces_and_processes_make_the_update_of_the_whole(tiny: Path, tmp_path: Path) -> None:
    values = job(tiny, tmp_path / "data", rows(), label_weight="w")
    alone = gradients({"one": values, "cut": in_pieces(values, 4)}, tmp_path / "alone", 1)
    require_same({"one": alone["cut"]}, alone)
    require_same(gradients({"one": values}, tmp_path / "two", 2), {"one": alone["one"]})


def test_a_teacher_weighs_as_the_labels_do(tiny: Path, tmp_path: Path) -> None:
    values = job(tiny, tmp_path / "data", rows())
    pt.train(values, tmp_path / "teacher")
    taught = [
        {**one, "train": {**one["train"], "teachers": [str(tmp_path / "teacher")]}}
        for one in (
            job(tiny, tmp_path / "one", rows(), label_weight="w"),
            job(tiny, tmp_path / "two", [row for row in rows() for _ in range(row["w"])]),
        )
    ]
    for one in taught:
        del one["tasks"]["n"]
    require_same(gradients({"it": taught[0]}, tmp_path / "g1", 1), gradients({"it": taught[1]}, tmp_path / "g2", 1))


@pytest.mark.parametrize("weight", [-1, "heavy", None, "nan", True, 1e300, 1e-300])
def test_what_is_no_weight_is_refused_with_its_line(tiny: Path, tmp_path: Path, weight: Any) -> None:
    broken = rows()
    broken[2]["w"] = weight
    with pytest.raises(DataError, match=r"train\.jsonl:3: task '\w+': found .* in 'w'; `label_weight` names a column"):
        assemble(validate(job(tiny, tmp_path / "data", broken, label_weight="w")))


def test_a_weight_that_is_nowhere_and_rows_that_weigh_nothing_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tasks\.\w+\.label_weight: .*train\.jsonl:1: no column 'heft'"):
        assemble(validate(job(tiny, tmp_path / "data", rows(), label_weight="heft")))
    nothing = [row | {"w": 0} for row in rows()]
    with pytest.raises(ConfigError, match=r"tasks\.\w+\.label_weight: .*'w' is 0 in every labelled row"):
        assemble(validate(job(tiny, tmp_path / "none", nothing, label_weight="w")))
