"""Matching: labels that are texts, learned beside the rows, read once by a model, and changed when it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.data.stream import DrawnRow
from polytask.errors import ConfigError
from polytask.predict.labels import with_labels
from polytask.tasks import LabelStats
from polytask.tasks.matching import Matching, MatchingOptions, spelled
from samples import corpus_rows, write_jsonl

TEXTS = ["A moving film by Ang Lee.", "The train to Lyon was late.", "Never again."]


def fit(cells: list[str], **values: Any) -> Matching:
    options, stats = MatchingOptions.model_validate({"type": "matching", **values}), LabelStats()
    for label in cells:
        stats.present += Matching.read(options, {"label": label}, stats) is not None
    return Matching.fit("topic", options, stats).on_encoder(4)


def test_check_tells_of_labels_that_are_described_and_that_no_row_has() -> None:
    task = fit(["sport", "business"], labels={"sport": "news about sport", "buisness": "news about money"})
    stats = LabelStats()
    stats.labels.update(["sport", "business"])
    (note,) = task.label_notes(stats)
    assert note.startswith("`labels` describes 'buisness', which no row has")
    assert not fit(["sport", "business"], labels={"sport": "news about sport"}).label_notes(stats)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"sprot": None}, "'sprot' cannot be removed, as the model does not have it; .*sport"),
        ({"weather": "rain \ud83d"}, "half of a surrogate pair"),
        ({"rain \ud83d": "weather"}, "half of a surrogate pair"),
        ([["sport"]], "found .* a label is text or a whole number"),
        (["travel", "travel "], "found the label 'travel' twice"),
        ([], "found no label; expected labels with their texts"),
        ({}, "found no label; expected labels with their texts"),
    ],
)
def test_other_labels_than_could_be_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(["sport", "business"]).with_labels(labels)
    with pytest.raises(ValueError, match="expected labels with their texts"):
        with_labels({"topic": fit(["sport", "business"])}, "sport")  # type: ignore[arg-type]


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("options", [{}, {"class_weights": "balanced"}, {"label_smoothing": 0.2}])
def test_the_loss_is_the_cross_entropy_of_products_with_the_labels_of_training(options: dict[str, Any]) -> None:
    task = fit(["b", "a", "b"], labels={"unseen": "nobody's"}, **options)
    assert task.labels == ("a", "b", "unseen")
    outputs, label_texts = numbers(5), numbers(2, 1)
    targets = torch.tensor([1, 0, -100, 1, 0])
    weights = None if not options.get("class_weights") else torch.tensor(task.weights())
    expected = torch.nn.functional.cross_entropy(
        outputs @ label_texts.T, targets, weights, label_smoothing=options.get("label_smoothing", 0.0)
    )
    mixed = torch.cat([label_texts[1:], outputs[:3], label_texts[:1], outputs[3:]])  # as a batch by length has them
    marks = torch.tensor(task.label_targets)
    told = torch.cat([marks[1:], targets[:3], marks[:1], targets[3:]])
    torch.testing.assert_close(task.loss(mixed, told) / task.loss_denominator(told), expected)
    errors, counts = task.training_errors(mixed, told)
    assert counts.tolist() == [2, 2, 0]
    assert ((errors >= 0) & (errors <= counts)).all()
    only = task.loss(label_texts.clone().requires_grad_(), marks)
    assert float(only.detach()) == 0.0


def test_names_of_labels_are_read_as_words() -> None:
    task = fit(["PlayMusic", "GetWeather"], labels={"PlayMusic": "the user wants to hear music"})
    assert dict(zip(task.labels, task.label_texts, strict=True)) == {
        "GetWeather": "get weather", "PlayMusic": "the user wants to hear music",
    }  # fmt: skip
    assert spelled("---") == "---"


def test_the_json_form_is_the_task() -> None:
    task = fit(["b", "a"], labels={"c": "more"})
    copy = Matching.from_json("topic", json.loads(json.dumps(task.to_json())))
    assert copy.to_json() == task.to_json()
    assert (copy.labels, copy.label_texts, copy.head) == (task.labels, task.label_texts, task.head)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": {"a": ""}}, "the label 'a' is described by ''"),
        ({"labels": {"a": 3}}, "the label 'a' is described by 3"),
        ({"labels": {1: "x", "1": "y"}}, "the label '1' twice"),
        ({"labels": {"a": "same", "b": "Same "}}, "the labels 'a' and 'b' have the same text"),
        ({"class_weights": {"a": 1.0}}, "class_weights: found no weight for 'b'"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(["a", "b"], **values)


def test_one_label_is_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="only the label 'a'"):
        fit(["a", "a"], labels={"b": "another"})


def job(tiny: Path, **train: Any) -> dict[str, Any]:
    rows = corpus_rows(60)
    data = {"train": rows[:40], "dev": rows[40:], "test": rows[40:]}
    labels = {"travel": "trains, ferries and hotels", "unseen": "recipes"}
    return {
        "encoder": str(tiny),
        "max_tokens": 32,
        "tasks": {
            "topic": {"type": "matching", "data": data, "label": "topic", "labels": labels},
            "sentiment": {"type": "classification", "data": data, "label": "sentiment"},
        },
        "train": {"epochs": 3, "batch_size": 8, "learning_rate": 2e-3, "precision": "fp32", "device": "cpu", **train},
    }


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matching") / "run"
    pt.train(job(tiny), folder)
    return folder


def test_the_labels_of_training_pass_once_a_batch_beside_the_rows(tiny: Path) -> None:
    assembly = assemble(validate(job(tiny)))
    sources = assembly.sources["train"]
    task = assembly.tasks["topic"]
    drawn = [DrawnRow(0, row, ("topic", "sentiment")) for row in range(6)]
    batch = assembly.collator().from_sources(sources, drawn)
    trained = len(task.label_targets)
    assert trained == len(task.labels) - 1
    assert batch.rows == 6 + trained
    assert len(batch.targets["topic"]) == 6 + trained
    assert len(batch.targets["sentiment"]) == 6
    alone = assembly.collator().from_sources(sources, [DrawnRow(0, 0, ("sentiment",))])
    assert alone.rows == 1


def test_a_model_reads_its_labels_once_and_each_text_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from polytask.model.engine import TorchEngine

    model = pt.load(run)
    passed: list[int] = []
    before = TorchEngine.run

    def counting(self: TorchEngine, rows: Any, tasks: Any) -> Any:
        passed.append(len(rows))
        return before(self, rows, tasks)

    monkeypatch.setattr(TorchEngine, "run", counting)
    answers = model.predict(TEXTS)
    labels = len(model.tasks["topic"].labels)
    assert sum(passed) == len(TEXTS) + labels
    assert model.predict(TEXTS) == answers
    assert sum(passed) == 2 * len(TEXTS) + labels
    assert all(sum(answer["topic"]["probabilities"].values()) == pytest.approx(1.0, abs=1e-4) for answer in answers)
    assert all(set(answer["topic"]["probabilities"]) == set(model.tasks["topic"].labels) for answer in answers)


def test_labels_are_added_described_anew_and_taken_out(
    run: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    model = pt.load(run)
    labels = {"cooking": "recipes and kitchens", "unseen": None, "travel": "journeys"}
    found = model.predict(TEXTS, ["topic"], labels=labels)
    shown = set(found[0]["topic"]["probabilities"])
    assert shown == (set(model.tasks["topic"].labels) | {"cooking"}) - {"unseen"}
    assert model.with_labels({"topic": labels}).predict(TEXTS, ["topic"]) == found
    assert set(model.predict(TEXTS)[0]["topic"]["probabilities"]) == set(model.tasks["topic"].labels)
    (tmp_path / "labels.yaml").write_text(json.dumps({"topic": labels}), "utf-8")
    file = write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    code, out, _ = call("predict", run, file, "--tasks", "topic", "--labels", tmp_path / "labels.yaml")
    assert code == 0
    probabilities = [json.loads(line)["predictions"]["topic"]["probabilities"] for line in out.splitlines()]
    assert probabilities == [pytest.approx(answer["topic"]["probabilities"], abs=1e-4) for answer in found]
    named = model.predict(TEXTS, ["topic"], labels={"topic": ["SportNews", "weather"]})
    assert {"SportNews", "weather"} <= set(named[0]["topic"]["probabilities"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"sentiment": {"a": "b"}}, "found 'sentiment'; tasks whose labels are texts: topic"),
        ({"a": 3}, "topic: the label 'a' is described by 3"),
        ({"a": "journeys", "travel": "Journeys"}, "have the same text"),
    ],
)
def test_labels_that_cannot_be_are_refused(run: Path, labels: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pt.load(run).predict(TEXTS, labels=labels)


def test_a_file_of_labels_that_is_none_is_refused(
    run: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    for text in ("", "[a, b", "3"):
        (tmp_path / "labels.yaml").write_text(text, "utf-8")
        code, _, err = call("predict", run, "-", "--labels", tmp_path / "labels.yaml")
        assert code == 2
        assert "expected labels with their texts" in err
    code, _, err = call("predict", run, "-", "--labels", tmp_path / "none.yaml")
    assert code == 2
    assert "cannot be read" in err


def test_scores_of_a_folder_are_those_of_the_model(run: Path, tmp_path: Path) -> None:
    scores = json.loads((run / "scores.json").read_text())["test"]["topic"]
    data = write_jsonl(tmp_path / "test.jsonl", corpus_rows(60)[40:])
    assert pt.evaluate(run, str(data)).scores["topic"] == pytest.approx(scores)
    answers = pt.load(run).predict([row["text"] for row in corpus_rows(60)[40:]])
    right = [
        answer["topic"]["label"] == row["topic"]
        for answer, row in zip(answers, corpus_rows(60)[40:], strict=True)
        if row.get("topic")
    ]
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    assert pt.report(run).is_file()


@pytest.mark.slow
def test_an_onnx_folder_answers_alike_with_other_labels_too(run: Path, tmp_path: Path) -> None:
    made = pt.export(run, tmp_path / "onnx", to="onnx")
    found, model = pt.load(next(iter(made.folders.values()))), pt.load(run)
    for labels in (None, {"cooking": "recipes and kitchens"}):
        for one, other in zip(found.predict(TEXTS, labels=labels), model.predict(TEXTS, labels=labels), strict=True):
            assert one["topic"]["probabilities"] == pytest.approx(other["topic"]["probabilities"], abs=1e-4)
    windows = [one.predict(["word " * 80 + "train"], long="windows")[0]["topic"] for one in (found, model)]
    assert windows[0]["probabilities"] == pytest.approx(windows[1]["probabilities"], abs=1e-4)
