"""Processes that are killed while they train together: all start again, and end in the weights of an undisturbed run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from several_processes import free_port

Job = Callable[..., dict[str, Any]]


@pytest.fixture
def config(job: Job, tmp_path: Path) -> Path:
    """The file of a run of eight updates, with a checkpoint after every second one."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**job(rows=64, epochs=2, save_steps=2), "extensions": ["lost_worker"]}))
    return path


@pytest.fixture
def lose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have processes killed, each before a step."""
    folder = tmp_path / "lost"
    folder.mkdir()
    monkeypatch.setenv("POLYTASK_LOST", str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def told(*named: str) -> None:
        for name in named:
            (folder / name).touch()

    return told


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def train(config: Path, out: Path, *options: object, code: int = 0) -> list[str]:
    """Train in two processes, and return what was said of restarts."""
    command = [sys.executable, "-m", "polytask", "train", config, "--out", out, "--processes", "2", *options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return [line for line in done.stderr.splitlines() if "restarts left" in line or "and the others with it" in line]


@pytest.mark.usefixtures("quick_processes")
@pytest.mark.parametrize("fsdp", [False, True])
def test_killed_processes_are_started_again_and_the_weights_are_those_of_an_undisturbed_run(
    config: Path, tmp_path: Path, lose: Callable[..., None], fsdp: bool
) -> None:
    options = ("--set", f"train.fsdp={fsdp}".lower())
    assert train(config, tmp_path / "whole", *options) == []
    lose("1-1", "0-5", "1-5")
    assert train(config, tmp_path / "killed", *options, "--restarts", 1) == [
        "process 2 of 2 was ended by SIGKILL: all processes begin again: there is no checkpoint (restarts left: 0 of 1)",
        "process 1 of 2 was ended by SIGKILL: all processes go on from the checkpoint of step 4 (restarts left: 0 of 1)",
    ]
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
