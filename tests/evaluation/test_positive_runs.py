"""Runs whose positive label is rare: what is scored, what stands in the folder, what each form of the model answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sklearn import metrics as sk

import polytask as pt
from polytask.tasks.classification import Classification
from samples import close, corpus_rows, write_jsonl

Values = dict[str, Any]
ORDER = ("roc_auc", "average_precision")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows that are labelled `bad` or `fine`, and with one of three moods."""
    folder = tmp_path_factory.mktemp("positive")
    rows = [
        {"text": row["text"], "mood": row["sentiment"], "spam": "bad" if row["sentiment"] == "negative" else "fine"}
        for row in corpus_rows(160)
        if "sentiment" in row
    ]
    for split, part in (("train", rows[:60]), ("dev", rows[30:100]), ("test", rows[100:])):
        write_jsonl(folder / f"{split}.jsonl", part)
    return folder


def values(files: Path, encoder: Path, **train: Any) -> Values:
    data = {split: str(files / f"{split}.jsonl") for split in ("train", "dev", "test")}
    spam = {"label": "spam", "positive": "bad", "metric": "f1", "threshold": "tuned", "calibrate": True}
    mood = {"label": "mood", "positive": "negative", "metric": "average_precision"}
    tasks = {"spam": spam, "mood": mood}
    return {
        "encoder": str(encoder),
        "max_tokens": 48,
        "tasks": {
            name: {"type": "classification", "pooling": "cls", "data": data, **task} for name, task in tasks.items()
        },
        "train": {"epochs": 8, "batch_size": 8, "learning_rate": 5e-3, "precision": "fp32", "seed": 3, **train},
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(files: Path, tiny: Path) -> pt.Run:
    return pt.train(values(files, tiny), files / "run")


def lines(folder: Path, task: str) -> list[Values]:
    return [json.loads(line) for line in (folder / "predictions" / f"{task}.jsonl").read_text("utf-8").splitlines()]


def rows_of(files: Path, split: str = "test") -> list[Values]:
    return [json.loads(line) for line in (files / f"{split}.jsonl").read_text("utf-8").splitlines()]


def scored(truth: Sequence[bool], found: Sequence[bool], sure: Sequence[float]) -> dict[str, float]:
    return {
        **{name: getattr(sk, f"{name}_score")(truth, found) for name in ("f1", "precision", "recall")},
        "roc_auc": sk.roc_auc_score(truth, sure),
        "average_precision": sk.average_precision_score(truth, sure),
    }


@pytest.mark.parametrize(("task", "positive"), [("spam", "bad"), ("mood", "negative")])
def test_scores_are_scikit_learns_of_the_kept_answers(run: pt.Run, task: str, positive: str) -> None:
    assert run.folder is not None
    kept = lines(run.folder, task)
    truth, found = ([line[side] == positive for line in kept] for side in ("label", "prediction"))
    expected = scored(truth, found, [line["probability"] for line in kept])
    own = run.scores["test"][task]
    assert {name: own[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    intervals = run.intervals["test"][task]
    for name in expected:
        assert intervals[name] is not None
        assert intervals[name][0] <= own[name] <= intervals[name][1]
    majority = run.baselines["test"][task]
    assert (majority["f1"], majority["roc_auc"]) == (0.0, 0.5)
    assert majority["average_precision"] == pytest.approx(sum(truth) / len(truth))
    assert next(iter(own)) == run.model.tasks[task].metric


def test_the_threshold_is_best_on_dev_and_stands_in_the_folder(run: pt.Run, files: Path) -> None:
    assert run.folder is not None
    told = json.loads((run.folder / "run.json").read_text("utf-8"))
    task = run.model.tasks["spam"]
    assert isinstance(task, Classification)
    assert told["fitted_on_dev"].keys() == {"spam"}
    assert told["fitted_on_dev"]["spam"]["thresholds"] == task.thresholds
    assert task.thresholds["bad"] != 0.5
    assert any(note.startswith("tasks.spam: the threshold was tuned on dev") for note in told["notes"])
    dev = rows_of(files, "dev")
    answers = [one["spam"] for one in run.model.predict([row["text"] for row in dev])]
    truth = [row["spam"] == "bad" for row in dev]
    for at in (0.5, *(answer["probabilities"]["bad"] for answer in answers)):
        other = sk.f1_score(truth, [answer["probabilities"]["bad"] >= at for answer in answers])
        assert other <= run.scores["dev"]["spam"]["f1"] + 1e-9
    for answer in answers:
        above = answer["probabilities"]["bad"] - task.thresholds["bad"]
        assert abs(above) < 1e-5 or (answer["label"] == "bad") == (above > 0)


def test_every_form_of_the_model_answers_by_the_threshold(run: pt.Run, files: Path, tmp_path: Path) -> None:
    texts = [row["text"] for row in rows_of(files)]
    answers = run.model.predict(texts)
    assert run.folder is not None
    loaded = pt.load(run.folder)
    assert loaded.predict(texts) == answers
    test = str(files / "test.jsonl")
    assert pt.evaluate(loaded, test).scores == run.scores["test"]
    pt.export(run.folder, tmp_path / "onnx", to="onnx")
    graph = pt.load(tmp_path / "onnx")
    assert close(graph.predict(texts), answers)
    assert [one["spam"]["label"] for one in graph.predict(texts)] == [one["spam"]["label"] for one in answers]
    assert close(dict(pt.evaluate(graph, test).scores), dict(run.scores["test"]))
    pt.export(run.folder, tmp_path / "int8", to="onnx", quantize="int8", max_loss=100)
    small = pt.load(tmp_path / "int8")
    assert small.tasks["spam"].thresholds == loaded.tasks["spam"].thresholds
    for one in small.predict(texts):
        above = one["spam"]["probabilities"]["bad"] - small.tasks["spam"].thresholds["bad"]
        assert abs(above) < 1e-5 or (one["spam"]["label"] == "bad") == (above > 0)


def test_a_choice_is_what_is_predicted(run: pt.Run, files: Path) -> None:
    questions = {
        "spam": {"type": "choice", "criteria": {"bad": None, "fine": None}},
        "is": {"type": "noul", "instructions": "spam"},
    }
    for row in rows_of(files)[:20]:
        asked = run.model.ask(row["text"], questions)
        predicted = run.model.predict([row["text"]])[0]["spam"]
        assert asked["spam"]["choice"] == predicted["label"]
        assert asked["is"]["noul"] == pytest.approx(predicted["probabilities"]["bad"], abs=1e-5)


def test_plain_classes_are_told_the_threshold(run: pt.Run, tmp_path: Path) -> None:
    assert run.folder is not None
    found = pt.export(run.folder, tmp_path / "hf", to="hf", tasks=["spam"])
    task = run.model.tasks["spam"]
    told = json.loads((found.folders["spam"] / "config.json").read_text("utf-8"))
    assert told["problem_type"] == "single_label_classification"
    assert told["polytask_thresholds"] == task.thresholds
    assert any(f"bad {task.thresholds['bad']:g}; without it the more probable label" in note for note in found.notes)
    card = (found.folders["spam"] / "README.md").read_text("utf-8")
    assert f"thresholds, from which labels are predicted: `bad` {task.thresholds['bad']:g}" in card
    assert "`pipeline` predicts the more probable label." in card


def test_arms_are_compared_by_what_is_about_the_positive_label(files: Path, tiny: Path, tmp_path: Path) -> None:
    job = values(files, tiny, epochs=2)
    found = pt.compare(job, tmp_path / "out", arms=["single", "global"], seeds=2)
    for task, metric in (("spam", "f1"), ("mood", "average_precision")):
        told = found.record["tasks"][task]
        assert told["metric"] == metric
        for arm in ("single", "global"):
            expected = [one[task][metric] for one in _scores(tmp_path, task, arm)]
            assert sorted(told["arms"][arm]["values"]) == pytest.approx(sorted(expected), abs=1e-6)
        assert told["arms"]["global"]["low"] <= told["arms"]["global"]["delta"] <= told["arms"]["global"]["high"]


def _scores(folder: Path, task: str, arm: str) -> list[Values]:
    """Return the test scores of an arm's runs that answer a task: a single model has one task, the others both."""
    found = [json.loads(file.read_text("utf-8"))["test"] for file in (folder / "out" / "runs").glob("*/scores.json")]
    return [one for one in found if task in one and (len(one) == 1) == (arm == "single")]


def test_a_model_that_trains_on_is_tuned_again(run: pt.Run, files: Path, tiny: Path, tmp_path: Path) -> None:
    assert run.folder is not None
    data = {split: str(files / f"{split}.jsonl") for split in ("train", "dev", "test")}
    replayed = {"type": "classification", "pooling": "cls", "data": data, "label": "spam", "positive": "bad"}
    fresh = {"type": "classification", "pooling": "cls", "data": data, "label": "mood"}
    new = {
        "encoder": str(tiny),
        "tasks": {"spam": replayed, "tone": fresh},
        "train": {"max_steps": 2, "precision": "fp32"},
    }
    model = pt.extend(run.folder, new, tmp_path / "more", mode="joint").model
    assert model.tasks["spam"].thresholds == {}
    assert model.tasks["spam"].unit == (1.0, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive": None, "threshold": None}, "the metric f1, which needs a positive label"),
        ({"positive": None, "metric": None}, "neither label is known to be the positive one"),
        ({"metric": "recall"}, "best if every row is given the label"),
        ({"label": "mood", "positive": "negative"}, "decides between two labels, and the rows have 3"),
        ({"positive": "worse"}, "positive: found 'worse'"),
    ],
)
def test_what_cannot_be_is_said_before_training(
    change: Values, message: str, files: Path, tiny: Path, tmp_path: Path
) -> None:
    job = values(files, tiny)
    job["tasks"]["spam"] = {
        key: value for key, value in {**job["tasks"]["spam"], **change}.items() if value is not None
    }
    with pytest.raises(pt.ConfigError, match=message):
        pt.train(job, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("cut", "options"),
    [
        ("1", {}), ([1.0, 2.0], {}), (True, {}),
        (1.0, {"threshold": 0.5}), (1.0, {"positive": "x"}), (1.0, {"threshold": -1}),
    ],
)  # fmt: skip
def test_a_folder_that_holds_another_threshold_is_refused(
    cut: Any,
    options: Values,
    run: pt.Run,
    tmp_path: Path,
) -> None:
    assert run.folder is not None
    run.model.save(tmp_path / "model")
    file = tmp_path / "model" / "polytask.json"
    told = json.loads(file.read_text("utf-8"))
    task = told["tasks"]["spam"]
    task["tuned"]["cut"] = cut
    task["options"] |= options
    file.write_text(json.dumps(told), "utf-8")
    with pytest.raises(pt.ModelError):
        pt.load(tmp_path / "model")


def test_a_rare_label_and_an_accuracy_are_noted(files: Path, tiny: Path, tmp_path: Path) -> None:
    rows = [{**row, "spam": "bad" if at % 8 == 0 else "fine"} for at, row in enumerate(rows_of(files, "train"))]
    task = {
        "type": "classification",
        "label": "spam",
        "data": {"train": str(write_jsonl(tmp_path / "rows.jsonl", rows)), "dev": 0.2},
    }

    def notes(**more: Any) -> list[str]:
        found = pt.check({"encoder": str(tiny), "tasks": {"spam": {**task, **more}}})
        return [note.message for note in found.notes if "says little" in note.message]

    (note,) = notes()
    assert note.startswith("10.4 % of the rows have the label 'bad'")
    assert note.endswith("write `positive: bad`, `metric: f1` and `threshold: tuned`")
    assert notes(positive="bad") == [note.replace("`positive: bad`, ", "")]
    assert notes(positive="bad", metric="f1", threshold="tuned") == notes(metric="macro_f1") == []


def test_a_rare_topic_of_real_news_is_found_more_often_from_a_tuned_threshold_on(
    shared_data: Path, tiny: Path, tmp_path: Path
) -> None:
    def drawn(split: str, most: int) -> list[Values]:
        """Return rows of which every twelfth is about sports."""
        read = [
            json.loads(line) for line in (shared_data / "ag_news" / f"{split}.jsonl").read_text("utf-8").splitlines()
        ]
        own, others = ([row for row in read if (row["label"] == "Sports") == wanted] for wanted in (True, False))
        chosen = [row for at in range(most // 12) for row in (own[at], *others[11 * at : 11 * at + 11])]
        return [{"text": row["text"], "label": "sport" if row["label"] == "Sports" else "other"} for row in chosen]

    data = {
        split: str(write_jsonl(tmp_path / f"{split}.jsonl", drawn(split, 480))) for split in ("train", "dev", "test")
    }
    task = {"type": "classification", "data": data, "positive": "sport", "metric": "f1", "threshold": "tuned"}
    train = {"epochs": 2, "learning_rate": 3e-3, "seed": 13}
    run = pt.train({"encoder": str(tiny), "max_tokens": 48, "tasks": {"sport": task}, "train": train}, tmp_path / "run")
    kept = lines(tmp_path / "run", "sport")
    truth, found = ([line[side] == "sport" for line in kept] for side in ("label", "prediction"))
    sure = [line["probability"] for line in kept]
    assert sum(truth) == 40
    assert run.scores["test"]["sport"]["f1"] == pytest.approx(sk.f1_score(truth, found))
    assert sk.f1_score(truth, found) > sk.f1_score(truth, [one >= 0.5 for one in sure], zero_division=0)
    assert run.scores["test"]["sport"]["average_precision"] > 2 * 40 / len(kept)
