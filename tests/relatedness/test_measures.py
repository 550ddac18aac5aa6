"""The measures against closed forms and independent formulas; one contract over the table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.relatedness import MEASURES, Evidence
from polytask.relatedness.cka import linear_cka
from polytask.relatedness.evidence import MeasureResult, jackknife
from polytask.relatedness.grouping import groups_of, proven
from polytask.relatedness.look_ahead import affinity
from polytask.relatedness.record import Cost, conclude
from polytask.relatedness.sentences import sentences_of
from polytask.relatedness.transfer import rank_correlation

TASKS = ("a", "b", "c")


def evidence(seed: int = 0, layers: int = 2, points: int = 3) -> Evidence:
    """Gradients of three tasks, the first two alike."""
    generator = np.random.default_rng(seed)
    common, other = generator.normal(size=(2, layers, 40))
    truth = np.stack([common, common, other], axis=1)[:, :, None]  # layers x T x 1 x size
    gradients = truth + 0.3 * generator.normal(size=(layers, 3, points, 40))
    products = np.einsum("ltkd,lusd->ltkus", gradients, gradients)
    before = generator.uniform(0.5, 1.0, size=(points, 3))
    after = before[:, None, :] * generator.uniform(0.9, 1.05, size=(points, 3, 3))
    states = {task: generator.normal(size=(layers, 20, 5 + place)) for place, task in enumerate(TASKS)}
    return Evidence(TASKS, products, before, after, states, generator.normal(size=(3, 3)))


def test_every_measure_has_numbers_for_every_pair_and_none_without_evidence() -> None:
    assert len(MEASURES) == 4
    for name, measure in MEASURES.items():
        found = measure.compute(evidence())
        assert found is not None, name
        assert found.matrix.shape == (3, 3)
        assert np.isfinite(found.matrix).all()
        assert all(matrix.shape == (3, 3) for matrix in found.layers.values())
        assert found.error is None or (found.error >= 0).all()
        assert measure.compute(Evidence(TASKS)) is None
        assert measure.title
        assert measure.meaning


def test_gradient_cosine_is_that_of_the_mean_gradients() -> None:
    generator = np.random.default_rng(1)
    gradients = generator.normal(size=(2, 3, 4, 7))  # layers x T x K x size
    found = MEASURES["gradient_cosine"].compute(
        Evidence(TASKS, np.einsum("ltkd,lusd->ltkus", gradients, gradients))
    )  # fmt: skip
    assert found is not None
    means = gradients.mean(axis=2)
    for layer in (0, 1):
        unit = means[layer] / np.linalg.norm(means[layer], axis=1, keepdims=True)
        assert found.layers[str(layer + 1)] == pytest.approx(unit @ unit.T)
    whole = np.concatenate(means, axis=1)
    unit = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    assert found.matrix == pytest.approx(unit @ unit.T)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(2).normal(size=9)
    found = jackknife(lambda points: values[points].mean(keepdims=True), 9)
    assert found == pytest.approx(values.std(ddof=1) / 3)
    assert np.isinf(jackknife(lambda points: values[points].mean(keepdims=True), 1)).all()


def test_look_ahead_is_the_share_of_the_loss_that_the_step_took() -> None:
    found = affinity(np.array([[2.0, 0.0]]), np.array([[[1.5, 0.0], [3.0, 0.1]]]))
    assert found[0] == pytest.approx(np.array([[0.25, 0.0], [-0.5, 0.0]]))


def hsic(one: np.ndarray, other: np.ndarray) -> float:
    """Kornblith et al. 2019, equation 3, by Gram matrices of texts and the centring matrix."""
    count = len(one)
    centre = np.eye(count) - 1 / count
    return float(np.trace(one @ one.T @ centre @ other @ other.T @ centre))


@given(st.integers(0, 1000))
def test_cka_is_that_of_hsic_and_knows_no_rotation_nor_scale(seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(12, 4)), generator.normal(size=(12, 6))
    found = linear_cka(x, y)
    assert found == pytest.approx(hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)))
    rotation, _ = np.linalg.qr(generator.normal(size=(4, 4)))
    assert linear_cka(x, x) == pytest.approx(1.0)
    assert linear_cka(3 * x @ rotation + 1, y) == pytest.approx(found)
    assert 0 <= found <= 1


def test_cka_of_states_that_are_all_the_same_is_zero() -> None:
    assert linear_cka(np.ones((3, 2)), np.eye(3)) == 0.0


def partitions(tasks: list[str]) -> list[list[list[str]]]:
    if not tasks:
        return [[]]
    first, *rest = tasks
    found = []
    for smaller in partitions(rest):
        found.append([[first], *smaller])
        found += [[*smaller[:at], [first, *group], *smaller[at + 1 :]] for at, group in enumerate(smaller)]
    return found


def gain(groups: list[list[str]], place: dict[str, int], matrix: np.ndarray) -> float:
    return sum(
        float(np.mean([matrix[place[other], place[task]] for other in group if other != task]))
        for group in groups for task in group if len(group) > 1
    )  # fmt: skip


@given(st.integers(2, 5), st.integers(0, 1000))
def test_no_grouping_gains_more(count: int, seed: int) -> None:
    tasks = [chr(ord("a") + at) for at in range(count)]
    matrix = np.random.default_rng(seed).normal(size=(count, count))
    place = {task: at for at, task in enumerate(tasks)}
    found = groups_of(tasks, matrix)
    assert gain(found, place, matrix) == pytest.approx(max(gain(one, place, matrix) for one in partitions(tasks)))


def test_help_of_nothing_is_no_reason_for_a_group() -> None:
    assert groups_of(TASKS, np.zeros((3, 3))) == [["a"], ["b"], ["c"]]
    assert groups_of(TASKS, -np.ones((3, 3))) == [["a"], ["b"], ["c"]]
    pair = np.zeros((3, 3))
    pair[0, 1] = pair[1, 0] = 0.2
    assert groups_of(TASKS, pair) == [["a", "b"], ["c"]]
    assert groups_of(TASKS, np.ones((3, 3))) == [["a", "b", "c"]]


def test_doubt_is_taken_off_and_unknown_help_is_none() -> None:
    found = proven(MeasureResult(np.full((2, 2), 0.3), np.array([[0.0, 0.1], [np.inf, 0.0]])))
    assert found == pytest.approx(np.array([[0.0, 0.2], [0.0, 0.0]]))


def test_rank_correlation_is_spearmans_and_undefined_where_pairs_are_few_or_alike() -> None:
    truth = np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0.0]])
    assert rank_correlation(np.exp(truth), truth).spearman == pytest.approx(1.0)
    assert rank_correlation(-truth, truth).spearman == pytest.approx(-1.0)
    assert rank_correlation(truth[:2, :2], truth[:2, :2]).spearman is None
    assert rank_correlation(np.ones((3, 3)), truth).spearman is None
    missing = truth.copy()
    missing[0, 1] = missing[1, 0] = np.nan
    assert rank_correlation(truth, missing).spearman is None
    assert rank_correlation(truth, missing).pairs == 4


def test_sentences_do_not_call_sure_what_the_noise_hides() -> None:
    matrix = np.array([[1.0, 0.6, -0.3], [0.6, 1.0, -0.3], [-0.3, -0.3, 1.0]])

    def said(error: float) -> str:
        measured = MeasureResult(matrix, np.full((3, 3), error))
        return " ".join(sentences_of(["a", "b", "c"], measured, [["a", "b"], ["c"]], {}))

    assert "These tasks pull the shared weights in the same direction: a and b." in said(0.1)
    assert "harm each other: " not in said(0.1)
    assert "These tasks seem to pull the shared weights in the same direction: a and b." in said(0.4)
    assert "or harm each other: a and b; " in said(0.4)


def test_many_pairs_within_the_noise_are_counted_and_few_are_named() -> None:
    names = [f"t{place}" for place in range(5)]

    def said(shown: int) -> str:
        error = np.full((5, 5), 1.0)
        error[:shown, :shown] = 0.01
        measured = MeasureResult(np.full((5, 5), 0.5), error)
        return " ".join(sentences_of(names, measured, [["t0", "t1"], ["t2"], ["t3"], ["t4"]], {}))

    assert "For all 10 pairs of tasks it is open" in said(0)
    assert "For the other 7 of 10 pairs of tasks it is open" in said(3)
    assert "or harm each other: t0 and t4; t1 and t4; t2 and t4; t3 and t4." in said(4)


def test_a_plan_of_fewer_copies_than_groups_says_so() -> None:
    gradients = np.random.default_rng(3).normal(size=(2, 6, 4, 200))
    products = np.einsum("ltkd,lusd->ltkus", gradients, gradients)
    before = np.ones((4, 6))
    apart = Evidence(tuple("abcdef"), products, before, np.repeat(before[:, None], 6, axis=1))
    found = conclude(apart, 2, Cost(10, 100, 1.0))
    copies = max(map(len, found.plan.levels))
    assert len(found.groups) > copies
    assert f"has at most {copies} copies of a layer, so some of the {len(found.groups)} groups" in found.sentences[-1]
    assert not any("copies of a layer" in sentence for sentence in conclude(evidence(), 2, found.cost).sentences)


def test_a_written_measure_says_what_it_means() -> None:
    told = conclude(evidence(), 2, Cost(10, 100, 1.0)).to_json()["measures"]
    assert told["look_ahead"]["meaning"].startswith("share of the column's loss")
    assert all(measure["meaning"] for measure in told.values())


def test_sentences_say_what_helps_what_the_noise_hides_and_what_predicted_nothing() -> None:
    found = conclude(evidence(), 2, Cost(10, 100, 1.0), ["A note."])
    said = " ".join(found.sentences)
    assert "in the same direction: a and b" in said
    assert "c: the probe found no task that helps" in said or "c" in found.groups[-1]
    assert "did not predict" in said or "with a rank correlation of" in said
    assert found.sentences[-1] == "A note."
    assert found.plan.layers == 2
