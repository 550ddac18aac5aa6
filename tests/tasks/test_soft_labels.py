"""Cells that are distributions: what is read, what is refused, and that certain ones are ordinary labels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.tasks import TASKS, LabelStats
from polytask.tasks.soft import hard, shares_in, soft_shares
from polytask.tasks.weighing import weighed_denominator, weighed_loss

SOFT: list[Any] = [{"pos": 0.8, "neg": 0.2}, '{"neg": 0.75, "pos": 0.25}', "pos", {"other": 1}]
SETS: list[Any] = [{"a": 0.9, "b": 0.6}, ["a"], '{"b": 0.1, "a": 0.2}', []]


def read(kind: str, cells: list[Any], **options: Any) -> tuple[Any, LabelStats, list[Any]]:
    known, stats = TASKS[kind].Options.model_validate({"type": kind, **options}), LabelStats()
    column = TASKS[kind].columns(known)[0]
    labels = [TASKS[kind].read(known, {column: cell}, stats) for cell in cells]
    stats.present = len(labels)
    return known, stats, labels


def fitted(kind: str, cells: list[Any], **options: Any) -> tuple[Any, list[Any]]:
    known, stats, labels = read(kind, cells, **options)
    return TASKS[kind].fit("it", known, stats), labels


def test_a_distribution_is_read_from_an_object_and_from_json_text() -> None:
    task, labels = fitted("classification", SOFT)
    assert task.labels == ("neg", "other", "pos")
    assert task.counts == (1, 1, 2)
    assert (task.soft, task.target_type) == (True, "list<float>")
    expected = [[0.2, 0.0, 0.8], [0.75, 0.0, 0.25], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    np.testing.assert_allclose([task.encode(label) for label in labels], expected)
    assert [hard(label) for label in labels] == ["pos", "neg", "pos", "other"]
    several, labels = fitted("multilabel", SETS)
    np.testing.assert_allclose([several.encode(label) for label in labels], [[0.9, 0.6], [1, 0], [0.2, 0.1], [0, 0]])
    assert [hard(label) for label in labels] == [["a", "b"], ["a"], [], []]
    for one in (task, several):
        copy = TASKS[one.type_name].from_json("it", json.loads(json.dumps(one.to_json())))
        assert copy.to_json() == one.to_json()


def test_hard_labels_stay_numbers_of_classes() -> None:
    task, labels = fitted("classification", ["a", "b"])
    assert (task.soft, task.target_type, [task.encode(label) for label in labels]) == (False, "int", [0, 1])
    (soft,) = read("classification", [{"b": 0.6, "a": 0.4}])[2]
    assert task.encode(soft) == 1  # a soft row of dev beside hard training rows


def test_rounding_is_forgiven_and_nothing_else() -> None:
    third = read("classification", [{"a": 0.33, "b": 0.33, "c": 0.33}])[2][0]
    assert soft_shares(third) == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert soft_shares(read("classification", [{"a": 1.0, "b": None}])[2][0]) == {"a": 1.0}


@pytest.mark.parametrize(
    ("kind", "cell", "message"),
    [
        ("classification", {"a": 0.8, "b": 0.1}, r"adds up to 0\.9; probabilities of labels add up to 1"),
        ("classification", {"a": 0.8, "b": 0.8}, r"adds up to 1\.6"),
        ("classification", {"a": 0}, "adds up to 0"),
        ("classification", {"a": -0.1, "b": 1.1}, "a finite number, 0 or more"),
        ("classification", '{"a": NaN, "b": 1}', "a finite number, 0 or more"),
        ("classification", '{"a": 1e999, "b": 1}', "a finite number, 0 or more"),
        ("classification", {"a": 0.5, "b \ud83d": 0.5}, "half of a surrogate pair"),
        ("classification", {"a": 10**400, "b": 1}, "a finite number, 0 or more"),
        ("classification", "{'a': nan, 'b': 1}", "a finite number, 0 or more"),
        ("classification", "{'a': 0.8, 'a': 0.2}", "or an object of probabilities"),
        ("classification", {"1": 0.5, "1.0": 0.5}, "names '1' twice"),
        ("classification", {"a": "0.8", "b": "0.2"}, "or an object of probabilities"),
        ("classification", {"a": True}, "or an object of probabilities"),
        ("classification", {}, "or an object of probabilities"),
        ("classification", '{"a": 0.8,', "or an object of probabilities"),
        ("classification", {"a": {"b": 1}}, "or an object of probabilities"),
        ("multilabel", {"a": 1.2}, "at most 1"),
        ("multilabel", {"a": -1}, "a finite number, 0 or more"),
    ],
)
def test_what_is_no_distribution_is_refused(kind: str, cell: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(kind, [cell])


def test_a_cell_full_of_blanks_is_no_more_work_than_another() -> None:
    blanks = " " * 300_000  # minutes, where blanks can be matched in two ways
    assert shares_in("{'a': 1" + blanks + "}") == {"a": 1.0}
    for cell in ("{'a': 1" + blanks + "x", "{" + blanks + "'a':" + blanks + "x}", "{'a': 1," + blanks + ",}"):
        assert shares_in(cell) is None


def test_what_python_prints_is_read_as_json_is() -> None:
    for cell in ("{'pos': 0.8, 'neg': 0.2}", "{'pos': np.float64(0.8), \"neg\": np.float64(0.2),}"):
        assert soft_shares(read("classification", [cell])[2][0]) == pytest.approx({"pos": 0.8, "neg": 0.2})
    assert soft_shares(read("classification", ["{1: 1.0, 0: None}"])[2][0]) == {"1": 1.0}
    assert soft_shares(read("multilabel", ["{'it\\'s': 0.8, 'a': .9}"])[2][0]) == {"it's": 0.8, "a": 0.9}
    assert read("classification", ["{x}"])[2] == ["{x}"]


def test_a_cell_cannot_pass_for_a_distribution_that_was_read() -> None:
    for kind, cell in (("classification", '\0soft{"a": 1}'), ("multilabel", ["\0soft{"])):
        with pytest.raises(ValueError, match="no NUL character"):
            read(kind, [cell])


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": "balanced"}], ids=str)
def test_a_certain_distribution_is_the_label(options: dict[str, Any]) -> None:
    cells = ["pos", "neg", "pos", "neg", "neg"]
    plain, labels = fitted("classification", cells, **options)
    soft, certain = fitted("classification", [{cell: 1.0} for cell in cells], **options)
    outputs, teacher = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(1))
    targets = [
        torch.tensor([task.encode(one) for one in (*found, "new")])
        for task, found in ((plain, labels), (soft, certain))
    ]
    assert targets[1].shape == (6, 2)
    for one, other in zip(
        [plain.loss(outputs, targets[0]), plain.distillation_loss(outputs, targets[0], teacher)],
        [soft.loss(outputs, targets[1]), soft.distillation_loss(outputs, targets[1], teacher)],
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    assert plain.loss_denominator(targets[0]) == pytest.approx(soft.loss_denominator(targets[1]))
    for one, other in zip(
        plain.training_errors(outputs, targets[0]), soft.training_errors(outputs, targets[1]), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_the_loss_is_the_cross_entropy_and_least_at_the_distribution() -> None:
    task, labels = fitted("classification", SOFT[:2])
    targets = torch.tensor([task.encode(label) for label in labels])
    outputs = torch.randn(2, 2, generator=torch.Generator().manual_seed(1))
    expected = -(targets * outputs.log_softmax(-1)).sum()
    torch.testing.assert_close(task.loss(outputs, targets), expected)
    assert task.cross_entropy(outputs.numpy(), targets.double().numpy()) == pytest.approx(expected.item() / 2)
    best = targets.log()
    assert task.loss(best, targets) < task.loss(best + 0.1 * outputs, targets)
    errors, counts = task.training_errors(best, targets)
    assert errors.abs().max() < 1e-6
    assert counts.tolist() == [1, 1]
    several, labels = fitted("multilabel", SETS)
    targets = torch.tensor([several.encode(label) for label in labels])
    outputs = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    found = several.cross_entropy(outputs.numpy(), targets.double().numpy())
    assert found == pytest.approx(several.loss(outputs, targets).item() / 4)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.25]), min_size=1, max_size=8), st.integers(0, 99))
def test_a_weighed_loss_is_the_sum_of_weighed_rows(weights: list[float], seed: int) -> None:
    tensors = torch.randn(2, len(weights), generator=torch.Generator().manual_seed(seed))

    def loss(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one - other).square().sum()

    given_weights = torch.tensor(weights)
    expected = (given_weights * (tensors[0] - tensors[1]).square()).sum()
    torch.testing.assert_close(weighed_loss(loss, given_weights, *tensors), expected)
    torch.testing.assert_close(weighed_loss(loss, None, *tensors), loss(*tensors))
    assert weighed_denominator(lambda one: float(len(one)), given_weights, tensors[0]) == pytest.approx(sum(weights))
