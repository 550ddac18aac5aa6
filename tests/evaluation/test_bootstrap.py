"""The bootstrap's metrics are the metrics of repeated rows, and its intervals are those of normal theory."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from polytask.evaluation.bootstrap import BLOCK, interval, resampled, score_intervals, weights
from polytask.evaluation.scoring import score
from polytask.tasks import METRICS, TASKS

TAGS = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SPANS = ["", "1\tPER", "2\tPER", "2\tLOC\n1\tLOC"]
CASES = [(level, metric) for level, table in METRICS.items() for metric in table if table[metric].interval]
NUMERIC = ("pearson", "spearman", "mae", "quadratic_kappa", "loss")
RANKS = ("recall@1", "recall@10")


def samples(level: str, metric: str, generator: np.random.Generator, rows: int) -> list[list[Any]]:
    """Draw truth and predictions of a metric's kind."""
    if level == "word":
        lengths = generator.integers(1, 6, size=rows)
        if metric.startswith("span_"):
            return [[[*map(str, generator.choice(SPANS, n)), ""] for n in lengths] for _ in range(2)]
        return [[list(map(str, generator.choice(TAGS, n))) for n in lengths] for _ in range(2)]
    if metric in RANKS:
        return [[1.0] * rows, (1.0 + generator.integers(0, 20, size=rows)).tolist()]
    takes = METRICS["row"][metric].takes
    if takes != "labels":
        truth, found = (generator.random((2, rows)) < 0.4).tolist()
        return [truth, found if takes == "positive" else (generator.integers(0, 6, size=rows) / 4).tolist()]
    if metric in NUMERIC:
        return [(1000.0 + generator.integers(-3, 4, size=rows)).tolist() for _ in range(2)]
    return [list(map(str, generator.choice(list("abcd"), rows))) for _ in range(2)]


def label_sets(generator: np.random.Generator, rows: int) -> list[list[list[str]]]:
    return [[[name for name in "abc" if generator.random() < 0.3] for _ in range(rows)] for _ in range(2)]


def agree(level: Literal["row", "word"], metric: str, truth: list[Any], found: list[Any], block: Any) -> None:
    values = resampled(level, metric, truth, found)(block)
    for drawn, value in zip(block, values, strict=True):
        rows = np.repeat(np.arange(len(truth)), drawn)
        expected = METRICS[level][metric]([truth[row] for row in rows], [found[row] for row in rows])
        if expected is None:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(expected, abs=1e-9)


def test_every_metric_is_resampled() -> None:
    own = {level: [name for name in table if table[name].resampled] for level, table in METRICS.items()}
    assert own == {level: [name for name in table if table[name].interval] for level, table in METRICS.items()}
    assert len(CASES) == 24


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_correlation_has_no_scale(scale: float) -> None:
    generator = np.random.default_rng(3)
    truth, found = (generator.normal(size=(2, 12)) * scale).tolist()
    agree("row", "pearson", truth, found, generator.integers(0, 4, size=(20, 12)))


@pytest.mark.parametrize(("level", "metric"), CASES)
@pytest.mark.parametrize("rows", [1, 2, 3, 12])
def test_a_replicate_is_the_metric_of_repeated_rows(level: Literal["row", "word"], metric: str, rows: int) -> None:
    generator = np.random.default_rng([rows, len(metric)])
    for _ in range(4):
        truth, found = samples(level, metric, generator, rows)
        block = next(weights(rows, 12, int(generator.integers(99))))
        agree(level, metric, truth, found, block)
        agree(level, metric, truth, found, np.zeros_like(block[:1]))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "micro_f1"])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_label_sets_are_resampled_too(metric: str, rows: int) -> None:
    generator = np.random.default_rng(rows)
    for _ in range(6):
        truth, found = label_sets(generator, rows)
        agree("row", metric, truth, found, next(weights(rows, 12, 5)))
    agree("row", metric, [[]] * rows, [[]] * rows, next(weights(rows, 2, 5)))


def test_weights_are_samples_with_replacement_in_blocks() -> None:
    blocks = list(weights(7, 250, seed=3))
    assert [len(block) for block in blocks] == [BLOCK, BLOCK, 50]
    drawn = np.concatenate(blocks)
    assert (drawn.sum(1) == 7).all()
    assert drawn.mean(0) == pytest.approx(np.ones(7), abs=0.25)
    assert (np.concatenate(list(weights(7, 250, seed=3))) == drawn).all()
    assert not (np.concatenate(list(weights(7, 250, seed=4))) == drawn).all()
    assert list(weights(0, 250, seed=3)) == []
    assert len(next(weights(2_000_000, 9, seed=3))) == 2


def test_the_interval_of_a_mean_is_that_of_normal_theory() -> None:
    generator = np.random.default_rng(1)
    distance = generator.normal(5.0, 2.0, size=400)
    measure = resampled("row", "mae", distance.tolist(), [0.0] * 400)
    found = interval(np.concatenate([measure(block) for block in weights(400, 4000, seed=0)]))
    assert found is not None
    values = np.abs(distance)
    half = 1.96 * values.std() / 20
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_an_interval_of_undefined_replicates_is_none() -> None:
    assert interval([]) is None
    assert interval([np.nan, np.nan, 1.0]) is None
    assert interval([np.nan, 1.0, 1.0]) == (1.0, 1.0)
    assert interval(np.arange(101.0), level=0.9) == pytest.approx((5.0, 95.0))


def test_a_task_is_given_the_intervals_of_all_its_metrics() -> None:
    kind = TASKS["classification"]
    task = kind.from_json("topic", {
        "type": "classification",
        "options": kind.Options(type="classification", positive="a").model_dump(mode="json", exclude={"data"}),  # type: ignore[call-arg]
        "fitted": {"classes": ["a", "b"], "counts": [50, 50]},
    })  # fmt: skip
    truth, found = ["a", "b"] * 50, ["a", "b", "b", "a"] * 25
    sure = [0.9, 0.2, 0.4, 0.6] * 25
    intervals = score_intervals(task, truth, found, sure, resamples=300)
    assert list(intervals) == list(task.metrics) == list(kind.Options.metrics)
    scores = score(task, truth, found, sure)
    for metric, ends in intervals.items():
        value = scores[metric]
        assert ends is not None
        assert value is not None
        assert ends[0] < value < ends[1]
    assert score_intervals(task, truth, found, sure, resamples=300) == intervals
    assert set(score_intervals(task, [], [], []).values()) == {None}
