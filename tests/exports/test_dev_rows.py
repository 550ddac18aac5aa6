"""Rows that a run held out of its training rows are kept by name, and int8 weights are scored on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import polytask as pt
from polytask.api import score_dev_rows
from polytask.assemble import assemble
from polytask.config import validate
from polytask.errors import ConfigError
from polytask.exports import _with_run
from polytask.exports.plain import export_notes
from polytask.tables import console, show_scores
from samples import corpus_rows, write_jsonl

Job = Callable[..., dict[str, Any]]


def held_out(job: Job, tmp_path: Path) -> dict[str, Any]:
    values = job(max_steps=2)
    del values["tasks"]["entities"], values["tasks"]["topic"]
    values["tasks"]["sentiment"]["data"] = {
        "train": str(write_jsonl(tmp_path / "all.jsonl", corpus_rows(60))), "dev": 0.3,
    }  # fmt: skip
    return values


def test_the_rows_that_a_run_held_out_are_named_and_score_its_model(job: Job, tmp_path: Path) -> None:
    run = pt.train(held_out(job, tmp_path), tmp_path / "run")
    assert run.folder is not None
    named = json.loads((run.folder / "held_out.json").read_text("utf-8"))["sentiment"]
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines()]
    texts = {rows[int(place.rpartition(":")[2]) - 1]["text"] for place in named}
    lines = (run.folder / "predictions" / "sentiment.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["text"] for line in lines} <= texts
    assert 0 < len(texts) < len(rows)
    for folder in (run.folder, run.folder / "model"):
        assert _with_run(folder, {"quantize": "int8"}) == {"quantize": "int8", "run": str(run.folder)}
    for options in ({}, {"quantize": "int8", "data": {"all": "x"}}, {"quantize": "int8", "run": "other"}):
        assert _with_run(run.folder, options) == options
    assert score_dev_rows(run.model, run.folder) == run.scores["dev"]
    write_jsonl(tmp_path / "all.jsonl", corpus_rows(40))
    with pytest.raises(ConfigError, match=r"tasks.sentiment: all.jsonl changed since the run .* --data FILE"):
        score_dev_rows(run.model, run.folder)


def test_check_says_in_which_form_tasks_will_be_exported_to_hugging_face(job: Job) -> None:
    values = job(rows=12)

    def notes() -> list[tuple[str, str]]:
        return [(note.place, note.message) for note in export_notes(assemble(validate(values)).bundle({}))]

    ((place, message),) = notes()
    assert place == "export --to hf"
    assert message.startswith("sentiment, topic: written for sentence-transformers, since the heads average")
    assert "with tasks.NAME.pooling: cls pipelines of transformers load them" in message
    values["tasks"]["topic"]["pooling"] = "cls"
    ((_, message),) = notes()
    assert message.startswith("sentiment: ")
    assert "tasks.sentiment.pooling: cls" in message
    values["tasks"]["sentiment"]["pooling"] = "cls"
    assert notes() == []
    values["tasks"]["sentiment"] |= {"needs": ["topic"], "reads": {"topic": "probabilities"}, "pooling": "mean"}
    ((_, message),) = notes()
    assert message == "cannot hold sentiment: its head reads the predictions of topic; train it without reads"


@pytest.mark.parametrize("name", ["[/b]", "[red]x", ":smile:", "[link=x"])
def test_what_a_user_named_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(console(), Console)
    show_scores({"dev": {name: {name: 0.5}}}, {}, console())
    assert capsys.readouterr().out.count(name) == 2
