"""What the tests of many rows share: a described model whose workers start without torch."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
import stand_in

from polytask.launch import Lifeline

PYTHON = sys.executable


@pytest.fixture
def forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder; workers are forks of this process with the stand-in's model."""
    monkeypatch.setattr(Lifeline, "start", Lifeline.start)  # which puts it back at the end
    stand_in.fork_workers()
    return stand_in.describe(tmp_path / "model")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder; workers that are started have the stand-in's model."""
    worker = tmp_path / "worker"
    worker.write_text(f"#!/bin/sh\nexec {PYTHON} {stand_in.__file__}\n")
    worker.chmod(worker.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(worker))
    return stand_in.describe(tmp_path / "model")
