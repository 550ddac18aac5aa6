"""Thresholds of several labels: exact, against every combination of cuts; ties go to 0.5."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.tasks import METRICS, LabelStats
from polytask.tasks import thresholds as module
from polytask.tasks.cuts import Cuts
from polytask.tasks.multilabel import Multilabel, MultilabelOptions
from polytask.tasks.thresholds import tune_thresholds

LABELS = ("a", "b", "c")


def task_of(labels: tuple[str, ...] = LABELS, **options: Any) -> Multilabel:
    stats = LabelStats()
    known = MultilabelOptions.model_validate({"type": "multilabel", **options})
    for label in (*labels, None):
        Multilabel.read(known, {"labels": [] if label is None else [label]}, stats)
        stats.present += 1
    return Multilabel.fit("it", known, stats)


def sample(seed: int, rows: int, labels: int = 3, shift: float = -1.0) -> tuple[Any, Any]:
    """Return outputs of which many are equal, and labels that go with them."""
    generator = np.random.default_rng(seed)
    outputs = np.round(generator.normal(shift, 2, (rows, labels)), 0).astype(np.float32)
    return outputs, generator.random((rows, labels)) < 1 / (1 + np.exp(-outputs - 1.0))


def labels_of_rows(targets: Any) -> list[list[str]]:
    return [[label for label, on in zip(LABELS, row, strict=False) if on] for row in targets]


@given(seed=st.integers(0, 999), rows=st.integers(5, 12))
@pytest.mark.parametrize("metric", ["micro_f1", "macro_f1"])
def test_no_combination_of_thresholds_is_better_on_dev(metric: str, seed: int, rows: int) -> None:
    outputs, targets = sample(seed, rows)
    before = module.LEAST_POSITIVE
    module.LEAST_POSITIVE = 1
    try:
        found, _ = tune_thresholds(outputs, targets, LABELS, metric)
    finally:
        module.LEAST_POSITIVE = before
    if not targets.sum(0).all():
        return  # a label without a positive row takes the common threshold

    def score(cuts: Any) -> float:
        value = METRICS["row"][metric](labels_of_rows(targets), labels_of_rows(outputs >= np.array(cuts)))
        assert value is not None
        return value

    grids = [[*np.unique(outputs[:, label]), 1e9] for label in range(3)]
    assert score(found) == pytest.approx(max(score(cuts) for cuts in product(*grids)))


@given(seed=st.integers(0, 999))
def test_the_most_decisions_are_right_for_the_accuracy(seed: int) -> None:
    outputs, targets = sample(seed, 40, shift=0.0)
    found, _ = tune_thresholds(outputs, targets, LABELS, "accuracy")
    for label, cut in enumerate(found):
        if targets[:, label].sum() >= module.LEAST_POSITIVE:
            right = ((outputs[:, label] >= cut) == targets[:, label]).sum()
            best = max(((outputs[:, label] >= at) == targets[:, label]).sum() for at in [*outputs[:, label], 1e9])
            assert right == best


def test_ties_go_to_a_half_and_other_cuts_lie_halfway() -> None:
    outputs = np.array([3.0, 2, -2, -3], np.float32)
    cuts = Cuts.of(outputs, np.array([True, True, False, False]))
    assert cuts.at.tolist() == [4.0, 2.5, 0.0, -2.5, -4.0]
    assert cuts.at[cuts.best(cuts.right * 0)] == 0.0
    assert Cuts.of(outputs + 5, np.array([True] * 4)).at.tolist() == [9.0, 7.5, 5.0, 2.5, 0.0]
    assert Cuts.of(outputs - 5, np.array([True] * 4)).at.tolist() == [0.0, -2.5, -5.0, -7.5, -9.0]
    assert Cuts.of(np.zeros(3, np.float32), np.array([True] * 3)).at.tolist() == [1.0, 0.0]


def test_rare_labels_share_a_threshold_and_hardly_any_label_keeps_a_half() -> None:
    outputs, targets = sample(1, 200)
    targets[:, 2] = False
    targets[:3, 2] = True
    found, notes = tune_thresholds(outputs, targets, LABELS, "micro_f1")
    assert "1 labels have fewer than 10 dev rows and share a threshold: c" in notes[1]
    common, _ = tune_thresholds(outputs.reshape(-1, 1), targets.reshape(-1, 1), ("all",), "micro_f1")
    assert found[2] == common[0]
    few, (note,) = tune_thresholds(outputs[:3], targets[:3] & False, LABELS, "micro_f1")
    assert few == (0.0, 0.0, 0.0)
    assert "thresholds stay at 0.5: found 0 labels in 3 dev rows" in note
    assert tune_thresholds(np.empty((0, 3), np.float32), np.empty((0, 3), bool), LABELS, "macro_f1")[0] == few


def test_a_tuned_task_decides_shows_and_remembers_its_thresholds() -> None:
    outputs, targets = sample(2, 300)
    task = task_of(calibrate=True)
    found, notes = task.tuned(outputs, labels_of_rows(targets))
    assert isinstance(found, Multilabel)
    assert any("optimistic" in note for note in notes)
    labels = labels_of_rows(targets)
    scores = [METRICS["row"]["micro_f1"](labels, one.decode(outputs)) for one in (task, found)]
    assert scores[1] > scores[0]  # type: ignore[operator]
    again = Multilabel.from_json("it", found.to_json())
    for row in outputs[:50]:
        shown = again.format_prediction(row, "", [], [])
        assert shown["labels"] == found.decode(row[None])[0]
        for label in LABELS:
            if abs(shown["probabilities"][label] - found.thresholds[label]) > 1e-5:
                assert (label in shown["labels"]) == (shown["probabilities"][label] > found.thresholds[label])


def test_calibration_moves_tuned_thresholds_as_it_moves_probabilities() -> None:
    """So the same labels are given with and without it; a fixed threshold is one of what is shown."""
    outputs, targets = sample(4, 300)
    labels = labels_of_rows(targets)
    plain, warm = (task_of(calibrate=on).tuned(3 * outputs, labels)[0] for on in (False, True))
    assert plain.decode(outputs) == warm.decode(outputs)
    fixed = task_of(calibrate=True, threshold=0.3).tuned(3 * outputs, labels)[0]
    assert isinstance(fixed, Multilabel)
    assert list(fixed.thresholds.values()) == pytest.approx([0.3] * 3)
    for row in outputs[:30]:
        shown = fixed.format_prediction(row, "", [], [])
        assert shown["labels"] == [label for label, value in shown["probabilities"].items() if value >= 0.3]
    assert fixed.uncalibrated().decode(outputs) == fixed.decode(outputs)


def test_a_fixed_threshold_asks_for_nothing_on_dev() -> None:
    assert task_of().fits_on_dev
    assert not task_of(threshold=0.5).fits_on_dev
    with pytest.raises(ValueError, match="tuned"):
        task_of(threshold="best")
