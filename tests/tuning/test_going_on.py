"""A search that was interrupted or killed goes on, several processes share it, and trials may end early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tunings import RATE, Call, Job, ended, one_task

import polytask as pt
from polytask.errors import Interrupted, OutputError, TrainingError, UserError
from polytask.lock import locked
from polytask.tuning import crew, study, trial
from polytask.tuning.folder import evaluations_of


def test_an_interrupted_trial_goes_on_and_ends_as_without_an_interruption(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = one_task(job, learning_rate=3e-3)
    whole = pt.tune(values, tmp_path / "whole", search=RATE, trials=2)
    plain, count = trial.Reporter.__call__, 0

    def stopping(self: trial.Reporter, event: str, step: int, told: Mapping[str, Any], /) -> None:
        nonlocal count
        plain(self, event, step, told)
        count += event == "evaluation"
        if count == 3:  # the first evaluation of the second trial
            count += 1
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trial.Reporter, "__call__", stopping)
    with pytest.raises(Interrupted, match=r"trial 1: stopped after step .*, and saved; the same command continues"):
        pt.tune(values, tmp_path / "cut", search=RATE, trials=2)
    found = pt.tune(values, tmp_path / "cut", search=RATE, trials=2)
    assert found.trained == 1
    assert ended(found) == ended(whole)
    assert found.best == whole.best
    assert found.test == whole.test


def wait_for_end(folder: Path) -> None:
    """Wait until the process is gone that a killed stand-in stood for, and with it its lock."""
    while True:
        try:
            with locked(folder):
                return
        except OutputError:
            time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_search_has_the_same_trials(job: Job, tmp_path: Path, quick_processes: None) -> None:
    values = one_task(job, learning_rate=3e-3, epochs=6)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    command = [
        sys.executable, "-m", "polytask", "tune", str(config), "--out", str(tmp_path / "cut"), "--trials", "2",
        "--search", "train.learning_rate=1e-9,3e-3", "--search", "train.weight_decay=0:0.1",
    ]  # fmt: skip
    process = subprocess.Popen(command)
    second = tmp_path / "cut" / "trials" / "0001" / "events.jsonl"
    while not evaluations_of(second.parent) and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None
    process.kill()
    process.wait()
    wait_for_end(tmp_path / "cut")
    with (tmp_path / "cut" / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 4, "trial')  # as a kill while it is written leaves it
    (tmp_path / "cut" / "journal.log.lock").symlink_to("journal.log")
    search = ["train.learning_rate=1e-9,3e-3", "train.weight_decay=0:0.1"]
    found = pt.tune(config, tmp_path / "cut", search=search, trials=2)
    whole = pt.tune(config, tmp_path / "whole", search=search, trials=2)
    assert ended(found) == ended(whole)


@pytest.mark.slow
def test_several_processes_train_what_one_does(job: Job, tmp_path: Path, quick_processes: None) -> None:
    values = one_task(job, learning_rate=3e-3)
    together = pt.tune(values, tmp_path / "out", search=RATE, trials=3, jobs=2)
    assert [found["state"] for found in together.trials] == ["complete"] * 3
    # Trials of equal values are equal, whoever trained them.
    alone = pt.tune(values, tmp_path / "alone", search=RATE, trials=1)
    known = {str(found["parameters"]): found["evaluations"] for found in together.trials}
    for found in alone.trials:
        assert known.get(str(found["parameters"]), found["evaluations"]) == found["evaluations"]
    assert alone.trials[0]["parameters"] == together.trials[0]["parameters"]


def test_what_fails_in_a_process_is_told_with_its_log(
    job: Job, tmp_path: Path, quick_processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "trial_folder", lambda folder, number: folder / "trials" / "elsewhere")
    with pytest.raises(
        UserError,
        match=r"trials/elsewhere: .*no such file.*; its full output is in .*log\.txt; then the same command continues",
    ):
        pt.tune(one_task(job), tmp_path / "out", search=RATE, trials=2, jobs=2)


def test_a_trial_that_is_worse_than_the_median_ends_early(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "UNPRUNED_TRIALS", 1)
    search = {"train.learning_rate": [1e-9, 2e-9, 3e-9, 3e-3]}
    values = one_task(job, learning_rate=3e-3, epochs=3, evaluations_per_epoch=1)
    data = values["tasks"]["topic"]["data"]
    data.update(dev=data["train"])  # so that whoever learns anything is better from the first evaluation on
    tuning = pt.tune(values, tmp_path / "out", search=search, trials=3, keep=1)
    pruned = [found for found in tuning.trials if found["state"] == "pruned"]
    assert pruned
    for found in pruned:
        assert "worse than the median of the trials before it" in found["reason"]
        assert 1 <= len(found["evaluations"]) < 3
        names = {item.name for item in (tmp_path / "out" / found["run"]).iterdir()}
        assert names <= {"config.yaml", "data.json", "events.jsonl"}
    kept = pt.tune(values, tmp_path / "all", search=search, trials=2, prune=False)
    assert [found["state"] for found in kept.trials] == ["complete"] * 2


def test_values_that_diverge_end_their_trial_and_not_the_search(job: Job, tmp_path: Path) -> None:
    values = one_task(job, learning_rate=3e-3, max_grad_norm=1e30, epochs=1)
    search = {"train.learning_rate": [3e-3, 1e28, 1e29, 1e30]}
    tuning = pt.tune(values, tmp_path / "out", search=search, trials=3)
    failed = [found for found in tuning.trials if found["state"] == "failed"]
    assert failed
    assert all("try a lower train.learning_rate" in found["reason"] for found in failed)
    assert all(found["parameters"]["train.learning_rate"] > 1 for found in failed)
    with pytest.raises(TrainingError, match=r"none of 1 trials could be completed \(failed: .*; search other values"):
        pt.tune(values, tmp_path / "none", search={"train.learning_rate": [1e29, 1e30]}, trials=1)


def test_the_command_prints_the_trials_and_what_to_do_next(call: Call, job: Job, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(one_task(job, max_steps=2)))
    out = tmp_path / "out"
    arguments = ("tune", config, "--out", out, "--trials", 2, "--search", "train.learning_rate=log:1e-4:1e-2")
    code, shown, err = call(*arguments)
    assert code == 0, err
    assert "Trials, rated on dev by gap" in shown
    assert "trial 0 (1 of 2): train.learning_rate 0.001" in err
    assert "left" in err
    assert f"best configuration: {out / 'best.yaml'}" in err
    code, _, err = call(*arguments[:-1], "train.learning_rate=log:1")
    assert code == 2
    assert "--search train.learning_rate: found 'log:1'; expected two ends" in err
