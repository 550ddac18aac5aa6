"""The folder of a finished run: every figure in it agrees with the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.sharing import Plan, Sharing
from polytask.tasks import METRICS

Job = Callable[..., dict[str, Any]]


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def untested(job: Job) -> dict[str, Any]:
    """A job whose topic has no test rows, on files of its own."""
    values = job(shared=False, evaluations_per_epoch=2)
    del values["tasks"]["topic"]["data"]["test"]
    return values


def test_the_files_of_a_run_agree_with_its_scores(untested: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = pt.train(untested, folder)
    record = read(folder / "run.json")
    assert record["predicted_split"] == {"sentiment": "test", "topic": "dev", "entities": "test"}
    assert {path.stem for path in (folder / "predictions").iterdir()} == set(untested["tasks"])
    data = read(folder / "data.json")
    for name, task in run.model.tasks.items():
        split = record["predicted_split"][name]
        rows = lines(folder / "predictions" / f"{name}.jsonl")
        assert len(rows) == data["tasks"][name]["rows"][split] == record["predicted_rows"][name]
        assert [row["row"] for row in rows] == sorted(row["row"] for row in rows)
        again = METRICS[task.level][task.metric]([row["label"] for row in rows], [row["prediction"] for row in rows])
        assert again == pytest.approx(run.scores[split][name][task.metric])
    confused = read(folder / "confusion.json")
    assert set(confused) == {"sentiment", "topic", "entities"}
    counts = confused["sentiment"]["counts"]
    right = sum(counts[index][index] for index in range(len(counts)))
    assert right / sum(map(sum, counts)) == pytest.approx(run.scores["test"]["sentiment"]["accuracy"])


def test_a_run_says_what_it_is_made_of(untested: dict[str, Any], tmp_path: Path) -> None:
    run = pt.train(untested, tmp_path / "run")
    record = read(tmp_path / "run" / "run.json")
    assert Sharing.from_json(record["sharing"]).picture() == record["picture"]
    assert Plan.from_json(record["start_plan"]) == run.model.network.plan
    parameters = record["parameters"]
    assert parameters["total"] == sum(one.numel() for one in run.model.network.parameters())
    assert set(parameters["shared"]) == set(parameters["own"]) == set(untested["tasks"])
    assert record["peak_mib"] > 0
    assert record["predict_rows_per_second"] > 0
    assert record["device"] == "cpu"
    steps = [line["step"] for line in lines(tmp_path / "run" / "events.jsonl") if line["event"] == "evaluation"]
    assert record["pareto"]
    assert set(record["pareto"]) <= set(steps)


def test_the_data_of_a_run_is_told_before_it_trains(job: Job, tmp_path: Path) -> None:
    from polytask.errors import TrainingError

    with pytest.raises(TrainingError):
        pt.train(job(learning_rate=1e30, epochs=5), tmp_path / "run")
    found = read(tmp_path / "run" / "data.json")
    assert found["tasks"]["entities"]["type"] == "tagging"
    assert found["tasks"]["entities"]["rows"] == {"train": 23, "dev": 24, "test": 24}  # of 24, one carries no label
    assert sum(found["tasks"]["sentiment"]["labels"].values()) == 23
    assert [(source["split"], source["rows"]) for source in found["sources"]] == [
        ("train", 24), ("dev", 24), ("test", 24),
    ]  # fmt: skip


def test_nothing_is_written_without_a_folder(job: Job, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    values = job(max_steps=2)
    made = {path.name for path in tmp_path.iterdir()} - before
    pt.train(values)
    assert {path.name for path in tmp_path.iterdir()} == before | made
