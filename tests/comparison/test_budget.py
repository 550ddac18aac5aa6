"""What single models get of a budget, and what is said of it; and of tasks that a short run does not reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask
from polytask.comparison.budget import planned
from polytask.comparison.preparation import short_notes
from polytask.errors import ConfigError
from polytask.training.options import TrainOptions


def test_single_models_with_clearly_fewer_epochs_are_named() -> None:
    (note,) = short_notes({"slots": 0.37, "intent": 0.84, "small": 4.0}, TrainOptions(epochs=1))
    assert note.endswith("less than train.epochs = 1: slots 0.37 epochs")
    assert short_notes({"slots": 0.8, "intent": 1.0}, TrainOptions(epochs=1)) == []
    assert short_notes({"slots": 0.37}, TrainOptions(epochs=1, max_steps=2)) == []


@pytest.mark.parametrize("steps", [2, 100, None])
@pytest.mark.parametrize("strategy", ["sequential", "parallel"])
def test_tasks_that_a_short_run_does_not_reach_are_named(
    steps: int | None, strategy: str, job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    values = {**job(rows=24, batch_size=4, max_steps=steps), "schedule": {"strategy": strategy}}
    found = polytask.check(values)
    budget = planned(found.assembly)
    missed = [task for task, rows in budget.rows.items() if not rows]
    assert bool(missed) == (steps == 2 and strategy == "sequential")
    notes = [note.message for note in found.notes if note.place == "train.max_steps"]
    assert [note.endswith(f"before {', '.join(missed)} train on any row") for note in notes] == [True] * bool(missed)
    assert ("the run ends after 2 of these steps (train.max_steps)" in str(found)) == (steps == 2)
    for task in budget.rows:
        if task not in missed:
            assert budget.alone(task)["epochs"] > 0
    if missed:
        with pytest.raises(ConfigError, match=f"tasks.{missed[0]}: nothing to compare: the run of 2 steps ends before"):
            polytask.compare(values, tmp_path / "out")
