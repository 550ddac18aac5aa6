"""Checkpoints are written while training goes on: what is kept is of its step, whole, and of one write at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from interruptions import interrupt_after
from torch import Tensor

import polytask as pt
from polytask.errors import Interrupted, TrainingError
from polytask.training import checkpoint_files as files_module
from polytask.training.background import Background
from polytask.training.checkpoint import Checkpoint, Checkpoints
from polytask.training.checkpoint_files import copied
from polytask.training.loop import Trainer

Job = Callable[..., dict[str, Any]]


class Gate:
    """Holds every write of tensors until it is opened, and notes how many there are at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self.paths: list[Path] = []
        self._save = files_module.save_file
        monkeypatch.setattr(files_module, "save_file", self._hold)

    def _hold(self, tensors: dict[str, Tensor], path: Path) -> None:
        self.paths.append(path)
        self.reached.set()
        assert self.open.wait(60)
        self._save(tensors, path)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def checkpoint(weights: Tensor, step: int, best: tuple[str, ...] = ()) -> Checkpoint:
    return Checkpoint({"step": step}, {"weight": weights}, {"moment": -weights}, best)


def test_what_is_written_is_of_its_step_whatever_trains_meanwhile(tmp_path: Path, gate: Gate) -> None:
    found, weight, state = Checkpoints(tmp_path, "a"), torch.full((64,), 1.0), {"step": 1, "drawn": [7]}
    moment = torch.full((8, 4), 1.0).t()
    name = found.save_best(1, {"weight": weight})
    found.save(1, Checkpoint(state, {"weight": weight}, {"moment": moment}, [name]))
    assert not list(tmp_path.glob("step-*")), "training goes on before it is written"
    weight.fill_(2.0)
    moment.fill_(2.0)
    state["drawn"].append(8)  # type: ignore[union-attr]
    gate.open.set()
    found.wait()
    kept = found.load("step-00000001", {})
    assert kept.state == {"step": 1, "drawn": [7]}
    assert float(kept.weights["weight"].max()) == float(kept.others["moment"].max()) == 1.0
    assert float(found.load_best(name, {})["weight"].max()) == 1.0


def test_the_following_save_waits_and_that_of_the_same_step_does_not(tmp_path: Path, gate: Gate) -> None:
    found, weight = Checkpoints(tmp_path, "a"), torch.ones(8)
    found.save(1, checkpoint(weight, 1, (found.save_best(1, {"weight": weight}),)))
    assert gate.reached.wait(60)
    order: list[str] = []

    def following() -> None:
        found.save(2, checkpoint(weight, 2))
        order.append("second")

    thread = threading.Thread(target=following)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    assert len(gate.paths) == 1
    gate.open.set()
    thread.join()
    found.wait()
    assert order == ["second"]
    assert found.newest() == "step-00000002"
    assert [path.parent.name.split("-")[1] for path in gate.paths] == ["best", "step", "step", "step", "step"]


@pytest.mark.parametrize("failing", ["best", "step"])
def test_an_error_is_told_to_who_asks_next_and_nothing_that_relies_on_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    found, weight = Checkpoints(tmp_path, "a"), torch.ones(8)
    found.save(1, checkpoint(weight, 1))
    found.wait()
    save = files_module.save_file

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if f"-{failing}-" in path.parent.name:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(files_module, "save_file", full)
    found.save(2, checkpoint(weight, 2, (found.save_best(2, {"weight": weight}),)))
    told = rf"{failing}-00000002: the checkpoint cannot be written .*No space.*step-00000001 stays usable: free space"
    for ask in (found.wait, found.check, lambda: found.save(3, checkpoint(weight, 3)), found.wait):
        with pytest.raises(TrainingError, match=told):
            ask()
    assert {path.name for path in tmp_path.iterdir()} <= {"step-00000001", "best-00000002"}
    assert (tmp_path / "best-00000002").exists() == (failing == "step")
    assert Checkpoints(tmp_path, "a").newest() == "step-00000001"


def test_who_is_interrupted_does_not_wait_and_what_comes_late_takes_no_place(tmp_path: Path, gate: Gate) -> None:
    found, weight = Checkpoints(tmp_path, "a"), torch.ones(8)

    def interrupted() -> None:
        with found.written():
            found.save_best(1, {"weight": weight})
            found.save(1, checkpoint(weight, 1))
            assert gate.reached.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    again = Checkpoints(tmp_path, "a")  # as a run that goes on at once in the same process
    again.sweep()
    gate.open.set()
    again.save(1, checkpoint(2 * weight, 1))
    again.wait()
    with pytest.raises(TrainingError, match="cannot be written"):  # its folder was swept
        found.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert float(again.load("step-00000001", {}).weights["weight"][0]) == 2


