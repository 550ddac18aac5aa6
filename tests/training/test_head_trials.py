"""Heads on trial: a planted conflict divides the head that tasks share, and nothing else knows of the trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from interruptions import interrupt_after
from several_processes import in_processes, without_dropout

import polytask as pt
from polytask.errors import Interrupted
from polytask.training.head_trials import HeadTrials
from polytask.training.loop import Trainer
from polytask.training.selection import DevScores
from samples import corpus_rows, write_jsonl

TASKS = ["plain", "other", "opposed"]
OTHER = {"positive": "negative", "negative": "positive"}
TEXTS = ["A quiet film by Ang Lee.", "The bank of Lisbon raised its rates"]


@pytest.fixture
def planted(tmp_path: Path, tiny: Path) -> dict[str, Any]:
    """Three tasks that share a head, of which one has the labels exchanged; the words tell them at once."""
    tasks: dict[str, Any] = {}
    texts = [row["text"] for row in corpus_rows(330)]
    for number, name in enumerate(TASKS):
        rows = []
        for place, text in enumerate(texts[number::3]):
            label = ("positive", "negative")[place % 2]
            start = {"positive": "good good good", "negative": "bad bad bad"}[label]
            rows.append({"text": f"{start} {text}", "label": OTHER[label] if name == "opposed" else label})
        files = {split: str(write_jsonl(tmp_path / f"{name}-{split}.jsonl", rows)) for split in ("train", "dev")}
        tasks[name] = {"type": "classification", "data": files, "dropout": 0.0}
    return {
        "encoder": str(tiny),
        "max_tokens": 12,
        "tasks": tasks,
        "sharing": {"strategy": "adaptive", "share_heads": [TASKS]},
        "train": {"max_steps": 26, "epochs": 100, "batch_size": 12, "learning_rate": 1e-3, "head_learning_rate": 0.06,
                  "seed": 5, "precision": "fp32", "logging_steps": 1},
    }  # fmt: skip


def events(run: Path, *kinds: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    return [{**event, "time": None} for event in found if event["event"] in kinds]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_the_opposed_task_gets_the_head_that_proved_itself_and_the_model_ships_with_it(
    planted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[bool] = []
    hand_over = HeadTrials.hand_over

    def watching(self: HeadTrials, parts: Any, optimizer: torch.optim.Optimizer) -> None:
        tried = {part: self._trials[part] for part in parts}
        hand_over(self, parts, optimizer)
        for part, trial in tried.items():
            own = self._model.head(min(part))
            handed.append(all(map(torch.equal, own.parameters(), trial.head.parameters())))
            averages = [optimizer.state[parameter]["exp_avg"] for parameter in own.parameters()]
            states = [trial.optimizer.state[parameter]["exp_avg"] for parameter in trial.head.parameters()]
            handed.append(all(map(torch.equal, averages, states)))
            grouped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            handed.append(all(id(parameter) in grouped for parameter in own.parameters()))

    monkeypatch.setattr(HeadTrials, "hand_over", watching)
    run = pt.train(planted, tmp_path / "run")
    event, *later = events(tmp_path / "run", "head_split")
    assert event["groups"] == [["opposed"], ["other", "plain"]]
    assert event["share_heads"] == [["plain", "other"]]
    assert event["evidence"] >= event["threshold"]
    assert handed == [True] * 6 * (1 + len(later))
    loaded = pt.load(tmp_path / "run" / "model")
    assert loaded.network.sharing.heads == run.model.network.sharing.heads
    assert loaded.predict(TEXTS) == run.model.predict(TEXTS)
    assert loaded.network.head("plain") is not loaded.network.head("opposed") is not loaded.network.head("other")


def test_until_a_head_is_divided_training_is_what_it_is_without_a_trial(
    planted: dict[str, Any], tmp_path: Path
) -> None:
    for name, risk in (("tried", 1e-300), ("kept", 0.0)):
        pt.train({**planted, "sharing": {**planted["sharing"], "head_risk": risk}}, tmp_path / name)
        assert not events(tmp_path / name, "head_split")
    assert events(tmp_path / "tried", "step") != []
    assert [event["losses"] for event in events(tmp_path / "tried", "step")] == [
        event["losses"] for event in events(tmp_path / "kept", "step")
    ]
    assert weights(tmp_path / "tried") == weights(tmp_path / "kept")


@pytest.mark.parametrize("after", [-3, 2])
def test_a_run_stopped_before_or_after_the_division_goes_on_to_the_same_heads_and_weights(
    planted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    pt.train(planted, tmp_path / "whole")
    expected = events(tmp_path / "whole", "head_split")
    with monkeypatch.context() as patch:
        interrupt_after(patch, expected[0]["step"] + after)
        with pytest.raises(Interrupted):
            pt.train(planted, tmp_path / "run")
    assert bool(events(tmp_path / "run", "head_split")) == (after > 0)
    pt.train(planted, tmp_path / "run", resume=True)
    assert events(tmp_path / "run", "head_split") == expected
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_the_trial_is_over_once_rows_come_back_and_a_run_resumed_after_that_goes_on(
    planted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {**planted["train"], "batch_size": 66, "max_steps": 8}
    values = {**planted, "sharing": {**planted["sharing"], "head_risk": 1e-300}, "train": train}
    new: list[bool] = []
    step = HeadTrials.step

    def watching(self: HeadTrials, tasks: Any) -> Any:
        gains = step(self, tasks)
        new.append(bool(gains))
        assert bool(self.tensors()) == bool(gains)
        return gains

    with monkeypatch.context() as patch:
        patch.setattr(HeadTrials, "step", watching)
        pt.train(values, tmp_path / "whole")
    assert new == [True] * 5 + [False]  # and is not asked again
    with monkeypatch.context() as patch:
        interrupt_after(patch, 6)
        with pytest.raises(Interrupted):
            pt.train(values, tmp_path / "run")
    pt.train(values, tmp_path / "run", resume=True)
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_the_best_model_comes_back_with_the_heads_that_it_had(
    planted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation before the division is made the best one."""
    values = {**planted, "train": {**planted["train"], "evaluations_per_epoch": 8}}
    evaluate = Trainer._evaluate
    seen: list[int] = []

    def staged(self: Trainer, bar: Any) -> None:
        seen.append(max(map(len, self.parts.model.sharing.heads), default=0))
        scores = {name: {"accuracy": 0.5} for name in TASKS}
        rated = {"plain": 0.9 if len(seen) == 1 else 0.1}
        object.__setattr__(self.parts, "evaluate", lambda model: DevScores(scores, rated))
        evaluate(self, bar)

    monkeypatch.setattr(Trainer, "_evaluate", staged)
    run = pt.train(values, tmp_path / "run")
    assert seen[0] == 3 > seen[-1]
    assert run.model.network.sharing.heads == (tuple(TASKS),)
    assert pt.load(tmp_path / "run" / "model").predict(TEXTS) == run.model.predict(TEXTS)


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_divide_a_head_as_one_does(planted: dict[str, Any], tmp_path: Path) -> None:
    values = without_dropout(planted)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    with in_processes(["-m", "polytask", "train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "two")]):
        pt.train(values, tmp_path / "one")
    one, two = (events(tmp_path / name, "head_split") for name in ("one", "two"))
    assert len(one) == len(two) > 0
    for alone, together in zip(one, two, strict=True):
        assert together.pop("evidence") == pytest.approx(alone.pop("evidence"), rel=2e-2)
        assert together == alone
