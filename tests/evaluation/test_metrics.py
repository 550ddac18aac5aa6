"""The metrics agree with the libraries that define them, and are None where they are undefined."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval import metrics as seqeval
from seqeval.scheme import IOB2
from sklearn import metrics as sk

from polytask.tasks import METRICS, smaller_is_better

ROW, WORD = METRICS["row"], METRICS["word"]
LAWS = settings(max_examples=50, deadline=None)
CLASS_PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=40)
SETS = st.lists(st.sampled_from("abcd"), max_size=4, unique=True).map(sorted)
TAG = st.sampled_from(["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-NEW"])
SENTENCES = st.lists(st.lists(st.tuples(TAG, TAG), min_size=1, max_size=8), min_size=1, max_size=6)
NUMBERS = st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=2, max_size=30)


def quietly(measure: Callable[..., Any], *args: Any, **options: Any) -> float:
    """Call an oracle without its warnings."""
    with warnings.catch_warnings(action="ignore"):
        return float(measure(*args, **options))


def columns(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def test_every_metric_is_tested_here() -> None:
    # Two of them need probabilities: tests/tasks/test_calibration.py, tests/tasks/test_soft_labels.py.
    positive = ["f1", "precision", "recall", "roc_auc", "average_precision"]
    numbers = ["pearson", "spearman", "mae"]
    # Of losses, and of ranks: tests/tasks/test_mlm.py, tests/tasks/test_embedding.py.
    others = ["loss", "recall@1", "recall@10", "quadratic_kappa"]
    classes = ["accuracy", "macro_f1", "micro_f1", "mcc", *positive]
    assert list(ROW) == [*classes, *numbers, *others, "ece", "cross_entropy"]
    assert {name: metric.takes for name, metric in ROW.items() if metric.takes != "labels"} == {
        "f1": "positive", "precision": "positive", "recall": "positive",
        "roc_auc": "probabilities", "average_precision": "probabilities",
    }  # fmt: skip
    assert {metric.takes for metric in WORD.values()} == {"labels"}
    # Those of spans are held against sets: tests/tasks/test_nested_spans.py.
    spans = ["span_f1", "span_precision", "span_recall"]
    assert list(WORD) == ["f1", "precision", "recall", *spans, "accuracy", "macro_f1", "ece"]
    assert {name for name in {*ROW, *WORD} if smaller_is_better(name)} == {"mae", "loss", "ece", "cross_entropy"}


@LAWS
@given(CLASS_PAIRS)
def test_class_metrics_are_scikit_learns_with_unseen_labels(pairs: list[tuple[str, str]]) -> None:
    truth, found = columns(pairs)
    assert ROW["accuracy"](truth, found) == pytest.approx(sk.accuracy_score(truth, found))
    assert ROW["mcc"](truth, found) == pytest.approx(quietly(sk.matthews_corrcoef, truth, found))
    for average in ("macro", "micro"):
        expected = quietly(sk.f1_score, truth, found, average=average, zero_division=0)
        assert ROW[f"{average}_f1"](truth, found) == pytest.approx(expected)


@LAWS
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_metrics_of_the_positive_label_are_scikit_learns(pairs: list[tuple[bool, bool]]) -> None:
    truth, found = columns(pairs)
    for name in ("f1", "precision", "recall"):
        expected = quietly(getattr(sk, f"{name}_score"), truth, found, zero_division=0)
        assert ROW[name](truth, found) == pytest.approx(expected), name


@LAWS
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8) | st.floats(0, 1)), min_size=1, max_size=60))
def test_metrics_of_the_order_are_scikit_learns_with_ties(pairs: list[tuple[bool, float]]) -> None:
    truth, found = columns(pairs)
    for name in ("roc_auc", "average_precision"):
        value = ROW[name](truth, found)
        if len(set(truth)) == 1:
            assert value is None, name
        else:
            oracle = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[name]
            assert value == pytest.approx(oracle(truth, found), abs=1e-12), name


@LAWS
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_metrics_of_counts_are_those_of_the_rows(pairs: list[tuple[bool, bool]]) -> None:
    """By which a threshold is tuned; the truth holds both labels then."""
    truth, found = columns([*pairs, (True, False), (False, False)])
    cells = [sum(pair == cell for pair in zip(truth, found, strict=True)) for cell in product((True, False), repeat=2)]
    tp, fn, fp, tn = (np.array([float(count)]) for count in cells)
    counted = {name: metric for name, metric in ROW.items() if metric.of_counts is not None}
    assert set(counted) == {"accuracy", "macro_f1", "micro_f1", "mcc", "f1"}
    for name, metric in counted.items():
        assert metric.of_counts is not None
        assert metric.of_counts(tp, fp, fn, tn)[0] == pytest.approx(metric(truth, found)), name


@LAWS
@given(st.lists(st.tuples(SETS, SETS), min_size=1, max_size=20))
def test_label_set_metrics_are_scikit_learns_on_indicators(pairs: list[tuple[list[str], list[str]]]) -> None:
    truth, found = columns(pairs)
    names = sorted({name for row in (*truth, *found) for name in row})
    if not names:
        assert ROW["micro_f1"](truth, found) == ROW["macro_f1"](truth, found) == ROW["accuracy"](truth, found) == 1
        return
    # A single column would be read as two classes: a second one is there, and is not averaged.
    columns_of = [*names, "padding"]
    table = [np.array([[name in row for name in columns_of] for row in rows], dtype=int) for rows in (truth, found)]
    assert ROW["accuracy"](truth, found) == pytest.approx((table[0] == table[1]).all(1).mean())
    for average in ("macro", "micro"):
        expected = sk.f1_score(*table, labels=range(len(names)), average=average, zero_division=0)
        assert ROW[f"{average}_f1"](truth, found) == pytest.approx(expected)


@LAWS
@given(SENTENCES)
def test_entity_metrics_are_seqevals_strict_iob2(sentences: list[list[tuple[str, str]]]) -> None:
    truth, found = ([[pair[side] for pair in sentence] for sentence in sentences] for side in (0, 1))
    for name in ("f1", "precision", "recall"):
        oracle = getattr(seqeval, f"{name}_score")
        expected = quietly(oracle, truth, found, mode="strict", scheme=IOB2, zero_division=0)
        assert WORD[name](truth, found) == pytest.approx(expected), name


@LAWS
@given(SENTENCES)
def test_word_metrics_are_scikit_learns_over_all_words(sentences: list[list[tuple[str, str]]]) -> None:
    truth, found = ([[pair[side] for pair in sentence] for sentence in sentences] for side in (0, 1))
    flat = [[tag for sentence in tags for tag in sentence] for tags in (truth, found)]
    assert WORD["accuracy"](truth, found) == pytest.approx(sk.accuracy_score(*flat))
    expected = quietly(sk.f1_score, *flat, average="macro", zero_division=0)
    assert WORD["macro_f1"](truth, found) == pytest.approx(expected)


@LAWS
@given(NUMBERS)
def test_number_metrics_are_scipys(pairs: list[tuple[int, int]]) -> None:
    truth, found = ([float(value) for value in column] for column in columns(pairs))
    assert ROW["mae"](truth, found) == pytest.approx(sk.mean_absolute_error(truth, found))
    for name, oracle in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        value = ROW[name](truth, found)
        if len(set(truth)) == 1 or len(set(found)) == 1:
            assert value is None
        else:
            assert value == pytest.approx(oracle(truth, found).statistic)


@LAWS
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_the_quadratic_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, found = columns(pairs)
    value = ROW["quadratic_kappa"]([float(one) for one in truth], [float(one) for one in found])
    if len({*truth, *found}) == 1:
        assert value is None
    else:
        expected = quietly(sk.cohen_kappa_score, truth, found, labels=range(6), weights="quadratic")
        assert value == pytest.approx(expected)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_constants_have_no_correlation(name: str) -> None:
    assert ROW[name]([1.0, 1.0], [1.0, 2.0]) is None
    assert ROW[name]([1.0, 2.0], [3.0, 3.0]) is None
    assert ROW[name]([1.0], [1.0]) is None
    near = ROW[name]([1.0, 2.0, 3.0], [1.0, 1.0, 1.0000000000000002])  # no warning either
    assert near is not None


@pytest.mark.parametrize("level", METRICS)
def test_no_rows_have_no_score(level: str) -> None:
    for name, metric in METRICS[level].items():  # type: ignore[index]
        if metric.function is None:
            continue
        assert metric([], []) in ((None, 0.0) if name.split("_")[-1] in ("f1", "precision", "recall") else (None,)), (
            name
        )


def test_one_class_alone_raises_no_warning() -> None:
    assert ROW["mcc"](["a", "a"], ["a", "a"]) == 0
    assert ROW["macro_f1"](["a"], ["a"]) == 1


def test_an_orphan_is_no_entity() -> None:
    assert WORD["f1"]([["B-PER", "I-PER"]], [["I-PER", "I-PER"]]) == 0
    assert WORD["precision"]([["B-PER", "O"]], [["B-PER", "I-LOC"]]) == 1


def test_an_entity_counts_only_with_both_ends_and_its_label() -> None:
    truth = [["B-PER", "I-PER", "O", "B-LOC"]]
    assert WORD["recall"](truth, [["B-PER", "O", "O", "B-LOC"]]) == 0.5
    assert WORD["recall"](truth, [["B-LOC", "I-LOC", "O", "B-LOC"]]) == 0.5
    assert WORD["recall"](truth, [["O", "O", "O", "O"]]) == 0


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "pearson", "mae"])
def test_rows_of_truth_and_prediction_must_match(name: str) -> None:
    samples: list[Any] = [1.0, 2.0] if name in ("pearson", "mae") else ["a", "b"]
    with pytest.raises(ValueError, match=r"\w"):
        ROW[name]([*samples, samples[0]], samples)
