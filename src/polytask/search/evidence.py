"""More evidence than dev rows give: folds of the training rows.

For each fold, the single models and the winner are trained again without it, and predict it. These rows were not used
to select a model or a checkpoint, and only the models of other folds trained on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polytask.comparison.arms import BASELINE
from polytask.comparison.predictions import ArmPredictions, read_predictions
from polytask.comparison.preparation import TaskScoring
from polytask.comparison.statistics import LEVEL, Difference, compare_arms
from polytask.evaluation.bootstrap import interval
from polytask.search.final import RESAMPLES

JOINT = "joint"
# Certainty at which a task is settled: no more folds are tried once each task is this surely above or below the floor.
CLEAR = 0.95


@dataclass(frozen=True)
class Pair:
    """The models of a fold, or those of all training rows, which predicted dev.

    Attributes:
        singles: folder of the single model's run, by task.
        joint: folder of the winner's run.
    """

    singles: Mapping[str, Path]
    joint: Path


@dataclass(frozen=True)
class Comparison:
    """A joint model's predictions for a task compared with those of the single models.

    Attributes:
        difference: difference to the single models.
        single: score of the single models; None if undefined.
    """

    difference: Difference
    single: float | None


def compare(task: str, judged: TaskScoring, pairs: Sequence[Pair], seed: int) -> Comparison:
    """Compare the winner's predictions for a task with those of the single models, over the rows of all pairs.

    Raises UserError if two models of a pair predicted different rows.
    """
    answers: dict[str, ArmPredictions] = {}
    for pair in pairs:
        arms = {BASELINE: {seed: [pair.singles[task]]}, JOINT: {seed: [pair.joint]}}
        for arm, predictions in read_predictions(arms, [task])[task].items():
            answers[arm] = answers[arm].followed_by(predictions) if arm in answers else predictions
    differences = compare_arms(
        judged.metric, judged.level, judged.measured(answers), baseline=BASELINE, resamples=RESAMPLES, seed=0
    )
    return Comparison(differences[JOINT], differences[BASELINE].mean)


def added(known: Difference, step: Difference) -> Difference:
    """Add the differences of a second model to a first and of a third to the second, assuming independent errors."""
    replicates = known.replicates + step.replicates
    delta = None if known.delta is None or step.delta is None else known.delta + step.delta
    ends = None if delta is None else interval(replicates, LEVEL)
    return replace(
        step,
        delta=delta,
        low=None if ends is None else ends[0],
        high=None if ends is None else ends[1],
        replicates=replicates,
    )


def is_clear(above: float) -> bool:
    """Whether the probability of lying above the floor is close enough to 0 or 1."""
    return not 1 - CLEAR < above < CLEAR
