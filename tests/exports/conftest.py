"""What tests of exports share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import drawing
import polytask as pt
from samples import small_job


@pytest.fixture(scope="module")
def drawn_once(drawings: Path) -> Iterator[None]:
    """Draw the graph of a model once, in whatever process and file of tests."""
    with drawing.drawn_once(drawings):
        yield


@pytest.fixture(scope="session")
def three_tasks(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The folder of a run of three tasks, one of which reads the mean of its tokens as other programs do."""
    home = tmp_path_factory.mktemp("three")
    values = small_job(home, tiny, max_steps=2)
    values["tasks"]["topic"]["pooling"] = "mean"
    pt.train(values, home / "run")
    return home / "run"
