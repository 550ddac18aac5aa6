"""What training promises besides resuming: it learns, selects by dev, stops when it must, and says what happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import polytask as pt
from polytask.errors import ConfigError, TrainingError
from polytask.training.events import Events
from polytask.training.selection import DevScores, Selection, TestScores

Job = Callable[..., dict[str, Any]]


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]


def test_training_lowers_every_tasks_loss(job: Job, tmp_path: Path) -> None:
    pt.train(job(rows=60, epochs=25, learning_rate=5e-3, logging_steps=5), tmp_path / "run")
    steps = [event for event in events(tmp_path / "run") if event["event"] == "step"]
    for task in ("sentiment", "topic", "entities"):
        assert steps[-1]["losses"][task] < 0.75 * steps[0]["losses"][task], task


def test_the_log_holds_steps_evaluations_exposure_and_scores(job: Job, tmp_path: Path) -> None:
    run = pt.train(job(evaluations_per_epoch=2), tmp_path / "run")
    log = events(tmp_path / "run")
    assert {event["event"] for event in log} == {"start", "step", "evaluation", "scores"}
    assert all("step" in event for event in log)
    assert log[-1]["scores"] == run.scores == json.loads((tmp_path / "run" / "scores.json").read_text())
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["exposure"]["sentiment"]["epochs"] == pytest.approx(2.0, abs=0.2)
    assert record["steps"] == log[-1]["step"]


def test_the_best_evaluation_is_kept_not_the_last(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from polytask.training.loop import Trainer

    kept: dict[int, torch.Tensor] = {}
    evaluate = Trainer._evaluate

    def staged(self: Trainer, bar: Any) -> None:
        score = {1: 0.2, 2: 0.9, 3: 0.4}[len(kept) + 1]
        kept[self.state.step] = self.parts.model.state_dict()["heads.task-topic.out.weight"].clone()
        object.__setattr__(self.parts, "evaluate", lambda model: DevScores(self_scores(self), {"topic": score}))
        evaluate(self, bar)

    def self_scores(trainer: Trainer) -> dict[str, dict[str, float | None]]:
        return {name: {task.metric: 0.5} for name, task in trainer.parts.tasks.items()}

    monkeypatch.setattr(Trainer, "_evaluate", staged)
    run = pt.train(job(epochs=3), tmp_path / "run")
    best = list(kept.values())[1]
    assert torch.equal(run.model.network.state_dict()["heads.task-topic.out.weight"], best)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["best_step"] == list(kept)[1]


def test_without_a_folder_the_best_weights_stay_in_memory(job: Job, tmp_path: Path) -> None:
    values = job()
    kept = pt.train(values, tmp_path / "run")
    loose = pt.train(values)
    assert loose.folder is None
    assert loose.scores == kept.scores
    found = loose.model.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in kept.model.network.state_dict().items())


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_task(job: Job, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step \d+: the (loss of '\w+' is|gradient of .* is not finite)") as caught:
        pt.train(job(learning_rate=1e30, epochs=5), tmp_path / "run")
    assert "lower train.learning_rate" in str(caught.value)
    assert events(tmp_path / "run")[-1]["event"] == "failed"


def test_a_model_is_chosen_by_dev_scores_only() -> None:
    selection = Selection(patience=None)
    assert selection.observe(1, DevScores({}, {"a": 0.1, "b": 0.3}))
    assert not selection.observe(2, DevScores({}, {"a": 0.0, "b": 0.3}))
    with pytest.raises(TypeError, match="never by TestScores"):
        selection.observe(3, TestScores({}))  # type: ignore[arg-type]


def test_patience_ends_a_run_that_stopped_improving(job: Job, tmp_path: Path) -> None:
    selection = Selection(patience=2)
    found = []
    for step, score in enumerate((0.5, 0.4, 0.6, 0.6, 0.1)):
        selection.observe(step, DevScores({}, {"a": score}))
        found.append(selection.exhausted)
    assert found == [False, False, False, False, True]
    pt.train(job(epochs=50, learning_rate=1e-9, patience=2), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] < 20


def test_more_processes_than_rows_is_an_error(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from polytask.training.distribution import World

    class Many(World):
        def broadcast(self, value: object) -> object:
            return value

    from contextlib import contextmanager

    from polytask import api

    @contextmanager
    def many(device: torch.device) -> Any:
        yield Many(0, 99)

    monkeypatch.setattr(api, "join_world", many)
    with pytest.raises(ConfigError, match="fewer than the 99 processes"):
        pt.train(job())


def test_tensorboard_files_are_written_when_asked_for(job: Job, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pt.train(job(max_steps=2, report_to=["tensorboard"]), tmp_path / "run")
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_events_after_a_checkpoint_and_torn_lines_are_cut(tmp_path: Path) -> None:
    with Events(tmp_path) as log:
        for step in range(5):
            log.write("step", step, {})
        with (tmp_path / "events.jsonl").open("a") as torn:
            torn.write('{"event": "st')
        log.cut_after(2)
        log.write("resume", 2, {})
    assert [(event["event"], event["step"]) for event in events(tmp_path)] == [
        ("step", 0), ("step", 1), ("step", 2), ("resume", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("proportions", ["uniform", "proportional", "temperature"])
def test_every_proportion_trains(job: Job, tmp_path: Path, proportions: str) -> None:
    values = {**job(shared=False, max_steps=4), "schedule": {"strategy": "parallel", "proportions": proportions}}
    run = pt.train(values, tmp_path / "run")
    assert set(run.scores["test"]) == {"sentiment", "topic", "entities"}
