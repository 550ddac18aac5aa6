"""Schedules at work in training: stages, gates, freezing, what is kept, and an exact resume in the midst of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from interruptions import interrupt_after
from rich.console import Console

import polytask as pt
from polytask.errors import Interrupted
from polytask.model.multitask import MultiTaskModel
from polytask.tables import show_stages
from polytask.training.snapshots import Snapshots

Job = Callable[..., dict[str, Any]]
ORDER = ("sentiment", "topic", "entities")
SEQUENTIAL = {"strategy": "sequential", "replay": 0.2}


def chained(job: Job, schedule: dict[str, Any], gate: dict[str, Any] | None = None, **train: Any) -> dict[str, Any]:
    """Three tasks, each of which needs the one before."""
    values = {**job(**{"logging_steps": 1, **train}), "schedule": schedule}
    for before, task in itertools.pairwise(ORDER):
        values["tasks"][task]["needs"] = before
        if gate is not None:
            values["tasks"][before]["gate"] = gate
    return values


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def record_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


@pytest.mark.parametrize("gate", [None, {"score": {"accuracy": 0.01}}, {"plateau": 1, "limit": 3}], ids=str)
def test_each_stage_trains_its_task_ends_in_an_event_and_leaves_its_scores(
    job: Job, tmp_path: Path, gate: dict[str, Any] | None
) -> None:
    run = pt.train(chained(job, {"strategy": "sequential"}, gate), tmp_path / "run")
    log = log_of(tmp_path / "run")
    ends = {event["task"]: event["step"] for event in log if event["event"] == "stage_end"}
    assert tuple(ends) == ORDER
    firsts = [0, *ends.values()]
    for number, task in enumerate(ORDER):
        inside = [
            event for event in log
            if event["event"] == "step" and firsts[number] < event["step"] <= firsts[number + 1]
        ]  # fmt: skip
        assert all(set(event["losses"]) == {task} for event in inside)
    stages = record_of(tmp_path / "run")["stages"]
    assert [stage["stage"] for stage in stages] == list(ORDER)
    assert [stage["step"] for stage in stages] == list(ends.values())
    evaluations = {event["step"]: event["dev"] for event in log if event["event"] == "evaluation"}
    metrics = {name: task.metric for name, task in run.model.tasks.items()}
    for stage in stages:
        assert stage["scores"] == {task: evaluations[stage["step"]][task][metric] for task, metric in metrics.items()}


def test_the_learning_rate_starts_anew_in_each_stage_or_runs_through(job: Job, tmp_path: Path) -> None:
    for restart, rises in ((True, 3), (False, 1)):
        out = tmp_path / str(restart)
        pt.train(chained(job, {"strategy": "sequential", "restart": restart}, warmup_ratio=0.0, epochs=3), out)
        rates = [event["rate"] for event in log_of(out) if event["event"] == "step"]
        assert sum(rate == pytest.approx(1e-3) for rate in rates) == rises
        assert min(rates) > 0


def test_layers_frozen_after_the_first_stage_stay_as_it_left_them(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[dict[str, torch.Tensor]] = []
    freeze = MultiTaskModel.freeze

    def watched(self: MultiTaskModel, layers: int) -> None:
        freeze(self, layers)
        frozen.append({name: value.clone() for name, value in self.state_dict().items()})

    monkeypatch.setattr(MultiTaskModel, "freeze", watched)
    monkeypatch.setattr(Snapshots, "load", lambda *given: None)  # the last model, not the best one
    run = pt.train(chained(job, {"strategy": "sequential", "freeze": 1}))
    (then,) = frozen
    moved = {name for name, value in run.model.network.state_dict().items() if not torch.equal(value, then[name])}
    lowest = {name for name in then if ".embeddings." in name or ".layer.0." in name}
    assert lowest
    assert not moved & lowest
    assert any(".layer.1." in name for name in moved)


@pytest.mark.parametrize("strategy", ["parallel", "dynamic"])
def test_a_task_draws_nothing_before_the_gate_of_what_it_needs_opens(job: Job, tmp_path: Path, strategy: str) -> None:
    values = chained(job, {"strategy": strategy, "proportions": "uniform"}, {"epochs": 0.5}, epochs=3)
    pt.train(values, tmp_path / "run")
    log = log_of(tmp_path / "run")
    opened = {event["task"]: event["step"] for event in log if event["event"] == "gate"}
    assert set(opened) == {"sentiment", "topic"}
    for before, task in itertools.pairwise(ORDER):
        first = next(event["step"] for event in log if event["event"] == "step" and task in event["losses"])
        assert first == opened[before] + 1


def test_a_gate_that_is_not_reached_may_end_the_run(job: Job, tmp_path: Path) -> None:
    gate = {"score": {"accuracy": 1.0}, "limit": 0.7, "on_limit": "stop"}
    pt.train(chained(job, {"strategy": "parallel"}, gate, epochs=9), tmp_path / "run")
    record = record_of(tmp_path / "run")
    assert record["exposure"]["topic"]["rows"] == 0
    assert record["exposure"]["sentiment"]["epochs"] < 1.5


@pytest.mark.parametrize(
    "schedule",
    [
        {"strategy": "sequential", "freeze": 1, "restart": False},
        {"strategy": "dynamic", "policy": "stop_and_go", "patience": 1},
        *(
            pytest.param(schedule, marks=pytest.mark.slow)
            for schedule in (
                SEQUENTIAL,
                {"strategy": "parallel", "proportions": "annealed"},
                {"strategy": "dynamic", "policy": "bandit", "window": 2},
                {"strategy": "dynamic", "policy": "training_error"},
            )
        ),
    ],
    ids=lambda schedule: "-".join(map(str, schedule.values())),
)
def test_a_run_stopped_in_the_midst_of_a_schedule_goes_on_as_if_it_had_not(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: dict[str, Any]
) -> None:
    values = chained(job, schedule, {"epochs": 0.5}, evaluations_per_epoch=2, epochs=3)
    pt.train(values, tmp_path / "whole")
    steps = record_of(tmp_path / "whole")["steps"]
    for stop in (1, steps // 2, steps - 2):
        out = tmp_path / f"stopped-{stop}"
        with monkeypatch.context() as patch:
            interrupt_after(patch, stop)
            with pytest.raises(Interrupted):
                pt.train(values, out)
        pt.train(values, out, resume=True)
        for name in ("model/model.safetensors", "scores.json"):
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), stop
        whole, resumed = record_of(tmp_path / "whole"), record_of(out)
        assert all(resumed[key] == whole[key] for key in ("stages", "exposure", "best_step_by_task", "steps"))


def test_the_model_of_each_tasks_best_evaluation_is_saved_where_it_is_asked_for(job: Job, tmp_path: Path) -> None:
    values = chained(job, SEQUENTIAL, best_of_each_task=True, evaluations_per_epoch=2)
    run = pt.train(values, tmp_path / "run")
    evaluations = [event for event in log_of(tmp_path / "run") if event["event"] == "evaluation"]
    for task, found in run.model.tasks.items():
        best = max(event["dev"][task][found.metric] for event in evaluations)
        loaded = pt.load(tmp_path / "run" / "best" / task)
        scores = pt.evaluate(loaded, {"all": values["tasks"][task]["data"]["dev"]}, tasks=[task]).scores
        assert scores[task][found.metric] == pytest.approx(best, abs=1e-6)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_each_task_lost_since_its_own_stage_is_shown() -> None:
    stages = [
        {"stage": "a", "step": 3, "scores": {"a": 0.8, "b": 0.1}},
        {"stage": "b", "step": 6, "scores": {"a": 0.65, "b": None}},
    ]
    out = Console(file=StringIO(), width=100)
    show_stages(stages, out)
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    (row,) = [line for line in shown.splitlines() if "0.1500" in line]
    assert "0.8000" in row
    assert "0.6500" in row
    assert "undefined" in shown
    show_stages(stages[:1], one := Console(file=StringIO()))
    assert not one.file.getvalue()  # type: ignore[attr-defined]
