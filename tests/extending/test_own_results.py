"""What users' own methods return is checked where it is returned, and a message names the method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import polytask
from polytask.balance.balancer import Aggregator, BalanceOptions, Balancer, Statistic, Weighting
from polytask.errors import ConfigError, TrainingError
from polytask.tasks import METRICS

Job = Callable[..., dict[str, Any]]


@pytest.fixture
def own_metric() -> Iterator[Callable[[Any], None]]:
    """Register a metric `own` of classifications that returns a value."""
    yield lambda value: METRICS["row"].register("own", types=("classification",))(lambda truth, found: value)
    METRICS["row"].remove("own")


def with_own_metric(job: Job) -> dict[str, Any]:
    values = job(rows=24, max_steps=1)
    del values["tasks"]["entities"]
    values["tasks"]["topic"]["metric"] = "own"
    return values


@pytest.mark.parametrize(
    ("value", "score"),
    [
        (np.float32(0.5), 0.5),
        (np.array(0.5), 0.5),
        (torch.tensor(0.5), 0.5),
        (1, 1.0),
        (np.int64(1), 1.0),
        (None, None),
    ],
)
def test_a_number_of_any_kind_is_a_score(
    value: Any, score: float | None, job: Job, own_metric: Callable[[Any], None]
) -> None:
    own_metric(value)
    assert polytask.train(with_own_metric(job)).scores["dev"]["topic"]["own"] == score


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("0.5", "a metric returned '0.5'; expected a number, or None where it is undefined"),
        ([0.5], "a metric returned a value of type list; expected a number"),
        (np.array("a"), "a metric returned a value of type ndarray; expected a number"),
        (float("nan"), "returned nan; expected a finite number, or None where it is undefined"),
        (np.float32("inf"), "returned inf; expected a finite number"),
    ],
)
def test_a_metric_that_returns_no_number_is_named(
    value: Any, told: str, job: Job, own_metric: Callable[[Any], None]
) -> None:
    own_metric(value)
    with pytest.raises(ConfigError, match=f"tasks.sentiment: metric 'own': {told}"):
        polytask.train(with_own_metric(job))


def own_method(weights: Callable[[int], Any], scale: str = "own") -> Balancer:
    """A balancer of three tasks whose method returns these weights."""

    class OwnWeighting(Weighting):
        def weigh(self, statistic: Statistic) -> Any:
            return weights(len(statistic.losses))

    class OwnOptions(BalanceOptions):
        shape = "losses"
        method: str = "own"

        def build(self, tasks: tuple[str, ...]) -> Weighting:
            return OwnWeighting()

    OwnOptions.scale = scale  # type: ignore[assignment]
    return Balancer(OwnOptions(), dict.fromkeys("abc", 1.0), 0)


LOSSES = {"a": 1.0, "b": 2.0, "c": 3.0}


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (None, "weigh returned None"),
        ("abc", "weigh returned 'abc'"),
        ([1.0, 2.0], "weigh returned 1, 2"),
        (2.0, "weigh returned 2.0"),
        ([[1.0, 2.0, 3.0]], "weigh returned a value of type list"),
        ([1.0, float("nan"), 2.0], "weigh returned 1, nan, 2"),
        ([], "weigh returned nothing"),
    ],
)
def test_weights_that_are_not_one_number_a_task_are_refused(weights: Any, told: str) -> None:
    with pytest.raises(TrainingError, match=f"balance.method: own: {told}; expected 3 finite numbers"):
        own_method(lambda _: weights).weigh(LOSSES)


def test_weights_that_give_only_a_direction_have_one() -> None:
    assert own_method(np.zeros).weigh(LOSSES) == dict.fromkeys("abc", 0.0)  # as methods do where no step helps all
    with pytest.raises(TrainingError, match="own: weigh returned 0, 0, 0; expected 3 .* whose sum is not 0"):
        own_method(np.zeros, "direction").weigh(LOSSES)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_weights_of_any_kind_are_taken_and_may_be_negative(kind: Callable[[list[float]], Any]) -> None:
    weights = own_method(lambda _: kind([2.0, -0.5, 1.5])).weigh(LOSSES)
    assert weights == {"a": 2.0, "b": -0.5, "c": 1.5}


@pytest.mark.parametrize(
    ("gradient", "told"),
    [(None, "returned None"), (torch.ones(2, 3), "returned a value of shape .2, 3."), ([1.0], "of type list")],
)
def test_an_aggregate_of_another_shape_is_refused(gradient: Any, told: str) -> None:
    class OwnAggregator(Aggregator):
        def aggregate(self, gradients: torch.Tensor) -> Any:
            return gradient

    class OwnOptions(BalanceOptions):
        shape = "gradients"
        method: str = "own"

        def build(self, tasks: tuple[str, ...]) -> Aggregator:
            return OwnAggregator()

    balancer = Balancer(OwnOptions(), dict.fromkeys("ab", 1.0), 0)
    with pytest.raises(TrainingError, match=rf"own: aggregate .*{told}.*expected a tensor of shape \(3,\)"):
        balancer.aggregate(torch.ones(2, 3))
