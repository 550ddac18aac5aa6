"""The dev scores that tasks are to reach: numbers, or what an earlier run reached."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from polytask.errors import ConfigError, nearest


def read_targets(targets: Mapping[str, float | str], metrics: Mapping[str, str]) -> dict[str, float]:
    """Return each task's target.

    Args:
        targets: a number, or the folder of a run whose dev score of the task's main metric it is.

    Raises:
        ConfigError: a run has no such score.
    """
    return {
        task: _of_run(task, Path(value), metrics[task]) if isinstance(value, str) else value
        for task, value in targets.items()
    }


def _of_run(task: str, run: Path, metric: str) -> float:
    place = f"schedule.targets.{task}: found {str(run)!r}"
    try:
        dev = json.loads((run / "scores.json").read_text("utf-8"))["dev"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{place}, which holds no scores.json with dev scores; expected a number, or the folder of a finished run"
        ) from None
    if task not in dev:
        raise ConfigError(f"{place}, a run that has no dev scores of {task!r}; {nearest(task, dev)}")
    if dev[task].get(metric) is None:
        raise ConfigError(f"{place}, a run without a dev {metric} of {task!r}; {nearest(metric, dev[task])}")
    return float(dev[task][metric])
