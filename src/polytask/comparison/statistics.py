"""Differences to the single models with their intervals: a paired bootstrap over test rows and seeds.

A replicate draws a weight for every test row and S of the S seeds with replacement, both the same for both arms. The
mean of S seeds drawn from S varies too little, by the factor (S - 1) / S, so the seeds' part of a replicate, its
distance from the mean over all seeds, is stretched by sqrt(S / (S - 1)).
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
    """Difference between an arm and the single model of a task; positive is better.

    Attributes:
        values: score of the arm with each seed; None if the metric is undefined.
        delta: mean difference over seeds.
        low, high: ends of the 95 % interval; None if too few replicates are defined.
        relative: delta relative to the mean of the single models.
        from_rows, from_seeds: the two parts of the variance of delta.
        replicates: bootstrap replicates of delta.
        p: two-sided p-value from the replicates; None if they are undefined.
        rows: number of rows that were compared.
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
    rows: int = 0

    @property
    def mean(self) -> float | None:
        """Mean score of the arm over seeds."""
        return mean_of(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation over seeds (n - 1)."""
        scores = _defined(self.values)
        return None if scores is None else float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0


def _defined(values: Sequence[float | None]) -> list[float] | None:
    defined = [value for value in values if value is not None]
    return defined if len(defined) == len(values) else None


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean; None if a value is undefined."""
    defined = _defined(values)
    return None if defined is None else float(np.mean(defined))


def drawn_seeds(seeds: int, count: int, seed: int) -> NDArray[np.intp]:
    """Draw indices of seeds with replacement (replicates x seeds), the same for all tasks and arms."""
    return np.random.default_rng([seed, 1]).integers(seeds, size=(count, seeds))


def combine(each: Floats, drawn: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return the parts of every replicate that come from rows and from seeds.

    Args:
        each: difference under each seed, replicates x seeds.
        drawn: indices of the drawn seeds, replicates x seeds.
    """
    seeds = each.shape[1]
    middle = each.mean(1)
    stretch = np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 0.0
    return middle, stretch * (np.take_along_axis(each, drawn, axis=1).mean(1) - middle)


def p_value(replicates: Floats) -> float | None:
    """Return the two-sided p-value for a difference of 0: twice the share of replicates on the rarer side of 0.

    One replicate is added on either side, so that p is never 0 (Davison and Hinkley 1997, section 4.2.1).
    Below 0.05 the 95 % interval excludes 0. None if less than half of the replicates are defined.
    """
    defined = replicates[np.isfinite(replicates)]
    if 2 * len(defined) < len(replicates) or not len(defined):
        return None
    rarer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(defined) + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple tests by Holm's method, which controls the family-wise error rate.

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
    # Tasks on the same texts draw the same rows; other tasks draw different ones.
    rows_seed = zlib.crc32("\0".join(base.texts).encode("utf-8", "replace")) + seed
    replicates = _replicates(metric, level, answers, resamples, rows_seed)
    scores = {arm: _scores(metric, level, base.labels, arm_answers.predictions) for arm, arm_answers in answers.items()}
    differences: dict[str, Difference] = {}
    for arm, arm_answers in answers.items():
        paired = (
            [base.seeds.index(seed) for seed in arm_answers.seeds]
            if arm_answers.seeds
            else list(range(len(base.predictions)))
        )
        each = sign * (replicates[arm] - replicates[baseline][:, paired])
        middle, stretched = combine(each, drawn_seeds(len(paired), resamples, seed))
        ends = interval(middle + stretched, LEVEL)
        mean, single = mean_of(scores[arm]), mean_of([scores[baseline][at] for at in paired])
        delta = None if mean is None or single is None else sign * (mean - single)
        differences[arm] = Difference(
            values=scores[arm],
            delta=delta,
            low=None if ends is None or delta is None else ends[0],
            high=None if ends is None or delta is None else ends[1],
            relative=delta / abs(single) if delta is not None and single else None,
            from_rows=_variance(middle),
            from_seeds=_variance(stretched),
            replicates=middle + stretched,
            p=None if delta is None else p_value(middle + stretched),
            rows=len(base.rows),
        )
    return differences


def _scores(
    metric: str, level: Literal["row", "word"], labels: Sequence[Label], predictions: Sequence[Sequence[Label]]
) -> tuple[float | None, ...]:
    return tuple(METRICS[level][metric](list(labels), list(predicted)) for predicted in predictions)


def _replicates(
    metric: str, level: Literal["row", "word"], answers: Mapping[str, ArmPredictions], resamples: int, seed: int
) -> dict[str, Floats]:
    """Return the scores of each arm (replicates x seeds) under the same row weights for all."""
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
    """Return the mean relative difference over tasks, and its interval; None if a task has none."""
    if any(difference.relative is None for difference in differences):
        return None
    each = [
        difference.replicates / abs(single) for difference, single in zip(differences, singles, strict=True) if single
    ]
    ends = interval(np.mean(each, axis=0), LEVEL)
    mean = float(np.mean([difference.relative for difference in differences if difference.relative is not None]))
    return None if ends is None else (mean, *ends)
