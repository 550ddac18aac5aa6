"""Training on Ray itself: the weights are those of local processes, whatever ends it meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from polytask.restarts import newest_step

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")]
ray: Any = pytest.importorskip("ray", reason="needs pip install 'polytask[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray of this machine with two cores, or that at RAY_ADDRESS."""
    address = os.environ.get("RAY_ADDRESS")
    local = {} if address else {"num_cpus": 2, "include_dashboard": False}
    ray.init(address=address or "local", log_to_driver=False, logging_level="critical", **local)
    yield
    ray.shutdown()


def processes_of(run: Path) -> dict[str, int]:
    """Return the processes that train into a folder, by their rank."""
    found: dict[str, int] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != os.getpid():
            try:
                arguments = (place / "cmdline").read_bytes().split(b"\0")
                told = dict(item.partition(b"=")[::2] for item in (place / "environ").read_bytes().split(b"\0"))
            except OSError:
                continue
            if str(run).encode() in arguments and b"RANK" in told:
                found[told[b"RANK"].decode()] = int(place.name)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_stopped_killed_and_lost_it_goes_on_to_the_weights_of_local_processes(
    cluster: None, tmp_path: Path, job: Callable[..., dict[str, Any]], call: Callable[..., Any]
) -> None:
    config, run, local = tmp_path / "config.yaml", tmp_path / "run", tmp_path / "local"
    config.write_text(yaml.safe_dump(job(rows=160, epochs=12, save_steps=1)))

    def train_here(run: Path, *more: str) -> bytes:
        command = [sys.executable, "-m", "polytask", "train", config, "--out", run, "--processes", "2", *more]
        subprocess.run(command, check=True, capture_output=True)
        return (run / "model" / "model.safetensors").read_bytes()

    def train(event: Callable[[], object] | None = None) -> tuple[int, str, str]:
        """Go on with the run; something happens to it after two more checkpoints."""
        before = set(run.glob("checkpoints/step-*"))
        over = threading.Event()

        def happen() -> None:
            while len(set(run.glob("checkpoints/step-*")) - before) < 2 and not over.wait(0.01):
                pass
            if event is not None and not over.is_set():
                event()

        thread = threading.Thread(target=happen)
        thread.start()
        try:
            return call("train", config, "--out", run, "--ray", 2, *(["--resume"] if before else []))
        finally:
            over.set()
            thread.join()

    code, _, told = train(lambda: os.kill(os.getpid(), signal.SIGINT))
    assert (code, told.count("and saved; go on with --resume")) == (130, 1), told
    assert not (run / "model").exists()
    shutil.copytree(run, tmp_path / "handed")
    code, _, told = train(lambda: os.kill(processes_of(run)["1"], signal.SIGKILL))
    assert code == 1, told
    assert "go on with --resume from the last checkpoint" in told
    code, _, told = train(lambda: os.kill(parent_of(processes_of(run)["1"]), signal.SIGKILL))
    assert code == 1, told
    assert "go on with --resume from the last checkpoint" in told
    assert not (run / "model").exists()
    code, shown, told = train()
    assert code == 0, told
    assert "sentiment" in shown
    assert "epoch 12.00" in told
    weights = (run / "model" / "model.safetensors").read_bytes()
    assert weights == train_here(local)
    assert weights == train_here(tmp_path / "handed", "--resume")
    assert not processes_of(run)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_lost_processes_and_workers_are_started_again(
    cluster: None, tmp_path: Path, job: Callable[..., dict[str, Any]], call: Callable[..., Any]
) -> None:
    config, run, local = tmp_path / "config.yaml", tmp_path / "run", tmp_path / "local"
    config.write_text(yaml.safe_dump(job(rows=160, epochs=5, save_steps=1)))
    over = threading.Event()

    def lose() -> None:
        kills: list[Callable[[], int]] = [lambda: processes_of(run)["1"], lambda: parent_of(processes_of(run)["0"])]
        for number, kill in enumerate(kills, 1):
            while newest_step(run) < 10 * number and not over.wait(0.01):
                pass
            if not over.is_set():
                os.kill(kill(), signal.SIGKILL)

    thread = threading.Thread(target=lose)
    thread.start()
    try:
        code, _, told = call("train", config, "--out", run, "--ray", 2, "--restarts", 1)
    finally:
        over.set()
        thread.join()
    assert code == 0, told
    assert re.findall(r"process . of 2 (?:was ended by|was lost with)", told) == [
        "process 2 of 2 was ended by", "process 1 of 2 was lost with",
    ], told  # fmt: skip
    assert told.count("(restarts left: 0 of 1)") == 2
    command = [sys.executable, "-m", "polytask", "train", config, "--out", local, "--processes", "2"]
    subprocess.run(command, check=True, capture_output=True)
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (run, local)]
    assert weights[0] == weights[1]
    assert not processes_of(run)


def test_more_processes_than_cores_are_refused(
    cluster: None, tmp_path: Path, job: Callable[..., dict[str, Any]], call: Callable[..., Any]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(job()))
    code, _, told = call("train", config, "--out", tmp_path / "out", "--ray", 3000)
    assert code == 2
    assert "--ray: found 3000, and Ray has" in told
    assert "ask for fewer" in told
    assert not (tmp_path / "out").exists()
