"""Ctrl-C while the last rows of a run are scored is not forgotten: whoever trains several runs has to stop there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.errors import Interrupted
from polytask.training.loop import Trainer

Job = Callable[..., dict[str, Any]]


def test_a_request_in_the_last_evaluation_ends_the_run_and_nothing_is_lost(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = job(max_steps=3)
    whole = pt.train(values, tmp_path / "whole")
    evaluate = Trainer._evaluate

    def asked(self: Trainer, bar: Any) -> None:
        evaluate(self, bar)
        if self.over:
            self.requests.stop = True

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_evaluate", asked)
        with pytest.raises(Interrupted, match="stopped after step 3 of 3, and saved; go on with --resume"):
            pt.train(values, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    assert pt.train(values, tmp_path / "run", resume=True).scores == whole.scores
