"""Hidden words in training: resumption is exact, and processes and pieces make one update."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interruptions import interrupt_after
from several_processes import without_dropout
from test_distribution import gradients, in_pieces, require_same

import polytask as pt
from polytask.errors import Interrupted

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
