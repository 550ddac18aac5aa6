"""Hidden words in training: resumption is exact, and processes and pieces make one update."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interruptions import interrupt_after
from several_processes import without_dropout
from test_distribution import gradients, in_pieces, require_same

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.data.columns import Matrices
from polytask.data.stream import DrawnRow
from polytask.errors import Interrupted
from polytask.training.distribution import World
from samples import write_jsonl

Job = Callable[..., dict[str, Any]]


def guessing(values: dict[str, Any]) -> dict[str, Any]:
    """Return a job with a task that guesses hidden words of another task's rows, and one of rows of its own."""
    tasks = values["tasks"]
    data = tasks["sentiment"]["data"]
    return {
        **values,
        "tasks": {
            **tasks,
            "same": {"type": "mlm", "data": data},
            "rest": {"type": "mlm", "data": tasks["topic"]["data"], "mask": 0.4},
        },
    }


def test_a_copy_has_nothing_of_the_other_tasks(job: Job) -> None:
    """Weights, and what teachers say, stand beside as many targets as there are."""
    values = guessing(job())
    for task in values["tasks"].values():
        task["label_weight"] = "w"
        for file in task["data"].values():
            rows = [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]
            write_jsonl(Path(file), [{**row, "w": 1 + at % 2} for at, row in enumerate(rows)])
    assembly = assemble(validate(values))
    sources = assembly.train_sources(World(0, 1))
    sources = tuple(
        replace(
            one, teacher_logits={"sentiment": Matrices(np.zeros((len(one), 3), np.float32), np.arange(len(one)) + 1)}
        )
        for one in sources
    )
    drawn = [
        DrawnRow(0, row, tuple(name for name in values["tasks"] if row in sources[0].carries[name])) for row in range(8)
    ]
    batch = assembly.collator().from_sources(sources, drawn)
    assert batch.row_weights.keys() == batch.targets.keys() == values["tasks"].keys()
    for name, targets in batch.targets.items():
        assert len(batch.row_weights[name]) == len(targets), name
    assert len(batch.teacher_logits["sentiment"]) == len(batch.targets["sentiment"])


def test_interrupted_and_resumed_equals_uninterrupted(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = guessing(job(shared=False, epochs=3))
    pt.train(values, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4)
        with pytest.raises(Interrupted, match="--resume"):
            pt.train(values, tmp_path / "stopped")
    pt.train(values, tmp_path / "stopped", resume=True)
    whole, stopped = (tmp_path / name for name in ("whole", "stopped"))
    assert (whole / "model" / "model.safetensors").read_bytes() == (
        stopped / "model" / "model.safetensors"
    ).read_bytes()
    assert json.loads((whole / "scores.json").read_text()) == json.loads((stopped / "scores.json").read_text())


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_and_pieces_make_the_update_of_one(job: Job, tmp_path: Path) -> None:
    plain = guessing(without_dropout(job(shared=False)))
    cases = {
        "plain": plain,
        "gram": {**plain, "balance": {"method": "nash_mtl"}},
        "losses": {**plain, "balance": {"method": "stch"}},
        "split": {**plain, "schedule": {"strategy": "parallel", "placement": "split"}},
    }
    cases |= {"plain-pieces": in_pieces(plain, 3), "gram-pieces": in_pieces(cases["gram"], 2)}
    alone = gradients(cases, tmp_path / "one", 1)
    require_same(gradients(cases, tmp_path / "two", 2), alone)
    for name, first in (("plain-pieces", "plain"), ("gram-pieces", "gram"), ("split", "plain")):
        require_same({name: alone[name]}, {name: alone[first]})
