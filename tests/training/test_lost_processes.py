"""Processes that are killed while they train together: all start again, to the weights of an undisturbed run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from several_processes import free_port

Job = Callable[..., dict[str, Any]]
PYTHON = sys.executable


@pytest.fixture
def config(job: Job, tmp_path: Path) -> Path:
    """The file of a run of eight updates, with a checkpoint after every second one."""
    path = tmp_path / "config.yaml"
    shutil.copy(Path(__file__).with_name("lost_worker.py"), tmp_path)
    path.write_text(yaml.safe_dump({**job(rows=64, epochs=2, save_steps=2), "extensions": ["lost_worker"]}))
    return path


@pytest.fixture
def lose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have processes killed, each before a step."""
    folder = tmp_path / "lost"
    folder.mkdir()
    monkeypatch.setenv("POLYTASK_LOST", str(folder))
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
    lose("1-1", "0-5")
    first, second = train(config, tmp_path / "killed", *options, "--restarts", 1)
    told = "process {} of 2 was ended by SIGKILL: all processes {} (restarts left: 0 of 1)"
    assert first == told.format(2, "start over: there is no checkpoint")
    # That of step 4 may not have been written yet.
    assert second in [told.format(1, f"continue from the checkpoint of step {step}") for step in (2, 4)]
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


# As on machines of a cluster, each with a torchrun of its own (docs/engines.md).
AGENT = [
    "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d",
    "--local-addr", "127.0.0.1", "--max-restarts", "2", "--no-python",
]  # fmt: skip


@pytest.mark.usefixtures("quick_processes")
def test_torchrun_on_two_machines_starts_killed_processes_again(
    config: Path, tmp_path: Path, lose: Callable[..., None], stand_ins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config, tmp_path / "whole")
    lose("1-5")
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    at = ["--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    command = [str(stand_ins / "polytask"), "train", str(config), "--out", str(tmp_path / "killed"), "--resume"]
    agents = [
        subprocess.Popen(
            [PYTHON, *AGENT, *at, "--rdzv-conf", f"is_host={node == 0:d}", *command],
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in (0, 1)
    ]
    said = [agent.communicate(timeout=600)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert "exitcode: -9" in "".join(said)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_torchrun_whose_restarts_would_find_what_was_before_is_refused(
    job: Job, tmp_path: Path, call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(job()))
    for name, value in (("USE_AGENT_STORE", "True"), ("MAX_RESTARTS", "1"), ("RUN_ID", "none")):
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    code, _, told = call("train", config, "--out", tmp_path / "run")
    assert (code, "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in told) == (2, True), told
