"""Scores on new files: any of a model's tasks, with intervals that belong to the scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask import cli
from polytask.data.words import split_words
from polytask.errors import ConfigError
from polytask.tasks.bio import spans
from samples import corpus_rows, small_job, write_jsonl


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run lies, and the files of its rows."""
    return tmp_path_factory.mktemp("evaluating")


@pytest.fixture(scope="module")
def run(home: Path, tiny: Path) -> pt.Run:
    """A run whose topic reads what the model says about the sentiment."""
    values = small_job(home, tiny, rows=40, max_steps=3)
    values["tasks"]["topic"] |= {"needs": ["sentiment"], "reads": {"sentiment": "probabilities"}}
    return pt.train(values, home / "run")


def test_the_intervals_of_a_run_stand_in_its_folder_and_are_those_of_its_test_file(run: pt.Run, home: Path) -> None:
    kept = json.loads((home / "run" / "intervals.json").read_text("utf-8"))
    found = pt.evaluate(run.model, str(home / "all-test.jsonl"))
    scores, intervals = found.scores, found.intervals
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
        assert list(pt.evaluate(run.model, files, tasks=[task]).scores) == [task]
    assert list(pt.evaluate(run.model, {task: path}).scores) == [task]


def test_the_command_shows_intervals_and_adds_them_to_json_when_asked(
    run: pt.Run, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: str) -> str:
        command = ["polytask", "evaluate", str(home / "run" / "model"), "--data", str(home / "all-test.jsonl")]
        monkeypatch.setattr("sys.argv", [*command, *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        return capsys.readouterr().out

    assert "95 %" in call()
    scores = json.loads(call("--json"))
    assert scores == run.scores["test"]
    kept = json.loads((home / "run" / "intervals.json").read_text("utf-8"))["test"]
    assert json.loads(call("--json", "--intervals")) == {"scores": scores, "intervals": kept}


def test_new_files_may_be_written_in_another_way(
    run: pt.Run, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in corpus_rows(60)[40:] if "sentiment" in row]
    plain = str(write_jsonl(tmp_path / "new.jsonl", [{key: row[key] for key in ("text", "sentiment")} for row in rows]))
    table = tmp_path / "new.csv"
    with table.open("w", encoding="utf-16", newline="") as file:
        csv.writer(file, delimiter=";").writerows([("text", "sentiment"), *((r["text"], r["sentiment"]) for r in rows)])
    files = {"separator": ";", "encoding": "utf-16"}
    expected = pt.evaluate(run.model, {"sentiment": plain}).scores
    assert pt.evaluate(run.model, {"sentiment": str(table)}, files=files).scores == expected
    written = [item for name, value in files.items() for item in ("--written", f"{name}={value}")]
    command = ["polytask", "evaluate", str(home / "run" / "model"), "--data", f"sentiment={table}", "--json"]
    monkeypatch.setattr("sys.argv", [*command, *written])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    assert json.loads(capsys.readouterr().out) == expected
    for bad, told in (
        ({"seperator": ";"}, "files: found 'seperator'"),
        ({"encoding": "utf-99"}, "files.encoding: found"),
    ):
        with pytest.raises(ConfigError, match=told):
            pt.evaluate(run.model, {"sentiment": str(table)}, files=bad)


def test_spans_score_as_the_words_and_tags_that_they_stand_for(run: pt.Run, tmp_path: Path) -> None:
    tagged = [row for row in corpus_rows(60)[40:] if {"tokens", "tags"} <= row.keys()]
    spelled = [row for row in tagged if [row["text"][a:b] for a, b in split_words(row["text"])] == row["tokens"]]
    with_spans = [{"text": row["text"], "tags": characters_of(row)} for row in spelled]
    tokens = [{key: row[key] for key in ("text", "tokens", "tags")} for row in spelled]
    one, other = (
        pt.evaluate(run.model, {"entities": str(write_jsonl(tmp_path / f"{name}.jsonl", found))}).scores
        for name, found in (("tokens", tokens), ("spans", with_spans))
    )
    assert spelled
    assert one == other


def characters_of(row: dict[str, Any]) -> list[list[Any]]:
    """Return a row's entities as spans by character."""
    words = split_words(row["text"])
    return [[words[span.first][0], words[span.end - 1][1], span.label] for span in spans(row["tags"])]
