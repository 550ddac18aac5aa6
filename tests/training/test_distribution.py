"""Two processes make the update of one; so do several pieces."""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from polytask.api import train
from polytask.training.distribution import World

Job = Callable[..., dict[str, Any]]
WORKER = Path(__file__).with_name("ddp_worker.py")


def gradients(values: dict[str, Any], folder: Path, processes: int) -> list[dict[str, torch.Tensor]]:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    if processes == 1:  # here: starting another one takes seconds
        runpy.run_path(str(WORKER))["main"](folder / "config.json", folder)
        return [load_file(folder / "rank0.safetensors")]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    world = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    running = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder / "config.json"), str(folder)],
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    for process in running:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    return [load_file(folder / f"rank{rank}.safetensors") for rank in range(processes)]


def without_dropout(values: dict[str, Any]) -> dict[str, Any]:
    """Dropout draws differ between processes on purpose; the arithmetic must not."""
    encoder = Path(values["encoder"])
    config = json.loads((encoder / "config.json").read_text())
    folder = encoder.parent / "no-dropout"
    if not folder.exists():
        folder.mkdir()
        for file in encoder.iterdir():
            (folder / file.name).symlink_to(file)
        (folder / "config.json").unlink()
        (folder / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.0}))
    tasks = {name: {**task, "dropout": 0.0} for name, task in values["tasks"].items()}
    return {**values, "encoder": str(folder), "tasks": tasks}


@pytest.mark.parametrize("shared", [True, False])
def test_two_processes_make_the_update_of_one(job: Job, tmp_path: Path, shared: bool) -> None:
    values = without_dropout(job(shared=shared))
    alone = gradients(values, tmp_path / "one", 1)[0]
    cases = {"two": values, "two-in-pieces": {**values, "train": {**values["train"], "accumulate": 3}}}
    for name, case in cases.items():
        for found in gradients(case, tmp_path / name, 2):
            assert set(found) == set(alone)
            for key, gradient in alone.items():
                torch.testing.assert_close(found[key], gradient, atol=1e-6, rtol=1e-5, msg=f"{name}: {key}")


@pytest.mark.parametrize(
    "sharing",
    [
        {"strategy": "partial", "shared_layers": 0, "kind": "soft", "strength": 0.5},
        {"strategy": "adaptive", "start": {"strategy": "partial", "shared_layers": 1}, "interval": 2},
    ],
    ids=["soft", "adaptive"],
)
def test_two_processes_go_on_when_a_step_lacks_tasks(job: Job, tmp_path: Path, sharing: dict[str, Any]) -> None:
    """Two rows a step for three tasks: parts without rows on a process, or on both."""
    values = {
        **without_dropout(job(shared=False, batch_rows=2, max_steps=7, epochs=9, log_every=1)),
        "sharing": sharing,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), "utf-8")
    train(tmp_path / "config.yaml", tmp_path / "1")
    command = ["train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "2"), "--processes", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "polytask", *command], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    # Not the weights: AdamW makes whole steps of a gradient that is rounding only, as a key's bias has.
    alone, together = (
        [json.loads(line) for line in (tmp_path / count / "events.jsonl").read_text().splitlines()]
        for count in ("1", "2")
    )
    losses = [[event["losses"] for event in events if event["event"] == "step"] for events in (alone, together)]
    assert len(losses[0]) == 7
    for one, two in zip(*losses, strict=True):
        assert one == pytest.approx(two, abs=1e-4)


def test_pieces_make_the_update_of_the_whole(job: Job, tmp_path: Path) -> None:
    values = without_dropout(job())
    whole = gradients(values, tmp_path / "whole", 1)[0]
    pieces = gradients({**values, "train": {**values["train"], "accumulate": 4}}, tmp_path / "pieces", 1)[0]
    for key, gradient in whole.items():
        torch.testing.assert_close(pieces[key], gradient, atol=1e-6, rtol=1e-5, msg=key)


def test_train_with_two_processes_ends_in_a_model_that_predicts(job: Job, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(job(epochs=1)), "utf-8")
    command = [sys.executable, "-m", "polytask", "train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    assert set(json.loads((tmp_path / "run" / "scores.json").read_text())) == {"dev", "test"}
    again = subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 2
    assert again.stderr.count("this run is complete") == 1
    assert "Traceback" not in again.stderr


def test_rows_are_dealt_evenly_and_each_to_one_process() -> None:
    dealt = [World(rank, 3).share(range(10)) for rank in range(3)]
    assert sorted(row for part in dealt for row in part) == list(range(10))
    assert {len(part) for part in dealt} == {3, 4}
