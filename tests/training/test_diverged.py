"""A model that diverged fails the run, and no file says NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import polytask as pt
from polytask.errors import TrainingError
from polytask.files import to_json, write_json, write_lines
from polytask.model.multitask import MultiTaskModel
from polytask.tasks import LabelStats

Job = Callable[..., dict[str, Any]]


def test_outputs_that_are_no_numbers_fail_the_run(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MultiTaskModel.forward

    def diverged(self: MultiTaskModel, *arguments: Any) -> Any:
        found = whole(self, *arguments)
        if not self.training:  # every loss was finite: the last update is the one that diverged
            found["topic"] = found["topic"] * torch.tensor(float("nan"))
        return found

    monkeypatch.setattr(MultiTaskModel, "forward", diverged)
    with pytest.raises(
        TrainingError, match=r"step 2: the outputs of 'topic' on the dev rows are not finite.*learning_rate"
    ):
        pt.train(job(max_steps=2), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "scores.json").exists()
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines()]
    assert events[-1]["event"] == "failed"


def test_a_value_that_is_not_finite_is_named_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_json(path, {"a": 1.0})
    with pytest.raises(TrainingError, match=r"scores.json: dev.a.mae is nan"):
        write_json(path, {"dev": {"a": {"f1": 0.5, "mae": float("nan")}}})
    assert json.loads(path.read_text()) == {"a": 1.0}
    with pytest.raises(TrainingError, match=r"rows.jsonl: 1 is inf"):
        write_lines(tmp_path / "rows.jsonl", [[0.0, float("inf")]])
    assert not (tmp_path / "rows.jsonl").exists()


values = st.recursive(
    st.none() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


@given(values)
def test_what_is_written_is_json_as_everybody_reads_it(value: Any) -> None:
    def refuse(name: str) -> float:
        pytest.fail(f"wrote {name}")

    try:
        text = to_json(value, "file.json")
    except TrainingError:
        assert any(word in repr(value) for word in ("nan", "inf"))
    else:
        json.loads(text, parse_constant=refuse)


def test_a_tally_without_numbers_is_json() -> None:
    stats = LabelStats(present=3)
    text = json.dumps(stats.to_json(), allow_nan=False)
    assert LabelStats.from_json(json.loads(text)) == stats
    assert math.isinf(LabelStats.from_json(json.loads(text)).low)
