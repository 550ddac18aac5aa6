"""A checkpoint is whole and of this run, or the one before it is taken."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polytask.errors import OutputError, TrainingError
from polytask.files import SEAL
from polytask.training import checkpoint as checkpoint_module
from polytask.training.checkpoint import Checkpoint, Checkpoints
from polytask.training.events import Events

Damage = Callable[[Path], Any]


def tensors(value: float) -> dict[str, Tensor]:
    return {"weight": torch.full((64,), value)}


def saved(folder: Path, *steps: int, identity: str = "a") -> Checkpoints:
    """Save a checkpoint at each step; each but the first names the best weights of its own step."""
    found = Checkpoints(folder, identity)
    for step in steps:
        name = found.save_best(step, tensors(step))
        found.save(step, Checkpoint({"step": step}, tensors(step), tensors(-step), [name]))
    found.wait()
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_two_are_kept_with_the_best_weights_that_they_name(tmp_path: Path) -> None:
    found = saved(tmp_path, 1, 2, 3)
    assert names(tmp_path) == ["best-00000002", "best-00000003", "step-00000002", "step-00000003"]
    assert found.newest() == "step-00000003"
    state = found.load("step-00000003", {})
    assert state.state == {"step": 3}
    assert float(state.weights["weight"][0]) == 3
    assert float(found.load_best("best-00000002", {})["weight"][0]) == 2


@pytest.mark.parametrize("limit", [1, 3])
def test_as_many_are_kept_as_the_limit_says(tmp_path: Path, limit: int) -> None:
    found = Checkpoints(tmp_path, "a", limit)
    for step in (1, 2, 3, 4, 5):
        found.save(step, Checkpoint({"step": step}, tensors(step), tensors(-step)))
    found.wait()
    assert names(tmp_path) == [f"step-{step:08d}" for step in range(6 - limit, 6)]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


DAMAGES = [(file, damage) for file in ("weights.safetensors", "others.safetensors", "state.json", SEAL)
           for damage in (cut, flip, Path.unlink)]  # fmt: skip


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: Damage
) -> None:
    found = saved(tmp_path, 1, 2)
    damage(tmp_path / "step-00000002" / file)
    with caplog.at_level(logging.WARNING):
        assert found.newest() == "step-00000001"
    assert "step-00000002: the checkpoint is damaged" in caplog.text
    # The run goes on, comes by the same step again, and both are whole.
    saved(tmp_path, 2)
    assert names(tmp_path) == ["best-00000001", "best-00000002", "step-00000001", "step-00000002"]
    caplog.clear()
    assert found.newest() == "step-00000002"
    assert not caplog.text
    damage(tmp_path / "step-00000001" / file)
    damage(tmp_path / "step-00000002" / file)
    with pytest.raises(TrainingError, match="no checkpoint is complete; train into a new folder"):
        found.newest()


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_checkpoint_whose_best_weights_are_damaged_is_damaged(tmp_path: Path, damage: Damage) -> None:
    found = saved(tmp_path, 1, 2)
    damage(tmp_path / "best-00000002" / "weights.safetensors")
    assert found.newest() == "step-00000001"
    with pytest.raises(TrainingError, match="best-00000002: the best weights cannot be read.*go on with --resume"):
        found.load_best("best-00000002", {})


def test_the_best_weights_of_an_older_run_are_never_shipped(tmp_path: Path) -> None:
    older = Checkpoints(tmp_path, "a")
    older.save_best(8, tensors(1))  # killed before a checkpoint names it
    older.wait()
    newer = Checkpoints(tmp_path, "b")
    with pytest.raises(TrainingError, match="another run's"):
        newer.load_best("best-00000008", {})
    assert newer.save_best(8, tensors(2)) == "best-00000008"
    assert float(newer.load_best("best-00000008", {})["weight"][0]) == 2
    older.save_best(9, tensors(1))
    older.wait()
    newer.sweep()
    assert names(tmp_path) == []


def test_left_overs_of_a_killed_run_are_swept_and_what_counts_stays(tmp_path: Path) -> None:
    found = saved(tmp_path, 1)
    for name in (".writing-step-00000002", ".discarded-0123", "best-00000007"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(b"half")
    found.sweep()
    assert names(tmp_path) == ["best-00000001", "step-00000001"]


def test_a_run_of_another_identity_is_known_without_its_weights(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    for step in ("step-00000001", "step-00000002"):
        (tmp_path / step / "weights.safetensors").unlink()
    assert Checkpoints(tmp_path, "b").is_of_another_run()
    assert not Checkpoints(tmp_path, "a").is_of_another_run()
    assert not Checkpoints(tmp_path / "nowhere", "a").is_of_another_run()


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync, seal = os.fsync, checkpoint_module.seal

    def note(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def sealing(folder: Path, **facts: Any) -> None:
        seal(folder, **facts)
        assert folder.name.startswith(".writing-")
        assert {*names(folder), folder.name} <= set(synced)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(checkpoint_module, "seal", sealing)
    saved(tmp_path, 1)
    assert synced[-1] == tmp_path.name


def logged(folder: Path, *steps: int) -> None:
    with Events(folder) as events:
        for step in steps:
            events.write("step", step, {"label": "a\u2028b"})


def test_damaged_lines_of_the_log_are_left_out_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logged(tmp_path, 1, 2, 3, 4)
    path = tmp_path / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = [
        lines[0],
        b"\xff\xfe\n",
        b'{"step"\n',
        b"[]\n",
        b'{"step": "x"}\n',
        b"[" * 5000 + b"\n",
        *lines[1:],
        b'{"s',
    ]
    path.write_bytes(b"".join(damaged))
    with caplog.at_level(logging.WARNING), Events(tmp_path) as events:
        events.cut_after(3)
        events.write("step", 5, {})
    assert "events.jsonl: 5 lines were damaged and left out, the first at line 2" in caplog.text
    assert [json.loads(line)["step"] for line in path.read_text("utf-8").split("\n")[:-1]] == [1, 2, 3, 5]


def test_a_line_that_a_kill_cut_short_needs_no_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logged(tmp_path, 1, 2)
    path = tmp_path / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with Events(tmp_path) as events:
        events.cut_after(9)
    assert not caplog.text
    assert len(path.read_text("utf-8").split("\n")) == 2


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "a" / "events.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"events.jsonl: cannot be written \(Is a directory\)"):
        Events(tmp_path / "a")
    if Path("/dev/full").exists():
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "events.jsonl").symlink_to("/dev/full")
        with (
            pytest.raises(TrainingError, match=r"cannot be written \(No space left on device\); free space, and go on"),
            Events(tmp_path / "b") as events,
        ):
            events.write("step", 1, {})
