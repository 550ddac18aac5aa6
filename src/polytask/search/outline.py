"""The outline of a search: the division of the budget among its stages, decided before the first run.

The unit is one training of the configuration, measured in rows that pass the encoder. The single models and one joint
model come first, since the guarantee needs them. The rest goes, in this order, to a second and a third candidate, the
learning rates, folds of the training rows to judge the winner on, more candidates, the teachers, more folds, and the
steps of the ladder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from polytask.errors import ConfigError

# Multiples of the learning rates that each model has without a search.
RATES = (1.0, 0.5, 2.0)
# Fractions of a run at which candidates are rated (successive halving, Jamieson and Talwalkar 2016), then a whole run.
SHARES = (1 / 8, 1 / 4)
# A run with fewer updates is not informative.
FEWEST_UPDATES = 32
FINALISTS = 2
# Number of folds of the training rows; and the number of folds that come before more candidates, if the budget allows.
FOLDS = 5
FIRST_FOLDS = 2


@dataclass(frozen=True)
class SearchOutline:
    """The plan of a search.

    Attributes:
        shares: fractions of a run at which candidates are rated before whole runs.
        rates: multiples of the learning rates to try.
        candidates: number of candidates at the start.
        finalists: number of candidates that get a whole run.
        teach: whether the best of them is trained again with the single models as teachers.
        folds: number of folds of the training rows that the winner is judged on, in addition to dev.
        ladder: budget that remains for steps that lift single tasks.
        cost: cost of everything except the ladder.
    """

    shares: tuple[float, ...]
    rates: tuple[float, ...]
    candidates: int
    finalists: int
    teach: bool
    folds: int = 0
    ladder: float = 0.0
    cost: float = 0.0

    @property
    def rate_share(self) -> float:
        """The fraction of a run at which learning rates are compared: the last one before a whole run."""
        return self.shares[-1] if self.shares else 1.0

    def rungs(self) -> list[tuple[float, int]]:
        """Return each fraction with the number of candidates rated at it; the better half stays each time.

        Empty if there are no more candidates than finalists.

        >>> SearchOutline((1 / 8, 1 / 4), (1.0,), 8, 2, False).rungs()
        [(0.125, 8), (0.25, 4)]
        """
        rungs: list[tuple[float, int]] = []
        remaining = self.candidates
        for share in self.shares if remaining > self.finalists else ():
            rungs.append((share, remaining))
            remaining = max(self.finalists, math.ceil(remaining / 2))
        return rungs


def usable_shares(updates: int) -> tuple[float, ...]:
    """Return the fractions of a run that are long enough to distinguish candidates.

    >>> usable_shares(1000), usable_shares(141), usable_shares(20)
    ((0.125, 0.25), (0.25,), ())
    """
    return tuple(share for share in SHARES if updates * share >= FEWEST_UPDATES)


def fold_cost(singles: float) -> float:
    """Return the cost of training the single models and one joint model without one of the folds."""
    return (singles + 1) * (1 - 1 / FOLDS)


def total(outline: SearchOutline, singles: float) -> float:
    """Return the cost of an outline without its ladder.

    Args:
        outline: the outline.
        singles: cost of all single models.
    """
    cost = singles + outline.finalists + (1 if outline.teach else 0) + outline.folds * fold_cost(singles)
    if len(outline.rates) > 1:
        # If rates are compared in whole runs, those at each model's own rates are counted above.
        tried = outline.rates if outline.shares else outline.rates[1:]
        cost += len(tried) * (singles + 1) * outline.rate_share
    for share, count in outline.rungs():
        is_counted = len(outline.rates) > 1 and share == outline.rate_share
        cost += count * share + (0 if is_counted else singles * share)
    return cost


def outline_for(
    budget: float, singles: Mapping[str, float], updates: int, candidates: int, folds: int | None = None
) -> SearchOutline:
    """Divide a budget.

    Args:
        budget: budget in trainings of the configuration.
        singles: cost of each task's single model.
        updates: number of updates of a training of the configuration.
        candidates: number of available candidates.
        folds: number of folds that the winner is judged on; None for as many as the budget allows.

    Raises ConfigError if the budget is too small for the single models, one joint model, and the folds.
    """
    apart = sum(singles.values())
    plain = SearchOutline((), RATES[:1], 1, 1, False, folds or 0)
    plain = replace(plain, cost=total(plain, apart))
    if budget < plain.cost - 1e-9:
        with_folds = f", {folds} times again without a fold," if folds else ""
        raise ConfigError(
            f"--budget: found {budget:g}, but a model for each task and one for all of them{with_folds} cost "
            f"{plain.cost:.2f} trainings of the configuration; give at least {math.ceil(10 * plain.cost) / 10:g}"
        )
    best = plain
    for richer in _richer(usable_shares(updates), candidates, folds):
        cost = total(richer, apart)
        # One step of the ladder must remain for any task.
        if cost + max(singles.values()) <= budget + 1e-9:
            best = replace(richer, cost=cost)
    return replace(best, ladder=max(0.0, budget - best.cost))


def _richer(shares: tuple[float, ...], candidates: int, folds: int | None) -> list[SearchOutline]:
    """Return outlines in increasing order of value."""

    def one(shares: tuple[float, ...], rates: int, count: int, finalists: int, *, teach: bool = False) -> SearchOutline:
        return SearchOutline(shares, RATES[:rates], count, min(finalists, count), teach, folds or 0)

    counts = range(2, candidates + 1)
    plain = [one(shares, 1, count, FINALISTS if shares else count) for count in counts]
    outlines = [*plain[:2], *([one(shares, 3, 1, 1)] if candidates else []), *plain[2:]]
    rated = [one(shares, 3, count, FINALISTS if shares else count) for count in counts]
    taught = [replace(outline, teach=True) for outline in rated if outline.candidates >= min(4, candidates)]
    outlines += rated
    if folds is not None:
        return [*outlines, *taught]
    some = [replace(outline, folds=count) for outline in rated[:2] for count in range(1, FIRST_FOLDS + 1)]
    some += [replace(outline, folds=FIRST_FOLDS) for outline in [*rated[2:], *taught]]
    every = [replace(some[-1], folds=count) for count in range(FIRST_FOLDS + 1, FOLDS + 1)] if taught else []
    return [*outlines, *taught, *some, *every]
