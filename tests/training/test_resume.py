"""Interrupted and resumed equals uninterrupted, bit for bit; nothing already produced is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from interruptions import interrupt_after
from safetensors.torch import load_file

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.errors import ConfigError, DataError, Interrupted, OutputError, TrainingError
from polytask.training import checkpoint_files as files_module
from polytask.training.checkpoint import Checkpoints
from polytask.training.loop import Trainer

Job = Callable[..., dict[str, Any]]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("shared", "strategy"), [(True, "independent"), (False, "global")])
def test_interrupted_and_resumed_equals_uninterrupted(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool, strategy: str
) -> None:
    values = {**job(shared=shared, epochs=3), "sharing": {"strategy": strategy}}
    whole = pt.train(values, tmp_path / "whole")
    for stop in (1, 4):
        run = tmp_path / f"stopped-{stop}"
        with monkeypatch.context() as patch:
            interrupt_after(patch, stop)
            with pytest.raises(Interrupted, match="--resume"):
                pt.train(values, run)
        assert not (run / "model").exists()
        resumed = pt.train(values, run, resume=True)
        assert weights(run) == weights(tmp_path / "whole")
        assert resumed.scores == whole.scores
        logs = [
            [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
            for folder in (tmp_path / "whole", run)
        ]
        losses = [
            [(e["step"], e["losses"]) for e in log if e["event"] == "step" and e["step"] > stop + 10] for log in logs
        ]
        assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "balance",
    [
        *({"method": method} for method in ("uncertainty", "famo", "gradvac", "gradnorm", "graddrop")),
        {"method": "equal_norms", "every": 2},  # it stops with the weights of the step before
        {"method": "auto"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_balancer_goes_on_where_it_was(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, balance: dict[str, Any]
) -> None:
    method = balance["method"]
    values = {**job(max_steps=6, logging_steps=1), "balance": balance}
    pt.train(values, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(Interrupted, match="after step 4"):
            pt.train(values, tmp_path / "stopped")
    pt.train(values, tmp_path / "stopped", resume=True)
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    logs = [
        [json.loads(line) for line in (tmp_path / name / "events.jsonl").read_text().splitlines()]
        for name in ("whole", "stopped")
    ]
    chosen = [[event.get("weights") for event in log if event["event"] == "step"] for log in logs]
    assert chosen[0] == chosen[1]
    assert (chosen[0][5] != chosen[0][0]) == (method not in ("graddrop", "auto"))


def start(config: Path, run: Path, *more: str) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "polytask", "train", str(config), "--out", str(run), *more]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not list((run / "checkpoints").glob("step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("quick_processes")  # whose process dies with its stand-in
def test_a_run_that_is_killed_resumes_to_the_weights_of_the_uninterrupted_run(job: Job, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(job(rows=160, epochs=4, save_steps=1)), "utf-8")
    pt.train(config, tmp_path / "whole")
    for number in (signal.SIGKILL, signal.SIGINT):
        run = tmp_path / number.name
        process = start(config, run)
        wait_for_checkpoint(run, process)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
        assert not (run / "model").exists(), "the run was over before the signal came"
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert "and saved; go on with --resume" in told
        resumed = start(config, run, "--resume")
        _, told = resumed.communicate(timeout=120)
        assert resumed.returncode == 0, told
        assert weights(run) == weights(tmp_path / "whole")


def test_asked_by_a_signal_a_run_saves_and_goes_on(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = job(epochs=2)
    pt.train(values, tmp_path / "whole")
    saved: list[int] = []
    update, save = Trainer.update, Checkpoints.save

    def asked(self: Trainer) -> Any:
        if self.state.step == 1:
            signal.raise_signal(signal.SIGUSR1)
        return update(self)

    def saving(self: Checkpoints, step: int, checkpoint: Any) -> None:
        saved.append(step)
        save(self, step, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", asked)
        patch.setattr(Checkpoints, "save", saving)
        pt.train(values, tmp_path / "asked")
    assert saved.count(2) == 1
    assert weights(tmp_path / "asked") == weights(tmp_path / "whole")


@pytest.mark.usefixtures("quick_processes")
def test_processes_save_together_when_the_command_that_started_them_is_asked(job: Job, tmp_path: Path) -> None:
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(job(rows=160, epochs=400, logging_steps=1)), "utf-8")
    process = start(config, run, "--processes", "2")
    try:
        log = run / "events.jsonl"
        while not log.exists() or '"step"' not in log.read_text("utf-8"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGUSR1)
        wait_for_checkpoint(run, process)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 130, told
        assert told.count("saved after step") == 1
    finally:
        process.kill()
        process.wait()


def test_a_full_disk_leaves_the_previous_checkpoint_usable(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = job(save_steps=2)
    pt.train(values, tmp_path / "whole")
    save_file = files_module.save_file
    calls: list[Path] = []

    def full(tensors: dict[str, Any], path: Path) -> None:
        calls.append(path)
        if len(calls) > 5:
            path.write_bytes(b"half of a file")
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(files_module, "save_file", full)
        with pytest.raises(TrainingError, match=r"No space left on device.*step-0000000\d stays usable"):
            pt.train(values, tmp_path / "full")
    pt.train(values, tmp_path / "full", resume=True)
    assert weights(tmp_path / "full") == weights(tmp_path / "whole")


def test_checkpoints_hold_no_pickle_and_go_when_the_model_is_saved(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = job()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(Interrupted):
            pt.train(values, tmp_path / "run")
    files = [file for file in (tmp_path / "run" / "checkpoints").rglob("*") if file.is_file()]
    assert files
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    pt.train(values, tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_changed_configuration_cannot_resume(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(Interrupted):
            pt.train(job(), tmp_path / "run")
    with pytest.raises(
        OutputError, match="the folder holds an unfinished run; add --resume to continue it, or name another"
    ):
        pt.train(job(), tmp_path / "run")
    run = tmp_path / "run"
    files = ["config.yaml", "data.json", "events.jsonl"]
    before = [(run / file).read_bytes() for file in files]
    told = r"configuration or the data changed.*: train.learning_rate: 0.001 -> 0.5; .*undo the change"
    with pytest.raises(ConfigError, match=told):
        pt.train(job(learning_rate=0.5), run, resume=True)
    values = job(rows=60)
    with pytest.raises(ConfigError, match="the content of the data, or the encoder or its tokenizer; undo the change"):
        pt.train(values, run, resume=True)
    assert [(run / file).read_bytes() for file in files] == before
    assert {path.name for path in run.iterdir()} == {*files, "checkpoints"}
    assert pt.train(job(), run, resume=True).scores["dev"]


def test_a_damaged_checkpoint_and_a_full_disk_at_the_end_cost_time_and_nothing_else(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = job(rows=80, epochs=3, max_steps=9, save_steps=2, evaluations_per_epoch=2, best_of_each_task=True)
    pt.train(values, tmp_path / "whole")
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 6)
        with pytest.raises(Interrupted):
            pt.train(values, run)
    found = sorted((run / "checkpoints").glob("step-*"))
    assert len(found) == 2
    file = found[-1] / "others.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    (run / "events.jsonl").write_bytes((run / "events.jsonl").read_bytes() + b'\xff\n{"event')
    (run / "checkpoints" / "best-00000008").mkdir()  # of another run: it has neither its hashes nor its identity
    (run / "checkpoints" / "best-00000008" / "weights.safetensors").write_bytes(b"of another run")
    (run / ".writing-model-0123").mkdir()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("polytask.run.write_results", full)
        with pytest.raises(TrainingError, match=r"run: cannot be written \(No space left on device\); the checkpoints"):
            pt.train(values, run, resume=True)
    assert "the checkpoint is damaged" in caplog.text
    assert "events.jsonl: 1 line was damaged" in caplog.text
    assert not (run / "model").exists()
    caplog.clear()
    pt.train(values, run, resume=True)
    assert not caplog.text
    for folder in ("model", *(f"best/{task}" for task in values["tasks"])):
        files = [(tmp_path / name / folder / "model.safetensors").read_bytes() for name in ("whole", "run")]
        assert files[0] == files[1]
    assert {path.name for path in run.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
    # Killed after the model was saved and before the checkpoints were deleted.
    (run / "checkpoints").mkdir()
    with pytest.raises(OutputError, match="this run is complete"):
        pt.train(values, run, resume=True)
    assert not (run / "checkpoints").exists()


def test_the_tokenizer_and_the_encoders_options_are_part_of_a_runs_identity(
    job: Job, tmp_path: Path, tiny: Path
) -> None:
    encoder = tmp_path / "encoder"
    values = {**job(rows=12), "encoder": str(encoder)}
    found: list[str] = []
    for file, before, after in (
        ("config.json", "", ""),
        ("tokenizer_config.json", '"do_lower_case": true', '"do_lower_case": false'),
        ("config.json", '"hidden_dropout_prob": 0.1', '"hidden_dropout_prob": 0.2'),
    ):
        shutil.rmtree(encoder, ignore_errors=True)
        shutil.copytree(tiny, encoder)
        text = (encoder / file).read_text("utf-8")
        assert before in text
        (encoder / file).write_text(text.replace(before, after) if before else text, "utf-8")
        found.append(assemble(validate(values)).identity)
    assert len(set(found)) == 3


def test_an_output_folder_that_exists_is_refused(job: Job, tmp_path: Path) -> None:
    values = job(max_steps=2)
    pt.train(values, tmp_path / "run")
    for resume in (False, True):
        with pytest.raises(OutputError, match="this run is complete"):
            pt.train(values, tmp_path / "run", resume=resume)
    missing = {"x": {"type": "classification", "data": {"train": "no.jsonl", "dev": "no.jsonl"}}}
    with pytest.raises(DataError):
        pt.train({**values, "tasks": missing}, tmp_path / "mistaken")
    assert not (tmp_path / "mistaken").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(
            OutputError, match=r"the folder holds other files \(notes.txt\) and no run; name a new folder"
        ):
            pt.train(values, tmp_path / "other", resume=resume)
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


def test_the_same_seed_gives_the_same_weights_and_another_does_not(job: Job, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        pt.train(job(seed=seed), tmp_path / name)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_test_rows_cannot_influence_the_weights(job: Job, tmp_path: Path) -> None:
    values = job()
    pt.train(values, tmp_path / "with")
    for task in values["tasks"].values():
        del task["data"]["test"]
    without = pt.train(values, tmp_path / "without")
    assert set(without.scores) == {"dev"}
    found = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("with", "without")]
    assert all(bool((found[0][name] == found[1][name]).all()) for name in found[0])
