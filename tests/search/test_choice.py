"""The choice among joint models: the smallest that dev rows do not show to be worse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from polytask.search.candidates import Candidate
from polytask.search.choice import RatedCandidate, best_factor, smallest_of_the_best
from polytask.search.rating import Rating

FLOOR = 0.005


def rated(name: str, passes: float, *deltas: float) -> RatedCandidate:
    trial: Any = SimpleNamespace(passes=passes, size=passes)
    tasks = dict(zip("abc", deltas, strict=False))
    return RatedCandidate(Candidate(name, {}), trial, 1.0, Rating(tasks, FLOOR))


def chosen(error: float, *models: RatedCandidate) -> str:
    def standard_errors(one: RatedCandidate, other: RatedCandidate) -> dict[str, float]:
        assert one is not other
        assert one.rating is not None
        return dict.fromkeys(one.rating.deltas, error)

    found = {smallest_of_the_best(order, standard_errors).candidate.name for order in (models, models[::-1])}
    assert len(found) == 1, "the order decides"
    return found.pop()


@pytest.mark.parametrize(("error", "expected"), [(0.0, "large"), (0.01, "large"), (0.03, "small")])
def test_below_the_floor_a_difference_of_one_standard_error_is_none(error: float, expected: str) -> None:
    assert chosen(error, rated("small", 1.0, -0.05, 0.03), rated("large", 1.5, -0.03, 0.03)) == expected


def test_a_model_below_the_floor_never_replaces_one_that_keeps_it() -> None:
    small, large = rated("small", 1.0, -0.006, 0.1), rated("large", 1.5, -0.004, 0.1)
    assert chosen(0.5, small, large) == "large"
    assert chosen(0.0, rated("small", 1.0, -0.005, 0.1), large) == "small"


@pytest.mark.parametrize(("error", "expected"), [(0.0, "large"), (0.02, "large"), (0.05, "small")])
def test_a_lower_mean_counts_from_one_standard_error_of_the_mean(error: float, expected: str) -> None:
    small, large = rated("small", 1.0, 0.0, 0.01), rated("large", 1.5, 0.0, 0.07)  # 0.03; sqrt(2) / 2 of the error
    assert chosen(error, small, large) == expected


def test_a_mean_within_the_floor_is_as_good_whatever_the_rows_show() -> None:
    assert chosen(0.0, rated("small", 1.0, 0.0, 0.0), rated("large", 1.5, 0.0, 0.0099)) == "small"


def test_noise_chooses_no_larger_model_and_none_of_equal_size() -> None:
    best = rated("best", 1.0, -0.03, 0.02)
    assert chosen(0.5, best, rated("larger", 1.5, -0.03, 0.02), rated("equal", 1.0, -0.04, 0.1)) == "best"


def test_the_rate_of_joint_models_is_that_of_the_best_mean() -> None:
    rates = {
        1.0: Rating({"a": -0.03, "b": 0.15}, FLOOR),
        0.5: Rating({"a": -0.01, "b": 0.05}, FLOOR),
        2.0: Rating({"a": -0.02, "b": 0.01}, FLOOR),
    }
    assert best_factor(rates) == 1.0
    assert best_factor(dict(reversed(rates.items()))) == 1.0


def test_of_rates_with_equal_means_the_default_is_kept() -> None:
    rates = {factor: Rating({"a": 0.1}, FLOOR) for factor in (0.5, 1.0, 2.0)}
    assert best_factor(rates) == 1.0
