"""Checkpoints that were made to fit their seal: nothing in them runs, and what cannot be is told."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from interruptions import interrupt_after
from safetensors.torch import load_file, save_file

import polytask as pt
from polytask.errors import Interrupted, TrainingError
from polytask.files import SEAL, seal
from polytask.training.checkpoint import Checkpoint, Checkpoints
from polytask.training.checkpoint_files import ShardFiles
from polytask.training.distribution import World

Job = Callable[..., dict[str, Any]]
WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3)}
OTHERS = {"a.weight/exp_avg": torch.ones(2, 3)}


def seal_again(folder: Path) -> None:
    facts = json.loads((folder / SEAL).read_text())["facts"]
    (folder / SEAL).unlink()
    seal(folder, **facts)


def test_states_that_cannot_be_are_told(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = job(rows=20, save_steps=1)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(Interrupted):
            pt.train(values, tmp_path / "run")
    state = json.loads(next((tmp_path / "run" / "checkpoints").glob("step-*2/state.json")).read_text())
    planted: list[Any] = [[], {**state, "step": "2"}, {**state, "step": -1}]
    planted += [{**state, name: 7} for name in ("plan", "streams", "schedule", "snapshots", "stages", "balancer")]
    planted.append({name: value for name, value in state.items() if name != "processes"})
    for number, one in enumerate(planted):
        run = shutil.copytree(tmp_path / "run", tmp_path / f"run-{number}")
        for folder in (run / "checkpoints").glob("step-*"):
            (folder / "state.json").write_text(json.dumps(one))
            seal_again(folder)
        with pytest.raises(TrainingError, match=r"step-0*\d: the checkpoint does not fit this run .*a new folder"):
            pt.train(values, run, resume=True)
        assert not (run / "model").exists()


def shards(folder: Path) -> tuple[Checkpoints, Path]:
    found = Checkpoints(folder, "a", files=ShardFiles(World(0, 1)))
    found.save(1, Checkpoint({"step": 1}, WEIGHTS, OTHERS))
    return found, folder / "step-00000001"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no json", "Expecting value"),
        ("[]", "the metadata of the shards cannot be read"),
        ("{}", "others/a.weight/exp_avg"),
        (json.dumps({name: {"saved_offsets": [2**40, 0]} for name in ("weights/a.weight", "others/a.weight/exp_avg")}),
         "found the shape .*, but the files have only"),
    ],
)  # fmt: skip
def test_what_shards_say_of_their_parts_is_checked(tmp_path: Path, said: str, told: str) -> None:
    found, folder = shards(tmp_path)
    (file,) = folder.glob("*.safetensors")
    save_file(load_file(file), file, metadata={"DCP_SHARDING_INFO": said})
    seal_again(folder)
    with pytest.raises(TrainingError, match=f"the checkpoint cannot be read .*{told}"):
        found.load(str(found.newest()), WEIGHTS)


class Planted:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._mark,)


def test_metadata_of_torch_that_is_a_pickle_is_never_opened(tmp_path: Path) -> None:
    found, folder = shards(tmp_path / "checkpoints")
    (folder / ".metadata").write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
    seal_again(folder)
    assert torch.equal(found.load(str(found.newest()), WEIGHTS).weights["a.weight"], WEIGHTS["a.weight"])
    assert not (tmp_path / "ran").exists()
    pickle.loads((folder / ".metadata").read_bytes())
    assert (tmp_path / "ran").exists()


def test_a_file_that_was_not_written_with_a_checkpoint_makes_it_a_damaged_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found, folder = shards(tmp_path)
    found.save(2, Checkpoint({"step": 2}, WEIGHTS, OTHERS))
    (file,) = (tmp_path / "step-00000002").glob("*.safetensors")
    shutil.copy(file, file.with_name("shard-00001 (copy).safetensors"))
    assert found.newest() == folder.name
    assert "shard-00001 (copy).safetensors was not written with it" in caplog.text
