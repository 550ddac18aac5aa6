"""The outline of a search: how a budget is divided among its stages, decided before the first run.

The unit is one training of the configuration, counted in the rows that pass the encoder. What is needed for the
guarantee comes first: the single models and one joint model. What is left goes, in this order, to a second and a
third candidate, the rates, folds of the training rows that the winner is judged by, more candidates, the teachers,
more folds, and the steps of the ladder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from polytask.errors import ConfigError

# Multiples of the rates that the configuration has.
RATES = (1.0, 0.5, 2.0)
# Parts of a run at which candidates are rated (successive halving, Jamieson and Talwalkar 2016), the last one whole.
SHARES = (1 / 8, 1 / 4)
# A run of fewer updates tells nothing.
FEWEST_UPDATES = 32
FINALISTS = 2
# Parts that the training rows are divided into, to judge by them; of all that a budget leaves room for, so many come
# before more candidates.
FOLDS = 5
FIRST_FOLDS = 2


@dataclass(frozen=True)
class SearchOutline:
    """What a search will do.

    Attributes:
        shares: parts of a run at which candidates are rated before they are trained whole.
        rates: multiples of the learning rates that are tried.
        candidates: that begin.
        finalists: that are trained whole.
        teach: whether the best of them is trained once more with the single models as teachers.
        folds: parts of the training rows that the winner is judged by, beside dev.
        ladder: what is left for steps that lift single tasks.
        cost: of all of it but the ladder.
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
        """The part of a run at which rates are compared: the last before a whole one."""
        return self.shares[-1] if self.shares else 1.0

    def rungs(self) -> list[tuple[float, int]]:
        """Return each share with the candidates that are rated at it: each time the better half stays.

        Without more candidates than finalists there is none.

        >>> SearchOutline((1 / 8, 1 / 4), (1.0,), 8, 2, False).rungs()
        [(0.125, 8), (0.25, 4)]
        """
        found: list[tuple[float, int]] = []
        left = self.candidates
        for share in self.shares if left > self.finalists else ():
            found.append((share, left))
            left = max(self.finalists, math.ceil(left / 2))
        return found


def usable_shares(updates: int) -> tuple[float, ...]:
    """Return the parts of a run that are long enough to tell candidates apart.

    >>> usable_shares(1000), usable_shares(141), usable_shares(20)
    ((0.125, 0.25), (0.25,), ())
    """
    return tuple(share for share in SHARES if updates * share >= FEWEST_UPDATES)


def fold_cost(singles: float) -> float:
    """Return what the single models and one joint model cost without one of the folds."""
    return (singles + 1) * (1 - 1 / FOLDS)


def total(outline: SearchOutline, singles: float) -> float:
    """Return what an outline costs without its ladder.

    Args:
        singles: cost of all single models.
    """
    cost = singles + outline.finalists + (1 if outline.teach else 0) + outline.folds * fold_cost(singles)
    if len(outline.rates) > 1:
        # Where rates are compared in whole runs, those at the configuration's own rates are counted above.
        tried = outline.rates if outline.shares else outline.rates[1:]
        cost += len(tried) * (singles + 1) * outline.rate_share
    for share, count in outline.rungs():
        known = len(outline.rates) > 1 and share == outline.rate_share
        cost += count * share + (0 if known else singles * share)
    return cost


def outline_for(
    budget: float, singles: Mapping[str, float], updates: int, candidates: int, folds: int | None = None
) -> SearchOutline:
    """Divide a budget.

    Args:
        budget: in trainings of the configuration.
        singles: cost of each task's single model.
        updates: of a training of the configuration.
        candidates: that there are.
        folds: that the winner is judged by; None for as many as the budget has room for.

    Raises ConfigError for a budget that does not reach for the single models and one joint model, and the folds.
    """
    apart = sum(singles.values())
    plain = SearchOutline((), RATES[:1], 1, 1, False, folds or 0)
    plain = replace(plain, cost=total(plain, apart))
    if budget < plain.cost - 1e-9:
        beside = f", {folds} times again without a fold," if folds else ""
        raise ConfigError(
            f"--budget: found {budget:g}, and a model for each task and one for all of them{beside} cost "
            f"{plain.cost:.2f} trainings of the configuration; give at least {math.ceil(10 * plain.cost) / 10:g}"
        )
    best = plain
    for richer in _richer(usable_shares(updates), candidates, folds):
        cost = total(richer, apart)
        # One step of the ladder is to be left for any task.
        if cost + max(singles.values()) <= budget + 1e-9:
            best = replace(richer, cost=cost)
    return replace(best, ladder=max(0.0, budget - best.cost))


def _richer(shares: tuple[float, ...], candidates: int, folds: int | None) -> list[SearchOutline]:
    """Return outlines, each worth more than the one before it."""

    def one(shares: tuple[float, ...], rates: int, count: int, finalists: int, *, teach: bool = False) -> SearchOutline:
        return SearchOutline(shares, RATES[:rates], count, min(finalists, count), teach, folds or 0)

    counts = range(2, candidates + 1)
    plain = [one(shares, 1, count, FINALISTS if shares else count) for count in counts]
    found = [*plain[:2], *([one(shares, 3, 1, 1)] if candidates else []), *plain[2:]]
    rated = [one(shares, 3, count, FINALISTS if shares else count) for count in counts]
    taught = [replace(outline, teach=True) for outline in rated if outline.candidates >= min(4, candidates)]
    found += rated
    if folds is not None:
        return [*found, *taught]
    some = [replace(outline, folds=count) for outline in rated[:2] for count in range(1, FIRST_FOLDS + 1)]
    some += [replace(outline, folds=FIRST_FOLDS) for outline in [*rated[2:], *taught]]
    every = [replace(some[-1], folds=count) for count in range(FIRST_FOLDS + 1, FOLDS + 1)] if taught else []
    return [*found, *taught, *some, *every]
