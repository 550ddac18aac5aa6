"""What every task type keeps in a run: it resumes bit for bit, and processes and pieces make the update of one."""

from __future__ import annotations

from pathlib import Path

import pytest
from interruptions import interrupt_after
from several_processes import without_dropout
from test_distribution import gradients, in_pieces, require_same

import polytask as pt
from every_type import Values, job_of_every_type
from polytask.errors import Interrupted


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


@pytest.mark.usefixtures("quick_processes")
def test_processes_and_pieces_make_the_update_of_one(values: Values, tmp_path: Path) -> None:
    plain = without_dropout(values)
    alone = gradients({"whole": plain, "pieces": in_pieces(plain, 3)}, tmp_path / "one", 1)
    require_same({"whole": alone["pieces"]}, alone)
    require_same(gradients({"whole": plain}, tmp_path / "two", 2), alone)
