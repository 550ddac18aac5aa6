"""The choice among joint models: the smallest one that dev rows do not show to be worse than the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from polytask.search.candidates import Candidate
from polytask.search.rating import Rating
from polytask.search.trials import Trial


@dataclass(frozen=True)
class RatedCandidate:
    """A candidate that was trained with a fraction of the budget, or in a whole run.

    Attributes:
        share: fraction of a training of the configuration.
        failed: why it could not be trained; empty if it was.
    """

    candidate: Candidate
    trial: Trial
    share: float
    rating: Rating | None
    failed: str = ""

    @property
    def key(self) -> tuple[float, float, float]:
        """Sort key; of equally good models the smaller one wins."""
        if self.rating is None:
            return (float("-inf"), float("-inf"), 0.0)
        return (*self.rating.key, -self.trial.size)


# A function of two models that returns the standard error of their difference on dev rows, by task.
StandardErrors: TypeAlias = Callable[[RatedCandidate, RatedCandidate], Mapping[str, float]]


def best_factor(ratings: Mapping[float, Rating]) -> float:
    """Return the multiple of the learning rates with the best mean over tasks; of equal ones, 1.

    The worst task does not decide here. At a fraction of a run, at which rates are compared, its difference to its
    single model is mostly noise, and the candidates and the ladder attend to it later.
    """
    return max(ratings, key=lambda factor: (ratings[factor].mean, factor == 1.0))


def best_of(rated: Sequence[RatedCandidate]) -> RatedCandidate:
    """Return the model with the best rating; of equal ones the smallest."""
    return max(rated, key=lambda one: one.key)


def smallest_of_the_best(rated: Sequence[RatedCandidate], standard_errors: StandardErrors) -> RatedCandidate:
    """Return the smallest model that is as good as the best one, as far as dev rows can tell.

    It may be worse than the best one by up to one standard error of their difference: in the mean over tasks, and in
    its worst task if the best model does not keep the floor either. A mean that is lower by no more than the floor is
    as good.

    Source: the one-standard-error rule (Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3).

    Args:
        rated: models that were trained in full, all with a rating.
        standard_errors: see `StandardErrors`.
    """
    best = best_of(rated)
    near = [one for one in rated if one is best or _is_as_good(one, best, standard_errors)]
    return min(near, key=lambda one: (one.trial.passes, one.trial.size, *(-value for value in one.key)))


def _is_as_good(one: RatedCandidate, best: RatedCandidate, standard_errors: StandardErrors) -> bool:
    assert one.rating is not None
    assert best.rating is not None
    if (one.trial.passes, one.trial.size) > (best.trial.passes, best.trial.size):
        return False
    errors = standard_errors(one, best)
    floor, worst = best.rating.floor, best.key[0]
    mean_error = math.sqrt(sum(error**2 for error in errors.values())) / len(errors)
    if one.rating.mean < best.rating.mean - max(floor, mean_error):
        return False
    slack = errors if worst < -floor else dict.fromkeys(errors, 0.0)
    return all(min(delta, -floor) >= worst - slack[task] for task, delta in one.rating.deltas.items())
