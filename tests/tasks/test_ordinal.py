"""Levels of a scale: their order, the laws of their probabilities, and what cells may hold. Ranges of numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from polytask.data.data_warnings import label_findings
from polytask.tasks import TASKS, LabelStats, Task
from polytask.tasks.alike import label_differences
from polytask.tasks.ordinal import level_text
from polytask.tasks.scale import conditional, level_logs, survival_logits

OUTPUTS = arrays.arrays(np.float32, (4, 3), elements=st.floats(-60, 60, width=32))


def read(cells: list[Any], kind: str = "ordinal", **options: Any) -> tuple[Any, LabelStats, list[Any]]:
    known, stats = TASKS[kind].Options.model_validate({"type": kind, **options}), LabelStats()
    column = TASKS[kind].columns(known)[0]
    labels = [TASKS[kind].read(known, {column: cell}, stats) for cell in cells]
    return known, stats, labels


def fitted(cells: list[Any], kind: str = "ordinal", **options: Any) -> Any:
    known, stats, _ = read(cells, kind, **options)
    return TASKS[kind].fit("it", known, stats)


def shown(task: Task, outputs: Any) -> dict[str, Any]:
    found = task.format_prediction(np.asarray(outputs, np.float32), "", [], [])
    assert isinstance(found, dict)
    return found


@given(st.floats(-1000, 1000, width=32))
@example(float(np.float32(1e-4)))
def test_a_number_of_32_bits_is_the_level_that_a_file_spells(number: float) -> None:
    assert level_text(number) == level_text(str(np.float32(number)))


def test_a_teacher_answers_no_number_outside_of_the_range() -> None:
    score = fitted([1, 5, 3], "regression", label="score", range=[1, 5])
    assert score.decode(np.array([score.outputs_of({"value": 5})])) == [5]
    with pytest.raises(ValueError, match=r"found 7; `range` says that scores lie between 1 and 5"):
        score.outputs_of({"value": 7})


def test_numbers_are_ordered_as_numbers_and_words_as_the_options_say() -> None:
    assert fitted([10, "2.0", 9, 4.5, "2"]).levels == ("2", "4.5", "9", "10")
    words = fitted(["good", " bad", "good"], levels=["bad", "fair", "good"])
    assert (words.levels, words.counts) == (("bad", "fair", "good"), (1, 0, 2))
    assert fitted([1, 2], levels=[3, 2, 1.0]).levels == ("3", "2", "1")
    assert fitted([True, False], levels=["false", "true"]).levels == ("false", "true")


@pytest.mark.parametrize("cell", ["good", "1_0", "nan", "1,5", "٣"])
def test_words_without_an_order_are_refused_with_the_option_that_gives_one(cell: str) -> None:
    with pytest.raises(ValueError, match=r"only numbers are ordered by themselves; name all levels.*`levels: \["):
        read([1, cell])


@pytest.mark.parametrize("cell", [4, "great", "Good", 1.5, True])
def test_levels_that_the_options_do_not_name_are_refused(cell: Any) -> None:
    with pytest.raises(ValueError, match="`levels` names 1, 2, good"):
        read([1, cell], levels=[1, 2, "good"])


@pytest.mark.parametrize(
    ("levels", "message"), [(["a", "b", "a"], "'a' twice"), ([1, "1.0"], "'1' twice"), (["a"], "at least two")]
)
def test_levels_are_a_scale(levels: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TASKS["ordinal"].Options.model_validate({"type": "ordinal", "levels": levels})


def test_what_a_person_should_know_of_levels_is_told() -> None:
    options, stats, _ = read(["low", "high"], levels=["low", "middle", "high"])
    (note,) = [finding.tail for finding in label_findings("train", TASKS["ordinal"].fit("it", options, stats), stats)]
    assert note == "no row has the level 'middle', so it is hardly ever predicted"
    options, stats, _ = read([1, 2, 4, 5])
    (note,) = [finding.tail for finding in label_findings("train", TASKS["ordinal"].fit("it", options, stats), stats)]
    assert note.startswith("no row has 3, which the scale leaves out; name it in `levels`")
    options, stats, _ = read([0, 10**18])  # numbers between are counted, not made
    assert not [*label_findings("train", TASKS["ordinal"].fit("it", options, stats), stats)]
    task = TASKS["ordinal"].fit("it", *read([1, 2, 3])[:2])
    _, dev, _ = read(["2"] * 12)
    dev.present = 12
    (note,) = [finding.tail for finding in label_findings("dev", task, dev)]
    assert note.startswith("every row has the level '2'")


@given(OUTPUTS)
def test_probabilities_are_ranked_and_add_up(outputs: Any) -> None:
    logits = survival_logits(outputs)
    assert (np.diff(logits, axis=1) <= 1e-9).all()
    levels = np.exp(level_logs(logits))
    assert levels.sum(1) == pytest.approx(np.ones(4), abs=1e-6)
    above = np.cumprod(1 / (1 + np.exp(-outputs.astype(np.float64))), 1)
    np.testing.assert_allclose(1 - np.cumsum(levels, 1)[:, :-1], above, atol=1e-9)


@given(arrays.arrays(np.float32, (4, 3), elements=st.floats(-9, 9, width=32)))
def test_conditional_logits_come_back(outputs: Any) -> None:
    np.testing.assert_allclose(conditional(survival_logits(outputs)), outputs, atol=1e-4)


@given(OUTPUTS, st.floats(0.05, 20))
def test_the_answer_is_the_median_at_any_temperature(outputs: Any, temperature: float) -> None:
    task = fitted([1, 2, 3, 4])
    warm = replace(task, temperature=temperature)
    assert warm.decode(outputs) == task.decode(outputs)
    for row in outputs:
        found = shown(task, row)
        place = task.levels.index(found["level"])
        values = list(found["probabilities"].values())
        assert sum(values[:place]) <= 0.5 + 1e-5
        assert sum(values[place + 1 :]) <= 0.5 + 1e-5
        assert found["expected"] == pytest.approx(
            sum(p * n for p, n in zip(values, (1, 2, 3, 4), strict=True)), abs=1e-4
        )


@given(OUTPUTS, st.floats(0.05, 20))
def test_a_mode_is_the_most_probable_level_that_is_shown(outputs: Any, temperature: float) -> None:
    task = replace(fitted([1, 2, 3, 4, 4], prediction="mode"), temperature=temperature)
    for row, decoded in zip(outputs, task.decode(outputs), strict=True):
        found = shown(task, row)
        assert found["level"] == decoded
        assert found["probabilities"][decoded] == max(found["probabilities"].values())
    assert task.baseline(["1", "2"]) == ["4", "4"]


def test_the_loss_is_the_likelihood_of_the_level_and_certain_outputs_stay_finite() -> None:
    task = fitted([1, 2, 3, 4])
    outputs = torch.tensor([[1.0, -2.0, 0.5], [9.0, -9.0, 9.0]], requires_grad=True)
    levels = level_logs(survival_logits(outputs.detach().numpy()))
    for place in range(4):
        expected = -levels[:, place].sum()
        assert task.loss(outputs, torch.tensor([place, place])).item() == pytest.approx(expected, rel=1e-5)
    certain = (10 * outputs.detach()).requires_grad_()
    task.loss(certain, torch.tensor([3, 1])).backward()
    assert certain.grad is not None
    assert certain.grad.isfinite().all()


def test_only_rows_that_reach_a_level_train_its_step() -> None:
    """Shi et al. 2021, section 3.2: the conditional training subsets."""
    task = fitted([1, 2, 3, 4])
    outputs = torch.zeros(4, 3, requires_grad=True)
    task.loss(outputs, torch.tensor([0, 1, 3, -100])).backward()
    assert outputs.grad is not None
    assert (outputs.grad != 0).tolist() == [[True, False, False], [True, True, False], [True] * 3, [False] * 3]


@given(OUTPUTS, st.floats(0.1, 0.9), st.floats(0.3, 3))
def test_several_answers_are_averaged_as_they_are_shown(outputs: Any, share: float, temperature: float) -> None:
    task = replace(fitted([1, 2, 3, 4]), temperature=temperature)
    weights = np.array([share, 1 - share])
    mean = shown(task, task.averaged(outputs[:2], weights))["probabilities"]
    each = [shown(task, row)["probabilities"] for row in outputs[:2]]
    for level, value in mean.items():
        assert value == pytest.approx(sum(w * one[level] for w, one in zip(weights, each, strict=True)), abs=1e-4)


def test_levels_that_training_never_had_are_never_met_and_lie_where_they_belong() -> None:
    task = fitted([1, 2, 4])
    assert task.measured(["1", "4", "3", "0", "9"]) == [0.0, 2.0, 1.5, -0.5, 2.5]
    assert task.encode("3") == -100


def test_the_baseline_is_the_median() -> None:
    for cells in ([1, 1, 1, 2, 5, 5], [1, 2, 3, 4], [5, 5, 1], [1, 5]):
        task = fitted(cells)
        found = task.measured(task.baseline(["1"]))[0]
        best = min(
            np.abs(np.subtract(task.measured(list(map(str, cells))), at)).mean() for at in range(len(task.levels))
        )
        assert np.abs(np.subtract(task.measured(list(map(str, cells))), found)).mean() == pytest.approx(best)


def test_a_teacher_of_the_same_levels_in_another_order_is_another_one() -> None:
    tasks = [fitted([1, 2, 3], levels=levels) for levels in ([1, 2, 3], [3, 2, 1])]
    assert label_differences(tasks[0], tasks[0]) == []
    assert label_differences(*tasks) == ["the order of their labels differs: 'it' has 1, 2, 3 and 'it' has 3, 2, 1"]


RANGED = arrays.arrays(np.float32, (5, 1), elements=st.floats(-1e6, 1e6, width=32))


@given(RANGED)
def test_a_number_with_a_range_never_leaves_it(outputs: Any) -> None:
    task = fitted([1, 2.5, 5], "regression", range=[1, 5])
    free = fitted([1, 2.5, 5], "regression")
    found = task.decode(outputs)
    assert found == [min(max(value, 1.0), 5.0) for value in free.decode(outputs)]
    assert [shown(task, row)["value"] for row in outputs] == pytest.approx(found, abs=1e-6)
    mean = shown(task, task.averaged(outputs[:2], np.array([0.25, 0.75])))["value"]
    assert mean == pytest.approx(0.25 * found[0] + 0.75 * found[1], abs=1e-5)
    assert task.typical_range[0] >= 1
    assert task.typical_range[1] <= 5
    assert (task.answer_range, free.answer_range) == ((1.0, 5.0), None)
    pupil = fitted([0, 10], "regression")
    taught = pupil.convert_teacher_logits(torch.from_numpy(outputs), task).numpy()
    assert pupil.decode(taught) == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize("cell", [0.99, "5.01", -1])
def test_numbers_outside_the_range_are_refused(cell: Any) -> None:
    with pytest.raises(ValueError, match="`range` says that scores lie between 1 and 5"):
        read([1, 5, cell], "regression", range=[1, 5])


@pytest.mark.parametrize("values", [[5, 1], [1, 1], [1], [1, 2, 3], [1, float("inf")], [float("nan"), 2]])
def test_a_range_is_two_numbers_that_rise(values: list[float]) -> None:
    with pytest.raises(ValidationError):
        TASKS["regression"].Options.model_validate({"type": "regression", "range": values})


def test_levels_stay_in_their_order_in_a_confusion_matrix() -> None:
    from polytask.evaluation.record import confusion

    task = fitted([1, 2, 10, 20])
    answers: Any = type("Answers", (), {"labels": ["10", "2", "20"], "predictions": ["2", "2", "1"]})
    found = confusion(task, answers)
    assert found is not None
    assert found["labels"] == ["1", "2", "10", "20"]
    assert all(float(one) < float(other) for one, other in pairwise(found["labels"]))
