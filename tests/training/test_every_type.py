"""What every task type keeps in a run: it resumes bit for bit, and processes and pieces make the update of one."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from interruptions import interrupt_after
from several_processes import without_dropout
from test_distribution import gradients, in_pieces, require_same

import polytask as pt
from every_type import Values, job_of_every_type
from polytask.api import as_config
from polytask.assemble import assemble
from polytask.errors import Interrupted
from polytask.predict.sink import example_answer
from polytask.run import broadcast_tasks


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Values:
    return job_of_every_type(tmp_path_factory.mktemp("types"), tiny)


def test_a_run_that_was_stopped_ends_in_the_same_bytes(
    values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt.train(values, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4)
        with pytest.raises(Interrupted, match="--resume"):
            pt.train(values, tmp_path / "stopped")
    pt.train(values, tmp_path / "stopped", resume=True)
    for file in ("model/model.safetensors", "scores.json"):
        assert (tmp_path / "stopped" / file).read_bytes() == (tmp_path / "run" / file).read_bytes(), file
    files = sorted((tmp_path / "run" / "predictions").iterdir())
    counts = {path.stem: len(path.read_text("utf-8").split("\n")) - 1 for path in files}
    assert counts == json.loads((tmp_path / "run" / "run.json").read_text())["predicted_rows"]


def test_other_processes_have_the_tasks_as_the_first_one_fitted_them(values: Values) -> None:
    assembly = assemble(as_config(values))
    world: Any = SimpleNamespace(is_main=False, broadcast=lambda told: json.loads(json.dumps(told)))
    told = broadcast_tasks(assembly, world).tasks
    assert {name: (type(task), task.to_json()) for name, task in told.items()} == {
        name: (type(task), task.to_json()) for name, task in assembly.tasks.items()
    }


def test_answers_tell_the_outputs_of_a_head_or_are_refused(values: Values) -> None:
    """What a teacher's file says becomes what the student's head is compared with."""
    told: set[str] = set()
    for name, task in assemble(as_config(values)).tasks.items():
        if task.level == "row" and task.answers:
            with suppress(ValueError):
                assert len(task.outputs_of(example_answer(task))) == task.head.size, name
                told.add(name)
    assert told == {"stars", "kind", "marks", "size"}


def test_old_tasks_of_every_type_are_replayed(values: Values, tmp_path: Path) -> None:
    pt.train(values, tmp_path / "old")
    tasks = {**values["tasks"], "more": values["tasks"]["kind"]}
    config = {"encoder": values["encoder"], "tasks": tasks, "train": {**values["train"], "max_steps": 2}}
    run = pt.extend(tmp_path / "old", config, tmp_path / "new", mode="joint")
    assert set(run.scores["dev"]) == set(tasks)
    assert {name: type(task) for name, task in pt.load(tmp_path / "new").tasks.items() if name != "more"} == {
        name: type(task) for name, task in pt.load(tmp_path / "old").tasks.items()
    }


@pytest.mark.usefixtures("quick_processes")
def test_processes_and_pieces_make_the_update_of_one(values: Values, tmp_path: Path) -> None:
    plain = without_dropout(values)
    alone = gradients({"whole": plain, "pieces": in_pieces(plain, 3)}, tmp_path / "one", 1)
    require_same({"whole": alone["pieces"]}, alone)
    require_same(gradients({"whole": plain}, tmp_path / "two", 2), alone)
