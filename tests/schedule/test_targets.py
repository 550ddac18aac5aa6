"""Targets of dev_gap: numbers, or what earlier runs reached on dev."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polytask.errors import ConfigError
from polytask.schedule.dynamic import DynamicOptions
from polytask.schedule.targets import read_targets

METRICS = {"intent": "accuracy", "slots": "f1"}


def finished(folder: Path, dev: Any) -> str:
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps({"dev": dev, "test": {}}), "utf-8")
    return str(folder)


def test_a_number_is_a_target_and_a_run_gives_its_dev_score_of_the_tasks_main_metric(tmp_path: Path) -> None:
    run = finished(tmp_path / "slots", {"slots": {"f1": 0.91, "accuracy": 0.97}})
    assert read_targets({"intent": 0.9, "slots": run}, METRICS) == {"intent": 0.9, "slots": 0.91}


@pytest.mark.parametrize(
    ("dev", "told"),
    [
        ({"slot": {"f1": 0.9}}, "a run that has no dev scores of 'slots'; accepted: slot; did you mean 'slot'?"),
        ({"slots": {"accuracy": 0.9}}, "a run without a dev f1 of 'slots'; accepted: accuracy"),
        ({"slots": {"f1": None}}, "a run without a dev f1 of 'slots'"),
    ],
)
def test_a_run_without_the_score_is_an_error_that_names_what_it_has(tmp_path: Path, dev: Any, told: str) -> None:
    run = finished(tmp_path / "run", dev)
    with pytest.raises(ConfigError) as caught:
        read_targets({"slots": run}, METRICS)
    assert str(caught.value).startswith(f"schedule.targets.slots: found {run!r}, ")
    assert told in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_that_is_no_finished_run_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "scores.json").write_text(content, "utf-8")
    with pytest.raises(ConfigError, match="expected a number, or the folder of a finished run"):
        read_targets({"slots": str(tmp_path)}, METRICS)


def test_a_run_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    values = {"strategy": "dynamic", "policy": "dev_gap", "targets": {"intent": 0.9, "slots": "runs/slots"}}
    found = DynamicOptions.model_validate(values, context={"base": tmp_path})
    assert found.targets == {"intent": 0.9, "slots": str(tmp_path / "runs" / "slots")}
