"""Teachers: what they answer reaches the loss, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interruptions import interrupt_after
from safetensors.torch import load_file
from test_distribution import gradients, in_pieces, require_same, without_dropout

import polytask as pt
from polytask import teachers as teachers_module
from polytask.assemble import assemble
from polytask.config import validate
from polytask.data.encode import Source
from polytask.errors import ConfigError, Interrupted, ModelError
from polytask.training import loop
from polytask.training.distribution import World
from polytask.training.optimizer import label_weight
from samples import small_job

Job = Callable[..., dict[str, Any]]


def only(values: dict[str, Any], *tasks: str) -> dict[str, Any]:
    return {**values, "tasks": {name: values["tasks"][name] for name in tasks}}


def taught(values: dict[str, Any], *folders: Path) -> dict[str, Any]:
    return {**values, "train": {**values["train"], "teachers": [str(folder) for folder in folders]}}


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the teachers lie."""
    return tmp_path_factory.mktemp("school")


@pytest.fixture(scope="module")
def schooled(school: Path, tiny: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a small job without teachers and with two: one of one task, one of two."""
    values = without_dropout(small_job(school, tiny, max_steps=5, logging_steps=1))
    pt.train(only(values, "sentiment"), school / "one")
    pt.train(only(values, "topic", "entities"), school / "two")
    return values, taught(values, school / "one", school / "two" / "model")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def test_the_labels_weigh_nothing_at_first_and_all_at_last() -> None:
    assert [label_weight(step, 5) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert label_weight(0, 1) == 0.0


def test_teachers_answer_as_they_predict(schooled: Any) -> None:
    """Each row's answers stand at the row, each word's at the word, as the teacher alone makes them."""
    _, values = schooled
    assembly = assemble(validate(values))
    (source,) = assembly.train_sources(World(0, 1))
    assert set(source.teacher_logits) == {"sentiment", "topic", "entities"}
    for teacher in assembly.teachers:
        model = pt.load(teacher.model.folder)
        for row in range(0, len(source), 7):
            raw = source.raw[row]
            words = [raw["text"][start:end] for start, end in zip(raw["starts"], raw["ends"], strict=True)]
            answer = model.predict([{"text": raw["text"], "tokens": words}])[0]
            for task in teacher.tasks:
                outputs = torch.from_numpy(np.array(source.teacher_logits[task][row]))
                if task == "entities":
                    assert len(outputs) == len(words)
                    assert not outputs.isnan().any()
                else:
                    found = dict(zip(model.tasks[task].labels, outputs[0].softmax(-1).tolist(), strict=True))
                    assert found == pytest.approx(answer[task]["probabilities"], abs=2e-6)


def test_a_teachers_words_that_it_does_not_reach_are_left_to_the_labels(job: Job, tmp_path: Path) -> None:
    values = only(without_dropout(job(max_steps=2)), "entities")
    pt.train({**values, "max_tokens": 8}, tmp_path / "short")
    assembly = assemble(validate(taught(values, tmp_path / "short")))
    (source,) = assembly.train_sources(World(0, 1))
    assert np.isnan(source.teacher_logits["entities"].values).any()
    run = pt.train(taught(values, tmp_path / "short"))
    assert all(value.isfinite().all() for value in run.model.network.state_dict().values())


def test_teachers_change_the_update_and_with_full_labels_they_do_not(
    schooled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, values = schooled
    pt.train(plain, tmp_path / "plain")
    pt.train(values, tmp_path / "taught")
    logs = [
        [json.loads(line) for line in (tmp_path / name / "events.jsonl").read_text().splitlines()]
        for name in ("plain", "taught")
    ]
    shares = [[event.get("label_weight") for event in log if event["event"] == "step"] for log in logs]
    assert shares == [[None] * 5, [0.0, 0.25, 0.5, 0.75, 1.0]]
    changed = weights(tmp_path / "taught")
    assert any(not torch.equal(value, changed[name]) for name, value in weights(tmp_path / "plain").items())
    with monkeypatch.context() as patch:
        patch.setattr(loop, "label_weight", lambda step, total: 1.0)
        pt.train(values, tmp_path / "gold")
    for name, value in weights(tmp_path / "plain").items():
        assert torch.equal(value, weights(tmp_path / "gold")[name]), name


@pytest.mark.parametrize(
    ("sharing", "balance"),
    [({"strategy": "global"}, {}), ({"strategy": "partial", "shared_layers": 1}, {"method": "pcgrad"})],
    ids=["sum", "gradients"],
)
def test_pieces_make_the_update_of_the_whole(
    schooled: Any, tmp_path: Path, sharing: dict[str, Any], balance: dict[str, Any]
) -> None:
    _, values = schooled
    values = {**values, "sharing": sharing, "balance": balance} if balance else {**values, "sharing": sharing}
    found = gradients({"whole": values, "pieces": in_pieces(values, 4)}, tmp_path / "gradients", 1)
    require_same({"whole": found["pieces"]}, found)


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_make_the_update_of_one(schooled: Any, tmp_path: Path) -> None:
    _, values = schooled
    alone = gradients({"two": values}, tmp_path / "alone", 1)
    require_same(gradients({"two": values}, tmp_path / "together", 2), alone)


def test_interrupted_and_resumed_equals_uninterrupted(
    schooled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, values = schooled
    pt.train(values, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(Interrupted):
            pt.train(values, tmp_path / "stopped")
    pt.train(values, tmp_path / "stopped", resume=True)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "stopped")[name]), name


def test_a_teacher_passes_its_rows_once(schooled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, values = schooled
    asked: list[int] = []
    answer = teachers_module._TeacherPass._answer

    def counting(self: Any, engine: Any, rows: Any, *more: Any) -> None:
        asked.extend(rows)
        answer(self, engine, rows, *more)

    monkeypatch.setattr(teachers_module._TeacherPass, "_answer", counting)
    monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path / "cache"))
    pt.train(values)
    assembly = assemble(validate(values))
    (source,) = assembly.sources["train"]
    read = [row for teacher in assembly.teachers for row in {*_rows(source, teacher.tasks)}]
    assert sorted(asked) == sorted(read)
    pt.train(values)
    assert len(asked) == len(read)


def _rows(source: Source, tasks: tuple[str, ...]) -> list[int]:
    return [row for task in tasks for row in source.carries[task].tolist()]


def test_a_run_depends_on_its_teachers_weights(schooled: Any, school: Path, tmp_path: Path) -> None:
    plain, _ = schooled
    for name in ("one", "two"):
        shutil.copytree(school / name, tmp_path / name)
    values = taught(plain, tmp_path / "one", tmp_path / "two" / "model")
    before = assemble(validate(values)).identity
    (tmp_path / "one").rename(tmp_path / "older")
    changed = {**values, "train": {**values["train"], "seed": 6, "teachers": []}}
    pt.train(only(changed, "sentiment"), tmp_path / "one")
    assert assemble(validate(values)).identity != before


def test_teachers_work_with_every_way_to_balance_and_to_schedule(schooled: Any) -> None:
    _, values = schooled
    for changed in (
        {"balance": {"method": "uncertainty"}},
        {"balance": {"method": "famo"}},
        {"balance": {"method": "upgrad"}, "sharing": {"strategy": "adaptive", "interval": 2}},
        {"schedule": {"strategy": "sequential", "replay": 0.5}},
        {"schedule": {"strategy": "dynamic", "policy": "loss_rate"}, "sharing": {"strategy": "mmoe", "from_layer": 2}},
    ):
        assert pt.train({**values, **changed}).scores["dev"], changed


def test_bad_teachers_are_refused_before_training(schooled: Any, school: Path, tmp_path: Path) -> None:
    values, _ = schooled
    one, two = school / "one", school / "two"
    cases = [
        ((one, one), ConfigError, r"train.teachers\[1\]: .* 'sentiment', which .* already teaches; .* leave one"),
        ((tmp_path / "none",), ModelError, r"none: not a model folder"),
    ]
    for folders, kind, message in cases:
        with pytest.raises(kind, match=message):
            assemble(validate(taught(values, *folders)))
    with pytest.raises(ConfigError, match=r"train.teachers\[0\]: .* has the tasks sentiment, and the conf.* topic"):
        assemble(validate(taught(only(values, "topic"), one)))
    other = {**values["tasks"]["topic"], "label": "sentiment"}
    renamed = {**values, "tasks": {"topic": other}}
    with pytest.raises(ConfigError, match=r"cannot teach 'topic' .*only 'topic' has the labels .*train the teacher on"):
        assemble(validate(taught(renamed, two)))
    with pytest.raises(ConfigError, match=r"cannot teach 'sentiment' .*their types are tagging and classification"):
        assemble(validate(taught({**values, "tasks": {"sentiment": values["tasks"]["entities"]}}, one)))
