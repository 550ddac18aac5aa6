"""Temperatures: the best one is found, changes no decision, and is none where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.evaluation.calibration import BINS, expected_calibration_error
from polytask.tasks import TASKS, LabelStats, Task
from polytask.tasks.arrays import Outputs, sigmoid, softmax
from polytask.tasks.calibration import fit_temperature, negative_log_likelihood, two_classes
from polytask.tasks.scale import conditional, level_logs, survival_logits

WORDS = ["Ann", "met", "Bo", "Li"]
CELLS: dict[str, list[Any]] = {
    "classification": ["a", "b", "c"],
    "multilabel": [["a", "b"], ["c"], []],
    "ordinal": [1, 2, 3, 4],
    "tagging": [["B-PER", "O", "B-LOC", "I-LOC"]] * 2,
}


def fitted(kind: str, **options: Any) -> Task:
    stats, type_ = LabelStats(), TASKS[kind]
    known = type_.Options.model_validate({"type": kind, "calibrate": True, **options})
    for cell in CELLS[kind]:
        type_.read(known, {type_.columns(known)[-1]: cell, "tokens": WORDS}, stats)
        stats.present += 1
    return type_.fit("it", known, stats)


def drawn(task: Task, rows: int, factor: float, seed: int = 0) -> tuple[Outputs, list[Any], list[list[int]] | None]:
    """Return outputs, `factor` times what they should be, and labels drawn from what they should be."""
    generator = np.random.default_rng(seed)
    words = [[1] * len(WORDS)] * rows if task.level == "word" else None
    count = rows * (len(WORDS) if words else 1)
    logits = generator.normal(0, 2, (count, task.head.size))
    if task.activation == "sigmoid":
        chosen = generator.random(logits.shape) < sigmoid(logits)
        labels: list[Any] = [[label for label, on in zip(task.labels, row, strict=True) if on] for row in chosen]
    elif task.scale:
        logits = survival_logits(logits.astype(np.float32))
        shares = np.exp(level_logs(logits))
        labels = [task.labels[int(generator.choice(len(row), p=row / row.sum()))] for row in shares]
        return conditional(factor * logits).astype(np.float32), labels, None
    else:
        flat = [task.labels[int(generator.choice(task.head.size, p=row))] for row in softmax(logits)]
        labels = [flat[start : start + len(WORDS)] for start in range(0, count, len(WORDS))] if words else flat
    return (factor * logits).astype(np.float32), labels, words


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0])
def test_the_temperature_of_drawn_labels_is_found_and_lowers_the_calibration_error(kind: str, factor: float) -> None:
    task = fitted(kind)
    outputs, true_labels, words = drawn(task, 4000, factor)
    found, notes = task.tuned(outputs, true_labels, words)
    assert found.describe_tuned()["temperature"] == pytest.approx(factor, rel=0.1)
    assert all("not calibrated" not in note for note in notes)
    fresh, labels, words = drawn(task, 4000, factor, seed=1)
    after, before = (one.certainty(fresh, labels, words) for one in (found, found.uncalibrated()))
    assert after is not None
    assert before is not None
    errors = [expected_calibration_error(*one) for one in (before, after)]
    assert errors[1] is not None
    assert errors[1] < 0.02
    if factor != 1.0:
        assert errors[0] is not None
        assert errors[0] > 2 * errors[1]


@pytest.mark.parametrize("kind", CELLS)
@given(temperature=st.floats(0.05, 20), seed=st.integers(0, 99))
def test_a_temperature_changes_no_decision(kind: str, temperature: float, seed: int) -> None:
    task = fitted(kind)
    warm = replace(task, temperature=temperature)  # type: ignore[type-var]
    outputs, _, words = drawn(task, 3, 4.0, seed)
    assert warm.decode(outputs, words) == task.decode(outputs, words)
    text = " ".join(WORDS)
    spans = [(text.index(word), text.index(word) + len(word)) for word in WORDS]
    row = outputs[: len(WORDS)] if task.level == "word" else outputs[0]
    one, other = (each.format_prediction(row, text, spans, [1] * len(WORDS)) for each in (task, warm))
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert next(iter(one.values())) == next(iter(other.values()))
    else:
        assert [{**item, "score": 0} for item in one] == [{**item, "score": 0} for item in other]


@pytest.mark.parametrize("kind", CELLS)
def test_what_is_shown_has_the_temperature(kind: str) -> None:
    task = fitted(kind)
    outputs, _, _ = drawn(task, 1, 1.0)
    text = " ".join(WORDS)
    spans = [(text.index(word), text.index(word) + len(word)) for word in WORDS]
    row = outputs if task.level == "word" else outputs[0]
    flat = replace(task, temperature=20.0).format_prediction(row, text, spans, [1] * len(WORDS))  # type: ignore[type-var]
    cold = replace(task, temperature=0.05).format_prediction(row, text, spans, [1] * len(WORDS))  # type: ignore[type-var]
    if isinstance(flat, dict):
        assert isinstance(cold, dict)
        assert max(flat["probabilities"].values()) < max(cold["probabilities"].values())
    else:
        assert all(one["score"] <= other["score"] for one, other in zip(flat, cold, strict=True))


def test_the_fitted_temperature_is_no_worse_than_any_on_a_grid() -> None:
    generator = np.random.default_rng(3)
    outputs = generator.normal(0, 3, (300, 5)).astype(np.float32)
    targets = np.where(generator.random(300) < 0.5, outputs.argmax(-1), generator.integers(0, 5, 300))
    temperature, _ = fit_temperature(outputs, targets)
    best = negative_log_likelihood(outputs / np.float64(temperature), targets)
    for other in np.exp(np.linspace(np.log(0.05), np.log(20), 500)):
        assert best <= negative_log_likelihood(outputs / other, targets) + 1e-9


@pytest.mark.parametrize(
    ("rows", "right", "message"),
    [
        (0, True, "not calibrated: found no dev rows"),
        (1, True, "not calibrated: found 1 dev decisions"),
        (40, True, "every dev decision is right"),
        (40, False, "no better than guessing"),
    ],
)
def test_without_an_optimum_there_is_no_temperature_and_a_note_says_why(rows: int, right: bool, message: str) -> None:
    outputs = np.tile(np.array([[2.0, -1.0, 0.0]], np.float32), (rows, 1))
    task = fitted("classification")
    found, (note,) = task.tuned(outputs, ["a" if right else "b"] * rows)
    assert message in note
    assert found.describe_tuned() == {"temperature": 1.0}


def test_labels_that_training_never_had_do_not_count() -> None:
    outputs, labels, _ = drawn(fitted("classification"), 100, 2.0)
    one, _ = fitted("classification").tuned(outputs, labels)
    more = np.concatenate([outputs, outputs[:30]])
    other, _ = fitted("classification").tuned(more, [*labels, *["unseen"] * 30])
    assert one == other


def test_words_without_a_token_are_no_decisions() -> None:
    task = fitted("tagging")
    outputs = np.eye(task.head.size, dtype=np.float32)[:3] * 9
    found = task.certainty(outputs, [["O", "B-LOC", "O", "I-LOC"]], [[1, 0, 1, 1]])
    assert found is not None
    assert found[1].tolist() == [task.labels[0] == "O", task.labels[1] == "O", task.labels[2] == "I-LOC"]


def test_options_without_calibration_forget_an_earlier_temperature() -> None:
    task = fitted("classification", calibrate=False)
    assert not task.fits_on_dev
    found, notes = replace(task, temperature=3.0).tuned(*drawn(task, 20, 1.0)[:2])  # type: ignore[type-var]
    assert (found, notes) == (task, [])


def test_a_folder_of_before_loads_and_a_temperature_survives_json() -> None:
    for kind in CELLS:
        task = fitted(kind)
        data = task.to_json()
        assert "temperature" not in data["fitted"]
        warm = replace(task, temperature=1.5)  # type: ignore[type-var]
        assert TASKS[kind].from_json("it", warm.to_json()).to_json() == warm.to_json()
        assert warm.to_json()["fitted"] == data["fitted"]
        del data["tuned"], data["options"]["calibrate"]
        assert replace(TASKS[kind].from_json("it", data), options=task.options) == task  # type: ignore[type-var]


def test_two_classes_are_the_sigmoid() -> None:
    outputs = np.random.default_rng(1).normal(0, 4, (5, 3)).astype(np.float32)
    assert softmax(two_classes(outputs))[:, 1] == pytest.approx(sigmoid(outputs).ravel(), abs=1e-6)


def test_the_calibration_error_has_its_closed_form() -> None:
    """Decisions that say p and are right in a share s of the cases are |p - s| off; bins add up by their size."""
    assert expected_calibration_error(np.array([0.8] * 10), np.array([True] * 6 + [False] * 4)) == pytest.approx(0.2)
    both = np.array([0.8] * 10 + [0.3] * 30)
    right = np.array([True] * 6 + [False] * 4 + [True] * 18 + [False] * 12)
    assert expected_calibration_error(both, right) == pytest.approx((10 * 0.2 + 30 * 0.3) / 40)
    assert expected_calibration_error(np.array([1.0, 1.0, 0.0]), np.array([True, True, False])) == 0.0
    assert expected_calibration_error(np.array([]), np.array([], dtype=bool)) is None


@given(seed=st.integers(0, 999), count=st.integers(1, 200))
def test_the_calibration_error_is_that_of_scikit_learns_curve(seed: int, count: int) -> None:
    from sklearn.calibration import calibration_curve

    generator = np.random.default_rng(seed)
    confidence = generator.random(count)
    right = generator.random(count) < confidence**2
    shares, means = calibration_curve(right, confidence, n_bins=BINS, strategy="uniform")
    sizes = np.bincount((confidence * BINS).astype(int), minlength=BINS)
    expected = float((np.abs(shares - means) * sizes[sizes > 0]).sum() / count)
    assert expected_calibration_error(confidence, right) == pytest.approx(expected, abs=1e-6)
