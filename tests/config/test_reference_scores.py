"""Dev scores that a configuration gives: numbers, or what earlier runs reached on the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polytask.errors import ConfigError
from polytask.options import DataOptions
from polytask.reference_scores import changes, read_scores, require_same_rows
from polytask.schedule.dynamic import DynamicOptions

METRICS = {"intent": "accuracy", "slots": "f1"}


def finished(folder: Path, dev: Any) -> str:
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps({"dev": dev, "test": {}}), "utf-8")
    return str(folder)


def test_a_number_is_a_target_and_a_run_gives_its_dev_score_of_the_tasks_main_metric(tmp_path: Path) -> None:
    run = finished(tmp_path / "slots", {"slots": {"f1": 0.91, "accuracy": 0.97}})
    assert read_scores({"intent": 0.9, "slots": run}, METRICS, "schedule.targets") == {"intent": 0.9, "slots": 0.91}


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
        read_scores({"slots": run}, METRICS, "schedule.targets")
    assert str(caught.value).startswith(f"schedule.targets.slots: found {run!r}, ")
    assert told in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_that_is_no_finished_run_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "scores.json").write_text(content, "utf-8")
    with pytest.raises(ConfigError, match="expected a number, or the folder of a finished run"):
        read_scores({"slots": str(tmp_path)}, METRICS, "schedule.targets")


def test_a_run_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    values = {"strategy": "dynamic", "policy": "dev_gap", "targets": {"intent": 0.9, "slots": "runs/slots"}}
    found = DynamicOptions.model_validate(values, context={"base": tmp_path})
    assert found.targets == {"intent": 0.9, "slots": str(tmp_path / "runs" / "slots")}


def scored_on(folder: Path, data: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps({"tasks": {"slots": {"type": "tagging", "data": data}}}), "utf-8")
    return str(folder)


def test_a_run_on_other_dev_rows_is_no_baseline_and_one_on_a_copy_of_them_is(tmp_path: Path) -> None:
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("one", "copy", "other")}
    for name, path in files.items():
        Path(path).write_text("{}" if name == "other" else "[]", "utf-8")
    own = {"slots": DataOptions(train="train.jsonl", dev=files["one"])}
    copy = scored_on(tmp_path / "a", {"train": "else.jsonl", "dev": files["copy"]})
    require_same_rows({"slots": copy}, own, "train.baselines")
    for number, data in enumerate(({"dev": files["other"]}, {"train": files["one"], "dev": 0.1}, {"hub": "some/set"})):
        run = scored_on(tmp_path / f"b{number}", data)
        with pytest.raises(ConfigError, match="scores on different rows are not comparable") as caught:
            require_same_rows({"slots": run}, own, "train.baselines")
        assert str(caught.value).startswith(f"train.baselines.slots: found {run!r}, a run with the dev rows ")


def test_a_number_and_a_folder_that_does_not_tell_its_rows_are_accepted(tmp_path: Path) -> None:
    own = {"slots": DataOptions(train="train.jsonl", dev="dev.jsonl")}
    require_same_rows({"slots": 0.5}, own, "train.baselines")
    require_same_rows({"slots": str(tmp_path)}, own, "train.baselines")


@pytest.mark.parametrize("content", ["[" * 100_000, "{", "[]", "5"])
def test_a_damaged_file_of_an_earlier_run_is_no_traceback(tmp_path: Path, content: str) -> None:
    run = finished(tmp_path / "run", {})
    (tmp_path / "run" / "scores.json").write_text(content, "utf-8")
    with pytest.raises(ConfigError, match="which holds no scores.json with dev scores"):
        read_scores({"slots": run}, METRICS, "schedule.targets")


def test_a_configuration_that_is_nested_too_deeply_tells_of_no_changes(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("[" * 5_000, "utf-8")
    assert changes(tmp_path / "config.yaml", {"a": 1}) == []
