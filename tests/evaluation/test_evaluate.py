"""Scores on new files: any of a model's tasks, with intervals that belong to the scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask import cli
from samples import corpus_rows, write_jsonl

Job = Callable[..., dict[str, Any]]


@pytest.fixture
def run(job: Job, tmp_path: Path) -> pt.Run:
    """A run whose topic reads what the model says about the sentiment."""
    values = job(rows=40, max_steps=3)
    values["tasks"]["topic"] |= {"needs": ["sentiment"], "reads": {"sentiment": "probabilities"}}
    return pt.train(values, tmp_path / "run")


def test_the_intervals_of_a_run_stand_in_its_folder_and_are_those_of_its_test_file(run: pt.Run, tmp_path: Path) -> None:
    kept = json.loads((tmp_path / "run" / "intervals.json").read_text("utf-8"))
    scores, intervals = pt.evaluate_with_intervals(run.model, {"all": str(tmp_path / "all-test.jsonl")})
    assert scores == run.scores["test"]
    assert {"test": intervals} == run.intervals
    assert kept == json.loads(json.dumps(run.intervals))
    for task, metrics in scores.items():
        assert set(intervals[task]) == set(metrics)
        assert intervals[task].pop("ece") is None
        for metric, found in intervals[task].items():
            value = metrics[metric]
            assert found is not None
            assert value is not None
            assert found[0] <= found[1]
    low, high = intervals["topic"]["accuracy"] or (1.0, 0.0)
    assert low <= (scores["topic"]["accuracy"] or 0.0) <= high


@pytest.mark.parametrize("task", ["sentiment", "topic", "entities"])
def test_a_task_is_scored_on_a_new_file_that_has_its_labels_only(run: pt.Run, tmp_path: Path, task: str) -> None:
    columns = {"entities": ("text", "tokens", "tags")}.get(task, ("text", task))
    kept = [row for row in corpus_rows(60)[40:] if row.keys() >= set(columns)]
    rows = [{key: row[key] for key in columns} for row in kept]
    path = str(write_jsonl(tmp_path / "new.jsonl", rows))
    for files in ({"all": path}, {task: path}):
        assert list(pt.evaluate(run.model, files, tasks=[task])) == [task]
    assert list(pt.evaluate(run.model, {task: path})) == [task]


def test_the_command_shows_intervals_and_adds_them_to_json_when_asked(
    run: pt.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: str) -> str:
        command = ["polytask", "evaluate", str(tmp_path / "run" / "model"), "--data", str(tmp_path / "all-test.jsonl")]
        monkeypatch.setattr("sys.argv", [*command, *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        return capsys.readouterr().out

    assert "95 %" in call()
    scores = json.loads(call("--json"))
    assert scores == run.scores["test"]
    kept = json.loads((tmp_path / "run" / "intervals.json").read_text("utf-8"))["test"]
    assert json.loads(call("--json", "--intervals")) == {"scores": scores, "intervals": kept}
