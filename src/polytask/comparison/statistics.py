"""Differences to the single models with their intervals: a paired bootstrap over test rows and seeds.

A replicate draws a weight for every test row, the same one for both arms, and S of the S seeds with replacement, again
the same for both. The mean of S seeds drawn from S varies by (S - 1) / S too little, so the seeds' part of a
replicate, its distance from the mean over all seeds, is stretched by sqrt(S / (S - 1)).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polytask.comparison.predictions import ArmPredictions
from polytask.evaluation.bootstrap import Floats, interval, resampled, weights
from polytask.tasks.metric import METRICS, smaller_is_better
from polytask.terms import Label

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """How far an arm is from the single model of a task; positive is better.

    Attributes:
        values: the arm's score with each seed; None where the metric is undefined.
        delta: mean difference over seeds.
        low, high: ends of the interval; None where too few replicates are defined.
        relative: of delta, in units of the single models' mean.
        from_rows, from_seeds: the two parts of the variance of delta.
        replicates: of delta.
        p: two-sided probability of so great a difference where there is none, from the replicates; None where they
            are undefined.
    """

    values: tuple[float | None, ...]
    delta: float | None
    low: float | None
    high: float | None
    relative: float | None
    from_rows: float
    from_seeds: float
    replicates: Floats
    p: float | None = None

    @property
    def mean(self) -> float | None:
        """The arm's mean over seeds."""
        return mean_of(self.values)

    @property
    def std(self) -> float | None:
        """The standard deviation over seeds (n - 1)."""
        found = _defined(self.values)
        return None if found is None else float(np.std(found, ddof=1)) if len(found) > 1 else 0.0


def _defined(values: Sequence[float | None]) -> list[float] | None:
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else None


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where a value is undefined."""
    found = _defined(values)
    return None if found is None else float(np.mean(found))


def drawn_seeds(seeds: int, count: int, seed: int) -> NDArray[np.intp]:
    """Draw seeds with replacement: replicates x seeds; the same for all tasks and arms."""
    return np.random.default_rng([seed, 1]).integers(seeds, size=(count, seeds))


def combine(each: Floats, drawn: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return the rows' and the seeds' part of every replicate.

    Args:
        each: the difference under each seed: replicates x seeds.
        drawn: which seeds a replicate drew: replicates x seeds.
    """
    seeds = each.shape[1]
    middle = each.mean(1)
    stretch = np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 0.0
    return middle, stretch * (np.take_along_axis(each, drawn, axis=1).mean(1) - middle)


def p_value(replicates: Floats) -> float | None:
    """Return the two-sided p-value of a difference of 0: how often its replicates fall on the rarer side of 0, twice.

    A replicate of its own is counted on either side, so that p is never 0 (Davison and Hinkley 1997, section 4.2.1).
    Below 0.05 the 95 % interval leaves 0 out. None where less than half of the replicates are defined.
    """
    defined = replicates[np.isfinite(replicates)]
    if 2 * len(defined) < len(replicates) or not len(defined):
        return None
    rarer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(defined) + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, so that all rejected hypotheses together keep the level.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, greatest = [0.0] * len(values), 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        greatest = max(greatest, min(1.0, (len(values) - rank) * values[at]))
        corrected[at] = greatest
    return corrected


def compare_arms(
    metric: str,
    level: Literal["row", "word"],
    answers: Mapping[str, ArmPredictions],
    *,
    baseline: str,
    resamples: int,
    seed: int,
) -> dict[str, Difference]:
    """Return each arm's difference to the baseline on one task, over the seeds of the arm."""
    base = answers[baseline]
    sign = -1.0 if smaller_is_better(metric) else 1.0
    # Tasks on the same texts draw the same rows, others others.
    rows_seed = zlib.crc32("\0".join(base.texts).encode("utf-8", "replace")) + seed
    replicates = _replicates(metric, level, answers, resamples, rows_seed)
    scores = {arm: _scores(metric, level, base.labels, one.predictions) for arm, one in answers.items()}
    found: dict[str, Difference] = {}
    for arm, one in answers.items():
        paired = [base.seeds.index(seed) for seed in one.seeds] if one.seeds else list(range(len(base.predictions)))
        each = sign * (replicates[arm] - replicates[baseline][:, paired])
        middle, stretched = combine(each, drawn_seeds(len(paired), resamples, seed))
        ends = interval(middle + stretched, LEVEL)
        mean, single = mean_of(scores[arm]), mean_of([scores[baseline][at] for at in paired])
        delta = None if mean is None or single is None else sign * (mean - single)
        found[arm] = Difference(
            values=scores[arm],
            delta=delta,
            low=None if ends is None or delta is None else ends[0],
            high=None if ends is None or delta is None else ends[1],
            relative=delta / abs(single) if delta is not None and single else None,
            from_rows=_variance(middle),
            from_seeds=_variance(stretched),
            replicates=middle + stretched,
            p=None if delta is None else p_value(middle + stretched),
        )
    return found


def _scores(
    metric: str, level: Literal["row", "word"], labels: Sequence[Label], predictions: Sequence[Sequence[Label]]
) -> tuple[float | None, ...]:
    return tuple(METRICS[level][metric](list(labels), list(one)) for one in predictions)


def _replicates(
    metric: str, level: Literal["row", "word"], answers: Mapping[str, ArmPredictions], resamples: int, seed: int
) -> dict[str, Floats]:
    """Return each arm's scores: replicates x seeds, under the same rows' weights for all."""
    measures = {
        arm: [resampled(level, metric, list(one.labels), list(found)) for found in one.predictions]
        for arm, one in answers.items()
    }
    blocks: dict[str, list[Floats]] = {arm: [] for arm in measures}
    rows = len(next(iter(answers.values())).rows)
    for block in weights(rows, resamples, seed):
        for arm, listed in measures.items():
            blocks[arm].append(np.stack([measure(block) for measure in listed], axis=1))
    return {arm: np.concatenate(found) for arm, found in blocks.items()}


def _variance(values: Floats) -> float:
    defined = values[np.isfinite(values)]
    return float(np.var(defined)) if len(defined) else 0.0


def overall(differences: Sequence[Difference], singles: Sequence[float | None]) -> tuple[float, float, float] | None:
    """Return the mean over tasks of the relative difference, and its interval; None where a task has none."""
    if any(one.relative is None for one in differences):
        return None
    each = [one.replicates / abs(single) for one, single in zip(differences, singles, strict=True) if single]
    ends = interval(np.mean(each, axis=0), LEVEL)
    mean = float(np.mean([one.relative for one in differences if one.relative is not None]))
    return None if ends is None else (mean, *ends)
