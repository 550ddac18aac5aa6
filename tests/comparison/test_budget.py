"""What single models get of a budget, and what is said of it; and of tasks that a short run does not reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask
from polytask.comparison.budget import planned
from polytask.comparison.preparation import prepare, short_notes
from polytask.comparison.unequal import RowPlan, unequal_rows
from polytask.config import validate
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


def test_an_arm_with_another_budget_is_named_wherever_it_counts(
    job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    values = job(rows=48, epochs=2, batch_size=8)
    del values["tasks"]["entities"]
    found = polytask.compare(values, tmp_path / "out", arms=["global"], seeds=2, named={"short": ["train.epochs=1"]})
    note, *others = found.record["notes"]
    assert note.startswith("short does not have the budget of the single models")
    assert others == []
    for task, result in found.tasks.items():
        single, joint, short = (found.arms[arm]["exposure"][task] for arm in ("single", "global", "short"))
        assert abs(single - joint) <= 8 < single - short
        assert f"{task} {short} instead of {single}" in note
        assert result["sentence"].endswith(f"; short trains on {short} rows of {task}, its single model on {single}")
    assert found.reason.endswith("; the budget of short is not that of the single models, see the notes")


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("override", "unequal"),
    [
        ("schedule.proportions=uniform", False),
        ("schedule.proportions={sentiment: 3, topic: 1, entities: 1}", False),
        ("schedule.strategy=sequential", False),
        ("schedule={strategy: dynamic, policy: bandit}", False),
        ("sharing.strategy=independent", False),
        ("train.batch_size=7", False),
        ("train.patience=1", False),
        ("train.epochs=4", True),
        ("train.max_steps=4", True),
    ],
)
def test_only_another_number_of_rows_is_another_budget(
    override: str, unequal: bool, shared: bool, job: Callable[..., dict[str, Any]]
) -> None:
    config = validate(job(rows=60, shared=shared, epochs=2, batch_size=5))
    prepared = prepare(config, ["global"], {"arm": [override]})
    assert {name: set(arm.unequal) for name, arm in prepared.items()} == {
        "single": set(), "global": set(), "arm": set(config.tasks) if unequal else set(),
    }  # fmt: skip


def test_a_shorter_arm_is_found_whatever_its_schedule() -> None:
    joint, alone = RowPlan({"a": 1000, "b": 20}, 1020, 10, 1), {"a": 1000, "b": 20}
    uniform = RowPlan({"a": 510, "b": 510}, 1020, 10, 1)
    shorter = RowPlan({"a": 255, "b": 255}, 510, 10, 1)
    assert unequal_rows(uniform, joint, alone, same_schedule=False) == {}
    assert unequal_rows(shorter, joint, alone, same_schedule=False) == {"a": (255, 1000), "b": (255, 20)}
    fewer = RowPlan({"a": 1000, "b": 5}, 1020, 10, 1)
    assert unequal_rows(fewer, joint, alone, same_schedule=True) == {"b": (5, 20)}
