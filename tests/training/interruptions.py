"""How tests stop a run."""

from __future__ import annotations

from typing import Any

import pytest

from polytask.training.loop import Trainer


def interrupt_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ask to stop while a step is under way, as Ctrl-C does."""
    update = Trainer.update

    def stopping(self: Trainer) -> Any:
        if self.state.step == step:
            self.requests.stop = True
        return update(self)

    monkeypatch.setattr(Trainer, "update", stopping)
