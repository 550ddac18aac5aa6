"""More rows to judge by than dev has: folds of the training rows.

For a fold, the single models and the winner are trained once more without it, and answer it. These rows have chosen
nothing, neither a model nor one of its states, and each of them was trained on by the models of other folds only.
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
# What is known well enough: nothing more is tried where each task lies above the floor, or below it, so surely.
CLEAR = 0.95


@dataclass(frozen=True)
class Pair:
    """The models of a fold, or those of all training rows, which answered dev.

    Attributes:
        singles: by task, the folder of its single model's run.
        joint: folder of the winner's run.
    """

    singles: Mapping[str, Path]
    joint: Path


def compare(task: str, judged: TaskScoring, pairs: Sequence[Pair], seed: int) -> Difference:
    """Compare the winner's answers for a task with those of the single models, over the rows of all pairs.

    Raises UserError where two models of a pair answered different rows.
    """
    answers: dict[str, ArmPredictions] = {}
    for pair in pairs:
        arms = {BASELINE: {seed: [pair.singles[task]]}, JOINT: {seed: [pair.joint]}}
        for arm, found in read_predictions(arms, [task])[task].items():
            answers[arm] = answers[arm].followed_by(found) if arm in answers else found
    return compare_arms(
        judged.metric, judged.level, judged.measured(answers), baseline=BASELINE, resamples=RESAMPLES, seed=0
    )[JOINT]  # fmt: skip


def added(known: Difference, step: Difference) -> Difference:
    """Return the difference of a third model to the first from those of the second to the first and the third to the
    second, as though their errors were independent."""
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
    """Whether a probability to lie above the floor leaves little to learn."""
    return not 1 - CLEAR < above < CLEAR
