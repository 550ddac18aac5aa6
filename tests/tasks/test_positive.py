"""The positive label of a classification: metrics about it, and the threshold from which it is answered."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.evaluation.scoring import score
from polytask.tasks import METRICS, LabelStats, Metric
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.matching import Matching, MatchingOptions
from polytask.tasks.question import TypedQuestion
from polytask.tasks.thresholds import LEAST_POSITIVE, tune_threshold

TUNED = ("accuracy", "macro_f1", "micro_f1", "mcc", "f1")
POSITIVE = ("f1", "precision", "recall", "roc_auc", "average_precision")
SPAM = {"positive": "spam"}


def task_of(labels: Sequence[Any] = ("ham", "ham", "spam"), **options: Any) -> Classification:
    known = ClassificationOptions.model_validate({"type": "classification", **options})
    stats = LabelStats()
    for label in labels:
        Classification.read(known, {"label": label}, stats)
        stats.present += 1
    task = Classification.fit("it", known, stats)
    task.require_known_positive()
    return task


def sample(seed: int, rows: int = 120, step: float = 0.5) -> tuple[Any, list[str]]:
    """Return outputs of (ham, spam), many of whose differences are equal, and labels that go with them."""
    generator = np.random.default_rng(seed)
    odds = step * np.round(generator.normal(-1.5, 2, rows) / step)
    middle = generator.normal(0, 1, rows)
    outputs = np.stack([middle - odds / 2, middle + odds / 2], axis=1).astype(np.float32)
    spam = generator.random(rows) < 1 / (1 + np.exp(-odds - 0.7))
    spam[: 2 * LEAST_POSITIVE] = np.arange(2 * LEAST_POSITIVE) % 2 == 0  # enough of both
    return outputs, ["spam" if one else "ham" for one in spam]


def test_metrics_of_the_positive_label_belong_to_tasks_where_one_is_known() -> None:
    plain = ("accuracy", "macro_f1", "micro_f1", "mcc")
    assert task_of().metrics == plain
    assert task_of(**SPAM).metrics == (*plain, *POSITIVE) == ClassificationOptions.metrics
    assert task_of([True, False]).metrics == (*plain, *POSITIVE)
    assert task_of(["a", "b", "c"], positive="b", metric="f1").metrics == ("f1", *plain, *POSITIVE[1:])
    assert {name for name in plain if METRICS["row"][name].takes != "labels"} == set()


@pytest.mark.parametrize("metric", POSITIVE)
def test_a_metric_without_its_label_is_refused_with_what_to_write(metric: str) -> None:
    message = f"the metric {metric}, .* write `positive: LABEL`; labels: ham, spam"
    with pytest.raises(ValueError, match=message):
        task_of(metric=metric)
    with pytest.raises(ValueError, match=message):
        task_of(gate={"score": {metric: 0.5}})
    assert task_of(metric=metric, **SPAM).metric == metric


def test_one_of_several_labels_is_scored_against_the_rest() -> None:
    task = task_of(["a", "b", "c"], positive="b")
    truth, found = ["a", "b", "c", "b", "new"], ["b", "b", "a", "c", "b"]
    scores = score(task, truth, found)
    assert (scores["precision"], scores["recall"], scores["f1"]) == (1 / 3, 1 / 2, 2 / 5)
    assert scores["roc_auc"] == 0.5  # without probabilities all rows are alike
    assert scores["average_precision"] == 2 / 5
    outputs = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]], np.float32))
    found = task.positive_probabilities(outputs)
    assert found is not None
    assert found.tolist() == pytest.approx([0.3, 0.6])
    assert task_of(["a", "b", "c"]).positive_probabilities(outputs) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), step=st.sampled_from([0.5, 0.01]))
@pytest.mark.parametrize("metric", TUNED)
def test_no_threshold_is_better_on_dev(metric: str, seed: int, step: float) -> None:
    outputs, labels = sample(seed, 60, step)
    task, notes = task_of(metric=metric, threshold="tuned", **SPAM).tuned(outputs, labels)
    odds = (outputs[:, 1] - outputs[:, 0]).astype(np.float64)
    table = METRICS["row"][metric]

    def scored(cut: float) -> float:
        value = table(*task.measured_by(metric, labels, ["spam" if one >= cut else "ham" for one in odds]))
        assert value is not None
        return value

    assert task.cut is not None
    assert task.decode(outputs) == ["spam" if one >= task.cut else "ham" for one in odds]
    assert scored(task.cut) == pytest.approx(max(map(scored, [*np.unique(odds).tolist(), math.inf])))
    assert [note for note in notes if "optimistic" in note] == notes


def test_a_metric_that_does_not_say_which_threshold_is_best_takes_that_of_f1() -> None:
    outputs, labels = sample(3)
    f1, order = (task_of(metric=name, threshold="tuned", **SPAM).tuned(outputs, labels) for name in ("f1", "roc_auc"))
    assert order[0].cut == f1[0].cut
    assert order[1][1] == "the threshold was tuned for f1, since it cannot be tuned for roc_auc"


def test_a_metric_of_errors_is_made_small() -> None:
    METRICS["row"]["wrong"] = Metric(
        lambda truth, found: sum(a != b for a, b in zip(truth, found, strict=True)) / len(truth),
        types=("classification",), smaller_is_better=True,
        of_counts=lambda tp, fp, fn, tn: (fp + fn) / (tp + fp + fn + tn),
    )  # fmt: skip
    try:
        outputs, labels = sample(5)
        found = [task_of(metric=name, threshold="tuned", **SPAM).tuned(outputs, labels)[0] for name in ("wrong", "mcc")]
        right = task_of(metric="accuracy", threshold="tuned", **SPAM).tuned(outputs, labels)[0]
        assert found[0].cut == right.cut
    finally:
        del METRICS["row"]["wrong"]


def test_few_rows_of_a_label_keep_a_half() -> None:
    outputs, _ = sample(1, 40)
    odds = (outputs[:, 1] - outputs[:, 0]).astype(np.float64)
    few = np.arange(40) < LEAST_POSITIVE - 1
    for positive, kind in ((few, "with"), (~few, "without")):
        cut, (note,) = tune_threshold(odds, positive, "f1")
        assert cut == 0.0
        assert note == f"the threshold stays at 0.5: found 9 dev rows {kind} the positive label, and need 10"
    assert tune_threshold(odds[:0], few[:0], "f1")[0] == 0.0


def test_calibration_changes_no_answer_and_a_fixed_threshold_is_one_of_what_is_shown() -> None:
    outputs, labels = sample(4, 300)
    plain, warm = (
        task_of(calibrate=on, threshold="tuned", metric="f1", **SPAM).tuned(3 * outputs, labels)[0]
        for on in (False, True)
    )
    assert warm.temperature != 1.0
    assert plain.decode(outputs) == warm.decode(outputs)
    assert plain.thresholds != warm.thresholds
    fixed = task_of(calibrate=True, threshold=0.3, **SPAM).tuned(3 * outputs, labels)[0]
    assert fixed.thresholds == {"spam": pytest.approx(0.3)}
    for row in outputs:
        shown = fixed.format_prediction(row, "", [], [])
        assert abs(shown["probabilities"]["spam"] - 0.3) < 1e-5 or (
            (shown["label"] == "spam") == (shown["probabilities"]["spam"] > 0.3)
        )
    for task in (plain, warm, fixed):
        cold = task.uncalibrated()
        assert cold.temperature == 1.0
        assert cold.decode(outputs) == task.decode(outputs)
        assert cold.unfitted().cut is None


def test_the_certainty_is_that_of_the_label_that_is_answered() -> None:
    outputs, labels = sample(6)
    task = task_of(threshold=0.2, **SPAM)
    sure, right = task.certainty(outputs, labels)
    shown = [task.format_prediction(row, "", [], []) for row in outputs]
    assert sure.tolist() == pytest.approx([one["probabilities"][one["label"]] for one in shown], abs=1e-5)
    assert right.tolist() == [one["label"] == label for one, label in zip(shown, labels, strict=True)]
    assert sure.min() < 0.5  # spam that is answered with less than one half
    assert task.certainty(outputs[:0], [])[0].shape == (0,)


def test_without_a_threshold_the_more_probable_label_is_answered_as_ever() -> None:
    outputs, _ = sample(7)
    task = task_of(**SPAM)
    assert task.thresholds == {}
    assert not task.fits_on_dev
    assert task.decode(outputs) == [task.classes[place] for place in outputs.argmax(-1)]
    assert task.describe_tuned() == {}
    assert task_of(threshold=0.3, **SPAM).describe_tuned() == {"thresholds": {"spam": 0.3}}


def test_a_choice_among_both_labels_follows_the_threshold() -> None:
    task = task_of(threshold=0.2, **SPAM)
    outputs = np.log(np.array([0.7, 0.3], np.float32))
    both = TypedQuestion("choice", ("spam", "ham"))
    assert task.decided(both, outputs) == "spam"
    told = both.answer(task.asked(both)(outputs), task.decided(both, outputs))
    assert told["choice"] == "spam"
    assert told["confidence"] == 0.0
    assert told["probabilities"] == pytest.approx({"spam": 0.3, "ham": 0.7})
    for question in (TypedQuestion("choice", ("ham",)), TypedQuestion("noul")):
        assert task.decided(question, outputs) is None
    assert task_of(**SPAM).decided(both, outputs) is None


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a", "b", "c"], {"threshold": 0.2, "positive": "a"}, "decides between two labels, and the rows have 3"),
        (["a", "b"], {"threshold": "tuned"}, "neither label .* write `positive: a` or `positive: b`"),
        (["a", "b"], {"threshold": 0.2, "positive": "c"}, "positive: found 'c', which no training row has"),
        (["a", "b"], {"threshold": 1.0}, "less than 1"),
        (["a", "b"], {"threshold": 0}, "greater than 0"),
        (["a", "b"], {"threshold": "best"}, "tuned"),
        (["a", "b"], {"threshold": "tuned", "metric": "recall", "positive": "a"}, "best if every row is given"),
        (["a", "b"], {"threshold": "tuned", "metric": "precision", "positive": "a"}, "hardly any row .*`metric: f1`"),
    ],
)
def test_what_cannot_decide_is_refused(labels: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task_of(labels, **options)


def test_a_threshold_of_a_half_is_none_and_may_stand_anywhere() -> None:
    assert task_of(["a", "b", "c"], threshold=0.5).thresholds == {}


def test_labels_that_may_be_added_have_no_threshold_and_a_positive_one_that_is_there() -> None:
    with pytest.raises(ValueError, match="labels can be added at prediction time"):
        MatchingOptions.model_validate({"type": "matching", "threshold": "tuned", "positive": "a"})
    stats = LabelStats()
    stats.labels.update(["a", "b"])
    with pytest.raises(ValueError, match="positive: found 'c'"):
        Matching.fit("it", MatchingOptions.model_validate({"type": "matching", "positive": "c"}), stats)
    task = Matching.fit("it", MatchingOptions.model_validate({"type": "matching", "positive": "a"}), stats)
    assert set(POSITIVE) <= set(task.metrics)
    other = task.with_labels({"a": None, "c": "see"})
    assert other.positive is None
    assert not set(POSITIVE) & set(other.metrics)


def test_a_folder_gives_back_what_was_tuned_and_nothing_that_cannot_be() -> None:
    outputs, labels = sample(8)
    task = task_of(threshold="tuned", metric="f1", **SPAM).tuned(outputs, labels)[0]
    data = json.loads(json.dumps(task.to_json()))
    assert data["tuned"]["cut"] == task.cut
    again = Classification.from_json("it", data)
    assert again.decode(outputs) == task.decode(outputs)
    assert again == task

    def altered(**parts: Any) -> dict[str, Any]:
        return {**data, **{part: {**data[part], **values} for part, values in parts.items()}}

    for wrong in (
        altered(tuned={"cut": math.nan}), altered(tuned={"cut": math.inf}), altered(tuned={"cut": "0"}),
        altered(tuned={"cut": [0.1, 0.2]}), altered(options={"threshold": 7}), altered(options={"positive": None}),
        altered(options={"positive": "x"}), altered(options={"threshold": 0.5}),
        altered(fitted={"classes": ["ham", "spam", "eggs"], "counts": [1, 1, 1]}),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            Classification.from_json("it", wrong)
    before = {**data, "tuned": {"temperature": 1.0}}  # of a version that knew of no threshold
    before["options"] = {key: value for key, value in data["options"].items() if key != "threshold"}
    assert Classification.from_json("it", before).thresholds == {}
