"""How much each task changes the score of each other task when the two are trained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from polytask.comparison.arms import BASELINE
from polytask.comparison.predictions import divided, read_predictions
from polytask.comparison.preparation import Prepared, TaskScoring
from polytask.comparison.statistics import Difference
from polytask.tasks.arrays import rounded
from polytask.tasks.metric import METRICS, smaller_is_better


def transfer(
    metrics: Mapping[str, str],
    runs: Mapping[str, Mapping[int, Sequence[Path]]],
    prepared: Mapping[str, Prepared],
    differences: Mapping[str, Mapping[str, Difference]],
    sharing: Sequence[str],
    folds: int = 1,
) -> dict[str, Any] | None:
    """Return the transfer matrix: entry (i, j) is the change of task j's score due to task i, positive for better.

    It comes from the pairs arm or, for two tasks, from the arm that shares most. Otherwise there is none.

    Args:
        metrics: main metric of each task.
        runs: run folders by arm and seed.
        prepared: the arms.
        differences: differences by task and arm.
        sharing: arms that share, the one that shares most first.
        folds: number of runs of each model per seed.
    """
    tasks = list(metrics)
    matrix: list[list[float | None]] = [[None] * len(tasks) for _ in tasks]
    if "pairs" in runs:
        for number, (first, second) in enumerate(combinations(tasks, 2)):
            folders = _models(runs["pairs"], number, folds)
            for source, target in ((first, second), (second, first)):
                judged = prepared[BASELINE].parts[tasks.index(target)].judged[target]
                singles = _models(runs[BASELINE], tasks.index(target), folds)
                single = {seed: found for seed, found in singles.items() if seed in folders}
                found = _change(target, metrics[target], judged, {BASELINE: single, "pairs": folders}, folds)
                matrix[tasks.index(source)][tasks.index(target)] = found
    elif len(tasks) == 2 and sharing:
        for at, second in ((0, 1), (1, 0)):
            delta = differences[tasks[second]][sharing[0]].delta
            matrix[at][second] = None if delta is None else rounded(delta)
    else:
        return None
    return {"tasks": tasks, "matrix": matrix}


def _models(runs: Mapping[int, Sequence[Path]], number: int, folds: int) -> dict[int, list[Path]]:
    """Return the runs of one model of an arm by seed, ordered by fold."""
    return {seed: [part[number] for part in divided(listed, folds)] for seed, listed in runs.items()}


def _change(
    task: str, metric: str, judged: TaskScoring, runs: Mapping[str, Mapping[int, Sequence[Path]]], folds: int
) -> float | None:
    """Return the mean change of a task's score over seeds."""
    sign = -1.0 if smaller_is_better(metric) else 1.0
    means: list[float] = []
    for answers in judged.measured(read_predictions(runs, [task], folds)[task]).values():
        values = [METRICS[judged.level][metric](list(answers.labels), list(found)) for found in answers.predictions]
        defined = [value for value in values if value is not None]
        if len(defined) < len(values):
            return None
        means.append(sum(defined) / len(defined))
    return rounded(sign * (means[1] - means[0]))
