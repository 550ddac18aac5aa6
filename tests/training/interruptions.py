"""How tests stop a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.errors import Interrupted
from polytask.training.loop import Trainer


def interrupt_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ask to stop while a step is under way, as Ctrl-C does."""
    update = Trainer.update

    def stopping(self: Trainer) -> Any:
        if self.state.step == step:
            self.requests.stop = True
        return update(self)

    monkeypatch.setattr(Trainer, "update", stopping)


def with_and_without_a_stop(
    values: Mapping[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, *, after: int
) -> tuple[Path, Path]:
    """Train once in one go and once with a stop, and return the folders of the two runs."""
    whole, stopped = folder / "whole", folder / "stopped"
    pt.train(values, whole)
    with monkeypatch.context() as patch:
        interrupt_after(patch, after)
        with pytest.raises(Interrupted):
            pt.train(values, stopped)
    pt.train(values, stopped, resume=True)
    return whole, stopped


def weights_of(runs: tuple[Path, Path]) -> list[bytes]:
    """Return the weights of two runs, as they are written."""
    return [(run / "model" / "model.safetensors").read_bytes() for run in runs]