@pytest.mark.parametrize("error", [TrainingError("x"), Interrupted("x"), None])
def test_otherwise_a_block_ends_when_all_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    save = files_module.save_file

    def slow(tensors: dict[str, Tensor], path: Path) -> None:
        time.sleep(0.1)
        save(tensors, path)

    monkeypatch.setattr(files_module, "save_file", slow)
    found = Checkpoints(tmp_path, "a")
    with suppress(TrainingError, Interrupted), found.written():
        found.save(1, checkpoint(torch.ones(8), 1))
        if error is not None:
            raise error
    assert found.newest() == "step-00000001"
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_jobs_are_done_in_their_order_and_none_after_one_that_failed() -> None:
    background, done = Background(), list[int]()
    for number in range(50):
        background.submit(lambda number=number: done.append(number))
    background.wait()
    assert done == list(range(50))

    def fail() -> None:
        raise ValueError("broken")

    begin = threading.Event()
    background.submit(lambda: begin.wait(60))
    background.submit(fail)
    background.submit(lambda: done.append(-1))
    begin.set()
    for ask in (background.wait, background.check, lambda: background.submit(lambda: done.append(-2))):
        with pytest.raises(ValueError, match="broken"):
            ask()
    assert done == list(range(50))


def test_copies_share_no_memory_and_are_contiguous() -> None:
    whole = torch.arange(12.0).view(3, 4)
    given = {"a": whole, "b": whole.t(), "c": whole[:, 1], "d": torch.tensor(3), "e": torch.empty(0, 4)}
    made = copied(given)
    for name, tensor in given.items():
        assert torch.equal(made[name], tensor)
        assert made[name].is_contiguous()
        assert not made[name].numel() or made[name].data_ptr() != tensor.data_ptr()


def test_training_goes_on_while_a_checkpoint_is_written_and_ends_in_the_same_weights(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = job(rows=96, epochs=2, save_steps=3)
    pt.train(values, tmp_path / "whole")
    opened: list[int] = []
    with monkeypatch.context() as patch:
        gate, update = Gate(patch), Trainer.update

        def updating(self: Trainer) -> Any:
            if self.state.step == 5:  # two updates after the checkpoint of the third
                assert gate.reached.wait(60)
                opened.append(len(gate.paths))
                gate.open.set()
            return update(self)

        patch.setattr(Trainer, "update", updating)
        pt.train(values, tmp_path / "held")
    assert opened == [1]
    found = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "held")]
    assert found[0] == found[1]


def test_a_full_disk_ends_the_run_at_the_next_step(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, steps = job(rows=96, epochs=2, save_steps=3), list[int]()
    failed, update = threading.Event(), Trainer.update

    def full(*_: Any) -> None:
        failed.set()
        raise OSError(28, "No space left on device")

    def updating(self: Trainer) -> Any:
        steps.append(self.state.step)
        if self.state.step == 3:
            assert failed.wait(60)
            with pytest.raises(TrainingError):
                self.parts.checkpoints.wait()  # type: ignore[union-attr]
        return update(self)

    monkeypatch.setattr(files_module, "save_file", full)
    monkeypatch.setattr(Trainer, "update", updating)
    with pytest.raises(TrainingError, match=r"step-00000003: .*No space left on device\); there is none before it"):
        pt.train(values, tmp_path / "run")
    assert steps == [0, 1, 2, 3]


def test_asked_to_stop_it_says_that_it_saved_when_it_has(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, run = job(rows=96, epochs=2), tmp_path / "run"
    pt.train(values, tmp_path / "whole")
    save = files_module.save_file

    def slow(tensors: dict[str, Tensor], path: Path) -> None:
        time.sleep(0.1)
        save(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(files_module, "save_file", slow)
        interrupt_after(patch, 3)
        with pytest.raises(Interrupted, match="stopped after step 4 of .*, and saved"):
            pt.train(values, run)
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000004"]
    pt.train(values, run, resume=True)
    found = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "run")]
    assert found[0] == found[1]


KILLED = """
import os, signal, sys
import polytask as pt
from polytask.training import checkpoint_files as module
save, calls = module.save_file, []
config, run, at = sys.argv[-3:]
def killing(tensors, path):
    calls.append(path)
    save(tensors, path)
    if len(calls) == int(at):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        os.kill(os.getpid(), signal.SIGKILL)
module.save_file = killing
pt.train(config, run, resume=True)
"""


@pytest.mark.usefixtures("quick_processes")
def test_killed_in_the_midst_of_a_write_the_one_before_is_taken(job: Job, tmp_path: Path) -> None:
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(job(rows=96, epochs=2, save_steps=3)))
    pt.train(config, tmp_path / "whole")
    for at in (3, 2, 1):  # of the writes since it went on: two a checkpoint, and one of the best weights
        done = subprocess.run([sys.executable, "-c", KILLED, config, run, str(at)], check=False)
        assert done.returncode == -signal.SIGKILL
        whole = [path for path in (run / "checkpoints").glob("step-*")]
        assert [path.name for path in whole] == ["step-00000003"]
        assert len(list((run / "checkpoints").glob(".writing-*"))) == 1
    pt.train(config, run, resume=True)
    found = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "run")]
    assert found[0] == found[1]
