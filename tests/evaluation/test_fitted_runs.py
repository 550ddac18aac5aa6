"""Runs that fit temperatures and thresholds on dev: what stands in the folder, and what the model answers by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.tasks.multilabel import Multilabel
from samples import corpus_rows, write_jsonl


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows whose labels are a topic, a mood, and both as a list."""
    folder = tmp_path_factory.mktemp("fitted")
    rows = [
        {**row, "labels": [row[name] for name in ("topic", "sentiment") if name in row]} for row in corpus_rows(120)
    ]
    # Half of dev was learned by heart, so the model is right there, and too sure of the other half.
    for split, part in (("train", rows[:50]), ("dev", rows[25:75]), ("test", rows[75:])):
        write_jsonl(folder / f"{split}.jsonl", part)
    return folder


def values(files: Path, tiny: Path, **train: Any) -> dict[str, Any]:
    data = {split: str(files / f"{split}.jsonl") for split in ("train", "dev", "test")}
    return {
        "encoder": str(tiny),
        "max_tokens": 48,
        "tasks": {
            "sentiment": {"type": "classification", "data": data, "label": "sentiment", "calibrate": True},
            "entities": {"type": "tagging", "data": data, "calibrate": True},
            "both": {"type": "multilabel", "data": data, "needs": "sentiment", "reads": {"sentiment": "probabilities"}},
            "topic": {"type": "classification", "data": data, "label": "topic"},
        },
        "train": {"epochs": 14, "batch_size": 8, "learning_rate": 5e-3, "precision": "fp32", "seed": 3, **train},
    }


@pytest.fixture(scope="module")
def run(files: Path, tiny: Path) -> pt.Run:
    return pt.train(values(files, tiny, best_of_each_task=True), files / "run")


def read(run: pt.Run, name: str) -> Any:
    assert run.folder is not None
    return json.loads((run.folder / name).read_text("utf-8"))


def test_run_json_tells_what_was_fitted_and_the_error_before_and_after(run: pt.Run) -> None:
    fitted = read(run, "run.json")["fitted_on_dev"]
    assert set(fitted) == {"sentiment", "entities", "both"}
    assert fitted["sentiment"]["temperature"] == pytest.approx(run.model.tasks["sentiment"].temperature, abs=1e-6)  # type: ignore[attr-defined]
    assert fitted["sentiment"]["temperature"] != 1
    for split in ("dev", "test"):
        error = fitted["sentiment"]["ece"][split]
        assert error["after"] == run.scores[split]["sentiment"]["ece"]
        assert error["before"] != error["after"]
    assert set(fitted["both"]) == {"thresholds"}
    both = run.model.tasks["both"]
    assert isinstance(both, Multilabel)
    assert fitted["both"]["thresholds"] == both.thresholds
    assert len(set(both.thresholds.values())) > 1


def test_tuned_thresholds_raise_the_dev_score_and_the_run_says_that_it_is_optimistic(run: pt.Run) -> None:
    best = read(run, "run.json")["best_step"]
    assert run.folder is not None
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text("utf-8").splitlines()]
    (at_half,) = (event["dev"] for event in events if event.get("step") == best and "dev" in event)
    assert run.scores["dev"]["both"]["micro_f1"] > at_half["both"]["micro_f1"]
    assert run.scores["dev"]["topic"] == pytest.approx(at_half["topic"])
    notes = read(run, "run.json")["notes"]
    assert any(note.startswith("tasks.both: thresholds were tuned on dev") for note in notes)


def test_calibration_changes_neither_classes_nor_what_other_tasks_read(run: pt.Run, files: Path, tiny: Path) -> None:
    plain = values(files, tiny)
    for task in ("sentiment", "entities"):
        del plain["tasks"][task]["calibrate"]
    other = pt.train(plain)
    for task, scores in run.scores["test"].items():
        same = {metric: value for metric, value in scores.items() if metric != "ece" or task in ("both", "topic")}
        assert same == pytest.approx({metric: other.scores["test"][task][metric] for metric in same}), task


def test_a_loaded_model_answers_with_what_was_fitted(run: pt.Run, files: Path) -> None:
    assert run.folder is not None
    loaded = pt.load(run.folder / "model")
    texts = [row["text"] for row in corpus_rows(20)]
    assert loaded.predict(texts) == run.model.predict(texts)
    assert {name: task.to_json() for name, task in loaded.tasks.items()} == {
        name: task.to_json() for name, task in run.model.tasks.items()
    }
    assert pt.evaluate(loaded, {"all": str(files / "test.jsonl")}).scores == run.scores["test"]


def test_the_best_model_of_each_task_is_fitted_to_its_own_weights(run: pt.Run) -> None:
    assert run.folder is not None
    for name in run.model.tasks:
        best = pt.load(run.folder / "best" / name)
        assert len(best.tasks["both"].cuts) == len(best.tasks["both"].labels)  # type: ignore[attr-defined]
        assert best.about["scores"]["dev"][name].keys() == run.scores["dev"][name].keys()


def test_the_majority_has_no_calibration_error(run: pt.Run) -> None:
    assert all("ece" in scores for scores in run.scores["test"].values())
    assert not any("ece" in scores for scores in run.baselines["test"].values())
    assert all(found["ece"] is None for found in run.intervals["test"].values())
