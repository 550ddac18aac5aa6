"""What users' own methods return is checked where it is returned, and a message names the method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import polytask
from polytask.errors import ConfigError
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
