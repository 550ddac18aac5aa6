"""A task whose single model has no defined score: nothing is known of its floor, and nothing is spent on it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from searching import tasks_on

import polytask
from polytask.page import report
from polytask.search.ladder import Standing, worst_first
from polytask.search.rating import rate
from polytask.search.table import show_search
from samples import corpus_rows, write_jsonl


@pytest.fixture(scope="module")
def found(given: tuple[dict[str, Any], Path], tmp_path_factory: pytest.TempPathFactory) -> polytask.AutoResult:
    """A search with a number that is the same in all dev rows, in which the other task is to be lifted."""
    values, folder = given
    home = tmp_path_factory.mktemp("undefined")
    for split, rows in (("train", corpus_rows(24)), ("dev", corpus_rows(36)[24:])):
        write_jsonl(home / f"{split}.jsonl", [
            {"text": row["text"], "score": number % 5 if split == "train" else 1.0} for number, row in enumerate(rows)
        ])  # fmt: skip
    const = {"type": "regression", "data": {split: str(home / f"{split}.jsonl") for split in ("train", "dev")},
             "label": "score", "metric": "pearson"}  # fmt: skip
    tasks = {"topic": tasks_on(folder)["topic"], "const": const}
    return polytask.auto({**values, "tasks": tasks}, home / "out", budget=5, certainty=0.99, max_size=1.9)


def test_it_is_neither_above_nor_below_the_floor(found: polytask.AutoResult) -> None:
    const = found.tasks["const"]
    assert not const["judged"]
    assert not const["below_floor"]
    assert const["likelihood"] == "cannot be judged"
    assert "it cannot be judged: the pearson of its own model is undefined on these rows" in const["sentence"]
    assert "const cannot be judged" in found.answer
    assert "const lies" not in found.answer


def test_no_step_is_tried_for_it(found: polytask.AutoResult) -> None:
    assert {step["task"] for step in found.record["ladder"]} <= {"topic"}
    assert found.tasks["topic"]["judged"]


def test_the_notes_give_the_reason_and_say_nothing_of_a_majority(found: polytask.AutoResult) -> None:
    (note,) = [note for note in found.record["notes"] if note.startswith("const")]
    assert "undefined on 12 dev rows" in note
    assert "majority" not in note
    assert all("const" not in note or "majority" not in note for note in found.record["notes"])


def test_terminal_and_page_say_so(found: polytask.AutoResult) -> None:
    written = io.StringIO()
    show_search(found, Console(file=written, width=300))
    text = written.getvalue()
    page = report(found.folder).read_text("utf-8")
    for shown in (text, page):
        assert "cannot be judged" in shown
    assert "Without const, which cannot be judged." in page


def test_it_is_said_before_the_search_ends(
    given: tuple[dict[str, Any], Path], found: polytask.AutoResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    polytask.auto(found.folder / "auto-config.json", found.folder, budget=5, certainty=0.99, max_size=1.9)
    lines = capsys.readouterr().err.splitlines()
    (place,) = [
        number for number, line in enumerate(lines) if "const: the pearson of its own model is undefined" in line
    ]
    assert place < len(lines) - 1


def test_what_cannot_be_judged_is_not_lifted_and_what_learned_nothing_comes_first() -> None:
    standings = {
        "fine": Standing(0.0, 0.0, 0.0, 1.0),
        "low": Standing(-0.02, -0.03, -0.01, 0.0),
        "unjudged": Standing(None, None, None, 0.0, comparable=False),
        "nothing": Standing(None, None, None, 0.0),
    }
    assert worst_first(standings, 0.5) == ["nothing", "low"]


def test_a_rating_leaves_out_what_neither_model_can_be_scored_on() -> None:
    metrics = {"a": "accuracy", "b": "pearson"}
    rating = rate({"a": 0.8, "b": None}, {"a": 0.9, "b": None}, metrics, 0.5)
    assert rating.deltas == {"a": pytest.approx(-0.1)}
    assert rate({"a": 0.8, "b": None}, {"a": 0.9, "b": 0.3}, metrics, 0.5).worst == pytest.approx(-0.3)
    assert rate({"b": None}, {"b": None}, {"b": "pearson"}, 0.5).key == (-0.005, 0.0)
