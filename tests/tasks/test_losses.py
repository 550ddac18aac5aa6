"""The losses: a summed loss divided by its denominator is PyTorch's mean, also when a batch comes in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.tasks import TASKS, LabelStats
from polytask.tasks.arrays import sigmoid, softmax
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.mlm import Mlm, MlmOptions
from polytask.tasks.multilabel import Multilabel, MultilabelOptions
from polytask.tasks.ordinal import Ordinal, OrdinalOptions
from polytask.tasks.regression import Regression, RegressionOptions
from polytask.tasks.tagging import Tagging, TaggingOptions

CLASSES = ("a", "b", "c")
WEIGHTS: dict[str, Any] = {"none": None, "balanced": "balanced", "given": {"a": 0.5, "b": 2.0, "c": 1.0}}
TARGETS = st.lists(st.sampled_from([0, 1, 2, -100]), min_size=1, max_size=12).filter(lambda found: max(found) >= 0)


def classification(weights: Any, smoothing: float) -> Classification:
    options = ClassificationOptions(type="classification", class_weights=weights, label_smoothing=smoothing)
    return Classification("it", options, CLASSES, (5, 2, 1))


def numbers(shape: tuple[int, ...], seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", WEIGHTS)
@settings(max_examples=25, deadline=None)
@given(found=TARGETS)
def test_sum_over_mass_is_mean_cross_entropy(weights: str, smoothing: float, found: list[int]) -> None:
    task = classification(WEIGHTS[weights], smoothing)
    outputs, targets = numbers((len(found), 3)), torch.tensor(found)
    weight = task.weights()
    expected = F.cross_entropy(
        outputs, targets, None if weight is None else torch.tensor(weight).double(), label_smoothing=smoothing
    )
    ours = task.loss(outputs, targets) / task.loss_denominator(targets)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weights", [None, "balanced"])
@settings(max_examples=25, deadline=None)
@given(found=TARGETS)
def test_tags_weigh_as_classes_do(weights: Any, found: list[int]) -> None:
    options = TaggingOptions(type="tagging", class_weights=weights, label_smoothing=0.1)
    task = Tagging("it", options, CLASSES, (5, 2, 1), bio=False)
    outputs, targets = numbers((len(found), 3)), torch.tensor(found)
    same = classification(weights, 0.1)
    torch.testing.assert_close(task.loss(outputs, targets), same.loss(outputs, targets))
    assert task.loss_denominator(targets) == pytest.approx(same.loss_denominator(targets))


# The losses of the others compare texts, or take whole rows: test_embedding.py, test_matching.py, test_nested_spans.py.
@pytest.mark.parametrize("name", sorted(set(TASKS) - {"embedding", "matching", "spans"}))
def test_pieces_of_a_batch_add_up_to_the_whole(name: str) -> None:
    task = {
        "classification": classification("balanced", 0.1),
        "mlm": Mlm("it", MlmOptions(type="mlm"), 3),
        "multilabel": Multilabel("it", MultilabelOptions(type="multilabel"), CLASSES, (1, 2, 3), 4),
        "ordinal": Ordinal("it", OrdinalOptions(type="ordinal"), ("1", "2", "3"), (5, 2, 1)),
        "regression": Regression("it", RegressionOptions(type="regression"), 1.0, 2.0),
        "tagging": Tagging("it", TaggingOptions(type="tagging"), CLASSES, (5, 2, 1), bio=False),
    }[name]  # fmt: skip
    outputs = numbers((8, task.head.size))
    targets = {"multilabel": (numbers((8, 3), 4) > 0).double(), "regression": numbers((8,), 5)}.get(
        name, torch.tensor([0, 1, 2, -100, 0, 0, 1, 2])
    )
    halves = [(outputs[:3], targets[:3]), (outputs[3:], targets[3:])]
    torch.testing.assert_close(task.loss(outputs, targets), sum(task.loss(*half) for half in halves))
    assert task.loss_denominator(targets) == pytest.approx(sum(task.loss_denominator(half) for _, half in halves))


def test_batches_of_unseen_labels_have_neither_loss_nor_mass() -> None:
    for weights in WEIGHTS.values():
        task, targets = classification(weights, 0.1), torch.tensor([-100, -100])
        assert task.loss(numbers((2, 3)), targets) == 0
        assert task.loss_denominator(targets) == 0


def test_balanced_weights_have_mean_1_over_the_training_rows() -> None:
    task = classification("balanced", 0.0)
    weights = task.weights()
    assert weights is not None
    assert np.average(weights, weights=task.counts) == pytest.approx(1)
    each = [count * weight for count, weight in zip(task.counts, weights, strict=True)]
    assert each == pytest.approx([each[0]] * 3)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"a": 1.0}, "found no weight for 'b'; give each label a weight"),
        ({"a": 1.0, "b": 1.0, "d": 1.0}, "found a weight for 'd', which no training row has; give"),
        ({"a": 1.0, "c": 1.0}, "found no weight for 'b' and a weight for 'c', which"),
    ],
)
def test_class_weights_name_exactly_the_labels(wrong: dict[str, float], told: str) -> None:
    stats = LabelStats(present=2)
    stats.labels.update(["a", "b"])
    options = ClassificationOptions(type="classification", class_weights=wrong)
    with pytest.raises(ValueError, match=f"class_weights: {told}.*"):
        Classification.fit("it", options, stats)


def test_multilabel_loss_is_the_mean_over_labels() -> None:
    options = MultilabelOptions(type="multilabel", class_weights="balanced")
    task = Multilabel("it", options, CLASSES, (1, 2, 4), rows=4)
    outputs, targets = numbers((5, 3)), (numbers((5, 3), 4) > 0).double()
    weight = torch.tensor([3.0, 1.0, 0.25], dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weight)
    torch.testing.assert_close(task.loss(outputs, targets) / task.loss_denominator(targets), expected)


def test_multilabel_threshold_decides() -> None:
    outputs = torch.tensor([[0.2, 0.4, 0.9]]).logit()
    for threshold, expected in ((0.1, ["a", "b", "c"]), (0.5, ["c"]), (0.95, [])):
        task = Multilabel("it", MultilabelOptions(type="multilabel", threshold=threshold), CLASSES, (1, 1, 1), 2)
        assert task.decode(outputs.numpy()) == [expected]


def scores(*values: object) -> LabelStats:
    stats = LabelStats()
    for value in values:
        Regression.read(RegressionOptions(type="regression"), {"score": value}, stats)
        stats.present += 1
    return stats


@settings(max_examples=50, deadline=None)
@given(
    offset=st.sampled_from([0.0, -3.5, 1e6, 1.7e9, -1e12]),
    values=st.lists(st.integers(-50, 50), min_size=2, max_size=30).filter(lambda found: len(set(found)) > 1),
)
def test_scores_are_learned_in_standard_deviations(offset: float, values: list[int]) -> None:
    cells = [offset + value for value in values]
    task = Regression.fit("it", RegressionOptions(type="regression"), scores(*cells))
    assert task.mean == pytest.approx(np.mean(cells))
    assert task.deviation == pytest.approx(np.std(cells), rel=1e-3)
    encoded = np.array([task.encode(cell) for cell in cells])
    assert encoded.std() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("cell", [True, "high", "inf", 10**400, [1], {"a": 1}])
def test_what_is_no_finite_number_is_no_score(cell: object) -> None:
    with pytest.raises(ValueError, match="a score is a finite number"):
        scores(cell)


def test_scores_beyond_the_range_of_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond the range of numbers"):
        Regression.fit("it", RegressionOptions(type="regression"), scores(1e308, -1e308, 5))


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ("x", "x"),
        (3, "3"),
        (3.0, "3"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (["a"], "a"),
        (None, None),
        ("", None),
        (float("nan"), None),
    ],
)
def test_class_cells_become_text(cell: object, label: str | None) -> None:
    assert Classification.read(ClassificationOptions(type="classification"), {"label": cell}, LabelStats()) == label


@pytest.mark.parametrize("cell", [1.5, [["a"]], {"a": "1"}])
def test_what_is_no_label_is_refused(cell: object) -> None:
    with pytest.raises(ValueError, match="a label is text or a whole number"):
        Classification.read(ClassificationOptions(type="classification"), {"label": cell}, LabelStats())


def test_several_labels_are_another_type() -> None:
    with pytest.raises(ValueError, match="a text has one label here, and several with `type: multilabel`"):
        Classification.read(ClassificationOptions(type="classification"), {"label": ["a", "b"]}, LabelStats())


def test_labels_of_one_cell_are_split_sorted_and_unique() -> None:
    options = MultilabelOptions(type="multilabel", separator="|")
    assert Multilabel.read(options, {"labels": "b| a ||b"}, LabelStats()) == ["a", "b"]
    assert Multilabel.read(options, {"labels": ""}, LabelStats()) is None
    with pytest.raises(ValueError, match="labels are a list, text joined by"):
        Multilabel.read(options, {"labels": 3}, LabelStats())


def test_probabilities_agree_with_torch_also_for_great_outputs() -> None:
    outputs = np.concatenate([np.random.default_rng(1).normal(0, 5, (20, 4)), [[1e4, -1e4, 0, 100]]]).astype(np.float32)
    np.testing.assert_allclose(softmax(outputs), torch.from_numpy(outputs).softmax(-1).numpy(), atol=1e-6)
    np.testing.assert_allclose(sigmoid(outputs), torch.from_numpy(outputs).sigmoid().numpy(), atol=1e-6)
    assert softmax(np.empty((0, 3), np.float32)).shape == (0, 3)
